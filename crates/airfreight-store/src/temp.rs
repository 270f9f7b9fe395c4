//! A file on its way to become an object: reserved, locked, and gone with its writer.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use airfreight_core::format::Checksum;
use rustix::fs::{self, AtFlags, FallocateFlags, FlockOperation, OFlags, Timestamps};
use rustix::io::Errno;
use rustix::process::{Pid, getpid};

use crate::copy::{self, Piece};
use crate::crash::crash_point;
use crate::error::{Result, StoreError};
use crate::ledger::LedgerLock;
use crate::pool::Claimed;
use crate::read::read_exact;
use crate::store::Inner;
use crate::sys::{HUGE_PAGE_BYTES, Mapping};
use crate::tier::{SEALED, Tier, TierKind, footprint};

/// A recycled file may be longer than its object by this part of it before the rest is given back.
const SLACK_DIVISOR: u64 = 32;

/// Writes a whole small object under the ledger's lock, which stands in for the lock of its temporary file.
///
/// Seven system calls in all; the room was reserved under `lock`, and is given back when this fails.
pub(crate) fn write_small(
    store: &Inner,
    lock: LedgerLock,
    temp: &str,
    name: airfreight_core::ObjectName,
    pieces: &[Piece<'_>],
) -> Result<()> {
    let tier = &store.memory;
    let error = |action| tier.io(action, tier.path.join("tmp").join(temp));
    crash_point("create.reserved");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let written = fs::openat(&tier.tmp, temp, flags, SEALED).map_err(error("create")).and_then(|fd| {
        crash_point("create.temp");
        let written = copy::write_plain(fd.as_fd(), pieces).map_err(error("write")).and_then(|()| {
            crash_point("write.done");
            tier.publish(temp, name)
        });
        if written.is_err() {
            let _ = fs::unlinkat(&tier.tmp, temp, AtFlags::empty());
        }
        written
    });
    if written.is_ok() {
        crash_point("seal.published");
    } else {
        let bytes = pieces.last().map_or(0, |piece| piece.offset + piece.bytes.len() as u64);
        store.ledger.used().sub(footprint(bytes));
    }
    drop(lock);
    written
}

/// A temporary file in a tier's `tmp/`. Dropping it removes it and gives its room back.
pub(crate) struct Temp {
    store: Arc<Inner>,
    kind: TierKind,
    name: String,
    fd: OwnedFd,
    /// Bytes that the ledger counts for this file.
    reserved_bytes: u64,
    /// How many leading bytes already have pages.
    resident_bytes: u64,
    patience: copy::Patience,
    mending: copy::Mending,
    /// As much of it as has pages, once somebody fills a part of it by itself; `None`: the kernel refuses.
    mapped: OnceLock<Option<Arc<Mapping>>>,
    published: bool,
    /// Who writes it: a forked child inherits the value, but not the file.
    writer: Pid,
}

impl Temp {
    /// Makes a file for `bytes` in the tier of this kind. `lock` is the ledger's, under which the room was reserved.
    pub(crate) fn create(
        store: &Arc<Inner>,
        kind: TierKind,
        name: String,
        bytes: u64,
        lock: LedgerLock,
    ) -> Result<Self> {
        let tier = store.tier(kind)?;
        crash_point("create.reserved");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = fs::openat(&tier.tmp, &name, flags, SEALED)
            .and_then(|fd| fs::flock(&fd, FlockOperation::NonBlockingLockShared).map(|()| fd));
        let fd = match made {
            Ok(fd) => fd,
            Err(errno) => {
                store.counter(kind).sub(footprint(bytes));
                return Err(tier.io("create", tier.path.join("tmp").join(&name))(errno));
            }
        };
        let temp = Self {
            store: Arc::clone(store),
            kind,
            name,
            fd,
            reserved_bytes: footprint(bytes),
            resident_bytes: 0,
            patience: copy::Patience::new(),
            mending: copy::Mending::bit_by_bit(0),
            mapped: OnceLock::new(),
            published: false,
            writer: getpid(),
        };
        crash_point("create.temp");
        // A count sees the whole reservation; nothing is allocated by this.
        temp.resize(bytes)?;
        drop(lock);
        Ok(temp)
    }

    /// Takes over a warm segment for an object of `bytes`; more room than it has was reserved by the caller.
    pub(crate) fn recycle(store: &Arc<Inner>, claimed: Claimed, bytes: u64, lock: LedgerLock) -> Result<Self> {
        let mut temp = Self {
            store: Arc::clone(store),
            kind: store.memory.kind,
            name: claimed.temp,
            fd: claimed.fd,
            reserved_bytes: footprint(claimed.bytes.max(bytes)),
            resident_bytes: claimed.bytes.min(bytes),
            patience: copy::Patience::new(),
            mending: copy::Mending::bit_by_bit(claimed.bytes.min(bytes)),
            mapped: OnceLock::new(),
            published: false,
            writer: getpid(),
        };
        if claimed.bytes > bytes + bytes / SLACK_DIVISOR {
            temp.resize(bytes)?;
            let surplus = temp.reserved_bytes - footprint(bytes);
            store.counter(temp.kind).sub(surplus);
            temp.reserved_bytes -= surplus;
        } else if claimed.bytes < bytes {
            // Real pages or ENOSPC now, rather than a fault in the copy.
            temp.resize(bytes)?;
        }
        crash_point("recycle.resized");
        drop(lock);
        Ok(temp)
    }

    pub(crate) fn kind(&self) -> TierKind {
        self.kind
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    fn tier(&self) -> Result<&Tier> {
        self.store.tier(self.kind)
    }

    fn error(&self, action: &'static str) -> impl FnOnce(Errno) -> StoreError + use<'_> {
        move |errno| match self.tier() {
            Ok(tier) => tier.io(action, tier.path.join("tmp").join(&self.name))(errno),
            Err(error) => error,
        }
    }

    pub(crate) fn resize(&self, bytes: u64) -> Result<()> {
        fs::ftruncate(&self.fd, bytes).map_err(self.error("resize"))
    }

    /// Raises the reservation to `bytes` in all; the room was reserved by the caller.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<()> {
        self.reserved_bytes = footprint(bytes);
        self.resize(bytes)
    }

    pub(crate) fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes
    }

    /// Cuts the file to its final length and gives back what was reserved beyond it.
    pub(crate) fn trim(&mut self, bytes: u64) -> Result<()> {
        let surplus = self.reserved_bytes.saturating_sub(footprint(bytes));
        let lock = self.store.ledger.change(&self.store.memory)?;
        self.resize(bytes)?;
        self.store.counter(self.kind).sub(surplus);
        drop(lock);
        self.reserved_bytes -= surplus;
        Ok(())
    }

    /// Writes the pieces where they belong.
    pub(crate) fn write(&self, pieces: &[Piece<'_>]) -> Result<()> {
        let fd = self.fd.as_fd();
        let written = match (self.resident_bytes, self.kind) {
            (0, TierKind::Memory) => copy::write_fresh(fd, pieces, &self.patience),
            (0, TierKind::Disk | TierKind::Spill) => copy::write_plain(fd, pieces),
            (resident_bytes, _) => copy::write_resident(fd, pieces, resident_bytes),
        };
        written.map_err(self.error("write"))
    }

    /// Writes a part of what is to be written, wherever in the file it belongs.
    pub(crate) fn write_part(&self, pieces: &[Piece<'_>]) -> Result<()> {
        let fd = self.fd.as_fd();
        let written = match (self.resident_bytes, self.kind) {
            (0, TierKind::Memory) => copy::write_fresh(fd, pieces, &self.patience),
            // To map a whole file for each of its parts would cost more than it saves.
            _ => copy::write_plain(fd, pieces),
        };
        written.map_err(self.error("write"))
    }

    /// `start..end`, mapped for writing; `None` where a page may be missing, or the kernel refuses.
    pub(crate) fn window(&self, start: u64, end: u64) -> Option<copy::Part> {
        let is_resident = self.kind == TierKind::Memory && start < end && end <= self.resident_bytes;
        // What begins within a page can't be left by itself.
        if !is_resident || !start.is_multiple_of(HUGE_PAGE_BYTES) {
            return None;
        }
        let mapping = self.mapped.get_or_init(|| {
            let len = usize::try_from(self.resident_bytes).ok()?;
            Mapping::window(self.fd.as_fd(), 0, len).ok().map(Arc::new)
        });
        copy::Part::enter(Arc::clone(mapping.as_ref()?), start, end, &self.mending).ok()
    }

    /// Fills `bytes` with what was written at `offset`.
    pub(crate) fn read(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        read_exact(&self.fd, bytes, offset).map_err(self.error("read back"))
    }

    /// The checksum of what stands in `start..end`.
    pub(crate) fn checksum(&self, start: u64, end: u64) -> Result<u64> {
        let mut checksum = Checksum::new();
        let mut buffer = vec![0; 1 << 20];
        let mut offset = start;
        while offset < end {
            let want = buffer.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
            self.read(&mut buffer[..want], offset)?;
            checksum.update(&buffer[..want]);
            offset += want as u64;
        }
        Ok(checksum.finish())
    }

    /// Makes sure that pages exist for `start..end`, so that running out of room is an error here.
    pub(crate) fn allocate(&self, start: u64, end: u64) -> Result<()> {
        if end <= start {
            return Ok(());
        }
        match fs::fallocate(&self.fd, FallocateFlags::empty(), start, end - start) {
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(self.error("allocate")(errno)),
        }
    }

    /// Publishes the file under its name; after this it belongs to the store.
    pub(crate) fn publish(mut self, name: airfreight_core::ObjectName) -> Result<()> {
        if self.resident_bytes > 0 {
            // A recycled file was made writable when it left; a fresh one is sealed from its first moment.
            fs::fchmod(&self.fd, SEALED).map_err(self.error("seal"))?;
            // Its last use was that of the object before, which may be why that one went.
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            let times = Timestamps { last_access: now, last_modification: now };
            fs::futimens(&self.fd, &times).map_err(self.error("date"))?;
        }
        crash_point("write.done");
        self.tier()?.publish(&self.name, name)?;
        self.published = true;
        crash_point("seal.published");
        Ok(())
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if self.published || self.writer != getpid() {
            return;
        }
        // Nothing can be reported from here; what can't be removed is reclaimed by the next count.
        if let Ok(tier) = self.tier() {
            let lock = self.store.ledger.change(&self.store.memory);
            if fs::unlinkat(&tier.tmp, &self.name, AtFlags::empty()).is_ok() {
                self.store.counter(self.kind).sub(self.reserved_bytes);
            }
            drop(lock);
        }
    }
}
