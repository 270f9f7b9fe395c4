//! Getting bytes into a file whose pages are the expensive part.
//!
//! | the file's pages | way |
//! | --- | --- |
//! | are there (a recycled file) | copied through a populated mapping by all threads, past the processor's cache where it is long; two can't `pwrite` one file at a time. Small pages become huge ones, a few at each use. What arrives bit by bit goes into its part of one mapping |
//! | are not, tmpfs with pages of 4 KiB | made as huge pages (`MADV_COLLAPSE`) one at a time, filled through a mapping by all threads; where that turns out slow, by `pwrite` |
//! | are not, any other file system, or huge pages can't be had | `pwrite`, which makes pages without a fault each and without zeroing what it overwrites |
//!
//! A page that isn't there is never written through a mapping: on a full tmpfs that would kill the process.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use rustix::io::{Errno, Result};

use crate::crash::crash_point;
use crate::sys::{HUGE_PAGE_BYTES, HUGE_PAGE_LEN, Mapping};

/// Copies from this length on are shared between threads: below, starting one costs more than it saves.
const PARALLEL_BYTES_MIN: u64 = 16 << 20;
/// More threads than this don't make memory faster.
const COPY_THREADS_MAX: u64 = 4;
/// The kernel takes at most 1024 slices at once.
const SLICES_MAX: usize = 1024;
/// From here on, huge pages pay for the calls that it takes to have them.
const HUGE_BYTES_MIN: u64 = 2 * HUGE_PAGE_BYTES;
/// Of a recycled file, so much to so much is mapped, looked at and filled at a time; the other processors are told of
/// each.
const MAPPED_BYTES: std::ops::RangeInclusive<u64> = 4 * HUGE_PAGE_BYTES..=32 * HUGE_PAGE_BYTES;
/// A thread that was held up leaves the others this part of its share to do at most.
const PARTS: u64 = 8;
/// Where mapping takes longer for each 2 MiB, they are small pages, each of which is entered by itself.
const HUGE_PAGE_MAPPED: Duration = Duration::from_micros(20);
/// Making huge pages of a recycled file's small ones may add a nanosecond for each of so many bytes that are written:
/// some tenth of the time that they take, until all are huge. A page that takes longer than that is the last one.
const BYTES_PER_NANO_OF_MENDING: u64 = 64;
/// The same for what arrives from elsewhere, which leaves the processors nothing to spare.
const ARRIVING_BYTES_PER_NANO_OF_MENDING: u64 = 256;
/// The C library copies what is longer in a way that takes twice as long unless both sides lie alike in their pages.
const COPY_BYTES_MAX: usize = 16 << 20;
/// From here on a recycled file is filled past the processor's cache: its end would push out its beginning anyway, and
/// what is read next waits for memory in either case. Below, a reader finds much of it there.
const STREAMED_BYTES_MIN: u64 = 32 << 20;
/// What a huge page takes, its content included, where there is nothing to look into. In fragmented memory the kernel
/// may look for one much longer than small ones take.
const PATIENCE_PER_PAGE: Duration = Duration::from_millis(1);
/// ... or the memory is slow itself, as on a virtual machine whose host gives it a page at its first touch. Huge pages
/// may take so many times as long as small ones: they save more in what comes later.
const SLOWER_THAN_SMALL_MAX: u32 = 2;
/// After so many times as much in small pages, a huge one is asked for again.
const PAGES_TO_RETRY: u32 = 64;

/// How many threads copy. Asked for once: the answer stands in files of the control group.
fn copy_threads() -> u64 {
    // No lock: a process that is forked while another thread holds one would wait for ever.
    static KNOWN: AtomicU64 = AtomicU64::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            let threads = available_parallelism().map_or(1, |count| count.get() as u64).min(COPY_THREADS_MAX);
            KNOWN.store(threads, Ordering::Relaxed);
            threads
        }
        threads => threads,
    }
}

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

/// Whether a file's writers ask for huge pages; in parts or in threads, it is one for all of them.
///
/// Huge pages are had as long as they come quickly: on a virtual machine, those that were freed a moment ago do, and the
/// next ones its host may have to find first. A slow one is compared with the next few pages as small ones, since the
/// content has to be written in either case.
pub(crate) struct Patience(Mutex<Waiting>);

struct Waiting {
    /// What one huge page may take, its content included.
    page: Duration,
    next: Pages,
}

/// What the next huge page's length of a file is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pages {
    Huge,
    /// Small pages, held against a huge one that took this long.
    Compared(Duration),
    /// Small pages, and so many times more.
    Small(u32),
    /// Small pages for good.
    NeverHuge,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Waiting { page: PATIENCE_PER_PAGE, next: Pages::Huge }))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to do next.
    fn next(&self) -> Pages {
        let mut waiting = self.lock();
        let chosen = waiting.next;
        waiting.next = match chosen {
            // One thread compares; the others needn't wait for what comes of it.
            Pages::Compared(_) => Pages::Small(PAGES_TO_RETRY),
            Pages::Small(0) => Pages::Huge,
            Pages::Small(left) => Pages::Small(left - 1),
            Pages::Huge | Pages::NeverHuge => chosen,
        };
        chosen
    }

    /// A huge page took this long.
    fn took(&self, page: Duration) {
        let mut waiting = self.lock();
        if page > waiting.page && waiting.next == Pages::Huge {
            waiting.next = Pages::Compared(page);
        }
    }

    /// Small pages for as many bytes took this long: where they are hardly faster, it is memory that is slow.
    fn compare(&self, huge: Duration, small: Duration) {
        if huge <= small.saturating_mul(SLOWER_THAN_SMALL_MAX) {
            let mut waiting = self.lock();
            waiting.page = waiting.page.max(huge);
            waiting.next = Pages::Huge;
        }
    }

    /// There are none.
    fn end(&self) {
        self.lock().next = Pages::NeverHuge;
    }
}

/// The parts of the pieces that lie in `start..end`.
fn within<'a>(pieces: &'a [Piece<'a>], start: u64, end: u64) -> impl Iterator<Item = Piece<'a>> {
    let first = pieces.partition_point(|piece| piece.end() <= start);
    let reached = pieces[first..].iter().take_while(move |piece| piece.offset < end);
    // Empty pieces lie between others and are no end.
    reached.filter_map(move |piece| piece.within(start, end))
}

/// Writes pieces to a file whose first `resident_bytes` have pages.
pub(crate) fn write_resident(fd: BorrowedFd<'_>, pieces: &[Piece<'_>], resident_bytes: u64) -> Result<()> {
    let end = resident_bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    let end = if end < HUGE_BYTES_MIN { 0 } else { end };
    if end > 0 {
        let is_streamed = end >= STREAMED_BYTES_MIN;
        let mapping = Mapping::window(fd, 0, usize::try_from(end).map_err(|_| Errno::FBIG)?)?;
        let mending = Mending::at_once(end);
        let part_bytes = end / copy_threads() / PARTS / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
        let part_bytes = part_bytes.clamp(*MAPPED_BYTES.start(), *MAPPED_BYTES.end());
        shared(0, end, part_bytes, |start, end| {
            enter(&mapping, start, end - start, &mending)?;
            copy_into(&mapping, 0, pieces, start, end, is_streamed)?;
            leave(&mapping, start, end - start)
        })?;
    }
    crash_point("recycle.copied");
    crash_point("write.half");
    write_range(fd, pieces, end, u64::MAX)
}

/// A part of a mapped file whose pages are there, for what is copied into it bit by bit.
///
/// Its pages are entered and left under a lock that threads share, where mapping each part by itself excludes the others.
pub(crate) struct Part {
    mapping: Arc<Mapping>,
    start: usize,
    len: usize,
}

impl Part {
    /// Enters the pages of `start..end`.
    pub(crate) fn enter(mapping: Arc<Mapping>, start: u64, end: u64, mending: &Mending) -> Result<Self> {
        enter(&mapping, start, end - start, mending)?;
        let index = |offset: u64| usize::try_from(offset).map_err(|_| Errno::FBIG);
        Ok(Self { mapping, start: index(start)?, len: index(end - start)? })
    }

    /// Copies `bytes` to `offset` of the part, past the processor's cache.
    ///
    /// # Panics
    /// When they reach beyond its end.
    pub(crate) fn stream_from(&self, offset: usize, bytes: &[u8]) {
        assert!(bytes.len() <= self.len.saturating_sub(offset), "more than the part has room for");
        self.mapping.stream_from(self.start + offset, bytes);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Else they leave with the mapping.
        let _ = self.mapping.leave(self.start, self.len);
    }
}

/// How long a file's writers go on making huge pages of its small ones; in parts, it is one for all of them.
pub(crate) struct Mending(Mutex<Duration>);

impl Mending {
    pub(crate) fn at_once(resident_bytes: u64) -> Self {
        Self(Mutex::new(Duration::from_nanos(resident_bytes / BYTES_PER_NANO_OF_MENDING)))
    }

    pub(crate) fn bit_by_bit(resident_bytes: u64) -> Self {
        Self(Mutex::new(Duration::from_nanos(resident_bytes / ARRIVING_BYTES_PER_NANO_OF_MENDING)))
    }

    fn left(&self) -> MutexGuard<'_, Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes pieces to a file of at least their length, in shared memory, which has no pages there.
pub(crate) fn write_fresh(fd: BorrowedFd<'_>, pieces: &[Piece<'_>], patience: &Patience) -> Result<()> {
    let start = pieces.first().map_or(0, |piece| piece.offset).next_multiple_of(HUGE_PAGE_BYTES);
    let end = pieces.last().map_or(0, Piece::end);
    let huge_end = end / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    crash_point("write.half");
    if huge_end < start + HUGE_BYTES_MIN || gives_huge_pages(fd) {
        return write_range(fd, pieces, 0, u64::MAX);
    }
    let Ok(mapping) = Mapping::window(fd, start, usize::try_from(huge_end - start).map_err(|_| Errno::FBIG)?) else {
        return write_range(fd, pieces, 0, u64::MAX);
    };
    write_range(fd, pieces, 0, start)?;
    // One page at a time: it is still in the processor's cache when it is filled, and if it was slow to be had, no
    // other one is asked for.
    shared(start, end, HUGE_PAGE_BYTES, |from, to| {
        if to <= huge_end {
            fill(fd, &mapping, start, pieces, from, patience)
        } else {
            write_range(fd, pieces, from, to)
        }
    })
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
    let parts: Vec<Piece<'_>> = within(pieces, start, end).collect();
    write_plain(fd, &parts)
}

/// Lets threads do `start..end` in parts, each taking the next one; the first error is the answer.
fn shared(start: u64, end: u64, part_bytes: u64, write: impl Fn(u64, u64) -> Result<()> + Sync) -> Result<()> {
    let threads = match end - start {
        0 => return Ok(()),
        PARALLEL_BYTES_MIN.. => copy_threads(),
        _ => 1,
    };
    let next = AtomicU64::new(start);
    let work = || {
        loop {
            let from = next.fetch_add(part_bytes, Ordering::Relaxed);
            if from >= end {
                return Ok(());
            }
            let written = write(from, end.min(from + part_bytes));
            if written.is_err() {
                // Nothing more is worth writing.
                next.fetch_max(end, Ordering::Relaxed);
                return written;
            }
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        others.into_iter().map(|thread| thread.join().unwrap_or(Err(Errno::IO))).fold(own, Result::and)
    })
}

/// Fills a huge page's length from `offset` on, where nothing is yet and whose file is mapped from `mapped_from` on: as
/// a huge page where one can be had, and not too slowly.
fn fill(
    fd: BorrowedFd<'_>,
    mapping: &Mapping,
    mapped_from: u64,
    pieces: &[Piece<'_>],
    offset: u64,
    patience: &Patience,
) -> Result<()> {
    let end = offset + HUGE_PAGE_BYTES;
    let pages = patience.next();
    let began = worked();
    if pages == Pages::Huge {
        if make_huge(fd, mapping, offset - mapped_from, offset).is_ok() {
            crash_point("write.huge");
            copy_into(mapping, mapped_from, pieces, offset, end, false)?;
            patience.took(worked().saturating_sub(began));
            return Ok(());
        }
        patience.end();
    }
    write_range(fd, pieces, offset, end)?;
    if let Pages::Compared(huge) = pages {
        patience.compare(huge, worked().saturating_sub(began));
    }
    Ok(())
}

/// Enters pages that are there into the page table, and makes huge ones of them as long as there is time for it.
fn enter(mapping: &Mapping, offset: u64, len: u64, mending: &Mending) -> Result<()> {
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
    if entered.saturating_sub(began) < HUGE_PAGE_MAPPED.saturating_mul(pages) {
        return Ok(());
    }
    // Whoever mends has all that is left; the others needn't wait for that.
    let mut budget = std::mem::take(&mut *mending.left());
    if budget.is_zero() {
        return Ok(());
    }
    let mut before = entered;
    // One at a time: where memory is slow to be had, more would be felt.
    for part in (0..len).step_by(HUGE_PAGE_LEN) {
        let is_had = mapping.collapse(offset + part, HUGE_PAGE_LEN.min(len - part)).is_ok();
        let took = worked().saturating_sub(before);
        budget = budget.saturating_sub(took);
        before += took;
        if !is_had {
            budget = Duration::ZERO;
        }
        if budget.is_zero() {
            break;
        }
    }
    *mending.left() += budget;
    enter()
}

/// Takes pages out of the page table once they are filled.
fn leave(mapping: &Mapping, offset: u64, len: u64) -> Result<()> {
    let offset = usize::try_from(offset).map_err(|_| Errno::FBIG)?;
    mapping.leave(offset, usize::try_from(len).map_err(|_| Errno::FBIG)?)
}

/// How long this thread has run, in the kernel or not: on a busy machine, waiting is no sign of slow memory.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Gives a huge page to what lies at `offset` of the file and at `mapped` of a window of it, where the kernel has any.
fn make_huge(fd: BorrowedFd<'_>, mapping: &Mapping, mapped: u64, offset: u64) -> Result<()> {
    // The kernel makes one huge page of many small ones, but not of none.
    if rustix::io::retry_on_intr(|| rustix::io::pwrite(fd, &[0], offset))? == 0 {
        return Err(Errno::NOSPC);
    }
    let mapped = usize::try_from(mapped).map_err(|_| Errno::FBIG)?;
    mapping.collapse(mapped, HUGE_PAGE_LEN)?;
    // That may have been an answer to nothing, where huge pages have another size. This one is about every page.
    mapping.populate(mapped, HUGE_PAGE_LEN)
}

/// Copies the pieces' parts in `start..end` into a mapping that begins at `mapped_from`.
fn copy_into(
    mapping: &Mapping,
    mapped_from: u64,
    pieces: &[Piece<'_>],
    start: u64,
    end: u64,
    is_streamed: bool,
) -> Result<()> {
    for piece in within(pieces, start, end) {
        let mut offset = usize::try_from(piece.offset - mapped_from).map_err(|_| Errno::FBIG)?;
        if is_streamed {
            mapping.stream_from(offset, piece.bytes);
            continue;
        }
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
            patience.took(Duration::from_secs(1));
            assert!(matches!(patience.next(), Pages::Compared(_)));
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
        let slow = Duration::from_millis(10);
        let patience = Patience::new();
        assert!(patience.next() == Pages::Huge);
        patience.took(slow);
        assert!(patience.next() == Pages::Compared(slow));
        assert!(matches!(patience.next(), Pages::Small(_)), "another thread needn't wait for the comparison");
        patience.compare(slow, Duration::from_micros(500));
        let small = (0..100).take_while(|_| matches!(patience.next(), Pages::Small(_))).count();
        assert!((1..100).contains(&small), "small pages are twenty times as fast, but not for ever");

        patience.took(slow);
        assert!(patience.next() == Pages::Compared(slow));
        patience.compare(slow, Duration::from_millis(7));
        for _ in 0..100 {
            assert!(patience.next() == Pages::Huge, "all memory is slow");
            patience.took(slow);
        }
        patience.end();
        assert!((0..100).all(|_| patience.next() == Pages::NeverHuge));
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
