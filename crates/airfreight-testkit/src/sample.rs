//! Content of which every eight bytes tell where they belong.

use std::fmt;

use airfreight_core::format::{FormatError, HEADER_LEN, Layout};
use airfreight_core::{ObjectId, ObjectName};
use airfreight_store::{Object, Store, StoreError};
use serde::{Deserialize, Serialize};

/// An object's content, told by a random seed and the lengths of its parts. Its metadata says the same, so a reader
/// knows what every byte of an object must be, whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// What makes this object's words differ from every other's.
    pub seed: u64,
    /// Length of the stream.
    pub stream_bytes: usize,
    /// Lengths of the buffers.
    pub buffers: Vec<usize>,
}

/// A byte that isn't what was written.
#[derive(Debug)]
pub struct Wrong {
    name: ObjectName,
    what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {}: {}", self.name, self.what)
    }
}

impl std::error::Error for Wrong {}

/// The word at `index` of a part. Words of two seeds differ at every place, and so do two places of one seed.
fn word(seed: u64, part: usize, index: usize) -> u64 {
    let place = (part as u64) << 40 | index as u64;
    seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn fill(seed: u64, part: usize, bytes: usize) -> Vec<u8> {
    let mut content: Vec<u8> = Vec::with_capacity(bytes.next_multiple_of(8));
    content.extend((0..bytes.div_ceil(8)).flat_map(|index| word(seed, part, index).to_le_bytes()));
    content.truncate(bytes);
    content
}

fn check(seed: u64, part: usize, found: &[u8]) -> Result<(), String> {
    let wrong = |index: usize, found: &[u8]| {
        let expected = word(seed, part, index);
        format!("part {part} has {found:02x?} at byte {}, not {:02x?}", index * 8, expected.to_le_bytes())
    };
    let words = found.chunks_exact(8);
    let rest = words.remainder();
    for (index, chunk) in words.enumerate() {
        if chunk != word(seed, part, index).to_le_bytes() {
            return Err(wrong(index, chunk));
        }
    }
    let index = found.len() / 8;
    if rest == &word(seed, part, index).to_le_bytes()[..rest.len()] { Ok(()) } else { Err(wrong(index, rest)) }
}

impl Sample {
    /// One buffer of this length and a short stream.
    #[must_use]
    pub fn new(seed: u64, bytes: usize) -> Self {
        Self { seed, stream_bytes: 24, buffers: vec![bytes] }
    }

    /// A random content of about `bytes`, in one of the shapes that take different ways into the store.
    pub fn random(rng: &mut fastrand::Rng, bytes: usize) -> Self {
        let seed = rng.u64(..);
        match rng.u8(..10) {
            // All in the stream; beyond 1 MiB it goes to the file while it is written.
            0 => Self { seed, stream_bytes: bytes, buffers: Vec::new() },
            1 => Self { seed, stream_bytes: rng.usize(..100), buffers: vec![bytes / 2, 0, bytes / 2, 1] },
            _ => Self::new(seed, bytes),
        }
    }

    /// What the parts have together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.stream_bytes + self.buffers.iter().sum::<usize>()) as u64
    }

    /// Writes the object; what it returns is acknowledged.
    ///
    /// # Errors
    /// The store's.
    pub fn put(&self, store: &Store) -> Result<ObjectName, StoreError> {
        let stream = fill(self.seed, 0, self.stream_bytes);
        let buffers: Vec<Vec<u8>> =
            self.buffers.iter().enumerate().map(|(index, &bytes)| fill(self.seed, index + 1, bytes)).collect();
        let mut writer = store.create()?;
        // Odd steps, so that the ends of flushes fall anywhere.
        for part in stream.chunks(300_001) {
            writer.write(part)?;
        }
        let buffers: Vec<&[u8]> = buffers.iter().map(Vec::as_slice).collect();
        let metadata = serde_json::to_string(self).unwrap_or_default();
        writer.seal(&buffers, &metadata)
    }

    /// The object's file as another host may send it, under an id that the seed tells.
    ///
    /// # Errors
    /// The format's.
    pub fn file(&self) -> Result<(ObjectId, Vec<u8>), FormatError> {
        let id = ObjectId::from_bytes(u128::from(self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c).to_le_bytes());
        let metadata = serde_json::to_string(self).unwrap_or_default();
        let lengths = self.buffers.iter().map(|&bytes| bytes as u64);
        let layout = Layout::new(self.stream_bytes as u64, lengths, metadata.len())?;
        let footer = layout.footer(&metadata);
        let mut file = vec![0; HEADER_LEN];
        file.extend(fill(self.seed, 0, self.stream_bytes));
        for (index, (&bytes, entry)) in self.buffers.iter().zip(&layout.entries).enumerate() {
            file.resize(usize::try_from(entry.offset()).unwrap_or(usize::MAX), 0);
            file.extend(fill(self.seed, index + 1, bytes));
        }
        file.resize(usize::try_from(layout.table_offset).unwrap_or(usize::MAX), 0);
        file.extend(&footer);
        file[..HEADER_LEN].copy_from_slice(&layout.header(id, &footer, None, 1).encode());
        Ok((id, file))
    }

    /// The content that an object's metadata tells.
    ///
    /// # Errors
    /// When the metadata isn't what [`Self::put`] writes.
    pub fn of(object: &Object) -> Result<Self, Wrong> {
        let name = object.name();
        serde_json::from_str(object.metadata()).map_err(|error| Wrong { name, what: error.to_string() })
    }

    /// Compares every byte of an object with this content.
    ///
    /// # Errors
    /// The first place that differs.
    pub fn verify(&self, object: &Object) -> Result<(), Wrong> {
        let wrong = |what| Wrong { name: object.name(), what };
        let told = Self::of(object)?;
        if told != *self {
            return Err(wrong(format!("holds {told:?}, not {self:?}")));
        }
        let stream = object.stream();
        if stream.len() != self.stream_bytes || object.entries().len() != self.buffers.len() {
            return Err(wrong(format!("has a stream of {} and {:?}", stream.len(), object.entries())));
        }
        check(self.seed, 0, stream).map_err(wrong)?;
        for (index, &bytes) in self.buffers.iter().enumerate() {
            let found = object.buffer(index).unwrap_or_default();
            if found.len() != bytes {
                return Err(wrong(format!("buffer {index} has {} bytes, not {bytes}", found.len())));
            }
            check(self.seed, index + 1, found).map_err(wrong)?;
        }
        Ok(())
    }
}
