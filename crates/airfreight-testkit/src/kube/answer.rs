//! Answers as an API server words them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body as HttpBody, Frame};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;

use super::store::Key;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(super) type Answer = Response<Body>;

/// What is sent as it happens.
pub(super) struct Live(pub(super) Receiver<Bytes>);

impl HttpBody for Live {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

fn answer(status: u16, content_type: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn json(status: u16, value: &Value) -> Answer {
    answer(status, "application/json", full(value.to_string()))
}

pub(super) fn live(receiver: Receiver<Bytes>) -> Answer {
    answer(200, "application/json", Live(receiver).boxed_unsync())
}

pub(super) fn text(status: u16, content: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", full(content))
}

/// The router's word for a path that nobody serves.
pub(super) fn unserved() -> Answer {
    text(404, "404 page not found\n")
}

/// The `Status` of a failure; `details` may be null.
pub(super) fn failure(code: u16, reason: &str, message: &str, details: Value) -> Value {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "code": code,
    });
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    if !details.is_null() {
        status["details"] = details;
    }
    status
}

pub(super) fn refuse(code: u16, reason: &str, message: &str, details: Value) -> Answer {
    json(code, &failure(code, reason, message, details))
}

/// As an API server says that it is asked too much.
pub(super) fn busy() -> Answer {
    let message = "too many requests, please try again later.";
    let mut answer = refuse(429, "TooManyRequests", message, json!({"retryAfterSeconds": 1}));
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

pub(super) fn details(key: &Key) -> Value {
    let mut details = json!({"kind": key.plural});
    if !key.name.is_empty() {
        details["name"] = key.name.clone().into();
    }
    if let Some(group) = key.group() {
        details["group"] = group.into();
    }
    details
}

pub(super) fn not_found(key: &Key) -> Answer {
    refuse(404, "NotFound", &format!("{} \"{}\" not found", key.resource(), key.name), details(key))
}

pub(super) fn changed_meanwhile(key: &Key) -> Answer {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{}\": the object has been modified; please apply your changes to the \
         latest version and try again",
        key.resource(),
        key.name
    );
    refuse(409, "Conflict", &message, details(key))
}
