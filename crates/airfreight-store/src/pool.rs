//! Warm segments: files of deleted objects, kept because their pages are the expensive part of a write.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, RenameFlags};

use crate::crash::crash_point;
use crate::error::{Result, StoreError};
use crate::store::Inner;
use crate::tier::{OURS, entries, footprint, private_subdir, random};

/// Smaller files aren't worth keeping: a fresh one costs as little.
pub(crate) const RECYCLE_BYTES_MIN: u64 = 256 << 10;
/// A class holds lengths within a quarter of a power of two.
const CLASSES_PER_DOUBLING: u32 = 4;
/// How many classes above and below the wanted one are looked at: twice as long, half as long.
const NEIGHBOURS: u32 = CLASSES_PER_DOUBLING;
/// How many entries of one class are looked at, so that finding one costs the same however full the pool is.
const CANDIDATES_MAX: usize = 16;

/// A warm segment that now belongs to one writer: unnamed among the warm, locked, writable.
pub(crate) struct Claimed {
    pub(crate) fd: OwnedFd,
    pub(crate) temp: String,
    pub(crate) bytes: u64,
}

/// The class of a length: its power of two and the two bits below the highest.
fn class(bytes: u64) -> u32 {
    let log = bytes.max(RECYCLE_BYTES_MIN).ilog2();
    log * CLASSES_PER_DOUBLING + u32::try_from((bytes >> (log - 2)) & 3).unwrap_or(0)
}

/// The classes that may serve a write of `bytes`: its own, then longer ones (a little is cut off), then shorter ones.
fn classes(bytes: u64) -> impl Iterator<Item = u32> {
    let own = class(bytes);
    (own..=own + NEIGHBOURS).chain((own.saturating_sub(NEIGHBOURS)..own).rev())
}

impl Inner {
    /// Takes a warm segment for a write of `bytes`, best fit first. Call under the ledger's shared lock.
    pub(crate) fn claim_warm(&self, bytes: u64, temp: &str) -> Option<Claimed> {
        if self.ledger.warm().get() == 0 {
            return None;
        }
        for class in classes(bytes) {
            // Most classes have no directory, or an empty one.
            let Some(dir) = self.warm_class(class) else { continue };
            let Ok(mut names) = entries(dir.as_fd(), &self.memory.path) else { continue };
            names.truncate(CANDIDATES_MAX);
            names.sort_by_key(|name| length_of(name).abs_diff(bytes));
            for name in names {
                if fs::renameat(&dir, &name, &self.memory.tmp, temp).is_err() {
                    continue;
                }
                let length = length_of(&name);
                self.ledger.warm().sub(footprint(length));
                crash_point("recycle.claimed");
                match self.lock_claimed(temp, length) {
                    Some(claimed) => return Some(claimed),
                    None => self.discard_temp(temp, length),
                }
            }
        }
        None
    }

    fn warm_class(&self, class: u32) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(self.warm.as_ref()?, class.to_string(), flags, Mode::empty()).ok()
    }

    /// Proves once more that nobody maps the file, then holds it as a writer holds its temporary file.
    fn lock_claimed(&self, temp: &str, length: u64) -> Option<Claimed> {
        let fd = fs::openat(&self.memory.tmp, temp, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .ok()?;
        fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).ok()?;
        fs::flock(&fd, FlockOperation::NonBlockingLockShared).ok()?;
        let stat = fs::fstat(&fd).ok()?;
        // A hole would be a fault, and on a full tmpfs a SIGBUS, in the middle of the copy.
        let resident = u64::try_from(stat.st_blocks).ok()? * 512 >= footprint(length);
        let whole = u64::try_from(stat.st_size) == Ok(length) && stat.st_nlink == 1;
        (resident && whole).then(|| Claimed { fd, temp: temp.to_owned(), bytes: length })
    }

    fn discard_temp(&self, temp: &str, length: u64) {
        if fs::unlinkat(&self.memory.tmp, temp, AtFlags::empty()).is_ok() {
            self.ledger.used().sub(footprint(length));
        }
    }

    /// Puts a file that left the objects (as `temp`) into the pool, if it may be reused and there is room.
    ///
    /// `fd` carries the exclusive lock that proves that nobody maps it. Call under the ledger's shared lock.
    pub(crate) fn keep_warm(&self, temp: &str, length: u64) -> Result<bool> {
        let bytes = footprint(length);
        let Some(warm) = &self.warm else { return Ok(false) };
        if !self.ledger.warm().try_add(bytes, self.limits.pool_bytes) {
            return Ok(false);
        }
        let class_name = class(length).to_string();
        let kept = std::ffi::CString::new(class_name)
            .map_err(|_| StoreError::Internal("a class has no NUL"))
            .and_then(|class| private_subdir(warm, &self.memory.path.join("warm"), &class))
            .and_then(|dir| {
                let name = format!("{length:x}-{:016x}", u64::from_le_bytes(random()?));
                fs::renameat_with(&self.memory.tmp, temp, &dir, &name, RenameFlags::NOREPLACE)
                    .map_err(StoreError::io("keep", self.memory.path.join("warm").join(name)))
            });
        if kept.is_err() {
            self.ledger.warm().sub(bytes);
        }
        kept.map(|()| true)
    }

    /// Makes a file that leaves the store unreadable as an object and writable again, under its exclusive lock.
    ///
    /// `None` when a reader holds it.
    pub(crate) fn retire(&self, temp: &str) -> Option<OwnedFd> {
        fs::chmodat(&self.memory.tmp, temp, OURS, AtFlags::empty()).ok()?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&self.memory.tmp, temp, flags, Mode::empty()).ok()?;
        fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).ok()?;
        crash_point("delete.locked");
        let zeros = [0; airfreight_core::format::MAGIC.len()];
        rustix::io::pwrite(&fd, &zeros, 0).ok()?;
        Some(fd)
    }

    /// Removes warm segments until `wanted_bytes` are free or none is left. Call under the ledger's exclusive lock.
    pub(crate) fn drop_warm(&self, wanted_bytes: u64) -> Result<u64> {
        let Some(warm) = &self.warm else { return Ok(0) };
        let mut freed = 0;
        for class in entries(warm.as_fd(), &self.memory.path.join("warm"))? {
            let Some(dir) = class.parse().ok().and_then(|class| self.warm_class(class)) else { continue };
            for name in entries(dir.as_fd(), &self.memory.path)? {
                if freed >= wanted_bytes {
                    return Ok(freed);
                }
                if fs::unlinkat(&dir, &name, AtFlags::empty()).is_ok() {
                    let bytes = footprint(length_of(&name));
                    self.ledger.warm().sub(bytes);
                    self.ledger.used().sub(bytes);
                    freed += bytes;
                }
            }
        }
        Ok(freed)
    }

    /// Bytes of all warm segments, counted.
    pub(crate) fn scan_warm(&self) -> Result<u64> {
        let Some(warm) = &self.warm else { return Ok(0) };
        let mut bytes = 0;
        for class in entries(warm.as_fd(), &self.memory.path.join("warm"))? {
            let Some(dir) = class.parse().ok().and_then(|class| self.warm_class(class)) else { continue };
            for name in entries(dir.as_fd(), &self.memory.path)? {
                bytes += footprint(length_of(&name));
            }
        }
        Ok(bytes)
    }
}

/// The length that a warm segment's name tells, 0 for a file that isn't one.
fn length_of(name: &str) -> u64 {
    name.split_once('-').and_then(|(length, _)| u64::from_str_radix(length, 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_spans_a_quarter_of_a_doubling_and_grows_with_length() {
        let mut last = class(RECYCLE_BYTES_MIN);
        for step in 1..200 {
            let bytes = RECYCLE_BYTES_MIN + step * (64 << 10);
            assert!(class(bytes) >= last);
            last = class(bytes);
        }
        assert_eq!(class(1 << 30), class((1 << 30) + (1 << 27)));
        assert_ne!(class(1 << 30), class((1 << 30) + (1 << 28)));
        let wanted: Vec<u32> = classes(1 << 30).collect();
        assert_eq!(wanted[0], class(1 << 30));
        assert!(wanted.contains(&class(1 << 29)) && wanted.contains(&class(1 << 31)));
    }
}
