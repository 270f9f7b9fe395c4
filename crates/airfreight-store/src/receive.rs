//! Receiving an object: its bytes arrive from elsewhere, in any order, and become an object once they are whole.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use airfreight_core::format::{CHECKED_PAYLOAD_BYTES_MAX, Footer, FormatError, HEADER_BYTES, HEADER_LEN, Header};
use airfreight_core::{ObjectId, ObjectName};

use crate::copy::{Part, Piece};
use crate::crash::crash_point;
use crate::error::{Result, StoreError};
use crate::store::Inner;
use crate::temp::Temp;
use crate::tier::{TierKind, random};

/// What is known of a payload that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Whoever received it has compared it with checksums from its sender.
    Verified,
    /// Nothing: it is compared with the checksum in the object's header, and refused where there is none.
    Unverified,
}

/// An object that arrives. Dropping it aborts: nothing was ever visible, nothing is left.
pub struct Receiver {
    store: Arc<Inner>,
    name: ObjectName,
    /// The temporary file is called after an id of its own: the same object may arrive twice at once.
    temp_id: ObjectId,
    /// Shared by those who write into the file, exclusive for moving it.
    temp: RwLock<Temp>,
    file_bytes: u64,
    arrived: Mutex<Ranges>,
}

/// A part of an object that arrives, mapped: bytes go to their place as they come. What is dropped before
/// [`Receiver::accept`] hasn't arrived.
pub struct Window {
    part: Part,
    offset: u64,
    filled: usize,
}

impl Window {
    /// Appends bytes.
    ///
    /// # Panics
    /// When there are more than the window has room for.
    pub fn push(&mut self, bytes: &[u8]) {
        // Who reads it next waits for memory in either case: by then, more has arrived than the cache holds.
        self.part.stream_from(self.filled, bytes);
        self.filled += bytes.len();
    }
}

impl Receiver {
    /// Reserves room for an object's file of `file_bytes`.
    pub(crate) fn new(store: Arc<Inner>, name: ObjectName, file_bytes: u64) -> Result<Self> {
        if file_bytes < HEADER_BYTES {
            let source = FormatError::Truncated { expected_bytes: HEADER_BYTES, actual_bytes: file_bytes };
            return Err(StoreError::Damaged { name, source });
        }
        let temp_id = ObjectId::from_bytes(random()?);
        let temp = RwLock::new(store.temp_for(temp_id, file_bytes)?);
        Ok(Self { store, name, temp_id, temp, file_bytes, arrived: Mutex::default() })
    }

    /// The length that was reserved.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Writes what belongs at `offset`, in any order and from any number of threads. What comes later to the same place
    /// replaces what was there.
    ///
    /// Nothing is kept in private memory. Parts of 4 MiB or more that begin at a multiple of 2 MiB cost least.
    ///
    /// # Errors
    /// - [`StoreError::Damaged`]: it reaches beyond the length that was reserved.
    /// - [`StoreError::Full`], [`StoreError::Io`]: others took the room, and the part was not written.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset.checked_add(bytes.len() as u64).filter(|&end| end <= self.file_bytes);
        let Some(end) = end else {
            return Err(self.damaged(FormatError::Layout("more arrived than was announced")));
        };
        let piece = [Piece { offset, bytes }];
        let written = self.temp.read().unwrap_or_else(PoisonError::into_inner).write_part(&piece);
        match written {
            Err(error) if error.is_no_space() => self.write_elsewhere(&piece, error)?,
            other => other?,
        }
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).add(offset, end);
        crash_point("receive.part");
        Ok(())
    }

    /// Maps a part whose pages are there already, as those of a recycled file are. `None`: [`Self::write`] is the way.
    ///
    /// Saves a copy of everything, and writers the wait for each other. Begins at a multiple of 2 MiB.
    #[must_use]
    pub fn window(&self, range: Range<u64>) -> Option<Window> {
        let part = self.temp.read().unwrap_or_else(PoisonError::into_inner).window(range.start, range.end)?;
        Some(Window { part, offset: range.start, filled: 0 })
    }

    /// Counts what was put into a window as arrived. `false`: the file has moved to the spill disk meanwhile, and
    /// that part must come again.
    #[must_use]
    pub fn accept(&self, window: Window) -> bool {
        let Window { part, offset, filled } = window;
        drop(part);
        // Who moves the file is exclusive, so it moves before this or takes along what is counted here.
        let temp = self.temp.read().unwrap_or_else(PoisonError::into_inner);
        let is_here = temp.kind() == TierKind::Memory;
        if is_here {
            self.arrived.lock().unwrap_or_else(PoisonError::into_inner).add(offset, offset + filled as u64);
            crash_point("receive.part");
        }
        is_here
    }

    /// Others filled the file system although our own limit had room: what has arrived moves to the spill disk.
    fn write_elsewhere(&self, piece: &[Piece<'_>], reason: StoreError) -> Result<()> {
        let mut temp = self.temp.write().unwrap_or_else(PoisonError::into_inner);
        if temp.kind() != TierKind::Spill {
            self.store.relocate(&mut temp, self.file_bytes, self.file_bytes, self.temp_id, reason)?;
        }
        temp.write_part(piece)
    }

    /// Checks the whole and publishes it under its name. An object of this name that is there already is as good.
    ///
    /// Header and footer are checked always. The payload's checksum is computed where the object's tier wants one, and
    /// for a payload that nobody has verified; that reads it once.
    ///
    /// # Errors
    /// - [`StoreError::Damaged`]: it is incomplete, another object, or doesn't match its checksums.
    /// - [`StoreError::Removed`], [`StoreError::Io`]: the directory or the system refused. Nothing is left behind.
    pub fn seal(self, payload: Payload) -> Result<ObjectName> {
        let Self { store, name, temp, file_bytes, arrived, .. } = self;
        let temp = temp.into_inner().unwrap_or_else(PoisonError::into_inner);
        let damaged = |source| StoreError::Damaged { name, source };
        let arrived_bytes = arrived.into_inner().unwrap_or_else(PoisonError::into_inner).bytes();
        if arrived_bytes != file_bytes {
            return Err(damaged(FormatError::Truncated { expected_bytes: file_bytes, actual_bytes: arrived_bytes }));
        }
        let header = checked_header(&temp, file_bytes, name)?;
        let small = header.payload_bytes <= CHECKED_PAYLOAD_BYTES_MAX;
        let wanted = small || temp.kind() == TierKind::Spill;
        if payload == Payload::Unverified && header.payload_crc.is_none() {
            return Err(damaged(FormatError::Layout("its payload has no checksum")));
        }
        if wanted || payload == Payload::Unverified {
            let found = temp.checksum(HEADER_BYTES, header.table_offset)?;
            if header.payload_crc.is_some_and(|expected| expected != found) {
                return Err(damaged(FormatError::PayloadChecksum));
            }
            let header = Header { payload_crc: Some(found), ..header }.encode();
            temp.write_part(&[Piece { offset: 0, bytes: &header }])?;
        }
        if store.has(name) {
            return Ok(name);
        }
        crash_point("receive.checked");
        match temp.publish(name) {
            // The same object arrived twice at once.
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => Ok(name),
            other => other.map(|()| name),
        }
    }

    fn damaged(&self, source: FormatError) -> StoreError {
        StoreError::Damaged { name: self.name, source }
    }
}

/// Reads and checks header and footer of a file that has arrived.
fn checked_header(temp: &Temp, file_bytes: u64, name: ObjectName) -> Result<Header> {
    let damaged = |source| StoreError::Damaged { name, source };
    let mut head = [0; HEADER_LEN];
    temp.read(&mut head, 0)?;
    let header = Header::decode(&head, file_bytes).map_err(damaged)?;
    if header.id != name.id() {
        return Err(damaged(FormatError::Layout("it holds another object's id")));
    }
    if header.file_bytes != file_bytes {
        return Err(damaged(FormatError::Layout("it ends before the bytes that arrived do")));
    }
    let mut footer = vec![0; usize::try_from(header.footer_bytes()).unwrap_or(usize::MAX)];
    temp.read(&mut footer, header.table_offset)?;
    Footer::decode(&header, &footer).map_err(damaged)?;
    Ok(header)
}

/// Which bytes have arrived: ranges that ascend and don't touch.
#[derive(Default)]
struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    fn add(&mut self, start: u64, end: u64) {
        if start == end {
            return;
        }
        let first = self.0.partition_point(|&(_, known_end)| known_end < start);
        let after = self.0.partition_point(|&(known_start, _)| known_start <= end);
        let joined = self.0[first..after]
            .iter()
            .fold((start, end), |(start, end), &(known_start, known_end)| (start.min(known_start), end.max(known_end)));
        self.0.splice(first..after, [joined]);
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_count_each_byte_once(parts in prop::collection::vec((0_u64..200, 0_u64..40), 0..40)) {
            let mut ranges = Ranges::default();
            let mut model = [false; 240];
            for (start, len) in parts {
                ranges.add(start, start + len);
                (start..start + len).for_each(|at| model[usize::try_from(at).unwrap()] = true);
                prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", ranges.0);
            }
            prop_assert_eq!(ranges.bytes(), model.iter().filter(|arrived| **arrived).count() as u64);
        }
    }
}
