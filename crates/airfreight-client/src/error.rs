//! What can go wrong between this host and another's agent.

use std::error::Error;
use std::time::Duration;

use airfreight_core::{ErrorKind, ObjectName};
use airfreight_http::TlsError;
use airfreight_store::StoreError;

/// The cause of an error, whoever made it.
pub(crate) type Source = Box<dyn Error + Send + Sync>;

/// Why an object could not be fetched. Branch on [`ClientError::kind`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address can't be an agent's.
    #[error("cannot use the agent's address `{address}`: {reason}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The token can't stand in a request.
    #[error("cannot use the agent's token: it holds something else than printable ASCII")]
    Token,
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Certificate(#[from] TlsError),
    /// The agent's host doesn't have the object.
    #[error("object {name} is not in the store that the agent at {address} serves")]
    NotFound {
        /// Which object.
        name: ObjectName,
        /// The agent.
        address: String,
    },
    /// No answer, or only failures that pass, for as long as was allowed.
    #[error("no answer from the agent at {address} in {attempts} attempts over {:.1} s", elapsed.as_secs_f64())]
    Unavailable {
        /// The agent.
        address: String,
        /// How often it was tried.
        attempts: u32,
        /// How long it took since something last arrived.
        elapsed: Duration,
        /// The last attempt's failure.
        source: Source,
    },
    /// TLS did not come about: the certificate is not trusted, or the port speaks no TLS.
    #[error("cannot speak TLS with the agent at {address}")]
    Untrusted {
        /// The agent.
        address: String,
        /// What TLS said.
        source: Source,
    },
    /// The agent doesn't take the token.
    #[error("the agent at {address} refused ({status}): {message}")]
    Denied {
        /// The agent.
        address: String,
        /// HTTP's status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// It answered something that no agent says.
    #[error("the agent at {address} gave an answer that makes no sense ({status}): {message}")]
    Strange {
        /// Whoever it is.
        address: String,
        /// HTTP's status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// The copy on the other host is damaged, or what comes is, however often it is asked for.
    #[error("object {name} comes damaged from the agent at {address}: {message}")]
    Corrupt {
        /// Which object.
        name: ObjectName,
        /// The agent.
        address: String,
        /// What is wrong with it.
        message: String,
    },
    /// This host's store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Our own threads are gone.
    #[error("a transfer broke down")]
    Broken(#[source] tokio::task::JoinError),
}

impl ClientError {
    /// What the caller should do next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. } | Self::Token | Self::Certificate(_) => ErrorKind::Invalid,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Unavailable { .. } | Self::Strange { .. } => ErrorKind::Unavailable,
            Self::Untrusted { .. } | Self::Denied { .. } => ErrorKind::Denied,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Store(error) => error.kind(),
            Self::Broken(_) => ErrorKind::Internal,
        }
    }

    /// What to try, where something can be tried.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Address { .. } => {
                "set [airfreight] agent_url to a URL such as http://{host}:8733 where the value is made".into()
            }
            Self::Token => "[airfreight] agent_token_file names a file with one token and nothing else".into(),
            Self::Unavailable { .. } => "look whether that host runs, with its `airfreight agent`, and whether \
                 its port can be reached from here"
                .into(),
            Self::Untrusted { .. } => {
                "name your authority's certificate by [airfreight] agent_ca_file, or use http:// where it speaks no TLS"
                    .into()
            }
            Self::Denied { .. } => "give the task the agent's token by [airfreight] agent_token_file".into(),
            Self::Strange { .. } => "look what listens at that address".into(),
            Self::Store(error) => return error.hint(),
            _ => return None,
        })
    }
}
