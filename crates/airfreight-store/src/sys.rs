//! Memory that the kernel shares between processes: the store's only unsafe code.

#![allow(unsafe_code, reason = "mappings are made and dereferenced here and nowhere else in this crate")]

use std::cell::UnsafeCell;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use rustix::io::Result;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// A huge page where pages have 4 KiB.
pub(crate) const HUGE_PAGE_BYTES: u64 = 2 << 20;
pub(crate) const HUGE_PAGE_LEN: usize = 2 << 20;
/// A line of the processor's cache.
const LINE_LEN: usize = 64;
/// What [`stream`] copies at a time: lines of two pages in turn, which keeps more of the memory's banks busy than one
/// would.
const STREAM_BLOCK_LEN: usize = 2 * STREAM_PAGE_LEN;
const STREAM_PAGE_LEN: usize = 4096;

/// A mapping of a part of a file, unmapped on drop.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    /// What is unmapped: more than the mapping where a larger range of addresses was taken to align it.
    range: (NonNull<u8>, usize),
}

// SAFETY: the mapping belongs to the process, not to a thread, and nothing here caches thread-local state.
unsafe impl Send for Mapping {}
// SAFETY: shared access hands out raw pointers and atomics only; who dereferences them argues for itself.
unsafe impl Sync for Mapping {}

/// How a sealed object is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Writes stay in this process (copy on write); values behave as ordinary values.
    PrivateWritable,
    /// Any write faults; for those who want no private copy to come into being.
    ReadOnly,
}

impl Mapping {
    /// Maps a sealed object.
    pub(crate) fn object(fd: BorrowedFd<'_>, len: usize, access: Access) -> Result<Self> {
        let (prot, flags) = match access {
            Access::PrivateWritable => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE),
            Access::ReadOnly => (ProtFlags::READ, MapFlags::SHARED),
        };
        if len < 2 * HUGE_PAGE_LEN {
            Self::new(fd, 0, len, prot, flags)
        } else {
            Self::aligned(fd, 0, len, prot, flags)
        }
    }

    /// Maps a part of a file for writing. [`Self::populate`] makes sure of its pages.
    pub(crate) fn window(fd: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Self> {
        Self::aligned(fd, offset, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)
    }

    /// Maps a page of counters.
    pub(crate) fn shared(fd: BorrowedFd<'_>, len: usize) -> Result<Self> {
        Self::new(fd, 0, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)
    }

    fn new(fd: BorrowedFd<'_>, offset: u64, len: usize, prot: ProtFlags, flags: MapFlags) -> Result<Self> {
        // SAFETY: a mapping at an address that the kernel picks can't alias a live Rust object. `len` is not 0 (the
        // kernel answers EINVAL) and is at most the file's length, which every caller takes from `fstat`.
        let base = unsafe { mmap(ptr::null_mut(), len, prot, flags, fd, offset) }?;
        let base = NonNull::new(base.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self { base, len, range: (base, len) })
    }

    /// Maps a part of a file at a multiple of a huge page, so that one entry in the page table can stand for one.
    fn aligned(fd: BorrowedFd<'_>, offset: u64, len: usize, prot: ProtFlags, flags: MapFlags) -> Result<Self> {
        let reserved = len.checked_add(HUGE_PAGE_LEN).ok_or(rustix::io::Errno::NOMEM)?;
        let no_memory = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: as above; addresses only, nobody can access them.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), reserved, ProtFlags::empty(), no_memory) }?;
        let base: NonNull<u8> = NonNull::new(base.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        let skip = base.as_ptr().align_offset(HUGE_PAGE_LEN);
        // SAFETY: less than a huge page further, and so in the range that was reserved.
        let start = unsafe { base.add(skip) };
        // Owns the range already, and gives it back if the next step fails.
        let mapping = Self { base: start, len, range: (base, reserved) };
        // SAFETY: replaces addresses that were reserved a moment ago for this and that nobody else knows; `len` of
        // them are left behind `start`. For `len` see `new`.
        unsafe { mmap(start.as_ptr().cast(), len, prot, flags | MapFlags::FIXED, fd, offset) }?;
        Ok(mapping)
    }

    /// Asks the kernel for huge pages in `offset..offset + len`, in place of the small ones, or none, that are there.
    ///
    /// An error changes nothing: the kernel is older than 6.1, memory is short or in pieces, the file system has none.
    pub(crate) fn collapse(&self, offset: usize, len: usize) -> Result<()> {
        let start = self.at(offset, len);
        // SAFETY: in the mapping (asserted). What the pages hold doesn't change by this, nor do addresses.
        let answer = unsafe { libc::madvise(start.cast(), len, libc::MADV_COLLAPSE) };
        if answer == 0 {
            Ok(())
        } else {
            Err(rustix::io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO))
        }
    }

    /// Makes the pages of `offset..offset + len` that aren't there yet; running out of room is an error and no fault.
    pub(crate) fn populate(&self, offset: usize, len: usize) -> Result<()> {
        let start = self.at(offset, len);
        // SAFETY: in the mapping (asserted). What the pages hold doesn't change by this.
        unsafe { madvise(start.cast(), len, Advice::LinuxPopulateWrite) }
    }

    /// Enters the pages of `offset..offset + len`, which are there, into the page table: sixteen at a time, and ready
    /// to be written, where [`Self::populate`] takes one after the other.
    pub(crate) fn enter(&self, offset: usize, len: usize) -> Result<()> {
        let start = self.at(offset, len);
        // SAFETY: in the mapping (asserted). What the pages hold doesn't change by this.
        unsafe { madvise(start.cast(), len, Advice::LinuxPopulateRead) }
    }

    /// Where `len` bytes from `offset` begin.
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "it leaves the mapping");
        // SAFETY: in the mapping (asserted).
        unsafe { self.base.as_ptr().add(offset) }
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies `bytes` to `offset`; only where pages are known to be there, or [`Self::populate`] has made sure of them.
    pub(crate) fn copy_from(&self, offset: usize, bytes: &[u8]) {
        let target = self.at(offset, bytes.len());
        // SAFETY: the range lies in the mapping (asserted), and its pages exist, so no access faults. The file is
        // temporary and locked by this writer: no reader maps it, and parallel writers copy to disjoint ranges. `bytes`
        // can't overlap it, because nothing hands out a slice of such a mapping.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
    }

    /// As [`Self::copy_from`], but past the processor's cache: what is stored isn't read before it is overwritten,
    /// which takes a third less time. Whoever reads it next gets it from memory.
    pub(crate) fn stream_from(&self, offset: usize, bytes: &[u8]) {
        // Until the target is at the beginning of a line, and what is left when no whole blocks are.
        let before = bytes.len().min(self.at(offset, bytes.len()).align_offset(LINE_LEN));
        let whole = (bytes.len() - before) / STREAM_BLOCK_LEN * STREAM_BLOCK_LEN;
        self.copy_from(offset, &bytes[..before]);
        self.copy_from(offset + before + whole, &bytes[before + whole..]);
        let target = self.at(offset + before, whole);
        // SAFETY: as in `copy_from`; aligned and in whole blocks (above).
        unsafe { stream(target, &bytes[before..before + whole]) };
    }

    /// Takes the pages of `offset..offset + len` out of the page table again. They stay in the file, as they are.
    ///
    /// Threads do this side by side, where [`Self::drop`] does it alone, while nobody else in the process can map
    /// anything.
    pub(crate) fn leave(&self, offset: usize, len: usize) -> Result<()> {
        let start = self.at(offset, len);
        // SAFETY: in the mapping (asserted). It is shared, so what was written is the file's, and nothing is lost by
        // this; an access would find the page again.
        unsafe { madvise(start.cast(), len, Advice::LinuxDontNeed) }
    }

    /// The 64-bit word at `index`, shared with every process that maps the page.
    #[allow(clippy::cast_ptr_alignment, reason = "a mapping starts on a page")]
    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        assert!((index + 1) * 8 <= self.len, "no such word");
        let words: *mut u64 = self.base.as_ptr().cast();
        // SAFETY: in range (asserted).
        let word = unsafe { words.add(index) };
        // SAFETY: the base is page-aligned and so `word` 8-byte aligned; all access, here and in other processes, is
        // atomic; the mapping lives as long as the reference.
        unsafe { AtomicU64::from_ptr(word) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let (base, len) = self.range;
        // SAFETY: base and length are those that mmap returned, and nothing borrowed outlives `self`.
        let _ = unsafe { munmap(base.as_ptr().cast(), len) };
    }
}

/// Copies whole blocks past the processor's cache.
///
/// # Safety
/// `target` is at the beginning of a line and valid for writes of as many bytes, which nobody else writes or reads.
#[cfg(target_arch = "x86_64")]
unsafe fn stream(target: *mut u8, bytes: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    for start in (0..bytes.len()).step_by(STREAM_BLOCK_LEN) {
        let block = &bytes[start..start + STREAM_BLOCK_LEN];
        for line in (0..STREAM_PAGE_LEN).step_by(LINE_LEN) {
            for page in [0, STREAM_PAGE_LEN] {
                for part in (0..LINE_LEN).step_by(size_of::<__m128i>()) {
                    let offset = page + line + part;
                    let from = block[offset..offset + size_of::<__m128i>()].as_ptr();
                    // SAFETY: 16 bytes of a slice; this load needs no alignment.
                    let word = unsafe { _mm_loadu_si128(from.cast()) };
                    // SAFETY: within as many bytes as the caller has vouched for.
                    let to = unsafe { target.add(start + offset) };
                    // SAFETY: valid (the caller), and at a multiple of 16 bytes, as the target is of 64.
                    unsafe { _mm_stream_si128(to.cast(), word) };
                }
            }
        }
    }
    // SAFETY: every processor of this architecture can. Before this, such stores are ordered with nothing else, not
    // even with the file's publication.
    unsafe { _mm_sfence() };
}

/// Other processors' `memcpy` sees to this by itself, or they have nothing of the kind.
///
/// # Safety
/// `target` is valid for writes of as many bytes, which nobody else writes or reads.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn stream(target: *mut u8, bytes: &[u8]) {
    // SAFETY: the caller's; a shared slice can't overlap what may be written.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
}

/// Up to 64 bytes at a 64-byte boundary.
#[derive(Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes on the heap at a 64-byte boundary, as in a mapping, and writable through a pointer as one.
pub(crate) struct HeapBytes {
    lines: Box<[UnsafeCell<Line>]>,
    len: usize,
}

// SAFETY: as for `Mapping`: only raw pointers leave.
unsafe impl Sync for HeapBytes {}

impl HeapBytes {
    /// Memory of `len` bytes, filled by `fill`; `ENOMEM` where there is none, for objects may be of any length.
    pub(crate) fn fill(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<Self> {
        let mut lines = Vec::new();
        lines.try_reserve_exact(len.div_ceil(64)).map_err(|_| rustix::io::Errno::NOMEM)?;
        lines.resize(len.div_ceil(64), Line([0; 64]));
        fill(&mut zerocopy::IntoBytes::as_mut_bytes(lines.as_mut_slice())[..len])?;
        Ok(Self { lines: lines.into_iter().map(UnsafeCell::new).collect(), len })
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        UnsafeCell::raw_get(self.lines.as_ptr()).cast()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bytes, for as long as nobody writes them through [`Self::as_ptr`].
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: pointer and length are those of the allocation that `self` owns; who writes is as for `Body::bytes`.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }
}

/// The bytes of an open object, wherever they are.
pub(crate) enum Body {
    Mapped(Mapping),
    Heap(HeapBytes),
}

impl Body {
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        match self {
            Self::Mapped(mapping) => mapping.as_ptr(),
            Self::Heap(heap) => heap.as_ptr(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Mapped(mapping) => mapping.len(),
            Self::Heap(heap) => heap.len(),
        }
    }

    /// All of [`Self::range`].
    pub(crate) fn bytes(&self) -> &[u8] {
        self.range(0, self.len()).unwrap_or_default()
    }

    /// `len` bytes from `offset`, for as long as nobody writes them through [`Self::as_ptr`]; `None` beyond the end.
    pub(crate) fn range(&self, offset: usize, len: usize) -> Option<&[u8]> {
        offset.checked_add(len).filter(|&end| end <= self.len())?;
        // SAFETY: in range (checked).
        let start = unsafe { self.as_ptr().add(offset) };
        // SAFETY: within the mapping or allocation that `self` owns. The file was published after its last write, is
        // 0400 and pinned by our lock; who can still write it is inside the trust boundary (one Unix user). In this
        // process only Python writes, through the pointer, and to buffers alone; callers read those for checksums
        // before any Python object exists, or from Rust programs that never ask for the pointer.
        Some(unsafe { std::slice::from_raw_parts(start, len) })
    }
}
