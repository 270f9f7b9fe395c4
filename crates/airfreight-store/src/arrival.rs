//! Whose turn it is to fetch an object from elsewhere: one at a time on a host, so that it travels once.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use airfreight_core::ObjectName;
use rustix::fs::{self, AtFlags, FlockOperation, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use crate::error::{Result, StoreError};
use crate::store::Inner;
use crate::tier::{OURS, now_ns};

/// The turn to fetch one object. Others get it when this is dropped, or its process dies.
pub struct Turn {
    store: Arc<Inner>,
    file: String,
    /// Carries the exclusive lock.
    fd: OwnedFd,
}

impl Turn {
    /// Takes the turn; `None` while somebody else has it.
    pub(crate) fn take(store: &Arc<Inner>, name: ObjectName) -> Result<Option<Self>> {
        let tier = &store.memory;
        let file = format!("{name}.turn");
        let error = |action| tier.io(action, tier.path.join("tmp").join(&file));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..64 {
            let fd = fs::openat(&tier.tmp, &file, flags, OURS).map_err(error("create"))?;
            match fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(error("lock")(errno)),
            }
            // Who had the turn before, or reclaims what the dead left, may have removed the file that was opened.
            if fs::fstat(&fd).map_err(error("examine"))?.st_nlink > 0 {
                return Ok(Some(Self { store: Arc::clone(store), file, fd }));
            }
        }
        Err(StoreError::Internal("the turn to fetch an object keeps changing hands"))
    }

    /// Shows those who wait that the object is getting on.
    pub fn advance(&self) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        // At worst others fetch it as well.
        let _ = fs::futimens(&self.fd, &Timestamps { last_access: omit, last_modification: now });
    }

    /// For how long whoever has the turn has not got on; `None` when nobody has it.
    pub(crate) fn silence(store: &Inner, name: ObjectName) -> Option<Duration> {
        let stat = fs::statat(&store.memory.tmp, format!("{name}.turn"), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let nsec = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let advanced_ns = stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nsec);
        Some(Duration::from_nanos(u64::try_from(now_ns() - advanced_ns).unwrap_or(0)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the lock goes: whoever locks this file afterwards sees that it has no name. If it stays, `gc` removes it.
        let _ = fs::unlinkat(&self.store.memory.tmp, &self.file, AtFlags::empty());
    }
}
