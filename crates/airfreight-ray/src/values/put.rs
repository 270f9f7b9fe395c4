//! Writing what arrives, beside the network: while one chunk is checked and written, the next one comes.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::task::JoinHandle;

use super::chunks::Chunks;
use super::{Landing, Progress, TransferError, crc32};
use crate::RayError;

/// How often a chunk may come damaged.
const DAMAGES_MAX: u32 = 3;

/// Bytes that come one after the other, gathered into chunks.
pub(crate) struct Course {
    position: u64,
    /// Of the chunk at `position`; empty while that one is skipped.
    buffer: BytesMut,
}

impl Course {
    /// Begins with what stands at `position`.
    pub(crate) fn at(position: u64) -> Self {
        Self { position, buffer: BytesMut::new() }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Takes the next bytes. Chunks that are there already, or whose beginning did not come, are skipped.
    pub(crate) async fn take<L: Landing>(
        &mut self,
        arrival: &mut Arrival<L>,
        mut bytes: &[u8],
    ) -> Result<(), TransferError<L::Error>> {
        while !bytes.is_empty() {
            let Some(index) = arrival.chunks.index_at(self.position) else { return Ok(()) };
            let left = usize::try_from(arrival.chunks.end(index) - self.position).unwrap_or(usize::MAX);
            let taken = bytes.len().min(left);
            let begins = self.position == arrival.chunks.offset(index);
            if !self.buffer.is_empty() || (begins && arrival.chunks.is_missing(index)) {
                if begins {
                    self.buffer = arrival.spare.pop().unwrap_or_default();
                    self.buffer.reserve(arrival.chunks.len(index));
                }
                self.buffer.extend_from_slice(&bytes[..taken]);
                if taken == left {
                    arrival.put(index, std::mem::take(&mut self.buffer)).await?;
                }
            }
            self.position += taken as u64;
            bytes = &bytes[taken..];
        }
        Ok(())
    }
}

/// A landing, the chunks that are still to come, and at most one that is being written.
pub(crate) struct Arrival<L: Landing> {
    pub(crate) chunks: Chunks,
    action: String,
    landing: Arc<L>,
    progress: Progress,
    damages: Vec<u32>,
    spare: Vec<BytesMut>,
    writing: Option<JoinHandle<Written<L::Error>>>,
    /// Whether anything has arrived since this was asked last.
    advanced: bool,
}

struct Written<E> {
    index: usize,
    bytes: BytesMut,
    outcome: Result<bool, E>,
}

impl<L: Landing> Arrival<L> {
    pub(crate) fn new(chunks: Chunks, landing: L, action: &str, progress: Progress) -> Self {
        progress.set(0, chunks.file_bytes());
        Self {
            damages: Vec::new(),
            chunks,
            action: action.to_owned(),
            landing: Arc::new(landing),
            progress,
            spare: Vec::new(),
            writing: None,
            advanced: false,
        }
    }

    /// Hands over a whole chunk; what was handed over before is written by then.
    async fn put(&mut self, index: usize, bytes: BytesMut) -> Result<(), TransferError<L::Error>> {
        self.settle().await?;
        let (landing, offset, expected) =
            (Arc::clone(&self.landing), self.chunks.offset(index), self.chunks.crc32(index));
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let is_good = crc32(&bytes) == expected;
            let outcome = if is_good { landing.write(offset, &bytes).map(|()| true) } else { Ok(false) };
            Written { index, bytes, outcome }
        }));
        Ok(())
    }

    /// Waits until what was handed over is written.
    pub(crate) async fn settle(&mut self) -> Result<(), TransferError<L::Error>> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let Written { index, mut bytes, outcome } = writing.await.map_err(|source| RayError::Internal {
            what: format!("cannot {}: writing broke down: {source}", self.action),
        })?;
        bytes.clear();
        self.spare.push(bytes);
        if outcome.map_err(TransferError::Near)? {
            self.chunks.arrive(index);
            self.progress.add(self.chunks.len(index) as u64);
            self.advanced = true;
            return Ok(());
        }
        self.damages.resize(self.damages.len().max(index + 1), 0);
        self.damages[index] += 1;
        if self.damages[index] < DAMAGES_MAX {
            return Ok(());
        }
        Err(TransferError::Damaged {
            action: self.action.clone(),
            offset: self.chunks.offset(index),
            attempts: self.damages[index],
        })
    }

    /// Goes on with another export of the same value.
    pub(crate) fn renew(&mut self, mut chunks: Chunks) {
        let kept_bytes = chunks.adopt(&self.chunks);
        self.progress.set(kept_bytes, chunks.file_bytes());
        self.chunks = chunks;
        self.damages.clear();
    }

    pub(crate) fn has_advanced(&mut self) -> bool {
        std::mem::take(&mut self.advanced)
    }

    /// The landing, when all has arrived.
    pub(crate) fn finish(self) -> Result<L, TransferError<L::Error>> {
        let action = self.action;
        Arc::into_inner(self.landing).ok_or_else(|| {
            RayError::Internal { what: format!("cannot {action}: something is still being written") }.into()
        })
    }
}
