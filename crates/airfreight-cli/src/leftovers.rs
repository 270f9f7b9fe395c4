//! Unfinished files that no living process holds.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use airfreight_store::Store;

/// A writer creates its file and locks it within microseconds; this leaves room for a process that was stopped between.
const YOUNG: Duration = Duration::from_secs(10);

/// Files and bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// What dead writers left in a store and on its spill disk.
pub(crate) fn of(store: &Store) -> Leftovers {
    let spilled = store.spill_path().join(store.id());
    [store.path(), &spilled]
        .iter()
        .map(|tier| find(&tier.join("tmp")))
        .fold(Leftovers::default(), |sum, one| Leftovers { files: sum.files + one.files, bytes: sum.bytes + one.bytes })
}

/// What dead writers left in `directory` (a tier's `tmp/`).
///
/// Writers hold a lock for as long as they live. Taking it would tell for sure, but could get into a living writer's
/// way, so the kernel's list of locks is read instead. Locks of processes in other containers are not in it: what this
/// finds is a reason to run `gc`, which does take the lock, and no proof.
fn find(directory: &Path) -> Leftovers {
    let locked = locked_inodes(&fs_err::read_to_string("/proc/locks").unwrap_or_default());
    let mut leftovers = Leftovers::default();
    for entry in fs_err::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if metadata.is_file() && !locked.contains(&metadata.ino()) && age.is_some_and(|age| age > YOUNG) {
            leftovers.files += 1;
            leftovers.bytes += metadata.blocks() * 512;
        }
    }
    leftovers
}

/// From lines such as `1: FLOCK  ADVISORY  READ 4711 00:1a:42 0 EOF`.
fn locked_inodes(locks: &str) -> HashSet<u64> {
    let inode = |line: &str| {
        line.split_whitespace().find(|word| word.matches(':').count() == 2)?.rsplit(':').next()?.parse().ok()
    };
    locks.lines().filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FlockOperation, Timespec, Timestamps, flock, futimens};

    use super::*;

    #[test]
    fn a_file_that_nobody_holds_is_left_over_once_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let held = fs_err::File::create(folder.path().join("held")).unwrap();
        let dropped = fs_err::File::create(folder.path().join("dropped")).unwrap();
        flock(&held, FlockOperation::LockShared).unwrap();
        assert_eq!(find(folder.path()), Leftovers::default(), "both are young");

        let long_ago = Timespec { tv_sec: 1_000_000, tv_nsec: 0 };
        for file in [&held, &dropped] {
            futimens(file, &Timestamps { last_access: long_ago, last_modification: long_ago }).unwrap();
        }
        assert_eq!(find(folder.path()).files, 1);
        assert_eq!(find(Path::new("/nonexistent")), Leftovers::default());
    }
}
