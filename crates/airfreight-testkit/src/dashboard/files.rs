//! The files below the session's log directory, through the dashboard and straight from the node's agent.

use hyper::header::{ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_RANGE, HeaderValue, RANGE};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use url::form_urlencoded;

use super::answer::{Answer, answer, not_found, text};
use super::body::Pieces;
use super::job::NODE_ID;
use super::serve::Shared;
use super::text::Text;

/// The log file of a job.
pub(super) fn log_name(id: &str) -> String {
    format!("job-driver-{id}.log")
}

/// A file as it is now.
fn find(shared: &Shared, name: &str) -> Option<Text> {
    let state = shared.state();
    let id = name.strip_prefix("job-driver-").and_then(|rest| rest.strip_suffix(".log"));
    if let Some(job) = id.and_then(|id| state.jobs.iter().find(|job| job.script.id == id)) {
        return job.log();
    }
    let mut text = Text::default();
    text.push(state.files.get(name)?.clone());
    Some(text)
}

/// How a Ray sends log files.
pub(super) enum LogFormat {
    /// Before 2.40, and before 2.47 unless asked otherwise: each piece begins with `1`, an error with `0`.
    Marked,
    /// From 2.40 to 2.46 on demand: plain, also errors.
    Text,
    /// Since 2.47: plain, and errors have their status.
    Plain,
}

impl LogFormat {
    fn prefix(&self) -> &'static [u8] {
        if matches!(self, Self::Marked) { b"1" } else { b"" }
    }

    fn error(&self, error: &str) -> Answer {
        match self {
            Self::Marked => {
                text(StatusCode::OK, format!("0Closing HTTP stream due to internal server error.\n{error}"))
            }
            Self::Text => text(StatusCode::OK, format!("[get_logs] Fetch log error: {error}")),
            Self::Plain => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_owned()),
        }
    }
}

/// `GET /api/v0/logs/file`.
pub(super) fn file(shared: &Shared, query: &str) -> Answer {
    let (mut node, mut name, mut lines, mut format) = (String::new(), String::new(), 1000, String::new());
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "node_id" => node = value.into_owned(),
            "filename" => name = value.into_owned(),
            "lines" => lines = value.parse().unwrap_or(0_i64),
            "format" => format = value.into_owned(),
            _ => {}
        }
    }
    let found = if node == NODE_ID {
        find(shared, &name).ok_or_else(|| format!("A file is not found at: /tmp/ray/session_latest/logs/{name}"))
    } else {
        Err(format!("Agent for node id: {node} doesn't exist."))
    };
    let log = match found {
        Ok(log) => log,
        Err(error) => return shared.log_format(&format).error(&error),
    };
    let prefix = shared.log_format(&format).prefix();
    let from = match lines {
        -1 => 0,
        0 => log.tail(1000),
        lines => log.tail(lines.unsigned_abs()),
    };
    let mut answer = answer(StatusCode::OK, "text/plain", Pieces::chunked(log, from, prefix));
    let attachment = HeaderValue::from_static("attachment; filename=\"file.txt\"");
    answer.headers_mut().insert(CONTENT_DISPOSITION, attachment);
    answer
}

/// The agent's `GET /logs/{name}`.
pub(super) fn from_agent(shared: &Shared, request: &Parts) -> Answer {
    const BYTES: &str = "application/octet-stream";
    let name = match (&request.method, request.uri.path()) {
        (&Method::GET, "/api/local_raylet_healthz") => return text(StatusCode::OK, "success"),
        (&Method::GET, path) => path.strip_prefix("/logs/"),
        _ => None,
    };
    let Some(name) = name else { return not_found() };
    let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
    let Some(log) = find(shared, &name) else {
        return answer(StatusCode::NOT_FOUND, BYTES, Pieces::chunked(Text::default(), 0, b""));
    };
    let len = log.len();
    let range = request.headers.get(RANGE).and_then(|range| range.to_str().ok());
    let mut answer = match range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<u64>().ok())
    {
        None => answer(StatusCode::OK, BYTES, Pieces::sized(log, 0)),
        Some(from) if from >= len => {
            let mut answer = answer(StatusCode::RANGE_NOT_SATISFIABLE, BYTES, Pieces::chunked(Text::default(), 0, b""));
            let range = HeaderValue::from_str(&format!("bytes */{len}")).expect("digits");
            answer.headers_mut().insert(CONTENT_RANGE, range);
            return answer;
        }
        Some(from) => {
            let mut answer = answer(StatusCode::PARTIAL_CONTENT, BYTES, Pieces::sized(log, from));
            let range = HeaderValue::from_str(&format!("bytes {from}-{}/{len}", len - 1)).expect("digits");
            answer.headers_mut().insert(CONTENT_RANGE, range);
            answer
        }
    };
    answer.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer
}
