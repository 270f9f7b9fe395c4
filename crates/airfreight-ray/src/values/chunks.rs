//! An object's file as chunks that arrive in any order, each with its checksum.

use std::ops::Range;

/// Which chunks there are, and which of them have arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    file_bytes: u64,
    chunk_bytes: u64,
    /// `None` where the checksum comes with the chunk, and hasn't come.
    crc32: Vec<Option<u32>>,
    arrived: Vec<bool>,
}

impl Chunks {
    /// `None` if so many chunks don't make a file of this length.
    ///
    /// Without checksums, each comes with its chunk.
    pub(crate) fn new(file_bytes: u64, chunk_bytes: u64, crc32: Option<Vec<u32>>) -> Option<Self> {
        let count = usize::try_from(file_bytes.checked_next_multiple_of(chunk_bytes)? / chunk_bytes).ok()?;
        let crc32 = crc32.map_or_else(|| vec![None; count], |known| known.into_iter().map(Some).collect());
        let arrived = vec![false; count];
        (crc32.len() == count).then_some(Self { file_bytes, chunk_bytes, crc32, arrived })
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Takes over what has arrived of an earlier export of the same value. Answers how many bytes.
    pub(crate) fn adopt(&mut self, earlier: &Self) -> u64 {
        let alike = (self.file_bytes, self.chunk_bytes) == (earlier.file_bytes, earlier.chunk_bytes);
        for index in 0..self.crc32.len() {
            let same = self.crc32[index].is_some() && earlier.crc32.get(index) == Some(&self.crc32[index]);
            self.arrived[index] = alike && same && earlier.arrived[index];
        }
        (0..self.crc32.len()).filter(|&index| self.arrived[index]).map(|index| self.len(index) as u64).sum()
    }

    /// The first chunks that are missing, one after the other.
    pub(crate) fn missing(&self) -> Option<Range<usize>> {
        let start = self.arrived.iter().position(|arrived| !arrived)?;
        let len = self.arrived[start..].iter().position(|&arrived| arrived).unwrap_or(self.arrived.len() - start);
        Some(start..start + len)
    }

    /// All chunks that are missing.
    pub(crate) fn all_missing(&self) -> Vec<usize> {
        (0..self.arrived.len()).filter(|&index| !self.arrived[index]).collect()
    }

    /// Whether anything has arrived.
    pub(crate) fn has_some(&self) -> bool {
        self.arrived.contains(&true)
    }

    /// The chunk that holds what stands at `position`.
    pub(crate) fn index_at(&self, position: u64) -> Option<usize> {
        (position < self.file_bytes).then(|| usize::try_from(position / self.chunk_bytes).unwrap_or(usize::MAX))
    }

    pub(crate) fn is_missing(&self, index: usize) -> bool {
        !self.arrived[index]
    }

    pub(crate) fn offset(&self, index: usize) -> u64 {
        index as u64 * self.chunk_bytes
    }

    /// Where a chunk ends.
    pub(crate) fn end(&self, index: usize) -> u64 {
        (self.offset(index) + self.chunk_bytes).min(self.file_bytes)
    }

    pub(crate) fn len(&self, index: usize) -> usize {
        usize::try_from(self.end(index) - self.offset(index)).unwrap_or(usize::MAX)
    }

    /// The checksum of a chunk, where it is known before the chunk.
    pub(crate) fn crc32(&self, index: usize) -> Option<u32> {
        self.crc32[index]
    }

    /// A chunk with this checksum is where it shall be.
    pub(crate) fn arrive(&mut self, index: usize, crc32: u32) {
        self.arrived[index] = true;
        self.crc32[index] = Some(crc32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_in_runs() {
        let mut chunks = Chunks::new(21, 5, Some(vec![1, 2, 3, 4, 5])).unwrap();
        assert_eq!(chunks.missing(), Some(0..5));
        assert_eq!((chunks.offset(4), chunks.end(4), chunks.len(4), chunks.len(0)), (20, 21, 1, 5));
        chunks.arrive(0, 1);
        chunks.arrive(3, 4);
        assert_eq!((chunks.missing(), chunks.all_missing()), (Some(1..3), vec![1, 2, 4]));
        for index in [1, 2] {
            chunks.arrive(index, 2);
        }
        assert_eq!(chunks.missing(), Some(4..5));
        chunks.arrive(4, 5);
        assert_eq!(chunks.missing(), None);
    }

    #[test]
    fn another_export_keeps_what_is_the_same() {
        let mut first = Chunks::new(21, 5, Some(vec![1, 2, 3, 4, 5])).unwrap();
        for (index, crc32) in [(0, 1), (1, 2), (4, 5)] {
            first.arrive(index, crc32);
        }
        let mut second = Chunks::new(21, 5, Some(vec![9, 2, 3, 4, 5])).unwrap();
        assert_eq!(second.adopt(&first), 6);
        assert_eq!(second.missing(), Some(0..1));
        let mut longer = Chunks::new(22, 5, Some(vec![1, 2, 3, 4, 5])).unwrap();
        assert_eq!(longer.adopt(&first), 0);
    }

    #[test]
    fn checksums_that_came_with_chunks_are_compared_with_a_list() {
        let mut first = Chunks::new(21, 5, None).unwrap();
        assert!(!first.has_some() && first.crc32(1).is_none());
        first.arrive(1, 2);
        first.arrive(2, 9);
        assert!(first.has_some() && first.crc32(1) == Some(2));
        let mut second = Chunks::new(21, 5, Some(vec![1, 2, 3, 4, 5])).unwrap();
        assert_eq!(second.adopt(&first), 5);
        // Nothing says that it would be the same file.
        let mut unknown = Chunks::new(21, 5, None).unwrap();
        assert_eq!(unknown.adopt(&first), 0);
    }

    #[test]
    fn a_list_of_another_length_is_no_file() {
        assert!(Chunks::new(21, 5, Some(vec![1, 2, 3, 4])).is_none() && Chunks::new(21, 0, None).is_none());
    }
}
