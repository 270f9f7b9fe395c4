//! Reading an object: find it, pin it, check it, map it.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use airfreight_core::ObjectName;
use airfreight_core::format::{
    CHECKED_PAYLOAD_BYTES_MAX, Entry, Footer, FormatError, HEADER_BYTES, HEADER_LEN, Header, checksum,
};
use rustix::fs::{self, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use smallvec::SmallVec;

use crate::error::{Result, StoreError};
use crate::pool::RECYCLE_BYTES_MIN;
use crate::store::Inner;
use crate::sys::{Access, Body, HeapBytes, Mapping};
use crate::tier::{Tier, TierKind, file_name, is_sealed, now_ns, used_ns};

/// Objects up to this length are read; longer ones are mapped. Up to here a copy costs no more than the page faults,
/// and an object that isn't mapped needs no descriptor.
const READ_BYTES_MAX: u64 = CHECKED_PAYLOAD_BYTES_MAX + 8192;
/// Footers up to this length are looked at on the stack.
const STACK_FOOTER_BYTES_MAX: usize = 2048;
/// The longest that any step of ours holds an object's exclusive lock is microseconds.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);
/// Last use is kept to the second.
const TOUCH_GRAIN_NS: i64 = 1_000_000_000;

/// A sealed object, open for reading; what it holds stays readable until it is dropped, whatever happens to its name.
pub struct Object {
    name: ObjectName,
    header: Header,
    /// A few without memory of their own.
    entries: SmallVec<[Entry; 4]>,
    kind: TierKind,
    body: Body,
    /// Carries the shared lock that keeps the pages from being reused.
    _pin: Option<OwnedFd>,
}

impl Object {
    /// The name it was opened by.
    #[must_use]
    pub fn name(&self) -> ObjectName {
        self.name
    }

    /// Stream and buffers, without padding.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.header.payload_bytes
    }

    /// Which tier it was read from.
    #[must_use]
    pub fn kind(&self) -> TierKind {
        self.kind
    }

    /// The metadata that was given to seal: a JSON object.
    #[must_use]
    pub fn metadata(&self) -> &str {
        // It was checked when the object was opened.
        let bytes = self.range(self.header.metadata_offset(), u64::from(self.header.metadata_bytes));
        str::from_utf8(bytes).unwrap_or_default()
    }

    /// The buffer table.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Length of the stream.
    #[must_use]
    pub fn stream_bytes(&self) -> u64 {
        self.header.stream_bytes
    }

    /// The stream, while nobody writes through [`Self::as_ptr`].
    #[must_use]
    pub fn stream(&self) -> &[u8] {
        self.range(HEADER_BYTES, self.header.stream_bytes)
    }

    /// The buffer at `index`, while nobody writes through [`Self::as_ptr`].
    #[must_use]
    pub fn buffer(&self, index: usize) -> Option<&[u8]> {
        self.entries.get(index).map(|entry| self.range(entry.offset(), entry.bytes()))
    }

    /// The whole of the object's file, header and footer included, while nobody writes through [`Self::as_ptr`].
    #[must_use]
    pub fn file(&self) -> &[u8] {
        self.range(0, self.header.file_bytes)
    }

    fn range(&self, offset: u64, bytes: u64) -> &[u8] {
        // In range: header and footer were checked against the file's real length before the body was made.
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let len = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.body.range(start, len).unwrap_or_default()
    }

    /// The first byte of the object's file, valid for reads of [`Self::len`] bytes while `self` lives, and for
    /// writes where it was opened with [`Access::PrivateWritable`]. Offsets of [`Self::entries`] count from here.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.body.as_ptr()
    }

    /// How many bytes [`Self::as_ptr`] reaches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Never true: an object has a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What can be told of an object without its payload.
#[derive(Debug, Clone)]
pub struct Description {
    /// The name that was asked for.
    pub name: ObjectName,
    /// Stream and buffers, without padding.
    pub payload_bytes: u64,
    /// What the file takes.
    pub file_bytes: u64,
    /// Where it lies.
    pub kind: TierKind,
    /// When it was sealed, nanoseconds since 1970.
    pub created_ns: i64,
    /// When it was last opened, nanoseconds since 1970, to the second.
    pub used_ns: i64,
    /// How many names it has.
    pub links: u64,
    /// Whether a reader holds it.
    pub pinned: bool,
    /// The metadata that was given to seal: a JSON object.
    pub metadata: String,
}

/// A file of the store that is open, locked and known to be the object.
pub(crate) struct Pinned {
    pub(crate) fd: OwnedFd,
    stat: Stat,
    pub(crate) header: Header,
    /// All of a short file; nothing of one that is mapped. A forked process pays for each page that it allocates from.
    pub(crate) first: HeapBytes,
    kind: TierKind,
}

impl Inner {
    pub(crate) fn get(&self, name: ObjectName, access: Access) -> Result<Object> {
        let mut damaged = None;
        for tier in self.tiers() {
            match get_in(tier, name, access) {
                Ok(Some(object)) => return Ok(object),
                Ok(None) => {}
                // Another tier may have a good copy.
                Err(error @ StoreError::Corrupt { .. }) => damaged = Some(error),
                Err(error) => return Err(error),
            }
        }
        if self.memory.is_removed() {
            return Err(StoreError::Removed { path: self.memory.path.clone() });
        }
        Err(damaged.unwrap_or(StoreError::NotFound { name, store: self.memory.path.clone() }))
    }

    pub(crate) fn describe(&self, name: ObjectName) -> Result<Description> {
        for tier in self.tiers() {
            let Some(pinned) = pin(tier, name, Timing::Look)? else { continue };
            let corrupt = |source| StoreError::Corrupt { name, store: tier.path.clone(), source };
            let metadata = with_footer(&pinned, |footer| {
                Footer::decode(&pinned.header, footer).map(|footer| footer.metadata.to_owned())
            })
            .map_err(|errno| tier.io("read", tier.object_path(name))(errno))?
            .map_err(corrupt)?;
            // Our own lock becomes exclusive unless somebody else shares it.
            let held = fs::flock(&pinned.fd, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK);
            return Ok(Description {
                name,
                payload_bytes: pinned.header.payload_bytes,
                file_bytes: file_bytes(&pinned.stat),
                kind: pinned.kind,
                created_ns: pinned.header.created_unix_ns,
                used_ns: used_ns(&pinned.stat),
                #[allow(clippy::useless_conversion, reason = "32 bits on arm64")]
                links: u64::from(pinned.stat.st_nlink),
                pinned: held,
                metadata,
            });
        }
        Err(StoreError::NotFound { name, store: self.memory.path.clone() })
    }
}

fn get_in(tier: &Tier, name: ObjectName, access: Access) -> Result<Option<Object>> {
    let Some(pinned) = pin(tier, name, Timing::Use)? else { return Ok(None) };
    let corrupt = |source| StoreError::Corrupt { name, store: tier.path.clone(), source };
    let io = |action| move |errno| tier.io(action, tier.object_path(name))(errno);
    touch(&pinned);
    let entries = with_footer(&pinned, |footer| {
        Footer::decode(&pinned.header, footer).map(|footer| SmallVec::from_slice(footer.entries))
    })
    .map_err(io("read"))?
    .map_err(corrupt)?;
    let Pinned { fd, header, first, kind, .. } = pinned;
    let (body, pin) = if header.file_bytes <= first.len() as u64 {
        (Body::Heap(first), None)
    } else {
        let len = usize::try_from(header.file_bytes).map_err(|_| io("map")(Errno::FBIG))?;
        match Mapping::object(fd.as_fd(), len, access) {
            Ok(mapping) => (Body::Mapped(mapping), Some(fd)),
            // vm.max_map_count is reached or overcommit is off: private memory is dearer, but it is there.
            Err(Errno::NOMEM) => (Body::Heap(read_body(&fd, len).map_err(io("read"))?), None),
            Err(errno) => return Err(io("map")(errno)),
        }
    };
    let object = Object { name, header, entries, kind, body, _pin: pin };
    // What was on a disk is verified each time; what never left memory only where that is cheap.
    if let Some(expected) = header.payload_crc
        && (kind != TierKind::Memory || header.payload_bytes <= CHECKED_PAYLOAD_BYTES_MAX)
        && checksum(object.range(HEADER_BYTES, header.table_offset - HEADER_BYTES)) != expected
    {
        return Err(corrupt(FormatError::PayloadChecksum));
    }
    Ok(Some(object))
}

/// Whether opening counts as use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timing {
    Use,
    Look,
}

/// Opens and locks an object's file. `None` when this tier doesn't have it.
pub(crate) fn pin(tier: &Tier, name: ObjectName, timing: Timing) -> Result<Option<Pinned>> {
    let file = file_name(name);
    // What lies there may be no plain file; opening a pipe would wait for its writer.
    let mut flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    if timing == Timing::Look {
        flags |= OFlags::NOATIME;
    }
    let mut wait = Wait::new(name);
    loop {
        let fd = match open_raising_limit(tier, &file, flags) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => {
                return Err(StoreError::Foreign { path: tier.object_path(name), found: "a symbolic link".into() });
            }
            Err(errno) => return Err(tier.io("open", tier.object_path(name))(errno)),
        };
        let io = |errno| tier.io("read", tier.object_path(name))(errno);
        let mut stat = fs::fstat(&fd).map_err(io)?;
        let mut actual_bytes = file_bytes(&stat);
        // Shorter files are never reused: what is in one stays until nobody has it open.
        if actual_bytes >= RECYCLE_BYTES_MIN {
            match fs::flock(&fd, FlockOperation::NonBlockingLockShared) {
                Ok(()) => {}
                // It is leaving, and the next look finds no name; or somebody asks whether it is held, for a moment.
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    wait.a_moment()?;
                    continue;
                }
                Err(errno) => return Err(tier.io("lock", tier.object_path(name))(errno)),
            }
            // What was true before the lock may not be true under it.
            stat = fs::fstat(&fd).map_err(io)?;
            actual_bytes = file_bytes(&stat);
        }
        if !is_sealed(&stat) {
            // Between leaving the store and being reused a file is writable; then its name is gone by now.
            if still_named(tier, &file, &stat) {
                let found = format!("owner {}, mode {:o}, or no plain file", stat.st_uid, stat.st_mode & 0o7777);
                return Err(StoreError::Foreign { path: tier.object_path(name), found });
            }
            continue;
        }
        let first_bytes = if actual_bytes <= READ_BYTES_MAX { actual_bytes } else { 0 };
        let first = read_body(&fd, usize::try_from(first_bytes).unwrap_or(0)).map_err(io)?;
        let mut header = [0; HEADER_LEN];
        match first.bytes().first_chunk() {
            Some(bytes) => header = *bytes,
            None if actual_bytes >= HEADER_BYTES => read_exact(&fd, &mut header, 0).map_err(io)?,
            None => {}
        }
        let header = Some(header)
            .filter(|_| actual_bytes >= HEADER_BYTES)
            .ok_or(FormatError::Truncated { expected_bytes: HEADER_BYTES, actual_bytes })
            .and_then(|bytes| Header::decode(&bytes, actual_bytes))
            .and_then(|header| {
                let own = header.id == name.id();
                own.then_some(header).ok_or(FormatError::Layout("it holds another object's id"))
            });
        match header {
            Ok(header) => return Ok(Some(Pinned { fd, stat, header, first, kind: tier.kind })),
            Err(source) if still_named(tier, &file, &stat) => {
                return Err(StoreError::Corrupt { name, store: tier.path.clone(), source });
            }
            // Opened under its old name, locked after it was retired or reused.
            Err(_) => {}
        }
    }
}

/// Waits in growing steps for a lock that is held for microseconds, and gives up on a process that is stopped.
struct Wait {
    name: ObjectName,
    since: Option<Instant>,
    step: Duration,
}

impl Wait {
    fn new(name: ObjectName) -> Self {
        Self { name, since: None, step: Duration::from_micros(5) }
    }

    fn a_moment(&mut self) -> Result<()> {
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        if waited > LOCK_WAIT_MAX {
            return Err(StoreError::Stuck { name: self.name, waited_ms: waited.as_millis() });
        }
        std::thread::sleep(self.step);
        self.step = (self.step * 2).min(Duration::from_millis(5));
        Ok(())
    }
}

/// Whether the name still leads to the file that was opened.
fn still_named(tier: &Tier, file: &[u8], opened: &Stat) -> bool {
    fs::statat(&tier.objects, file, fs::AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|now| (now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino))
}

/// Each mapped object holds a descriptor; a process that reads thousands may need more than the soft limit.
fn open_raising_limit(tier: &Tier, file: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    match fs::openat(&tier.objects, file, flags, Mode::empty()) {
        Err(Errno::MFILE) => {
            let mut limit = getrlimit(Resource::Nofile);
            if limit.current == limit.maximum {
                return Err(Errno::MFILE);
            }
            limit.current = limit.maximum;
            setrlimit(Resource::Nofile, limit)?;
            fs::openat(&tier.objects, file, flags, Mode::empty())
        }
        other => other,
    }
}

fn touch(pinned: &Pinned) {
    let age = now_ns() - used_ns(&pinned.stat);
    if age >= TOUCH_GRAIN_NS {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        // Only the order of eviction suffers when this fails.
        let _ = fs::futimens(&pinned.fd, &Timestamps { last_access: now, last_modification: omit });
    }
}

/// Shows an object's footer, unchecked, to `look`.
pub(crate) fn with_footer<T>(pinned: &Pinned, look: impl FnOnce(&[u8]) -> T) -> rustix::io::Result<T> {
    let Pinned { fd, header, first, .. } = pinned;
    let start = usize::try_from(header.table_offset).unwrap_or(usize::MAX);
    let len = usize::try_from(header.footer_bytes()).map_err(|_| Errno::FBIG)?;
    if let Some(footer) = first.bytes().get(start..).and_then(|rest| rest.get(..len)) {
        return Ok(look(footer));
    }
    let mut stack = [0; STACK_FOOTER_BYTES_MAX];
    let mut heap = Vec::new();
    let footer = if let Some(footer) = stack.get_mut(..len) {
        footer
    } else {
        heap.resize(len, 0);
        &mut heap
    };
    read_exact(fd, footer, header.table_offset)?;
    Ok(look(footer))
}

fn read_body(fd: &OwnedFd, len: usize) -> rustix::io::Result<HeapBytes> {
    HeapBytes::fill(len, |bytes| read_exact(fd, bytes, 0))
}

fn file_bytes(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

pub(crate) fn read_exact(fd: &OwnedFd, mut bytes: &mut [u8], mut offset: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let got = rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut *bytes, offset))?;
        if got == 0 {
            return Err(Errno::IO);
        }
        bytes = &mut bytes[got..];
        offset += got as u64;
    }
    Ok(())
}
