//! Taking names away: delete, expire, link.

use airfreight_core::ObjectName;
use rustix::fs::{self, AtFlags, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use crate::crash::crash_point;
use crate::error::Result;
use crate::pool::RECYCLE_BYTES_MIN;
use crate::store::Inner;
use crate::tier::{Tier, TierKind, footprint, now_ns, random};

/// What becomes of a file's pages when its last name goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    /// Kept as a warm segment where that is safe and worth it.
    Recycle,
    /// Given back to the system: room is what is needed.
    Free,
}

impl Inner {
    /// Removes a name in every tier; `false` when none had it.
    pub(crate) fn delete(&self, name: ObjectName) -> Result<bool> {
        let mut found = self.remove_from_memory(name, Pages::Recycle)?;
        // After memory, because spilling publishes on the disk before it removes from memory.
        if let Some(spill) = self.spill_if_any() {
            found |= self.remove_from_spill(spill, name)?;
        }
        Ok(found)
    }

    /// Takes a name out of memory; `false` when it wasn't there.
    pub(crate) fn remove_from_memory(&self, name: ObjectName, pages: Pages) -> Result<bool> {
        let tier = &self.memory;
        let file = name.to_string();
        let error = |action| tier.io(action, tier.object_path(name));
        let lock = self.ledger.change(tier)?;
        let stat = match fs::statat(&tier.objects, &file, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(error("examine")(errno)),
        };
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        let worth_keeping = pages == Pages::Recycle && length >= RECYCLE_BYTES_MIN && stat.st_nlink == 1;
        if !worth_keeping {
            return match fs::unlinkat(&tier.objects, &file, AtFlags::empty()) {
                Ok(()) => {
                    crash_point("delete.unlinked");
                    if stat.st_nlink == 1 {
                        self.ledger.used().sub(footprint(length));
                    }
                    Ok(true)
                }
                Err(Errno::NOENT) => Ok(false),
                Err(errno) => Err(error("delete")(errno)),
            };
        }
        let temp = format!("{:016x}.d", u64::from_le_bytes(random()?));
        match fs::renameat_with(&tier.objects, &file, &tier.tmp, &temp, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(error("delete")(errno)),
        }
        crash_point("delete.renamed");
        // A link made before the rename would keep the file in use under another name.
        let last = fs::statat(&tier.tmp, &temp, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.st_nlink == 1);
        let retired = last.then(|| self.retire(&temp)).flatten();
        let kept = match &retired {
            Some(_fd) => self.keep_warm(&temp, length).unwrap_or(false),
            None => false,
        };
        if kept {
            crash_point("delete.pooled");
        } else if fs::unlinkat(&tier.tmp, &temp, AtFlags::empty()).is_ok() && last {
            self.ledger.used().sub(footprint(length));
        }
        drop(retired);
        drop(lock);
        Ok(true)
    }

    /// Takes a name off the spill disk; `false` when it wasn't there.
    pub(crate) fn remove_from_spill(&self, spill: &Tier, name: ObjectName) -> Result<bool> {
        let file = name.to_string();
        let lock = self.ledger.change(&self.memory)?;
        let stat = match fs::statat(&spill.objects, &file, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(spill.io("examine", spill.object_path(name))(errno)),
        };
        match fs::unlinkat(&spill.objects, &file, AtFlags::empty()) {
            Ok(()) => {
                if stat.st_nlink == 1 {
                    self.ledger.spilled().sub(footprint(u64::try_from(stat.st_size).unwrap_or(0)));
                }
                drop(lock);
                Ok(true)
            }
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(spill.io("delete", spill.object_path(name))(errno)),
        }
    }

    /// Gives an object a further name that lives and dies on its own.
    pub(crate) fn link(&self, name: ObjectName) -> Result<ObjectName> {
        let link = ObjectName::new(name.id()).with_link(u64::from_le_bytes(random()?));
        for tier in self.tiers() {
            let made = fs::linkat(&tier.objects, name.to_string(), &tier.objects, link.to_string(), AtFlags::empty());
            match made {
                Ok(()) => {
                    crash_point("link.made");
                    return Ok(link);
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(tier.io("link", tier.object_path(name))(errno)),
            }
        }
        Err(crate::StoreError::NotFound { name, store: self.memory.path.clone() })
    }

    /// Lets a name lapse after `in_seconds` unless it is used before.
    pub(crate) fn expire(&self, name: ObjectName, in_seconds: f64) -> Result<bool> {
        for tier in self.tiers() {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOATIME | OFlags::NONBLOCK;
            let fd = match fs::openat(&tier.objects, name.to_string(), flags, fs::Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(tier.io("open", tier.object_path(name))(errno)),
            };
            let stat = fs::fstat(&fd).map_err(tier.io("examine", tier.object_path(name)))?;
            if stat.st_nlink > 1 {
                // Times belong to the file, which its other names still want.
                return self.delete(name);
            }
            #[expect(clippy::cast_possible_truncation, reason = "saturates, and to the second is enough")]
            let seconds = now_ns() / 1_000_000_000 - self.ttl_seconds() + in_seconds.max(0.0) as i64;
            let times = Timestamps {
                last_access: Timespec { tv_sec: seconds, tv_nsec: 0 },
                last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            };
            fs::futimens(&fd, &times).map_err(tier.io("expire", tier.object_path(name)))?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Removes an object from the tier where it was found expired, if it still is.
    pub(crate) fn remove_expired(&self, kind: TierKind, name: ObjectName) -> Result<bool> {
        let removed = match (kind, self.spill_if_any()) {
            (TierKind::Spill, Some(spill)) => self.remove_from_spill(spill, name)?,
            (TierKind::Spill, None) => false,
            _ => self.remove_from_memory(name, Pages::Recycle)?,
        };
        crash_point("sweep.expired");
        Ok(removed)
    }
}
