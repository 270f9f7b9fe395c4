//! What keeps an agent from starting, and what it says to those whom it refuses something.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use airfreight_core::{ErrorKind, chain};
use airfreight_http::TlsError;
use airfreight_store::StoreError;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_RANGE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

/// Why an agent can't start. Branch on [`AgentError::kind`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Others than this host's could reach it, and nothing would keep them out.
    #[error("will not listen on {address} without a token: whoever reaches it could read every value")]
    Unprotected {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// The system doesn't let it listen there.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Where it was to listen.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// A file of tokens can't be read.
    #[error("cannot read the tokens in `{}`", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are no tokens where some were expected, or they could be guessed.
    #[error("cannot use the tokens in {origin}: {reason}")]
    Tokens {
        /// A file or a variable.
        origin: String,
        /// What is wrong with them; they are not repeated.
        reason: &'static str,
    },
    /// Its certificate, or the authority of its clients', can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AgentError {
    /// What the caller should do next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unprotected { .. } | Self::Tokens { .. } | Self::Tls(_) => ErrorKind::Invalid,
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => ErrorKind::Conflict,
            Self::Listen { .. } | Self::TokenFile { .. } => ErrorKind::Unavailable,
            Self::Store(error) => error.kind(),
        }
    }

    /// What to try, where something can be tried.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unprotected { .. } => "put a long random text into a file and name it by --token-file, or set \
                 AIRFREIGHT_AGENT_TOKEN; give every task the same by [airfreight] agent_token_file"
                .into(),
            Self::Tokens { .. } => "`openssl rand -hex 32` makes one; the file holds one token a line".into(),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "another agent may be running; one serves all users of a store, and --listen names another port".into()
            }
            Self::Store(error) => return error.hint(),
            _ => return None,
        })
    }
}

/// What went wrong without anybody asking: for the log and the page.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(error: &dyn Error, hint: Option<String>) -> Self {
        Self { text: chain(error), hint }
    }
}

/// An answer that refuses: JSON with a kind, a message and what to try.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    kind: ErrorKind,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// The object's length, for who asked for a range that it doesn't have.
    length: Option<u64>,
}

#[derive(Serialize)]
struct Body<'a> {
    kind: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), hint: None, length: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorKind::Invalid, message)
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn length(self, length: u64) -> Self {
        Self { length: Some(length), ..self }
    }

    /// A thread that was to do the work did not.
    pub(crate) fn broken(error: &dyn Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Internal, format!("the request broke down: {error}"))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let status = match (&error, error.kind()) {
            // What the client has sent, and not what lies here.
            (StoreError::Damaged { .. }, _) => StatusCode::UNPROCESSABLE_ENTITY,
            (_, ErrorKind::NotFound) => StatusCode::NOT_FOUND,
            (_, ErrorKind::Full) => StatusCode::INSUFFICIENT_STORAGE,
            (_, ErrorKind::Unavailable | ErrorKind::Conflict) => StatusCode::SERVICE_UNAVAILABLE,
            (_, ErrorKind::Invalid) => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let hint = error.hint();
        Self { hint, ..Self::new(status, error.kind(), chain(&error)) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Body { kind: self.kind.as_str(), message: &self.message, hint: self.hint.as_deref() };
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(length) = self.length
            && let Ok(value) = HeaderValue::try_from(format!("bytes */{length}"))
        {
            headers.insert(CONTENT_RANGE, value);
        }
        response
    }
}
