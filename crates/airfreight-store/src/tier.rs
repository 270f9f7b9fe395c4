//! One directory of objects: the store's own in shared memory, or its folder on the spill disk.

use std::ffi::CStr;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use airfreight_core::ObjectName;
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use smallvec::SmallVec;

use crate::error::{Result, StoreError};

/// The mode of a sealed object: nobody writes it, its owner included.
pub(crate) const SEALED: Mode = Mode::RUSR;
/// The mode of a file that a writer of ours may open again.
pub(crate) const OURS: Mode = Mode::RUSR.union(Mode::WUSR);
const DIR_MODE: Mode = Mode::RWXU;
const OPEN_DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Which kind of place an object lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierKind {
    /// Shared memory (tmpfs).
    Memory,
    /// The store itself is a directory on disk.
    Disk,
    /// The spill directory.
    Spill,
}

impl TierKind {
    /// The tier's name as Python and the command line show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Spill => "spill",
        }
    }
}

/// The name of an object's file, on the stack: a process that was just forked pays for each page that it allocates
/// from.
pub(crate) fn file_name(name: ObjectName) -> FileName {
    let mut file = FileName::new();
    // Writing to memory can't fail.
    let _ = write!(file, "{name}");
    file
}

/// Longer than any name of an object.
pub(crate) type FileName = SmallVec<[u8; 64]>;

/// An open directory with `objects/` and `tmp/`.
pub(crate) struct Tier {
    pub(crate) kind: TierKind,
    pub(crate) path: PathBuf,
    pub(crate) root: OwnedFd,
    pub(crate) objects: OwnedFd,
    pub(crate) tmp: OwnedFd,
}

impl Tier {
    pub(crate) fn open(kind: TierKind, path: PathBuf, root: OwnedFd) -> Result<Self> {
        let objects = private_subdir(&root, &path, c"objects")?;
        let tmp = private_subdir(&root, &path, c"tmp")?;
        Ok(Self { kind, path, root, objects, tmp })
    }

    /// For messages.
    pub(crate) fn object_path(&self, name: ObjectName) -> PathBuf {
        self.path.join("objects").join(name.to_string())
    }

    /// Gives a temporary file its name among the objects, replacing nothing.
    pub(crate) fn publish(&self, temp: &str, name: ObjectName) -> Result<()> {
        let file = file_name(name);
        let done = fs::renameat_with(&self.tmp, temp, &self.objects, &*file, RenameFlags::NOREPLACE);
        match done {
            // Some network file systems know no flags for rename; a hard link doesn't replace either.
            Err(Errno::INVAL | Errno::NOSYS) => fs::linkat(&self.tmp, temp, &self.objects, &*file, AtFlags::empty())
                .and_then(|()| fs::unlinkat(&self.tmp, temp, AtFlags::empty())),
            other => other,
        }
        .map_err(|errno| self.io("publish", self.object_path(name))(errno))
    }

    /// An error on a path of this tier; says so when the whole directory is gone.
    pub(crate) fn io(&self, action: &'static str, path: PathBuf) -> impl FnOnce(Errno) -> StoreError {
        move |errno| {
            if errno == Errno::NOENT && self.is_removed() {
                return StoreError::Removed { path: self.path.clone() };
            }
            StoreError::io(action, path)(errno)
        }
    }

    /// Whether this process holds a directory that others no longer find.
    pub(crate) fn is_removed(&self) -> bool {
        let gone = |dir: &OwnedFd| fs::fstat(dir).is_ok_and(|stat| stat.st_nlink == 0);
        gone(&self.root) || gone(&self.objects) || gone(&self.tmp)
    }
}

/// Opens the directory at `path`, making it (0700) where `create` says so, and refuses one that others can write.
pub(crate) fn open_root(path: &Path, create: bool) -> Result<OwnedFd> {
    let root = match fs::open(path, OPEN_DIR, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) if !create => return Err(StoreError::Missing { path: path.to_owned() }),
        Err(Errno::NOENT) => {
            if let Some(parent) = path.parent() {
                fs_err::create_dir_all(parent).map_err(|source| StoreError::Io {
                    action: "create",
                    path: parent.to_owned(),
                    source,
                })?;
            }
            make_dir(|| fs::mkdir(path, DIR_MODE)).map_err(StoreError::io("create", path))?;
            fs::open(path, OPEN_DIR, Mode::empty()).map_err(StoreError::io("open", path))?
        }
        Err(Errno::LOOP | Errno::NOTDIR) => {
            return Err(StoreError::Foreign { path: path.to_owned(), found: "not a directory, or a link".into() });
        }
        Err(errno) => return Err(StoreError::io("open", path)(errno)),
    };
    let stat = fs::fstat(&root).map_err(StoreError::io("examine", path))?;
    // An empty directory that an operator made for us is tightened; one that holds something is not touched.
    if is_ours(&stat) && is_open_to_others(&stat) && create && is_empty(&root) {
        fs::fchmod(&root, DIR_MODE).map_err(StoreError::io("make private", path))?;
        return Ok(root);
    }
    check_private(&stat, path)?;
    Ok(root)
}

pub(crate) fn private_subdir(root: &OwnedFd, path: &Path, name: &CStr) -> Result<OwnedFd> {
    let full = || path.join(name.to_string_lossy().as_ref());
    let dir = match fs::openat(root, name, OPEN_DIR, Mode::empty()) {
        Err(Errno::NOENT) => {
            make_dir(|| fs::mkdirat(root, name, DIR_MODE)).map_err(StoreError::io("create", full()))?;
            fs::openat(root, name, OPEN_DIR, Mode::empty())
        }
        other => other,
    }
    .map_err(StoreError::io("open", full()))?;
    let stat = fs::fstat(&dir).map_err(StoreError::io("examine", full()))?;
    check_private(&stat, &full())?;
    Ok(dir)
}

/// Another process may make the same directory at the same time.
fn make_dir(make: impl FnOnce() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    match make() {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn is_ours(stat: &Stat) -> bool {
    stat.st_uid == rustix::process::geteuid().as_raw()
}

fn is_open_to_others(stat: &Stat) -> bool {
    Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG.union(Mode::RWXO))
}

fn check_private(stat: &Stat, path: &Path) -> Result<()> {
    if is_ours(stat) && !is_open_to_others(stat) {
        return Ok(());
    }
    let found = format!("owner {}, mode {:o}", stat.st_uid, stat.st_mode & 0o7777);
    Err(StoreError::Foreign { path: path.to_owned(), found })
}

/// Whether a file is a sealed object of this user.
pub(crate) fn is_sealed(stat: &Stat) -> bool {
    is_ours(stat)
        && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && Mode::from_raw_mode(stat.st_mode) == SEALED
}

fn is_empty(dir: &OwnedFd) -> bool {
    entries(dir.as_fd(), Path::new("")).is_ok_and(|entries| entries.is_empty())
}

/// The names in a directory, without `.` and `..`.
pub(crate) fn entries(dir: BorrowedFd<'_>, path: &Path) -> Result<Vec<String>> {
    let listing = Dir::read_from(dir).map_err(StoreError::io("list", path))?;
    let mut names = Vec::new();
    for entry in listing {
        let entry = match entry {
            Ok(entry) => entry,
            // A directory that was removed while open lists as gone, which is empty.
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(StoreError::io("list", path)(errno)),
        };
        if let Ok(name) = entry.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// What an object takes of a file system that deals in pages.
pub(crate) fn footprint(bytes: u64) -> u64 {
    bytes.next_multiple_of(4096)
}

/// Fresh random bits from the kernel.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| StoreError::Internal("the kernel gives no random numbers"))?;
    Ok(bytes)
}

/// Nanoseconds since 1970 by this host's clock.
pub(crate) fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// A file's last use, in nanoseconds since 1970. A time ahead of the clock (which jumped back) counts as now.
pub(crate) fn used_ns(stat: &Stat) -> i64 {
    let nsec = i64::try_from(stat.st_atime_nsec).unwrap_or(0);
    stat.st_atime.saturating_mul(1_000_000_000).saturating_add(nsec).min(now_ns())
}
