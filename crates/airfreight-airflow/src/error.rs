//! What can go wrong between us and Airflow's API.

use std::time::Duration;

use airfreight_core::ErrorKind;

/// Why Airflow could not be asked. Whatever the reason, the object in question is kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AirflowError {
    /// The base URL cannot be used.
    #[error("`{url}` is not an http or https URL")]
    Url {
        /// What was given.
        url: String,
    },
    /// No answer, or none that was not a passing failure, in all attempts.
    #[error("{url} did not answer in {attempts} attempts over {:.1} s", elapsed.as_secs_f64())]
    Unavailable {
        /// The request's URL.
        url: String,
        /// How often it was tried.
        attempts: usize,
        /// How long it took altogether.
        elapsed: Duration,
        /// The last attempt's failure.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Airflow refuses the token, or the token has no rights to this.
    #[error("{url} refused the token ({status})")]
    Denied {
        /// The request's URL.
        url: String,
        /// 401 or 403.
        status: u16,
    },
    /// An answer that another attempt would not change.
    #[error("{url} answered {status}{}", detail.as_deref().map(|d| format!(": {d}")).unwrap_or_default())]
    Rejected {
        /// The request's URL.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What Airflow said about it.
        detail: Option<String>,
    },
    /// An answer that is not what Airflow 3 sends.
    #[error("cannot understand the answer of {url}")]
    Unreadable {
        /// The request's URL.
        url: String,
        /// What the parser said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl AirflowError {
    /// What the caller should do next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Rejected { status: 404, .. } => ErrorKind::NotFound,
            Self::Url { .. } | Self::Rejected { .. } | Self::Unreadable { .. } => ErrorKind::Invalid,
        }
    }

    /// Whether every other question would fail in the same way, so that asking on is of no use.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Url { .. } | Self::Unavailable { .. } | Self::Denied { status: 401, .. })
    }

    /// What to try.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Url { .. } => Some("give the API server's base URL, such as https://airflow.example.com"),
            Self::Unavailable { .. } => {
                Some("is the API server up, and is this its URL? `curl <url>/api/v2/version` should answer")
            }
            Self::Denied { status: 401, .. } => {
                Some("get a fresh token (Airflow's `/auth/token`) and pass it in AIRFREIGHT_API_TOKEN")
            }
            Self::Denied { .. } => Some("the token's user needs read access to DAGs, DAG runs and task instances"),
            Self::Rejected { status: 404, .. } | Self::Unreadable { .. } => {
                Some("the URL should be that of an Airflow 3 API server, without `/api/v2`")
            }
            Self::Rejected { .. } => Some("the API server's log says more"),
        }
    }
}
