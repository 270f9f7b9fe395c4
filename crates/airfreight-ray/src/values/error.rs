//! What can go wrong on the way of a value.

use std::error::Error;

use airfreight_core::ErrorKind;

use crate::RayError;

/// Why a value did not come or go. `E` is what the near side says: a store's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError<E: Error + Send + Sync + 'static> {
    /// The cluster, or the way to it.
    #[error(transparent)]
    Cluster(#[from] RayError),
    /// This side.
    #[error(transparent)]
    Near(E),
    /// No way that can be reached carries so much.
    #[error("cannot {action}: no way to the cluster carries it: {obstacle}")]
    OutOfReach {
        /// What was wanted.
        action: String,
        /// Which ways there are, and why none of them is one.
        obstacle: String,
    },
    /// A chunk did not match its checksum however often it was sent.
    #[error("cannot {action}: the bytes from {offset} on arrived damaged {attempts} times")]
    Damaged {
        /// What was wanted.
        action: String,
        /// Where the chunk begins.
        offset: u64,
        /// How often it was sent.
        attempts: u32,
    },
}

impl<E: Error + Send + Sync + 'static> TransferError<E> {
    /// What the caller should do next; `near` tells it of this side's errors.
    pub fn kind(&self, near: impl FnOnce(&E) -> ErrorKind) -> ErrorKind {
        match self {
            Self::Cluster(error) => error.kind(),
            Self::Near(error) => near(error),
            Self::OutOfReach { .. } => ErrorKind::Unavailable,
            Self::Damaged { .. } => ErrorKind::Corrupt,
        }
    }

    /// What to try; `near` tells it of this side's errors.
    pub fn hint(&self, near: impl FnOnce(&E) -> Option<String>) -> Option<String> {
        match self {
            Self::Cluster(error) => error.hint().map(str::to_owned),
            Self::Near(error) => near(error),
            Self::OutOfReach { .. } => Some(
                "let this host reach the runner's own port (the connection's extra `runner_port`, and the network between \
                 them), or set [airfreight] checkpoint to a bucket that both sides reach"
                    .to_owned(),
            ),
            Self::Damaged { .. } => {
                Some("something between this host and the cluster changes bytes: a proxy, or a network card".to_owned())
            }
        }
    }
}
