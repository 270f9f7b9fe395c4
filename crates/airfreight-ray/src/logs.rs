//! Reading logs without holding them.

use bytes::{Bytes, BytesMut};

use crate::error::Source;
use crate::json_text::JsonText;
use crate::transport::Body;
use crate::{RayError, Result};

/// How much of a log to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// The last so many lines.
    Last(u32),
    /// The whole file.
    All,
}

/// A log as it arrives. Dropping it gives up the rest.
pub struct LogStream {
    what: String,
    address: String,
    body: Option<Body>,
    decoder: Decoder,
    /// Arrived with the beginning, not handed out yet.
    first: Option<Bytes>,
    received_bytes: u64,
    total_bytes: Option<u64>,
}

/// How the log is wrapped.
pub(crate) enum Decoder {
    /// Not at all.
    Plain,
    /// An answer that begins before what was wanted: so many bytes to skip.
    After(u64),
    /// Ray before 2.40.
    Blocks(Blocks),
    /// `{"logs": "…"}`.
    Json(JsonText),
}

impl Decoder {
    fn decode(&mut self, mut bytes: Bytes) -> Result<Bytes, Source> {
        match self {
            Self::Plain => Ok(bytes),
            Self::After(skip) => {
                let skipped = usize::try_from(*skip).unwrap_or(usize::MAX).min(bytes.len());
                *skip -= skipped as u64;
                Ok(bytes.split_off(skipped))
            }
            Self::Blocks(blocks) => blocks.decode(&bytes),
            Self::Json(text) => text.decode(&bytes).map(Bytes::from),
        }
    }

    fn finish(&self) -> Result<(), Source> {
        match self {
            Self::Json(text) => text.finish(),
            Self::Blocks(blocks) => blocks.finish(),
            Self::Plain | Self::After(_) => Ok(()),
        }
    }
}

impl std::fmt::Debug for LogStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStream")
            .field("what", &self.what)
            .field("address", &self.address)
            .field("received_bytes", &self.received_bytes)
            .finish_non_exhaustive()
    }
}

impl LogStream {
    pub(crate) fn new(what: String, address: String, body: Body, decoder: Decoder) -> Self {
        Self { what, address, body: Some(body), decoder, first: None, received_bytes: 0, total_bytes: None }
    }

    /// Nothing, of a log that has `total_bytes` if that is known.
    pub(crate) fn empty(what: String, address: String, total_bytes: Option<u64>) -> Self {
        Self { what, address, body: None, decoder: Decoder::Plain, first: None, received_bytes: 0, total_bytes }
    }

    pub(crate) fn with_total(mut self, total_bytes: Option<u64>) -> Self {
        self.total_bytes = total_bytes;
        self
    }

    /// Reads the beginning, so that an error that stands there is one of opening.
    pub(crate) async fn begun(mut self) -> Result<Self> {
        self.first = self.chunk().await?;
        Ok(self)
    }

    pub(crate) fn first(&self) -> &[u8] {
        self.first.as_deref().unwrap_or_default()
    }

    /// How long the whole log was when this answer began, if the server said so.
    #[must_use]
    pub fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// The next bytes, never empty; `None` at the end. After an error there is no more.
    ///
    /// # Errors
    /// - [`RayError::Cut`]: the connection broke, or was silent for longer than the timeout.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        loop {
            let Some(body) = &mut self.body else { return Ok(None) };
            let decoded = match body.chunk().await {
                Ok(Some(bytes)) => self.decoder.decode(bytes),
                Ok(None) => {
                    self.body = None;
                    return self.decoder.finish().map(|()| None).map_err(|source| self.cut(source));
                }
                Err(source) => Err(source),
            };
            match decoded {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => {
                    self.received_bytes += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Err(source) => {
                    self.body = None;
                    return Err(self.cut(source));
                }
            }
        }
    }

    /// All the rest; what isn't UTF-8 is replaced.
    ///
    /// # Errors
    /// - [`RayError::Cut`].
    pub async fn text(self) -> Result<String> {
        let bytes = self.bytes().await?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|source| String::from_utf8_lossy(source.as_bytes()).into_owned()))
    }

    /// All the rest.
    ///
    /// # Errors
    /// - [`RayError::Cut`].
    pub async fn bytes(mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    fn cut(&self, source: Source) -> RayError {
        RayError::Cut { what: self.what.clone(), address: self.address.clone(), bytes: self.received_bytes, source }
    }
}

/// Ray before 2.40 sends a log in blocks of 64 KiB, each after a `1`, or after a `0` when it is an error's text.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// Of the current block.
    left: usize,
    failure: Option<Vec<u8>>,
}

impl Blocks {
    const BYTES: usize = 64 << 10;

    pub(crate) fn decode(&mut self, mut bytes: &[u8]) -> Result<Bytes, Source> {
        let mut decoded = BytesMut::with_capacity(bytes.len());
        while let Some(&first) = bytes.first() {
            if let Some(failure) = &mut self.failure {
                failure.extend_from_slice(&bytes[..bytes.len().min(Self::BYTES.saturating_sub(failure.len()))]);
                break;
            }
            if self.left == 0 {
                match first {
                    b'1' => self.left = Self::BYTES,
                    b'0' => self.failure = Some(Vec::new()),
                    _ => return Err("a block of the log has neither 0 nor 1 before it".into()),
                }
                bytes = &bytes[1..];
            } else {
                let taken = self.left.min(bytes.len());
                decoded.extend_from_slice(&bytes[..taken]);
                self.left -= taken;
                bytes = &bytes[taken..];
            }
        }
        Ok(decoded.freeze())
    }

    pub(crate) fn finish(&self) -> Result<(), Source> {
        match &self.failure {
            None => Ok(()),
            Some(text) => Err(String::from_utf8_lossy(text).trim().to_owned().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrapped(log: &[u8]) -> Vec<u8> {
        log.chunks(Blocks::BYTES).flat_map(|block| [b"1", block].concat()).collect()
    }

    proptest! {
        #[test]
        fn blocks_are_unwrapped_however_they_arrive(
            log in prop::collection::vec(any::<u8>(), 0..1000).prop_map(|part| part.repeat(200)), pieces in prop::collection::vec(1_usize..100_000, 1..8),
        ) {
            let sent = wrapped(&log);
            let (mut blocks, mut rest, mut received) = (Blocks::default(), sent.as_slice(), Vec::new());
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at((*piece).min(rest.len()));
                received.extend_from_slice(&blocks.decode(now).unwrap());
                rest = later;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(received, log);
            prop_assert!(blocks.finish().is_ok());
        }
    }

    #[test]
    fn an_error_in_a_block_is_no_log() {
        let mut blocks = Blocks::default();
        assert!(blocks.decode(b"0Closing HTTP stream").unwrap().is_empty());
        assert!(blocks.decode(b" due to an error").unwrap().is_empty());
        assert_eq!(blocks.finish().unwrap_err().to_string(), "Closing HTTP stream due to an error");
    }
}
