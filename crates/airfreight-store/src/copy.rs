//! Getting bytes into a file whose pages are the expensive part.
//!
//! | the file's pages | way |
//! | --- | --- |
//! | are there (a recycled file) | copied through populated mappings by all threads; two can't `pwrite` one file at a time. Small pages become huge ones, a few at each use. What arrives bit by bit goes into a mapping of its part |
//! | are not, tmpfs with pages of 4 KiB | made as huge pages (`MADV_COLLAPSE`) a batch at a time, filled through a mapping by all threads |
//! | are not, any other file system, or huge pages can't be had | `pwrite`, which makes pages without a fault each and without zeroing what it overwrites |
//!
//! A page that isn't there is never written through a mapping: on a full tmpfs that would kill the process.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use rustix::io::{Errno, Result};

use crate::crash::crash_point;
use crate::sys::{HUGE_PAGE_BYTES, Mapping};

/// Copies from this length on are shared between threads: below, starting one costs more than it saves.
const PARALLEL_BYTES_MIN: u64 = 16 << 20;
/// More threads than this don't make memory faster.
const COPY_THREADS_MAX: u64 = 4;
/// The kernel takes at most 1024 slices at once.
const SLICES_MAX: usize = 1024;
/// From here on, huge pages pay for the calls that it takes to have them.
const HUGE_BYTES_MIN: u64 = 2 * HUGE_PAGE_BYTES;
/// So much is made and filled at a time: zeroed memory is still in the processor's cache when it is overwritten.
const BATCH_BYTES: u64 = 4 * HUGE_PAGE_BYTES;
/// What of a recycled file is mapped, looked at and filled at a time.
const CHUNK_BYTES: u64 = 8 * HUGE_PAGE_BYTES;
/// Where mapping takes longer for each 2 MiB, they are small pages, each of which is entered by itself.
const HUGE_PAGE_MAPPED: Duration = Duration::from_micros(20);
/// Making huge pages of a recycled file's small ones may add a nanosecond for each of so many bytes that are written: some
/// tenth of the time that they take, until all are huge.
const BYTES_PER_NANO_OF_MENDING: u64 = 32;
/// The same for what arrives from elsewhere, which takes longer.
const ARRIVING_BYTES_PER_NANO_OF_MENDING: u64 = 16;
/// A huge page is mended at a time: where memory is slow to be had, more would be felt.
#[expect(clippy::cast_possible_truncation, reason = "2 MiB")]
const MENDED_LEN: usize = HUGE_PAGE_BYTES as usize;
/// The C library copies what is longer in a way that takes twice as long unless both sides lie alike in their pages.
const COPY_BYTES_MAX: usize = 16 << 20;
/// In fragmented memory the kernel may look for huge pages much longer than small ones take.
const PATIENCE: Duration = Duration::from_millis(20);
const PATIENCE_PER_PAGE: Duration = Duration::from_millis(1);
/// ... or the memory is slow itself, as on a virtual machine whose host gives it a page at its first touch. Huge pages may
/// take so many times as long as small ones: they save more in what comes later.
const SLOWER_THAN_SMALL_MAX: u32 = 2;

/// Bytes with their place in the file. Pieces ascend and leave no gaps.
pub(crate) struct Piece<'a> {
    pub(crate) offset: u64,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// The part that lies in `start..end`; `None` when none does.
    fn within(&self, start: u64, end: u64) -> Option<Piece<'a>> {
        let from = self.offset.max(start);
        let to = self.end().min(end);
        if from >= to {
            return None;
        }
        let cut = |offset: u64| usize::try_from(offset - self.offset).unwrap_or(usize::MAX);
        Some(Piece { offset: from, bytes: &self.bytes[cut(from)..cut(to)] })
    }
}

/// How long a file's writers go on asking for huge pages; in parts or in threads, it is one for all of them.
pub(crate) struct Patience {
    left_nanos: AtomicI64,
    /// What one huge page may take, its content included.
    page_nanos: AtomicI64,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { left_nanos: AtomicI64::new(nanos(PATIENCE)), page_nanos: AtomicI64::new(nanos(PATIENCE_PER_PAGE)) }
    }

    fn is_over(&self) -> bool {
        self.left_nanos.load(Ordering::Relaxed) < 0
    }

    /// So many huge pages took this long.
    fn took(&self, time: Duration, pages: u64) {
        let allowed = self.page_nanos.load(Ordering::Relaxed).saturating_mul(i64::try_from(pages).unwrap_or(i64::MAX));
        self.left_nanos.fetch_add(allowed.saturating_sub(nanos(time)), Ordering::Relaxed);
    }

    /// Small pages for as many bytes took this long: where they are hardly faster, it is memory that is slow.
    fn compare(&self, huge: Duration, small: Duration, pages: u64) {
        if huge <= small.saturating_mul(SLOWER_THAN_SMALL_MAX) {
            let page = small.saturating_mul(SLOWER_THAN_SMALL_MAX) / u32::try_from(pages.max(1)).unwrap_or(u32::MAX);
            self.page_nanos.fetch_max(nanos(page), Ordering::Relaxed);
            self.left_nanos.store(nanos(PATIENCE), Ordering::Relaxed);
        }
    }

    /// There are none.
    fn end(&self) {
        self.left_nanos.store(-1, Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Writes pieces to a file whose first `resident_bytes` have pages.
pub(crate) fn write_resident(fd: BorrowedFd<'_>, pieces: &[Piece<'_>], resident_bytes: u64) -> Result<()> {
    let end = resident_bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    let end = if end < HUGE_BYTES_MIN { 0 } else { end };
    shared(0, end, |start, end| {
        let mapping = Mapping::window(fd, start, usize::try_from(end - start).map_err(|_| Errno::FBIG)?)?;
        let mut budget = Duration::from_nanos((end - start) / BYTES_PER_NANO_OF_MENDING);
        let mut done = start;
        while done < end {
            let chunk_end = end.min(done + CHUNK_BYTES);
            enter(&mapping, done - start, chunk_end - done, &mut budget)?;
            copy_into(&mapping, start, pieces, done, chunk_end)?;
            done = chunk_end;
        }
        Ok(())
    })?;
    crash_point("recycle.copied");
    crash_point("write.half");
    write_range(fd, pieces, end, u64::MAX)
}

/// Maps a part of a file whose pages are there, for what is copied into it bit by bit.
pub(crate) fn map_resident(fd: BorrowedFd<'_>, start: u64, len: u64, mending: &Mending) -> Result<Mapping> {
    let mapping = Mapping::window(fd, start, usize::try_from(len).map_err(|_| Errno::FBIG)?)?;
    let mut left = mending.0.lock().unwrap_or_else(PoisonError::into_inner);
    // Whoever mends has all that is left; the others needn't wait for that.
    let mut budget = std::mem::take(&mut *left);
    drop(left);
    let entered = enter(&mapping, 0, len, &mut budget);
    *mending.0.lock().unwrap_or_else(PoisonError::into_inner) += budget;
    entered.map(|()| mapping)
}

/// How long a file's writers go on making huge pages of its small ones; in parts, it is one for all of them.
pub(crate) struct Mending(Mutex<Duration>);

impl Mending {
    pub(crate) fn of(resident_bytes: u64) -> Self {
        Self(Mutex::new(Duration::from_nanos(resident_bytes / ARRIVING_BYTES_PER_NANO_OF_MENDING)))
    }
}

/// Writes pieces to a file of at least their length, in shared memory, which has no pages there.
pub(crate) fn write_fresh(fd: BorrowedFd<'_>, pieces: &[Piece<'_>], patience: &Patience) -> Result<()> {
    let start = pieces.first().map_or(0, |piece| piece.offset).next_multiple_of(HUGE_PAGE_BYTES);
    let end = pieces.last().map_or(0, Piece::end) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    crash_point("write.half");
    if end < start + HUGE_BYTES_MIN || patience.is_over() || gives_huge_pages(fd) {
        return write_range(fd, pieces, 0, u64::MAX);
    }
    write_range(fd, pieces, 0, start)?;
    shared(start, end, |start, end| {
        let done = fill_huge(fd, pieces, start, end, patience)?;
        write_range(fd, pieces, done, end)
    })?;
    write_range(fd, pieces, end, u64::MAX)
}

/// Writes pieces one after the other, whatever the file.
pub(crate) fn write_plain(fd: BorrowedFd<'_>, pieces: &[Piece<'_>]) -> Result<()> {
    for run in pieces.chunks(SLICES_MAX) {
        let mut offset = run[0].offset;
        let mut slices: Vec<IoSlice<'_>> = run.iter().map(|piece| IoSlice::new(piece.bytes)).collect();
        let mut rest = slices.as_mut_slice();
        while rest.iter().any(|slice| !slice.is_empty()) {
            let written = rustix::io::retry_on_intr(|| rustix::io::pwritev(fd, rest, offset))?;
            if written == 0 {
                return Err(Errno::NOSPC);
            }
            offset += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
    }
    Ok(())
}

fn write_range(fd: BorrowedFd<'_>, pieces: &[Piece<'_>], start: u64, end: u64) -> Result<()> {
    let parts: Vec<Piece<'_>> = pieces.iter().filter_map(|piece| piece.within(start, end)).collect();
    write_plain(fd, &parts)
}

/// Lets threads do `start..end` in shares of whole huge pages; the first error is the answer.
fn shared(start: u64, end: u64, write: impl Fn(u64, u64) -> Result<()> + Sync) -> Result<()> {
    let threads = match end - start {
        0 => return Ok(()),
        PARALLEL_BYTES_MIN.. => available_parallelism().map_or(1, |count| count.get() as u64).min(COPY_THREADS_MAX),
        _ => 1,
    };
    let share = ((end - start) / threads).next_multiple_of(HUGE_PAGE_BYTES);
    let write = &write;
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|thread| (start + thread * share, (start + (thread + 1) * share).min(end)))
            .filter(|(start, end)| start < end)
            .map(|(start, end)| scope.spawn(move || write(start, end)))
            .collect();
        let own = write(start, (start + share).min(end));
        others.into_iter().map(|thread| thread.join().unwrap_or(Err(Errno::IO))).fold(own, Result::and)
    })
}

/// Makes huge pages and copies into them.
///
/// The answer is how far that went: less than to `end` when they can't be had, or only slowly.
fn fill_huge(fd: BorrowedFd<'_>, pieces: &[Piece<'_>], start: u64, end: u64, patience: &Patience) -> Result<u64> {
    let Ok(mapping) = Mapping::window(fd, start, usize::try_from(end - start).map_err(|_| Errno::FBIG)?) else {
        return Ok(start);
    };
    let mut done = start;
    while done < end && !patience.is_over() {
        let batch_end = end.min(done + BATCH_BYTES);
        let began = worked();
        if make_huge(fd, &mapping, start, done, batch_end).is_err() {
            patience.end();
            break;
        }
        crash_point("write.huge");
        copy_into(&mapping, start, pieces, done, batch_end)?;
        let (took, pages) = (worked().saturating_sub(began), (batch_end - done) / HUGE_PAGE_BYTES);
        patience.took(took, pages);
        done = batch_end;
        let probe_end = done + pages * HUGE_PAGE_BYTES;
        if patience.is_over() && probe_end <= end {
            let began = worked();
            write_range(fd, pieces, done, probe_end)?;
            patience.compare(took, worked().saturating_sub(began), pages);
            done = probe_end;
        }
    }
    Ok(done)
}

/// Enters pages that are there into the page table, and makes huge ones of them as long as that stays within `budget`.
fn enter(mapping: &Mapping, offset: u64, len: u64, budget: &mut Duration) -> Result<()> {
    let pages = u32::try_from(len / HUGE_PAGE_BYTES).unwrap_or(u32::MAX);
    let offset = usize::try_from(offset).map_err(|_| Errno::FBIG)?;
    let len = usize::try_from(len).map_err(|_| Errno::FBIG)?;
    let enter = || match mapping.enter(offset, len) {
        // Kernels before 5.14 enter a page at its first use.
        Err(Errno::INVAL) => Ok(()),
        other => other,
    };
    let began = worked();
    enter()?;
    let entered = worked();
    if budget.is_zero() || entered.saturating_sub(began) < HUGE_PAGE_MAPPED.saturating_mul(pages) {
        return Ok(());
    }
    let mut before = entered;
    for part in (0..len).step_by(MENDED_LEN) {
        let is_had = mapping.collapse(offset + part, MENDED_LEN.min(len - part)).is_ok();
        let took = worked().saturating_sub(before);
        *budget = budget.saturating_sub(took);
        before += took;
        if !is_had || took > PATIENCE_PER_PAGE {
            *budget = Duration::ZERO;
        }
        if budget.is_zero() {
            break;
        }
    }
    enter()
}

/// How long this thread has run, in the kernel or not: on a busy machine, waiting is no sign of slow memory.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Gives `from..to` of a window that begins at `start` pages, huge ones where the kernel has any.
fn make_huge(fd: BorrowedFd<'_>, mapping: &Mapping, start: u64, from: u64, to: u64) -> Result<()> {
    let mut hole = from;
    while hole < to {
        // The kernel makes one huge page of many small ones, but not of none.
        if rustix::io::retry_on_intr(|| rustix::io::pwrite(fd, &[0], hole))? == 0 {
            return Err(Errno::NOSPC);
        }
        hole += HUGE_PAGE_BYTES;
    }
    let offset = usize::try_from(from - start).map_err(|_| Errno::FBIG)?;
    let len = usize::try_from(to - from).map_err(|_| Errno::FBIG)?;
    mapping.collapse(offset, len)?;
    // That may have been an answer to nothing, where huge pages have another size. This one is about every page.
    mapping.populate(offset, len)
}

/// Copies the pieces' parts in `start..end` into a mapping that begins at `mapped_from`.
fn copy_into(mapping: &Mapping, mapped_from: u64, pieces: &[Piece<'_>], start: u64, end: u64) -> Result<()> {
    let first = pieces.partition_point(|piece| piece.end() <= start);
    let reached = pieces[first..].iter().take_while(|piece| piece.offset < end);
    // Empty pieces lie between others and are no end.
    for piece in reached.filter_map(|piece| piece.within(start, end)) {
        let mut offset = usize::try_from(piece.offset - mapped_from).map_err(|_| Errno::FBIG)?;
        for part in piece.bytes.chunks(COPY_BYTES_MAX) {
            mapping.copy_from(offset, part);
            offset += part.len();
        }
    }
    Ok(())
}

/// Whether the file system hands out huge pages by itself, as a tmpfs mounted with `huge=` says by its block size.
fn gives_huge_pages(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| u64::try_from(stat.st_blksize).is_ok_and(|bytes| bytes >= HUGE_PAGE_BYTES))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsFd as _;

    use super::*;

    const MIB: usize = 1 << 20;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|index| u8::try_from((index * 31 + index / 4096) % 251).unwrap()).collect()
    }

    /// Pieces of these lengths, one after the other from `start`.
    fn pieces<'a>(content: &'a [u8], start: usize, lengths: &[usize]) -> Vec<Piece<'a>> {
        let mut offset = start;
        lengths
            .iter()
            .map(|length| {
                let piece = Piece { offset: offset as u64, bytes: &content[offset..offset + length] };
                offset += length;
                piece
            })
            .collect()
    }

    /// A file of `content`'s length in which nothing is, in shared memory and on disk.
    fn files(content: &[u8]) -> impl Iterator<Item = fs_err::File> {
        ["/dev/shm", "/tmp"].into_iter().map(|folder| {
            let (file, path) = tempfile::NamedTempFile::new_in(folder).unwrap().into_parts();
            file.set_len(content.len() as u64).unwrap();
            fs_err::File::from_parts(file, path.to_path_buf())
        })
    }

    fn content_of(file: &fs_err::File) -> Vec<u8> {
        let mut found = Vec::new();
        let mut file = file;
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut found).unwrap();
        found
    }

    /// Some end within a huge page, some at its edge, some are empty; some are shared between threads.
    const LENGTHS: [&[usize]; 6] = [
        &[128, 1000, 0, 64, 3 * MIB],
        &[2 * MIB, 2 * MIB, 2 * MIB],
        &[128, 0, 4 * MIB, 0, 5 * MIB + 1, 7],
        &[18 * MIB + 12345, 1, 0],
        &[1, 3 * MIB, 17 * MIB, 8 * MIB - 1],
        &[4 * MIB - 1, 1],
    ];

    #[test]
    fn every_byte_is_where_it_belongs_in_fresh_pages() {
        for lengths in LENGTHS {
            let content = bytes(lengths.iter().sum());
            for file in files(&content) {
                write_fresh(file.as_fd(), &pieces(&content, 0, lengths), &Patience::new()).unwrap();
                assert!(content_of(&file) == content, "{lengths:?}");
            }
        }
    }

    #[test]
    fn what_comes_later_leaves_what_is_there() {
        let content = bytes(23 * MIB);
        for file in files(&content) {
            let (first, rest) = (3 * MIB + 17, 20 * MIB - 17);
            let patience = Patience::new();
            write_fresh(file.as_fd(), &pieces(&content, 0, &[first]), &patience).unwrap();
            // Between the two, the memory has turned out to be in pieces.
            patience.took(Duration::from_secs(1), 1);
            write_fresh(file.as_fd(), &pieces(&content, first, &[rest]), &patience).unwrap();
            assert!(content_of(&file) == content);
        }
    }

    #[test]
    fn every_byte_is_where_it_belongs_in_pages_that_were_others() {
        for lengths in LENGTHS {
            let content = bytes(lengths.iter().sum());
            for resident_bytes in [content.len(), content.len() - 1, content.len() / 2] {
                for file in files(&content) {
                    write_plain(file.as_fd(), &pieces(&vec![9; resident_bytes], 0, &[resident_bytes])).unwrap();
                    write_resident(file.as_fd(), &pieces(&content, 0, lengths), resident_bytes as u64).unwrap();
                    assert!(content_of(&file) == content, "{lengths:?}");
                }
            }
        }
    }

    #[test]
    fn patience_ends_where_only_huge_pages_are_slow() {
        let slow = Duration::from_millis(40);
        let patience = Patience::new();
        patience.took(slow, 4);
        assert!(patience.is_over());
        patience.compare(slow, Duration::from_millis(2), 4);
        assert!(patience.is_over(), "small pages were twenty times as fast");
        patience.compare(slow, Duration::from_millis(30), 4);
        assert!(!patience.is_over(), "all memory is slow");
        for _ in 0..100 {
            patience.took(slow, 4);
        }
        assert!(!patience.is_over(), "it is known to be slow");
    }

    #[test]
    fn a_window_without_room_is_an_error() {
        let (file, _path) = tempfile::NamedTempFile::new_in("/dev/shm").unwrap().into_parts();
        file.set_len(HUGE_PAGE_BYTES).unwrap();
        let mapping = Mapping::window(file.as_fd(), 0, 4 * MIB).unwrap();
        // Behind the end of a file is never any.
        assert!(mapping.populate(2 * MIB, 2 * MIB).is_err());
        assert!(mapping.populate(0, 2 * MIB).is_ok());
    }
}
