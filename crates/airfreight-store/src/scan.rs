//! Reading the directories: the only index there is.

use std::collections::HashSet;
use std::os::fd::AsFd;

use airfreight_core::ObjectName;
use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};

use crate::crash::crash_point;
use crate::error::Result;
use crate::ledger::LedgerLock;
use crate::store::Inner;
use crate::tier::{Tier, entries, footprint, used_ns};

/// One name among a tier's objects.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) name: ObjectName,
    /// What the file takes; 0 for a further name of a file that was counted already.
    pub(crate) bytes: u64,
    pub(crate) inode: u64,
    pub(crate) used_ns: i64,
}

impl Inner {
    /// Counts everything afresh, removes what dead writers left, and sets the ledger right.
    pub(crate) fn recount(&self, lock: &LedgerLock) -> Result<Counted> {
        let reclaimed = self.reclaim(&self.memory, lock)?;
        let mut seen = HashSet::new();
        let writing = tmp_bytes(&self.memory, &mut seen);
        let objects = scan(&self.memory, &mut seen)?;
        let warm = self.scan_warm()?;
        self.ledger.warm().set(warm);
        self.ledger.used().set(writing + warm + objects.iter().map(|found| found.bytes).sum::<u64>());

        let mut reclaimed = reclaimed;
        let mut spilled = Vec::new();
        if let Some(spill) = self.spill_if_any() {
            reclaimed += self.reclaim(spill, lock)?;
            let mut seen = HashSet::new();
            let writing = tmp_bytes(spill, &mut seen);
            spilled = scan(spill, &mut seen)?;
            self.ledger.spilled().set(writing + spilled.iter().map(|found| found.bytes).sum::<u64>());
        }
        Ok(Counted { objects, spilled, reclaimed })
    }

    /// Removes temporary files whose writers are dead: nobody else lets go of their lock before publishing.
    ///
    /// The exclusive ledger lock keeps out everyone who is between making a file and locking it.
    pub(crate) fn reclaim(&self, tier: &Tier, _lock: &LedgerLock) -> Result<u64> {
        crash_point("gc.locked");
        let mut reclaimed = 0;
        for file in entries(tier.tmp.as_fd(), &tier.path.join("tmp"))? {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let Ok(fd) = fs::openat(&tier.tmp, &file, flags, Mode::empty()) else { continue };
            if fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            if fs::unlinkat(&tier.tmp, &file, AtFlags::empty()).is_ok() {
                // Bytes that have another name stay.
                let gone = fs::fstat(&fd).ok().filter(|stat| stat.st_nlink == 0);
                let bytes = gone.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
                // Too little rather than too much: a writer that died early had reserved without a file.
                self.counter(tier.kind).sub(footprint(bytes));
                reclaimed += 1;
            }
            crash_point("gc.reclaimed");
        }
        Ok(reclaimed)
    }
}

/// What a count found.
pub(crate) struct Counted {
    pub(crate) objects: Vec<Found>,
    pub(crate) spilled: Vec<Found>,
    pub(crate) reclaimed: u64,
}

/// All names among a tier's objects; files that aren't ours by name are not looked at.
pub(crate) fn scan(tier: &Tier, seen: &mut HashSet<u64>) -> Result<Vec<Found>> {
    let names = entries(tier.objects.as_fd(), &tier.path.join("objects"))?;
    let mut found = Vec::with_capacity(names.len());
    for file in names {
        let Ok(name) = file.parse::<ObjectName>() else { continue };
        let Ok(stat) = fs::statat(&tier.objects, &file, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let counted = seen.insert(stat.st_ino);
        let bytes = if counted { footprint(u64::try_from(stat.st_size).unwrap_or(0)) } else { 0 };
        found.push(Found { name, bytes, inode: stat.st_ino, used_ns: used_ns(&stat) });
    }
    Ok(found)
}

fn tmp_bytes(tier: &Tier, seen: &mut HashSet<u64>) -> u64 {
    let Ok(files) = entries(tier.tmp.as_fd(), &tier.path.join("tmp")) else { return 0 };
    files
        .iter()
        .filter_map(|file| fs::statat(&tier.tmp, file, AtFlags::SYMLINK_NOFOLLOW).ok())
        .filter(|stat| seen.insert(stat.st_ino))
        .map(|stat| footprint(u64::try_from(stat.st_size).unwrap_or(0)))
        .sum()
}
