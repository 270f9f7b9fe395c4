//! Writing an object: a stream that may be long, buffers that are copied once, and one moment at which it is there.

use std::sync::Arc;

use airfreight_core::format::{CHECKED_PAYLOAD_BYTES_MAX, Checksum, HEADER_BYTES, HEADER_LEN, Layout};
use airfreight_core::{ObjectId, ObjectName};

use crate::copy::Piece;
use crate::crash::crash_point;
use crate::error::{Result, StoreError};
use crate::pool::RECYCLE_BYTES_MIN;
use crate::store::Inner;
use crate::temp::{Temp, write_small};
use crate::tier::{TierKind, footprint, now_ns, random};

/// A stream up to this length waits in memory until the object's size is known; a longer one goes to its file.
const STREAM_BUFFER_BYTES: usize = 1 << 20;
/// By how much a file's reservation grows at a time while its stream's end is unknown.
const STREAM_STEP_BYTES: u64 = 16 << 20;

/// An object being written. Dropping it aborts: nothing was ever visible, nothing is left.
pub struct Writer {
    store: Arc<Inner>,
    id: ObjectId,
    stream: Stream,
    stream_bytes: u64,
}

enum Stream {
    /// The whole stream so far.
    Memory(Vec<u8>),
    /// All but the tail is in the file.
    File { temp: Temp, tail: Vec<u8> },
}

impl Writer {
    pub(crate) fn new(store: Arc<Inner>) -> Result<Self> {
        let id = ObjectId::from_bytes(random()?);
        Ok(Self { store, id, stream: Stream::Memory(Vec::new()), stream_bytes: 0 })
    }

    /// Stream bytes so far.
    #[must_use]
    pub fn stream_bytes(&self) -> u64 {
        self.stream_bytes
    }

    /// Appends to the stream. Keeps at most about 2 MiB in private memory, however long the stream gets.
    ///
    /// # Errors
    /// [`StoreError::Full`] and [`StoreError::Io`] once the stream has to go to its file.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream_bytes += bytes.len() as u64;
        let pending = match &mut self.stream {
            Stream::Memory(pending) | Stream::File { tail: pending, .. } => pending,
        };
        if pending.len() + bytes.len() <= STREAM_BUFFER_BYTES {
            pending.extend_from_slice(bytes);
            return Ok(());
        }
        let pending = std::mem::take(pending);
        self.flush(&[&pending, bytes])
    }

    /// Moves stream bytes to the file, making it first where there is none.
    fn flush(&mut self, parts: &[&[u8]]) -> Result<()> {
        let end = HEADER_BYTES + self.stream_bytes;
        if let Stream::Memory(_) = self.stream {
            let temp = self.store.create_temp(self.id, end.next_multiple_of(self.store.stream_step_bytes()))?;
            self.stream = Stream::File { temp, tail: Vec::new() };
        }
        let Stream::File { temp, tail } = &mut self.stream else { return Ok(()) };
        if end > temp.reserved_bytes() {
            let bytes = end.next_multiple_of(self.store.stream_step_bytes());
            self.store.grow_temp(temp, bytes, self.id)?;
        }
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let mut offset = end - length;
        let pieces: Vec<Piece<'_>> = parts
            .iter()
            .map(|bytes| {
                let piece = Piece { offset, bytes };
                offset += bytes.len() as u64;
                piece
            })
            .collect();
        match temp.write(&pieces) {
            Err(error) if error.is_no_space() && temp.kind() != TierKind::Spill => {
                self.store.relocate(temp, end - length, end, self.id, error)?;
                temp.write(&pieces)?;
            }
            other => other?,
        }
        crash_point("write.stream");
        // Keeps the allocation: the next tail will be as long.
        tail.clear();
        tail.reserve(STREAM_BUFFER_BYTES);
        Ok(())
    }

    /// Copies the buffers behind the stream, adds `metadata` (a JSON object) and publishes the whole.
    ///
    /// Buffers are copied once, straight to their place; from 16 MiB on by several threads where the pages are warm.
    ///
    /// # Errors
    /// - [`StoreError::Full`]: no room in memory nor on the spill disk.
    /// - [`StoreError::Unwritable`]: the metadata is longer than 1 MiB.
    /// - [`StoreError::Removed`], [`StoreError::Io`]: the directory or the system refused. Nothing is left behind.
    pub fn seal(mut self, buffers: &[&[u8]], metadata: &str) -> Result<ObjectName> {
        let lengths = buffers.iter().map(|buffer| buffer.len() as u64);
        let layout = Layout::new(self.stream_bytes, lengths, metadata.len())
            .map_err(|source| StoreError::Unwritable { source })?;
        let footer = layout.footer(metadata);
        let name = ObjectName::new(self.id);
        let stream = std::mem::replace(&mut self.stream, Stream::Memory(Vec::new()));
        match stream {
            Stream::Memory(stream) => {
                let content = Content { id: self.id, layout: &layout, footer: &footer, stream: &stream, buffers };
                let small = layout.payload_bytes <= CHECKED_PAYLOAD_BYTES_MAX;
                if small && self.store.put_small(name, &content)? {
                    return Ok(name);
                }
                let temp = self.store.temp_for(self.id, layout.file_bytes)?;
                let checked = small || temp.kind() == TierKind::Spill;
                match temp.write(&content.pieces(&content.header(checked.then(|| content.checksum())))) {
                    Ok(()) => temp.publish(name)?,
                    Err(error) if error.is_no_space() && temp.kind() != TierKind::Spill => {
                        // Others filled the file system although our own limit had room.
                        drop(temp);
                        let temp = self.store.create_spill_temp(self.id, layout.file_bytes, error)?;
                        temp.write(&content.pieces(&content.header(Some(content.checksum()))))?;
                        temp.publish(name)?;
                    }
                    Err(error) => return Err(error),
                }
            }
            Stream::File { mut temp, tail } => {
                let content = Content { id: self.id, layout: &layout, footer: &footer, stream: &tail, buffers };
                if layout.file_bytes > temp.reserved_bytes() {
                    self.store.grow_temp(&mut temp, layout.file_bytes, self.id)?;
                }
                match temp.write(&content.pieces_after_stream()) {
                    Err(error) if error.is_no_space() && temp.kind() != TierKind::Spill => {
                        let written = HEADER_BYTES + self.stream_bytes - tail.len() as u64;
                        self.store.relocate(&mut temp, written, layout.file_bytes, self.id, error)?;
                        temp.write(&content.pieces_after_stream())?;
                    }
                    other => other?,
                }
                let payload_crc = (temp.kind() == TierKind::Spill)
                    .then(|| temp.checksum(HEADER_BYTES, layout.table_offset))
                    .transpose()?;
                temp.write(&[Piece { offset: 0, bytes: &content.header(payload_crc) }])?;
                temp.trim(layout.file_bytes)?;
                temp.publish(name)?;
            }
        }
        Ok(name)
    }
}

/// Everything that goes into one object; `stream` is its part that is not in the file yet.
struct Content<'a> {
    id: ObjectId,
    layout: &'a Layout,
    footer: &'a [u8],
    stream: &'a [u8],
    buffers: &'a [&'a [u8]],
}

impl Content<'_> {
    fn header(&self, payload_crc: Option<u64>) -> [u8; HEADER_LEN] {
        self.layout.header(self.id, self.footer, payload_crc, now_ns()).encode()
    }

    /// From what is left of the stream to the end of the footer, padding included: no gap shows a former object.
    fn pieces_after_stream(&self) -> Vec<Piece<'_>> {
        const PADDING: &[u8] = &[0; 64];
        let mut end = HEADER_BYTES + self.layout.stream_bytes;
        let mut pieces = Vec::with_capacity(2 + 2 * self.buffers.len() + 2);
        pieces.push(Piece { offset: end - self.stream.len() as u64, bytes: self.stream });
        let places = self.layout.entries.iter().zip(self.buffers).map(|(entry, bytes)| (entry.offset(), *bytes));
        for (offset, bytes) in places.chain([(self.layout.table_offset, self.footer)]) {
            if offset > end {
                let gap = usize::try_from(offset - end).unwrap_or(PADDING.len());
                pieces.push(Piece { offset: end, bytes: &PADDING[..gap] });
            }
            pieces.push(Piece { offset, bytes });
            end = offset + bytes.len() as u64;
        }
        pieces
    }

    fn pieces<'b>(&'b self, header: &'b [u8]) -> Vec<Piece<'b>> {
        let mut pieces = self.pieces_after_stream();
        pieces.insert(0, Piece { offset: 0, bytes: header });
        pieces
    }

    /// Of everything between header and footer.
    fn checksum(&self) -> u64 {
        let mut checksum = Checksum::new();
        let pieces = self.pieces_after_stream();
        for piece in pieces.iter().filter(|piece| piece.offset < self.layout.table_offset) {
            checksum.update(piece.bytes);
        }
        checksum.finish()
    }
}

impl Inner {
    /// Writes a small object to memory in one go; `false` when memory has no room for it.
    fn put_small(&self, name: ObjectName, content: &Content<'_>) -> Result<bool> {
        let made = self.reserve(self.memory.kind, footprint(content.layout.file_bytes)).and_then(|lock| {
            let header = content.header(Some(content.checksum()));
            write_small(self, lock, &temp_name(name.id()), name, &content.pieces(&header))
        });
        match made {
            Ok(()) => Ok(true),
            Err(StoreError::Full { .. }) => Ok(false),
            Err(error) if error.is_no_space() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The best place for an object of `bytes`: a warm segment, fresh memory, else the spill disk.
    pub(crate) fn temp_for(self: &Arc<Self>, id: ObjectId, bytes: u64) -> Result<Temp> {
        if bytes >= RECYCLE_BYTES_MIN
            && bytes <= self.limits.capacity_bytes
            && let Some(temp) = self.recycle_temp(id, bytes)?
        {
            return Ok(temp);
        }
        self.create_temp(id, bytes)
    }

    fn recycle_temp(self: &Arc<Self>, id: ObjectId, bytes: u64) -> Result<Option<Temp>> {
        let lock = self.ledger.change(&self.memory)?;
        let Some(claimed) = self.claim_warm(bytes, &temp_name(id)) else { return Ok(None) };
        let missing = footprint(bytes).saturating_sub(footprint(claimed.bytes));
        let length = claimed.bytes;
        if missing > 0 && !self.ledger.used().try_add(missing, self.limits.capacity_bytes) {
            // Given back; the ordinary way makes room first.
            drop(Temp::recycle(self, claimed, length, lock)?);
            return Ok(None);
        }
        let temp = Temp::recycle(self, claimed, bytes, lock)?;
        match temp.allocate(length, bytes) {
            Ok(()) => Ok(Some(temp)),
            Err(error) if error.is_no_space() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A fresh file in memory, or on the spill disk when memory can't be had.
    pub(crate) fn create_temp(self: &Arc<Self>, id: ObjectId, bytes: u64) -> Result<Temp> {
        let kind = self.memory.kind;
        let made =
            self.reserve(kind, footprint(bytes)).and_then(|lock| Temp::create(self, kind, temp_name(id), bytes, lock));
        match made {
            Err(error @ StoreError::Full { .. }) => self.create_spill_temp(id, bytes, error),
            Err(error) if error.is_no_space() => self.create_spill_temp(id, bytes, error),
            other => other,
        }
    }

    /// A fresh file on the spill disk; `reason` is why memory wouldn't do, and the answer where there is no such disk.
    pub(crate) fn create_spill_temp(self: &Arc<Self>, id: ObjectId, bytes: u64, reason: StoreError) -> Result<Temp> {
        if self.spill().is_err() {
            return Err(reason);
        }
        match (self.reserve(TierKind::Spill, footprint(bytes)), reason) {
            (Ok(lock), _) => Temp::create(self, TierKind::Spill, temp_name(id), bytes, lock),
            // Who holds memory is worth more to the user than that the second choice failed, too; both are told.
            (
                Err(StoreError::Full { spill, .. }),
                StoreError::Full { store, needed_bytes, used_bytes, capacity_bytes, pinned_bytes, holders, .. },
            ) => {
                Err(StoreError::Full { store, needed_bytes, used_bytes, capacity_bytes, pinned_bytes, holders, spill })
            }
            (Err(error), _) => Err(error),
        }
    }

    /// In a small store a whole step might not fit where the object would.
    fn stream_step_bytes(&self) -> u64 {
        STREAM_STEP_BYTES.min(self.limits.capacity_bytes / 16).next_multiple_of(4096)
    }

    /// Reserves room for a stream that turned out longer; moves it to the spill disk when memory has no more.
    fn grow_temp(self: &Arc<Self>, temp: &mut Temp, bytes: u64, id: ObjectId) -> Result<()> {
        let more = footprint(bytes) - temp.reserved_bytes();
        match self.reserve(temp.kind(), more) {
            Ok(lock) => {
                let grown = temp.grow(bytes);
                drop(lock);
                grown
            }
            Err(error @ StoreError::Full { .. }) if temp.kind() != TierKind::Spill => {
                let written = temp.reserved_bytes();
                self.relocate(temp, written, bytes, id, error)
            }
            Err(error) => Err(error),
        }
    }

    /// Moves the first `written` bytes of an unfinished file to the spill disk, with room for `bytes` there.
    pub(crate) fn relocate(
        self: &Arc<Self>,
        temp: &mut Temp,
        written: u64,
        bytes: u64,
        id: ObjectId,
        reason: StoreError,
    ) -> Result<()> {
        let target = self.create_spill_temp(id, bytes.max(written), reason)?;
        copy_range(temp.fd(), target.fd(), written)
            .map_err(StoreError::io("copy to the spill directory", &self.memory.path))?;
        crash_point("relocate.copied");
        *temp = target;
        Ok(())
    }
}

/// Copies a file's beginning to another file.
pub(crate) fn copy_range(from: &std::os::fd::OwnedFd, to: &std::os::fd::OwnedFd, bytes: u64) -> rustix::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < bytes {
        let want = buffer.len().min(usize::try_from(bytes - offset).unwrap_or(usize::MAX));
        let got = rustix::io::retry_on_intr(|| rustix::io::pread(from, &mut buffer[..want], offset))?;
        if got == 0 {
            return Err(rustix::io::Errno::IO);
        }
        let mut done = 0;
        while done < got {
            done += rustix::io::retry_on_intr(|| rustix::io::pwrite(to, &buffer[done..got], offset + done as u64))?;
        }
        offset += got as u64;
    }
    Ok(())
}

/// A temporary file is called after the object it is to become.
fn temp_name(id: ObjectId) -> String {
    format!("{id}.w")
}
