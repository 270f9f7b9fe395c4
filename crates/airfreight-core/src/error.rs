//! What a caller should do next, whatever went wrong below.

use std::error::Error;
use std::fmt;

/// What the caller should do next. A new kind is earned when a caller would act differently, and needs an ADR.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing has this name; waiting will not help.
    NotFound,
    /// It existed and every copy is gone: rerun the task that made it.
    Lost,
    /// No room in any tier: release pins or add capacity, then retry.
    Full,
    /// A peer or service did not answer: retry with backoff.
    Unavailable,
    /// Credentials or permissions: a retry cannot succeed.
    Denied,
    /// The request is wrong: a retry cannot succeed.
    Invalid,
    /// Bytes do not match their checksum: drop this copy, read another tier.
    Corrupt,
    /// Someone else created or holds it: read again, then decide.
    Conflict,
    /// A broken invariant, our bug.
    Internal,
}

impl ErrorKind {
    /// The kind's name as Python, logs and metrics spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::Lost => "Lost",
            Self::Full => "Full",
            Self::Unavailable => "Unavailable",
            Self::Denied => "Denied",
            Self::Invalid => "Invalid",
            Self::Corrupt => "Corrupt",
            Self::Conflict => "Conflict",
            Self::Internal => "Internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error and its causes on one line, as logs and exceptions show them.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
