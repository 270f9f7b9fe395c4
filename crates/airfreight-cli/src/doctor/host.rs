//! The host or container: shared memory, huge pages, memory limits.

use std::path::{Path, PathBuf};

use airfreight_store::{SHARED_MEMORY_BYTES_MIN, huge_pages, huge_pages_on_request};
use rustix::fs::statfs;

use super::Check;
use crate::output::size;

/// The kernel's numbers for file systems that live in memory, from `statfs(2)`.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// A file system's size and what is free of it for this user; `None` where it can't be asked.
pub(super) struct Space {
    pub(super) total_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) in_memory: bool,
}

/// About the file system that holds `path`, or would if it were made.
pub(super) fn space(path: &Path) -> Option<Space> {
    let stat = path.ancestors().find_map(|path| statfs(path).ok())?;
    let block = u64::try_from(stat.f_bsize).ok()?;
    Some(Space {
        total_bytes: block.saturating_mul(stat.f_blocks),
        free_bytes: block.saturating_mul(stat.f_bavail),
        in_memory: u64::try_from(stat.f_type).is_ok_and(|kind| IN_MEMORY.contains(&kind)),
    })
}

pub(super) fn shared_memory() -> Check {
    judge_shared_memory(Path::new("/dev/shm"), space(Path::new("/dev/shm")).as_ref())
}

fn judge_shared_memory(path: &Path, space: Option<&Space>) -> Check {
    const NAME: &str = "shared memory";
    const MEND: &str = "Docker: `--shm-size=4g`; Compose: `shm_size: 4gb`; Kubernetes: mount an emptyDir with `medium: \
                        Memory` and a sizeLimit at /dev/shm";
    let path = path.display();
    match space {
        Some(space) if space.in_memory && space.total_bytes >= SHARED_MEMORY_BYTES_MIN => {
            Check::ok(NAME, format!("{path}: {} free of {}", size(space.free_bytes), size(space.total_bytes)))
        }
        Some(space) if space.in_memory => {
            Check::warn(NAME, format!("{path} has only {}, so values are kept on disk", size(space.total_bytes)), MEND)
        }
        _ => Check::warn(NAME, format!("{path} is not in memory, so values are kept on disk"), MEND),
    }
}

/// The store's mount: with huge pages, large values are written and read several times as fast.
pub(super) fn huge(path: &Path) -> Check {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    judge_huge(huge_pages(existing).as_deref(), huge_pages_on_request())
}

fn judge_huge(mount: Option<&str>, on_request: bool) -> Check {
    const NAME: &str = "huge pages";
    match mount {
        Some("within_size") => Check::ok(NAME, "huge=within_size"),
        Some("always") => Check::warn(
            NAME,
            "huge=always: even the smallest value takes 2 MiB, of which the store counts 4 KiB",
            "mount it with `huge=within_size`",
        ),
        _ if on_request => Check::ok(NAME, "asked for by each large value"),
        _ => Check::ok(NAME, "off for the store's mount")
            .tip("large values are written faster after `mount -o remount,huge=within_size /dev/shm` (as root)"),
    }
}

/// Stored objects count as memory of the cgroup whose task wrote them.
pub(super) fn memory_limit(capacity_bytes: u64) -> Option<Check> {
    let limit_bytes = cgroup_limit(Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup"))?;
    Some(judge_memory_limit(limit_bytes, capacity_bytes))
}

fn judge_memory_limit(limit_bytes: u64, capacity_bytes: u64) -> Check {
    const NAME: &str = "memory limit";
    let found =
        format!("{} for this container or service; the store may grow to {}", size(limit_bytes), size(capacity_bytes));
    if capacity_bytes.saturating_mul(4) > limit_bytes.saturating_mul(3) {
        Check::warn(
            NAME,
            found,
            "objects in shared memory count towards it, and over it the kernel kills tasks: set [airfreight] \
             capacity_bytes to half of the limit or less, or raise the limit",
        )
    } else {
        Check::ok(NAME, found)
    }
}

/// The smallest memory limit of this process's cgroup and those above it.
fn cgroup_limit(root: &Path, own: &Path) -> Option<u64> {
    let own = fs_err::read_to_string(own).ok()?;
    // `0::/path` is version 2, `5:memory:/path` version 1.
    let (base, path, file) = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        match (fields.next()?, fields.next()?) {
            ("", path) => Some((root.to_owned(), path, "memory.max")),
            (kinds, path) if kinds.split(',').any(|kind| kind == "memory") => {
                Some((root.join("memory"), path, "memory.limit_in_bytes"))
            }
            _ => None,
        }
    })?;
    let limit = |directory: PathBuf| fs_err::read_to_string(directory.join(file)).ok()?.trim().parse::<u64>().ok();
    // In a container the path may be that of the host, which is not there.
    let limits =
        Path::new(path).ancestors().filter_map(|path| limit(base.join(path.strip_prefix("/").unwrap_or(path))));
    // Version 1 writes "no limit" as a number that no machine has.
    limits.filter(|limit| *limit < 1 << 60).min()
}

/// Under strict overcommit a private mapping of a large object may be refused.
pub(super) fn overcommit(mapping: Option<&str>) -> Option<Check> {
    let mode = fs_err::read_to_string("/proc/sys/vm/overcommit_memory").ok()?;
    (mode.trim() == "2" && mapping != Some("readonly")).then(|| {
        Check::warn(
            "overcommit",
            "vm.overcommit_memory is 2: a private mapping counts in full, so reading large values may be refused",
            "set [airfreight] mapping = readonly, or vm.overcommit_memory to 0",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn docker_s_64_mib_are_told_with_the_way_out() {
        let judge = |total_bytes, in_memory| {
            judge_shared_memory(Path::new("/dev/shm"), Some(&Space { total_bytes, free_bytes: 0, in_memory }))
        };
        let small = judge(64 << 20, true);
        assert_eq!(small.level, Level::Warn);
        assert!(small.found.contains("64.0 MiB") && small.mend.unwrap().contains("--shm-size"));
        assert_eq!(judge(4 << 30, true).level, Level::Ok);
        assert_eq!(judge(4 << 30, false).level, Level::Warn);
        assert_eq!(judge_shared_memory(Path::new("/dev/shm"), None).level, Level::Warn);
    }

    #[test]
    fn huge_pages_are_fine_unless_every_value_takes_one() {
        for (mount, on_request) in [(Some("within_size"), false), (None, true), (Some("advise"), true), (None, false)] {
            assert_eq!(judge_huge(mount, on_request).level, Level::Ok);
        }
        assert!(judge_huge(None, true).mend.is_none());
        assert!(judge_huge(None, false).mend.unwrap().contains("huge=within_size"));
        let always = judge_huge(Some("always"), true);
        assert_eq!(always.level, Level::Warn);
        assert!(always.mend.unwrap().contains("huge=within_size"));
    }

    #[test]
    fn a_store_that_may_outgrow_the_container_is_told() {
        assert_eq!(judge_memory_limit(4 << 30, 2 << 30).level, Level::Ok);
        assert_eq!(judge_memory_limit(4 << 30, 12 << 30).level, Level::Warn);
    }

    #[test]
    fn the_tightest_limit_above_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs_err::create_dir_all(root.join("a/b")).unwrap();
        fs_err::create_dir_all(root.join("memory/c")).unwrap();
        fs_err::write(root.join("a/memory.max"), "2048\n").unwrap();
        fs_err::write(root.join("a/b/memory.max"), "max\n").unwrap();
        fs_err::write(root.join("memory/c/memory.limit_in_bytes"), "4096\n").unwrap();
        fs_err::write(root.join("memory/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        let own = root.join("own");

        let limit = |text: &str| {
            fs_err::write(&own, text).unwrap();
            cgroup_limit(root, &own)
        };
        assert_eq!(limit("0::/a/b\n"), Some(2048));
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit("0::/not/here\n"), None);
        assert_eq!(limit("3:cpu,cpuacct:/\n2:memory:/c\n"), Some(4096));
    }
}
