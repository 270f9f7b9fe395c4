//! What can go wrong with objects on this host.

use std::io;
use std::path::PathBuf;

use airfreight_core::format::FormatError;
use airfreight_core::{ErrorKind, InvalidName, ObjectName};
use rustix::io::Errno;

/// Why a store can't do what was asked. Branch on [`StoreError::kind`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No tier of this store has the object.
    #[error("object {name} is not in the store `{}`", store.display())]
    NotFound {
        /// What was asked for.
        name: ObjectName,
        /// Where it was looked for.
        store: PathBuf,
    },
    /// Neither memory nor the spill directory has room.
    #[error(
        "no room for {needed_bytes} bytes in the store `{}`: {used_bytes} of {capacity_bytes} bytes are in use, \
         {pinned_bytes} of them pinned by readers{holders}; spilling: {spill}", store.display()
    )]
    Full {
        /// The store's directory.
        store: PathBuf,
        /// What the new object takes.
        needed_bytes: u64,
        /// What objects and warm segments take.
        used_bytes: u64,
        /// The store's limit.
        capacity_bytes: u64,
        /// What readers hold, so that evicting it would free nothing.
        pinned_bytes: u64,
        /// Which processes hold it, as far as this host tells.
        holders: String,
        /// Why nothing could be moved to the spill directory.
        spill: String,
    },
    /// A file that another user owns or that others may write: reading it could run somebody's code.
    #[error("`{}` is not private to this user: {found}", path.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// Owner and mode that were found.
        found: String,
    },
    /// A file in the store is not a whole object.
    #[error("object {name} in `{}` is damaged", store.display())]
    Corrupt {
        /// Which object.
        name: ObjectName,
        /// Where it lies.
        store: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// Bytes that arrived from elsewhere are not the object they should be. Nothing of them was kept.
    #[error("object {name} arrived damaged")]
    Damaged {
        /// Which object.
        name: ObjectName,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The object can't be laid out.
    #[error("the object cannot be written")]
    Unwritable {
        /// Why.
        source: FormatError,
    },
    /// The text is no object's name.
    #[error("cannot look an object up")]
    Name {
        /// Why.
        #[from]
        source: InvalidName,
    },
    /// The store's directory was removed or replaced while this process had it open.
    #[error("the store `{}` was removed while it was open", path.display())]
    Removed {
        /// Where it was.
        path: PathBuf,
    },
    /// There is no store, and making one was not asked for.
    #[error("there is no store at `{}`", path.display())]
    Missing {
        /// Where one was looked for.
        path: PathBuf,
    },
    /// A setting of the store makes no sense.
    #[error("the store cannot be opened: {reason}")]
    Options {
        /// Which setting, and why.
        reason: String,
    },
    /// A file is locked for longer than any step of ours takes.
    #[error("object {name} has been locked for {waited_ms} ms by a process that makes no progress")]
    Stuck {
        /// Which object.
        name: ObjectName,
        /// How long was waited.
        waited_ms: u128,
    },
    /// The ledger is locked for longer than counting takes.
    #[error("`{}` has been locked for {waited_ms} ms by a process that makes no progress", path.display())]
    Blocked {
        /// The ledger.
        path: PathBuf,
        /// How long was waited.
        waited_ms: u128,
    },
    /// The operating system refused.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The store's own rules were broken: our bug.
    #[error("{0}")]
    Internal(&'static str),
}

impl StoreError {
    /// What the caller should do next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::Missing { .. } => ErrorKind::NotFound,
            Self::Full { .. } => ErrorKind::Full,
            Self::Foreign { .. } => ErrorKind::Denied,
            Self::Corrupt { .. } | Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::Unwritable { .. } | Self::Name { .. } | Self::Options { .. } => ErrorKind::Invalid,
            Self::Removed { .. } => ErrorKind::Unavailable,
            Self::Stuck { .. } | Self::Blocked { .. } => ErrorKind::Conflict,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => {
                    ErrorKind::Full
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// What to try, where something can be tried.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Full { .. } => {
                "raise `capacity_bytes` or `spill_capacity_bytes`, free space in the spill directory, \
                or let the tasks that hold large values end; `airfreight store ls` shows what is stored"
                    .into()
            }
            Self::Foreign { path, .. } => format!(
                "if it is yours, `chmod 700 {0}`; else set `store_path` to a directory of this user's own",
                path.display()
            ),
            Self::Corrupt { .. } => "clear the task that returned the value, so that it is made again".into(),
            Self::Damaged { .. } => {
                "run the task again: it asks for another copy; if that is damaged, too, clear the task that returned \
                the value"
                    .into()
            }
            Self::Removed { .. } => {
                "run the task again: a new store is made; values that were in the old one are lost, \
                so clear the tasks that returned them"
                    .into()
            }
            Self::Missing { .. } => {
                "it is made when the first value is stored; check `store_path` if there should be one".into()
            }
            Self::Stuck { .. } | Self::Blocked { .. } => {
                "look for a stopped process (state T) of this user and continue or kill it".into()
            }
            Self::Io { path, source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    format!("check the owner and mode of `{}`, or set `store_path` and `spill_path`", path.display())
                }
                _ if source.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                    "each large value that is held takes one; hold fewer, or raise the limit with `ulimit -n`".into()
                }
                io::ErrorKind::StorageFull => {
                    "free space on that file system, or set `store_path` and `spill_path` to larger ones".into()
                }
                _ => return None,
            },
            _ => return None,
        })
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.into();
        move |errno| Self::Io { action, path, source: errno.into() }
    }

    /// Whether the file system under a tier had no room, whatever our own limits say.
    pub(crate) fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { .. } if self.kind() == ErrorKind::Full)
    }
}

pub(crate) type Result<T, E = StoreError> = std::result::Result<T, E>;
