//! Expiry in small steps, and the full pass.

use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;

use airfreight_core::ObjectName;
use rustix::fs::{self, AtFlags, Mode, OFlags, RawDir, SeekFrom};

use crate::error::Result;
use crate::store::Inner;
use crate::tier::{TierKind, now_ns, used_ns};

/// Names that one step looks at: about a quarter of a millisecond.
const EXAMINED_MAX: usize = 256;
/// The pause between two passes over the store: a hundredth of the time to live, within these bounds.
const PAUSE_SECONDS: std::ops::RangeInclusive<i64> = 60..=3600;

/// What a full pass removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Objects that nobody used for longer than the time to live.
    pub expired: u64,
    /// Temporary files of dead writers.
    pub reclaimed: u64,
    /// Spilled files of stores that are gone.
    pub orphaned: u64,
}

impl Inner {
    /// One step of the expiry pass: looks at some names, goes on from there the next time.
    pub(crate) fn sweep(&self, limit: usize) -> Result<u64> {
        let now = now_ns();
        let now_seconds = now / 1_000_000_000;
        let due = i64::try_from(self.ledger.sweep_due().load(Ordering::Relaxed)).unwrap_or(0);
        // A time far ahead comes from a clock that jumped back since.
        if now_seconds < due && due - now_seconds <= *PAUSE_SECONDS.end() {
            return Ok(0);
        }
        let position = self.ledger.sweep_position().load(Ordering::Relaxed);
        if position == 0 {
            // What dead writers left goes first, if nobody is in the middle of something.
            if let Some(lock) = self.ledger.try_count(&self.memory)? {
                self.reclaim(&self.memory, &lock)?;
            }
            self.forget_copies_of_gone()?;
        }
        let step = self.expired_from(position, limit, now)?;
        let mut removed = 0;
        for name in step.expired {
            removed += u64::from(self.remove_expired(self.memory.kind, name)?);
        }
        if step.next == 0 {
            let pause = (self.ttl_seconds() / 100).clamp(*PAUSE_SECONDS.start(), *PAUSE_SECONDS.end());
            self.ledger.sweep_due().store(u64::try_from(now_seconds + pause).unwrap_or(0), Ordering::Relaxed);
        }
        self.ledger.sweep_position().store(step.next, Ordering::Relaxed);
        Ok(removed)
    }

    fn expired_from(&self, position: u64, limit: usize, now: i64) -> Result<Step> {
        let path = self.memory.path.join("objects");
        let error = |action| self.memory.io(action, path.clone());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Opened anew: a directory's position belongs to the open file, which forked children share.
        let dir = fs::openat(&self.memory.objects, c".", flags, Mode::empty()).map_err(error("open"))?;
        if fs::seek(&dir, SeekFrom::Start(position)).is_err() {
            return Ok(Step::default());
        }
        let mut step = Step::default();
        let mut examined = 0;
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut listing = RawDir::new(&dir, &mut buffer);
        while let Some(entry) = listing.next() {
            let Ok(entry) = entry else { return Ok(Step { next: 0, ..step }) };
            examined += 1;
            if let Ok(name) = entry.file_name().to_str().unwrap_or_default().parse::<ObjectName>()
                && let Ok(stat) = fs::statat(&self.memory.objects, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                && self.is_expired(used_ns(&stat), now)
            {
                step.expired.push(name);
            }
            if examined == EXAMINED_MAX || step.expired.len() >= limit {
                step.next = entry.next_entry_cookie();
                return Ok(step);
            }
        }
        Ok(step)
    }

    /// Counts afresh and removes whatever is expired, unfinished or orphaned, in every tier.
    pub(crate) fn collect(&self) -> Result<Collected> {
        let lock = self.ledger.count(&self.memory)?;
        let counted = self.recount(&lock)?;
        drop(lock);
        let now = now_ns();
        let mut collected = Collected { reclaimed: counted.reclaimed, ..Collected::default() };
        for (kind, objects) in [(self.memory.kind, counted.objects), (TierKind::Spill, counted.spilled)] {
            for found in objects.iter().filter(|found| self.is_expired(found.used_ns, now)) {
                collected.expired += u64::from(self.remove_expired(kind, found.name)?);
            }
        }
        self.forget_copies_of_gone()?;
        collected.orphaned = self.remove_orphans()?;
        Ok(collected)
    }
}

#[derive(Default)]
struct Step {
    expired: Vec<ObjectName>,
    /// Where to go on; 0 when the pass is over.
    next: u64,
}
