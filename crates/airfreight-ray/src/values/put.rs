//! Writing what arrives, beside the network: while chunks are checked and written, the next ones come.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use tokio::task::JoinSet;

use super::chunks::Chunks;
use super::{Landing, Progress, TransferError, crc32};
use crate::RayError;

/// How often a chunk may come damaged.
const DAMAGES_MAX: u32 = 3;
/// How many chunks are written at a time.
const WRITERS: usize = 2;

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
                    self.buffer = arrival.spare.take(arrival.chunks.len(index));
                }
                self.buffer.extend_from_slice(&bytes[..taken]);
                if taken == left {
                    while arrival.is_busy() {
                        arrival.settle_one().await?;
                    }
                    let crc32 = arrival.chunks.crc32(index).unwrap_or_default();
                    arrival.put(index, crc32, std::mem::take(&mut self.buffer));
                }
            }
            self.position += taken as u64;
            bytes = &bytes[taken..];
        }
        Ok(())
    }
}

/// Buffers of chunks that are written, for the next ones: fresh memory costs more than what is read into it.
#[derive(Clone, Default)]
pub(crate) struct Spare(Arc<Mutex<Vec<BytesMut>>>);

impl Spare {
    /// An empty buffer with so much room.
    pub(crate) fn take(&self, len: usize) -> BytesMut {
        let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        buffer.reserve(len);
        buffer
    }

    fn give(&self, mut buffer: BytesMut) {
        buffer.clear();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// A landing, the chunks that are still to come, and those that are being written.
pub(crate) struct Arrival<L: Landing> {
    pub(crate) chunks: Chunks,
    action: String,
    landing: Arc<L>,
    progress: Progress,
    damages: Vec<u32>,
    pub(crate) spare: Spare,
    writing: JoinSet<Written<L::Error>>,
    /// Whether anything has arrived since this was asked last.
    advanced: bool,
}

struct Written<E> {
    index: usize,
    crc32: u32,
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
            spare: Spare::default(),
            writing: JoinSet::new(),
            advanced: false,
        }
    }

    /// Whether so much is being written that nothing more shall be handed over.
    pub(crate) fn is_busy(&self) -> bool {
        self.writing.len() >= WRITERS
    }

    /// Whether anything is being written.
    pub(crate) fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// Hands over a whole chunk and the checksum that it should have.
    pub(crate) fn put(&mut self, index: usize, expected: u32, bytes: BytesMut) {
        let (landing, offset) = (Arc::clone(&self.landing), self.chunks.offset(index));
        self.writing.spawn_blocking(move || {
            let is_good = crc32(&bytes) == expected;
            let outcome = if is_good { landing.write(offset, &bytes).map(|()| true) } else { Ok(false) };
            Written { index, crc32: expected, bytes, outcome }
        });
    }

    /// Waits until all that was handed over is written.
    pub(crate) async fn settle(&mut self) -> Result<(), TransferError<L::Error>> {
        let mut settled = Ok(());
        while self.is_writing() {
            settled = settled.and(self.settle_one().await);
        }
        settled
    }

    /// Waits until one more of the chunks that were handed over is written.
    pub(crate) async fn settle_one(&mut self) -> Result<(), TransferError<L::Error>> {
        let Some(written) = self.writing.join_next().await else { return Ok(()) };
        let Written { index, crc32, bytes, outcome } = written.map_err(|source| RayError::Internal {
            what: format!("cannot {}: writing broke down: {source}", self.action),
        })?;
        self.spare.give(bytes);
        if outcome.map_err(TransferError::Near)? {
            self.chunks.arrive(index, crc32);
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
