//! Answers as Ray's web server gives them.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::{Response, StatusCode};
use serde::Serialize;

pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
pub(super) type Answer = Response<Body>;

/// A body whose length is known.
pub(super) fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn answer(status: StatusCode, content_type: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(SERVER, HeaderValue::from_static("Python/3.11 aiohttp/3.14.5"));
    answer
}

pub(super) fn json(value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value).expect("JSON of our own");
    answer(StatusCode::OK, "application/json; charset=utf-8", full(text))
}

pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", full(text))
}

pub(super) fn empty() -> Answer {
    answer(StatusCode::OK, "application/octet-stream", full(Bytes::new()))
}

pub(super) fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404: Not Found")
}

pub(super) fn no_job(id: &str) -> Answer {
    text(StatusCode::NOT_FOUND, format!("Job {id} does not exist"))
}

pub(super) fn trouble() -> Answer {
    text(StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error\n\nServer got itself in trouble")
}

/// What the head finds wrong with a request.
pub(super) fn invalid(error: &str) -> Answer {
    text(StatusCode::BAD_REQUEST, traceback("ray/dashboard/modules/job/utils.py", "parse_and_validate_request", error))
}

/// What the agent finds wrong, which the head wraps into an error of its own.
pub(super) fn wrapped(status: u16, function: &str, error: &str) -> Answer {
    let inner = traceback("ray/dashboard/modules/job/job_manager.py", function, error);
    let outer = format!("RuntimeError: Request failed with status code {status}: {inner}.");
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        traceback("ray/dashboard/modules/job/job_head.py", &format!("{function}_internal"), &outer),
    )
}

fn traceback(file: &str, function: &str, error: &str) -> String {
    format!(
        "Traceback (most recent call last):\n  File \"/home/ray/site-packages/{file}\", line 419, in {function}\n    \
         await self._raise_error(resp)\n{error}\n"
    )
}
