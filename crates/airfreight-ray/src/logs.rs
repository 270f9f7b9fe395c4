//! Reading logs without holding them.

use bytes::Bytes;

use crate::Result;

/// How much of a log to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// The last so many lines.
    Last(u32),
    /// The whole file.
    All,
}

/// A log as it arrives. Dropping it gives up the rest.
#[derive(Debug)]
pub struct LogStream {
    _private: (),
}

impl LogStream {
    /// The next bytes; `None` at the end. Safe to cancel.
    ///
    /// # Errors
    /// - [`crate::RayError::Cut`]: the connection broke, or was silent for longer than the timeout.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        todo!()
    }

    /// All the rest, decoded as UTF-8 where it is.
    ///
    /// # Errors
    /// - [`crate::RayError::Cut`].
    pub async fn text(self) -> Result<String> {
        todo!()
    }
}
