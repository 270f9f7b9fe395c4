//! What can go wrong between us and the platform.

use std::error::Error;
use std::time::Duration;

use airfreight_core::ErrorKind;
use airfreight_http::TlsError;

/// The cause of an error, whoever made it.
pub(crate) type Source = Box<dyn Error + Send + Sync>;

/// Why work on the platform failed. No token is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApoloError {
    /// A setting of the connection cannot be used.
    #[error("cannot use the connection's {setting}: {reason}")]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// What is wrong with it. Never its value, which may be a secret.
        reason: String,
    },
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] TlsError),
    /// No answer, or only failures that pass, for as long as was allowed.
    #[error("cannot {action}: no answer from {address} in {attempts} attempts over {:.1} s", elapsed.as_secs_f64())]
    Unavailable {
        /// What was wanted.
        action: String,
        /// Who was asked.
        address: String,
        /// How often it was tried.
        attempts: u32,
        /// How long it took altogether.
        elapsed: Duration,
        /// The last attempt's failure.
        #[source]
        source: Source,
    },
    /// TLS did not come about: the certificate is not trusted, or the port speaks no TLS.
    #[error("cannot speak TLS with {address}")]
    Untrusted {
        /// Who was asked.
        address: String,
        /// What TLS said.
        #[source]
        source: Source,
    },
    /// The platform, or a proxy before it, wants other credentials, or these may not do it.
    #[error("cannot {action}: {address} refused the credentials ({status}{})", with_colon(detail))]
    Denied {
        /// What was wanted.
        action: String,
        /// Who was asked.
        address: String,
        /// 401, 403 or 407.
        status: u16,
        /// What the server said.
        detail: String,
    },
    /// An answer that another attempt would not change.
    #[error("cannot {action}: {address} answered {status}{}", with_colon(detail))]
    Rejected {
        /// What was wanted.
        action: String,
        /// Who was asked.
        address: String,
        /// The HTTP status.
        status: u16,
        /// What the server said about it.
        detail: String,
    },
    /// Credits or a quota don't allow it now.
    #[error("cannot {action}: a quota or the credits are used up ({status}{})", with_colon(detail))]
    Quota {
        /// What was wanted.
        action: String,
        /// The HTTP status.
        status: u16,
        /// What the server said about it.
        detail: String,
    },
    /// An answer that is not the platform's.
    #[error("cannot {action}: the answer of {address} is not Apolo's")]
    Unreadable {
        /// What was wanted.
        action: String,
        /// Who was asked.
        address: String,
        /// What the parser said.
        #[source]
        source: Source,
    },
    /// Nothing has this name on the platform.
    #[error("there is no {what} on {address}")]
    NotFound {
        /// Mostly a job.
        what: String,
        /// Who was asked.
        address: String,
    },
    /// The credentials open no such cluster, organisation or project.
    #[error("cannot use the {what} `{name}` of Apolo: {reason}")]
    Place {
        /// Cluster, organisation or project.
        what: &'static str,
        /// Its name.
        name: String,
        /// What is wrong with it, and which ones there are.
        reason: String,
    },
    /// The job cannot be created as it is described; nothing was posted.
    #[error("cannot run the job: {reason}")]
    Spec {
        /// What is wrong with it.
        reason: String,
    },
    /// Something that cannot happen.
    #[error("{what}")]
    Internal {
        /// What happened anyway.
        what: String,
    },
}

impl ApoloError {
    pub(crate) fn spec(reason: impl Into<String>) -> Self {
        Self::Spec { reason: reason.into() }
    }

    /// What the caller should do next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { .. } | Self::Unreadable { .. } => ErrorKind::Unavailable,
            Self::Denied { .. } | Self::Untrusted { .. } => ErrorKind::Denied,
            Self::Quota { .. } => ErrorKind::Full,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Internal { .. } => ErrorKind::Internal,
            Self::Setting { .. }
            | Self::Certificate(_)
            | Self::Rejected { .. }
            | Self::Place { .. }
            | Self::Spec { .. } => ErrorKind::Invalid,
        }
    }

    /// What to try.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        Some(match self {
            Self::Setting { .. } => "correct the connection's fields",
            Self::Certificate(_) => {
                "it must be in PEM files that the user who runs the task may read; or leave `verify` at its default"
            }
            Self::Unavailable { .. } => {
                "does `curl <api_url>/ping` answer from this host? The connection's api_url says where the platform is"
            }
            Self::Untrusted { .. } => {
                "set the connection's verify to the path of a bundle with your authority's certificate"
            }
            Self::Denied { status: 407, .. } => "the proxy wants a login: put it into the proxy's URL",
            Self::Denied { status: 403, .. } => {
                "the token is good, but its owner may not do this: look at its role in the project"
            }
            Self::Denied { .. } => {
                "make a token with `apolo service-account create`, and put it into the connection's password"
            }
            Self::Rejected { status: 404 | 405, .. } | Self::Unreadable { .. } => {
                "is api_url the platform's API? It ends with /api/v1"
            }
            Self::Rejected { .. } => "the platform's own words say what it doesn't take",
            Self::Quota { .. } => {
                "wait until other jobs are over, ask for more, or let the job wait with job_wait_for_quota"
            }
            Self::NotFound { .. } => "`airfreight apolo status` takes ids and names; other clusters have other jobs",
            Self::Place { .. } => "`apolo config show` lists what the token opens",
            Self::Spec { .. } => return None,
            Self::Internal { .. } => "this is a bug of Airfreight; please report it",
        })
    }
}

fn with_colon(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}
