//! How much the store holds: a page of counters that all processes share, and the lock that orders counting.
//!
//! Whoever changes what the directories hold does it under the shared lock and adjusts the counters there; whoever
//! counts afresh takes the exclusive lock. A process that dies in between leaves a counter too high, never too low:
//! bytes are added before a file appears and taken off after it went. The next count puts it right.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Result, StoreError};
use crate::sys::Mapping;
use crate::tier::{OURS, Tier, random};

const MAGIC: u64 = u64::from_le_bytes(*b"AFLEDGER");
const VERSION: u64 = 1;
const BYTES: usize = 4096;
/// A count of a million objects takes seconds, everything else under this lock microseconds.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The counters, each a word of the page (`docs/design/object.md`).
pub(crate) struct Ledger {
    page: Mapping,
}

/// What the ledger's lock is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// To change directories and counters; shared.
    Change,
    /// To count; exclusive.
    Count,
    /// To count, if it can be had at once.
    CountNow,
}

impl Claim {
    fn operation(self) -> FlockOperation {
        match self {
            Self::Change => FlockOperation::NonBlockingLockShared,
            Self::Count | Self::CountNow => FlockOperation::NonBlockingLockExclusive,
        }
    }
}

/// Held while directories and counters change together; released on drop.
pub(crate) struct LedgerLock {
    _fd: OwnedFd,
}

impl Ledger {
    /// Maps the ledger, making it where there is none. The second value says that it was made and knows nothing yet.
    pub(crate) fn open(tier: &Tier) -> Result<(Self, bool)> {
        for _ in 0..8 {
            match fs::openat(&tier.root, c"ledger", OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
                Ok(fd) => {
                    let error = |action| StoreError::io(action, tier.path.join("ledger"));
                    let stat = fs::fstat(&fd).map_err(error("examine"))?;
                    if u64::try_from(stat.st_size).is_ok_and(|size| size >= BYTES as u64) {
                        let page = Mapping::shared(fd.as_fd(), BYTES).map_err(error("map"))?;
                        let ledger = Self { page };
                        if ledger.word(0).load(Ordering::Relaxed) == MAGIC
                            && ledger.word(1).load(Ordering::Relaxed) == VERSION
                        {
                            return Ok((ledger, false));
                        }
                    }
                    // Damaged: nothing in it is worth keeping, a scan knows better.
                    let _ = fs::unlinkat(&tier.root, c"ledger", AtFlags::empty());
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(tier.io("open", tier.path.join("ledger"))(errno)),
            }
            if Self::make(tier)? {
                let (ledger, _) = Self::open(tier)?;
                return Ok((ledger, true));
            }
        }
        Err(StoreError::Internal("the store's ledger keeps changing"))
    }

    fn make(tier: &Tier) -> Result<bool> {
        let error = |action| tier.io(action, tier.path.join("ledger"));
        let temp = format!("ledger.{:016x}", u64::from_le_bytes(random()?));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = fs::openat(&tier.root, &temp, flags, OURS).map_err(error("create"))?;
        let mut page = [0; BYTES];
        page[..8].copy_from_slice(&MAGIC.to_le_bytes());
        page[8..16].copy_from_slice(&VERSION.to_le_bytes());
        rustix::io::pwrite(&fd, &page, 0).map_err(error("write"))?;
        let made = fs::renameat_with(&tier.root, &temp, &tier.root, c"ledger", RenameFlags::NOREPLACE);
        if made.is_err() {
            let _ = fs::unlinkat(&tier.root, &temp, AtFlags::empty());
        }
        match made {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(error("create")(errno)),
        }
    }

    /// For a change of directories and counters; many at a time.
    #[expect(clippy::unused_self, reason = "who has a ledger may lock it")]
    pub(crate) fn change(&self, tier: &Tier) -> Result<LedgerLock> {
        Self::lock(tier, Claim::Change)
    }

    /// For a count; alone.
    #[expect(clippy::unused_self, reason = "who has a ledger may lock it")]
    pub(crate) fn count(&self, tier: &Tier) -> Result<LedgerLock> {
        Self::lock(tier, Claim::Count)
    }

    /// As [`Self::count`], if nobody changes anything just now.
    #[expect(clippy::unused_self, reason = "who has a ledger may lock it")]
    pub(crate) fn try_count(&self, tier: &Tier) -> Result<Option<LedgerLock>> {
        match Self::lock(tier, Claim::CountNow) {
            Ok(lock) => Ok(Some(lock)),
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the file anew each time, which costs a microsecond more than keeping it open: a lock belongs to the open
    /// file, which threads and forked children share. A child that outlives a killed parent would keep its lock.
    fn lock(tier: &Tier, claim: Claim) -> Result<LedgerLock> {
        let fd = fs::openat(&tier.root, c"ledger", OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| match errno {
                // The page we map is nobody's any more, whether the file alone went or the whole directory.
                Errno::NOENT => StoreError::Removed { path: tier.path.clone() },
                errno => StoreError::io("open", tier.path.join("ledger"))(errno),
            })?;
        let began = Instant::now();
        let mut step = Duration::from_micros(10);
        loop {
            match fs::flock(&fd, claim.operation()) {
                Ok(()) => return Ok(LedgerLock { _fd: fd }),
                // Asked for again and again rather than waited for: a holder may be stopped for ever.
                Err(Errno::WOULDBLOCK | Errno::INTR) if claim != Claim::CountNow => {
                    let waited = began.elapsed();
                    if waited > WAIT_MAX {
                        let path = tier.path.join("ledger");
                        return Err(StoreError::Blocked { path, waited_ms: waited.as_millis() });
                    }
                    std::thread::sleep(step);
                    step = (step * 2).min(Duration::from_millis(1));
                }
                Err(errno) => return Err(StoreError::io("lock", tier.path.join("ledger"))(errno)),
            }
        }
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        self.page.word(index)
    }

    /// Bytes that objects, files being written, and warm segments take.
    pub(crate) fn used(&self) -> Counter<'_> {
        Counter(self.word(2))
    }

    /// Bytes of warm segments, part of [`Self::used`].
    pub(crate) fn warm(&self) -> Counter<'_> {
        Counter(self.word(3))
    }

    /// Bytes in this store's folder of the spill directory.
    pub(crate) fn spilled(&self) -> Counter<'_> {
        Counter(self.word(4))
    }

    /// When the next expiry step is due, in seconds since 1970.
    pub(crate) fn sweep_due(&self) -> &AtomicU64 {
        self.word(5)
    }

    /// Where in `objects/` the next expiry step goes on.
    pub(crate) fn sweep_position(&self) -> &AtomicU64 {
        self.word(6)
    }
}

/// A number of bytes. Relaxed ordering: the ledger's lock orders what must be ordered.
#[derive(Clone, Copy)]
pub(crate) struct Counter<'a>(&'a AtomicU64);

impl Counter<'_> {
    pub(crate) fn get(self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// Adds, unless that would pass `limit`.
    pub(crate) fn try_add(self, bytes: u64, limit: u64) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= limit)
            })
            .is_ok()
    }

    /// Takes off, stopping at 0: a count in between may already have noticed.
    pub(crate) fn sub(self, bytes: u64) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(bytes)));
    }
}
