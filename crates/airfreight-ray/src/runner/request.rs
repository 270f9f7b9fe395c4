//! A request to a runner, whatever carries it, and what comes back.

use std::time::Duration;

use airfreight_core::ErrorKind;
use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value};

use crate::error::Source;
use crate::pool::Lane;
use crate::{RayError, Result};

/// One request. All of them may be sent twice: that is how the protocol is made.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// What is wanted, as in "cannot …".
    pub(crate) action: String,
    pub(crate) method: Method,
    /// `/v1/…` with its query.
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    pub(crate) lane: Lane,
}

/// An answer: its status, and JSON.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Request {
    pub(crate) fn new(method: Method, path: impl Into<String>, action: impl Into<String>) -> Self {
        Self { action: action.into(), method, path: path.into(), body: None, lane: Lane::Ordinary }
    }

    pub(crate) fn get(path: impl Into<String>, action: impl Into<String>) -> Self {
        Self::new(Method::GET, path, action)
    }

    pub(crate) fn with_body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub(crate) fn in_lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// For how long the runner may wait before it answers: its `wait=`.
    pub(crate) fn wait(&self) -> Duration {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        let wait = query.split('&').find_map(|pair| pair.strip_prefix("wait="));
        let seconds = wait.and_then(|wait| wait.parse::<f64>().ok()).unwrap_or(0.0);
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.body.as_ref().map_or_else(Bytes::new, |body| Bytes::from(body.to_string()))
    }
}

impl Reply {
    /// Reads the body of an answer.
    pub(crate) fn read(status: u16, body: &[u8]) -> Result<Self, Source> {
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(body)? };
        Ok(Self { status, body })
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The error in it, whatever its form.
    pub(crate) fn error(&self, action: &str, address: &str) -> RayError {
        RayError::from_runner(action, address, self.status, &self.body)
    }

    /// The object in it.
    pub(crate) fn object(self, action: &str, address: &str) -> Result<Map<String, Value>> {
        if !self.is_success() {
            return Err(self.error(action, address));
        }
        match self.body {
            Value::Object(object) => Ok(object),
            _ => Err(unreadable(action, address, "it is no object")),
        }
    }
}

impl RayError {
    /// What a runner answered in place of what was wanted.
    pub(crate) fn from_runner(action: &str, address: &str, status: u16, body: &Value) -> Self {
        let error = body.get("error").unwrap_or(body);
        let text = |key: &str| error.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let kind = text("kind").and_then(kind_of).unwrap_or(match status {
            401 | 403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            409 => ErrorKind::Conflict,
            410 => ErrorKind::Lost,
            507 => ErrorKind::Full,
            500..=599 => ErrorKind::Unavailable,
            _ => ErrorKind::Invalid,
        });
        Self::Runner {
            action: action.to_owned(),
            address: address.to_owned(),
            status,
            kind,
            reason: text("message").unwrap_or("it gives no reason").to_owned(),
            hint: text("hint").map(str::to_owned),
        }
    }
}

pub(crate) fn unreadable(action: &str, address: &str, why: &str) -> RayError {
    RayError::Unreadable { action: action.to_owned(), address: address.to_owned(), source: why.into() }
}

fn kind_of(word: &str) -> Option<ErrorKind> {
    use ErrorKind::{Conflict, Corrupt, Denied, Full, Internal, Invalid, Lost, NotFound, Unavailable};
    [NotFound, Lost, Full, Unavailable, Denied, Invalid, Corrupt, Conflict, Internal]
        .into_iter()
        .find(|kind| kind.as_str() == word)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_limit_follows_the_wait() {
        let wait = |path: &str| Request::get(path, "ask").wait().as_millis();
        assert_eq!([wait("/v1/a"), wait("/v1/a?wait=2.5"), wait("/v1/a?owner=b&wait=1&seen=3")], [0, 2500, 1000]);
        assert_eq!(wait("/v1/a?wait=never"), 0);
    }

    #[test]
    fn a_refusal_keeps_its_kind_words_and_hint() {
        use ErrorKind::{Conflict, Denied, Invalid, Lost, NotFound, Unavailable};

        let body = json!({"error": {"kind": "Corrupt", "message": "chunk 3 is damaged", "hint": "send it again"}});
        let error = RayError::from_runner("send `a`", "http://head", 400, &body);
        assert_eq!((error.kind(), error.hint()), (ErrorKind::Corrupt, Some("send it again")));
        assert_eq!(error.to_string(), "cannot send `a`: the runner on http://head answered 400: chunk 3 is damaged");
        let kinds =
            [401, 404, 409, 410, 413, 503].map(|status| RayError::from_runner("", "", status, &json!(null)).kind());
        assert_eq!(kinds, [Denied, NotFound, Conflict, Lost, Invalid, Unavailable]);
    }
}
