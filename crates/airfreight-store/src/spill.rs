//! The spill disk: objects that memory has no room for, byte for byte, with the checksum of their payload.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use airfreight_core::ObjectName;
use airfreight_core::format::{Checksum, FormatError, HEADER_BYTES, HEADER_LEN, Header};
use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::crash::crash_point;
use crate::error::{Result, StoreError};
use crate::remove::Pages;
use crate::room::Victim;
use crate::store::Inner;
use crate::tier::{SEALED, Tier, TierKind, entries, footprint, is_sealed};

const COPY_BYTES: usize = 1 << 20;
/// In a spill folder: the directory of the store it belongs to.
const BELONGS_TO: &str = "store";

impl Inner {
    /// Moves an object to the spill disk. `false` when a reader holds it, so that moving would free nothing.
    pub(crate) fn spill_out(&self, victim: &Victim, pages: Pages) -> Result<bool> {
        let Some(&first) = victim.names.first() else { return Ok(true) };
        let spill = self.spill().map_err(|reason| StoreError::Options { reason })?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOATIME | OFlags::NONBLOCK;
        let source = match fs::openat(&self.memory.objects, first.to_string(), flags, Mode::empty()) {
            Ok(source) => source,
            // Deleted since it was listed.
            Err(Errno::NOENT) => return Ok(true),
            Err(Errno::LOOP) => {
                let path = self.memory.object_path(first);
                return Err(StoreError::Foreign { path, found: "a symbolic link".into() });
            }
            Err(errno) => return Err(self.memory.io("open", self.memory.object_path(first))(errno)),
        };
        if fs::flock(&source, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        // Shared from here on: readers may come while it is copied, reuse may not.
        if fs::flock(&source, FlockOperation::NonBlockingLockShared).is_err() {
            return Ok(true);
        }
        let names = self.copy_out(spill, &source, victim)?;
        crash_point("spill.published");
        drop(source);
        for name in names {
            if !self.remove_from_memory(name, pages)? {
                // Deleted since: the copy goes, too, whatever becomes of who deletes.
                self.remove_from_spill(spill, name)?;
            }
            crash_point("evict.removed");
        }
        Ok(true)
    }

    /// Copies an object. Returns those of its names that the spill disk has now; the others are gone.
    fn copy_out(&self, spill: &Tier, source: &OwnedFd, victim: &Victim) -> Result<Vec<ObjectName>> {
        let first = victim.names[0];
        let stat = fs::fstat(source).map_err(self.memory.io("examine", self.memory.object_path(first)))?;
        if !is_sealed(&stat) {
            let found = format!("owner {}, mode {:o}, or no plain file", stat.st_uid, stat.st_mode & 0o7777);
            return Err(StoreError::Foreign { path: self.memory.object_path(first), found });
        }
        let mut head = [0; HEADER_LEN];
        let io = |errno| self.memory.io("read", self.memory.object_path(first))(errno);
        let got = rustix::io::retry_on_intr(|| rustix::io::pread(source, &mut head, 0)).map_err(io)?;
        let damaged = |source| StoreError::Corrupt { name: first, store: self.memory.path.clone(), source };
        let header = Header::decode(&head, u64::try_from(stat.st_size).unwrap_or(0)).map_err(damaged)?;
        debug_assert_eq!(got, head.len(), "a header that decodes was read whole");

        let bytes = footprint(header.file_bytes);
        let lock = self.ledger.change(&self.memory)?;
        if !self.ledger.spilled().try_add(bytes, self.spill_capacity_bytes()) {
            return Err(StoreError::Options {
                reason: format!("`{}` has no room for {} more bytes", spill.path.display(), header.file_bytes),
            });
        }
        let temp = format!("{first}.s");
        let made = make_spill_file(spill, &temp);
        drop(lock);
        let target = made.inspect_err(|_| self.ledger.spilled().sub(bytes))?;
        let copy = || {
            crash_point("spill.temp");
            copy_checked(source, &target, &header).map_err(|errno| match errno {
                Errno::BADMSG => damaged(FormatError::PayloadChecksum),
                errno => StoreError::io("write", spill.path.join("tmp").join(&temp))(errno),
            })?;
            crash_point("spill.copied");
            self.publish_copy(spill, source, &target, &temp, victim)
        };
        let names = copy();
        let lock = self.ledger.change(&self.memory);
        // Nothing is left there where it was given a name by renaming; else others may link to it.
        let is_left = fs::unlinkat(&spill.tmp, &temp, AtFlags::empty()).is_ok();
        // Without the lock, a count may have noticed.
        if is_left && lock.is_ok() && fs::fstat(&target).is_ok_and(|stat| stat.st_nlink == 0) {
            self.ledger.spilled().sub(bytes);
        }
        names
    }

    /// Gives a copy the object's times, and those of its names that memory still has. Returns these names.
    fn publish_copy(
        &self,
        spill: &Tier,
        source: &OwnedFd,
        target: &OwnedFd,
        temp: &str,
        victim: &Victim,
    ) -> Result<Vec<ObjectName>> {
        let path = || spill.path.join("tmp").join(temp);
        // While nobody deletes: whoever deletes a name looks in memory first and here afterwards. A name that went
        // before this would be back for good if this process died, and for a moment if it didn't.
        let _lock = self.ledger.count(&self.memory)?;
        let mut names = Vec::with_capacity(victim.names.len());
        for &name in &victim.names {
            match fs::statat(&self.memory.objects, name.to_string(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => names.push(name),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.memory.io("examine", self.memory.object_path(name))(errno)),
            }
        }
        let Some((&first, others)) = names.split_first() else { return Ok(names) };

        // As they are now: somebody may have used the object, or let it lapse.
        let stat = fs::fstat(source).map_err(self.memory.io("examine", self.memory.object_path(first)))?;
        let seconds = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec: i64::try_from(tv_nsec).unwrap_or(0) };
        let times = Timestamps {
            last_access: seconds(stat.st_atime, stat.st_atime_nsec),
            last_modification: seconds(stat.st_mtime, stat.st_mtime_nsec),
        };
        fs::futimens(target, &times).map_err(|errno| StoreError::io("date", path())(errno))?;
        // Every name moves, by further links to the one copy; a name that is there already is a former copy.
        for &name in others {
            match fs::linkat(&spill.tmp, temp, &spill.objects, name.to_string(), AtFlags::empty()) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(StoreError::io("link", spill.object_path(name))(errno)),
            }
        }
        match spill.publish(temp, first) {
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => Ok(names),
            other => other.map(|()| names),
        }
    }

    /// Removes the spill folders of stores that were at this store's path before (a reboot empties shared memory).
    pub(crate) fn remove_orphans(&self) -> Result<u64> {
        let Ok(root) = crate::tier::open_root(&self.limits.spill_path, false) else { return Ok(0) };
        let mut removed = 0;
        for folder in entries(root.as_fd(), &self.limits.spill_path)? {
            let is_id = folder.len() == 32 && folder.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_id || folder == self.id {
                continue;
            }
            let path = self.limits.spill_path.join(&folder);
            let owner = fs_err::read_to_string(path.join(BELONGS_TO)).unwrap_or_default();
            if Path::new(&owner) == self.memory.path {
                removed += remove_folder(&path);
            }
        }
        Ok(removed)
    }
}

fn make_spill_file(spill: &Tier, temp: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(&spill.tmp, temp, flags, SEALED)
        .and_then(|fd| fs::flock(&fd, FlockOperation::NonBlockingLockShared).map(|()| fd))
        .map_err(spill.io("create", spill.path.join("tmp").join(temp)))
}

/// Opens this store's folder of the spill directory; `None` when it isn't there and `create` is false.
pub(crate) fn open_folder(spill_path: &Path, store_id: &str, store_path: &Path, create: bool) -> Result<Option<Tier>> {
    let path = spill_path.join(store_id);
    let root = match crate::tier::open_root(&path, false) {
        Ok(root) => root,
        Err(StoreError::Missing { .. }) if !create => return Ok(None),
        Err(StoreError::Missing { .. }) => {
            crate::tier::open_root(spill_path, true)?;
            let root = crate::tier::open_root(&path, true)?;
            fs_err::write(path.join(BELONGS_TO), store_path.to_string_lossy().as_bytes())
                .map_err(|source| StoreError::Io { action: "write", path: path.join(BELONGS_TO), source })?;
            root
        }
        Err(error) => return Err(error),
    };
    Tier::open(TierKind::Spill, path, root).map(Some)
}

/// Copies an object's file and fills in the checksum of its payload, which it may not have had in memory.
/// `EBADMSG` when it had one that doesn't match.
fn copy_checked(source: &OwnedFd, target: &OwnedFd, header: &Header) -> rustix::io::Result<()> {
    let mut checksum = Checksum::new();
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = HEADER_BYTES;
    while offset < header.file_bytes {
        let want = buffer.len().min(usize::try_from(header.file_bytes - offset).unwrap_or(usize::MAX));
        let got = rustix::io::retry_on_intr(|| rustix::io::pread(source, &mut buffer[..want], offset))?;
        if got == 0 {
            return Err(Errno::IO);
        }
        let payload = header.table_offset.saturating_sub(offset).min(got as u64);
        checksum.update(&buffer[..usize::try_from(payload).unwrap_or(0)]);
        write_all(target, &buffer[..got], offset)?;
        offset += got as u64;
    }
    let found = checksum.finish();
    if header.payload_crc.is_some_and(|expected| expected != found) {
        return Err(Errno::BADMSG);
    }
    write_all(target, &Header { payload_crc: Some(found), ..*header }.encode(), 0)
}

fn write_all(target: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(target, bytes, offset))?;
        if written == 0 {
            return Err(Errno::NOSPC);
        }
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

/// Removes the files that a store of ours makes, and the folders if they are empty then. Nothing else is touched.
fn remove_folder(path: &Path) -> u64 {
    let mut removed = 0;
    for (folder, is_ours) in [("objects", is_object as fn(&str) -> bool), ("tmp", is_temp)] {
        let folder = path.join(folder);
        let Ok(listing) = fs_err::read_dir(&folder) else { continue };
        for entry in listing.flatten() {
            if entry.file_name().to_str().is_some_and(is_ours) && fs_err::remove_file(entry.path()).is_ok() {
                removed += 1;
            }
        }
        let _ = fs_err::remove_dir(&folder);
    }
    let only_the_note = fs_err::read_dir(path).is_ok_and(|listing| listing.count() == 1);
    if only_the_note && fs_err::remove_file(path.join(BELONGS_TO)).is_ok() {
        let _ = fs_err::remove_dir(path);
    }
    removed
}

fn is_object(file: &str) -> bool {
    file.parse::<ObjectName>().is_ok()
}

fn is_temp(file: &str) -> bool {
    file.rsplit_once('.').is_some_and(|(stem, end)| matches!(end, "w" | "s") && is_object(stem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, Options, Store};

    #[test]
    fn a_name_that_is_deleted_while_it_is_copied_is_gone_should_the_copier_die_next() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let options = Options {
            path: Some(folder.path().join("store")),
            spill_path: Some(folder.path().join("spill")),
            spill_capacity_bytes: Some(64 << 20),
            ..Options::default()
        };
        let store = Store::open(&options).unwrap();
        let inner = &store.inner;
        let spill = inner.spill().unwrap();
        for deleted in [vec![0], vec![1], vec![0, 1, 2]] {
            let first = store.create().unwrap().seal(&[&[7; 5000]], "{}").unwrap();
            let names = vec![first, store.link(first).unwrap(), store.link(first).unwrap()];
            let source = fs::openat(&inner.memory.objects, first.to_string(), OFlags::RDONLY, Mode::empty()).unwrap();
            let victim = Victim { names: names.clone(), bytes: 5000, inode: 0, used_ns: 0 };
            for &index in &deleted {
                assert!(store.delete(names[index]).unwrap());
            }
            // What comes after this takes the names that are left out of memory.
            let moved = inner.copy_out(spill, &source, &victim).unwrap();
            drop(source);
            for (index, &name) in names.iter().enumerate() {
                let there = fs::statat(&spill.objects, name.to_string(), AtFlags::empty()).is_ok();
                assert_eq!(there, !deleted.contains(&index), "{index} of {deleted:?}");
                assert_eq!(there, moved.contains(&name));
                assert_eq!(store.get(name, Access::ReadOnly).is_ok(), there);
                store.delete(name).unwrap();
            }
            assert_eq!(inner.ledger.spilled().get(), 0, "{deleted:?}");
            assert!(entries(spill.tmp.as_fd(), &spill.path).unwrap().is_empty());
        }
    }
}
