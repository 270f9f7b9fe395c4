//! Which objects have a copy in a bucket: where room is needed, these go without a copy on the spill disk.
//!
//! A note is an empty file in `copied/`, called after the object. One whose object is gone means nothing, since no id
//! comes twice; it is removed with the next pass of expiry.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use airfreight_core::ObjectName;
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::Result;
use crate::store::Inner;
use crate::tier::{OURS, entries, private_subdir};

const FOLDER: &CStr = c"copied";

impl Inner {
    /// The notes of this store, if there ever was one.
    fn notes(&self) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.memory.root, FOLDER, flags, Mode::empty()).ok()
    }

    pub(crate) fn note_copy(&self, name: ObjectName) -> Result<bool> {
        let notes = private_subdir(&self.memory.root, &self.memory.path, FOLDER)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = || self.memory.path.join("copied").join(name.to_string());
        fs::openat(&notes, name.to_string(), flags, OURS).map_err(|errno| self.memory.io("create", path())(errno))?;
        Ok(self.has(name))
    }

    pub(crate) fn forget_copy(&self, name: ObjectName) -> Result<bool> {
        let Some(notes) = self.notes() else { return Ok(false) };
        match fs::unlinkat(&notes, name.to_string(), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => {
                let path = self.memory.path.join("copied").join(name.to_string());
                Err(self.memory.io("delete", path)(errno))
            }
        }
    }

    /// Whether a bucket has a copy under each of these names.
    pub(crate) fn are_copied(&self, names: &[ObjectName]) -> bool {
        let is_noted =
            |notes: &OwnedFd, name: &ObjectName| fs::statat(notes, name.to_string(), AtFlags::SYMLINK_NOFOLLOW).is_ok();
        self.notes().is_some_and(|notes| names.iter().all(|name| is_noted(&notes, name)))
    }

    /// Removes notes on objects that are gone.
    pub(crate) fn forget_copies_of_gone(&self) -> Result<()> {
        let Some(notes) = self.notes() else { return Ok(()) };
        for file in entries(notes.as_fd(), &self.memory.path.join("copied"))? {
            if file.parse().is_ok_and(|name| !self.has(name)) {
                let _ = fs::unlinkat(&notes, &file, AtFlags::empty());
            }
        }
        Ok(())
    }
}
