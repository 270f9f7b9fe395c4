//! What fails on the way, and what is behind it.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio_rustls::rustls::Error as RustlsError;

/// TLS can't be set up as it is asked for.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A certificate or key file cannot be used.
    #[error("cannot use the {role} in `{}`: {reason}", path.display())]
    File {
        /// What the file is for.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system's certificates can't be read.
    #[error("the system's certificates can't be read: {source}")]
    System {
        /// Why.
        source: RustlsError,
    },
    /// The library refuses its own defaults.
    #[error("cannot set TLS up: {source}")]
    Internal {
        /// Why.
        source: RustlsError,
    },
}

impl TlsError {
    /// A file that can't be used, and why.
    pub fn file(role: &'static str, path: &Path, reason: impl Into<String>) -> Self {
        Self::File { role, path: path.to_owned(), reason: reason.into() }
    }
}

/// An error and what is behind it. An IO error shows the source of the error in it as its own, which hides that one.
pub fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| {
        let error: &'a (dyn StdError + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}
