//! Where a store lies when nobody says so.

use std::path::{Path, PathBuf};

use rustix::fs::{StatFs, statfs};

/// The kernel's number for tmpfs, from `statfs(2)`.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Shared memory below this is of no use for values: Docker and Kubernetes give containers 64 MiB.
pub const SHARED_MEMORY_BYTES_MIN: u64 = 256 << 20;

/// A directory for a store, and why it is not in shared memory where it isn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The store's directory; it may not exist yet.
    pub path: PathBuf,
    /// What is slower than it could be, and how to mend it.
    pub notice: Option<String>,
}

impl Location {
    /// `/dev/shm/airfreight-<uid>`, or a directory on disk where shared memory is missing or small.
    #[must_use]
    pub fn find() -> Self {
        Self::find_in(Path::new("/dev/shm"), Path::new("/var/tmp"))
    }

    fn find_in(shared_memory: &Path, disk: &Path) -> Self {
        let name = format!("airfreight-{}", rustix::process::geteuid().as_raw());
        let writable = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
        let reason = match statfs(shared_memory) {
            Err(error) => format!("`{}` cannot be used ({error})", shared_memory.display()),
            Ok(stat) if !is_tmpfs(&stat) => format!("`{}` is not shared memory (tmpfs)", shared_memory.display()),
            Ok(stat) if total_bytes(&stat) < SHARED_MEMORY_BYTES_MIN => {
                format!("`{}` has only {} MiB", shared_memory.display(), total_bytes(&stat) >> 20)
            }
            Ok(_) if !writable(shared_memory) => format!("`{}` is not writable", shared_memory.display()),
            Ok(_) => return Self { path: shared_memory.join(name), notice: None },
        };
        let disk = if writable(disk) { disk.to_owned() } else { std::env::temp_dir() };
        let path = disk.join(name);
        let notice = format!(
            "values are kept on disk in `{}` because {reason}; for shared memory start the container with \
             `--shm-size=4g` (Docker), mount an emptyDir with `medium: Memory` at /dev/shm (Kubernetes), or set \
             `store_path`",
            path.display()
        );
        Self { path, notice: Some(notice) }
    }
}

/// Where objects go that memory has no room for: on disk, per user.
#[must_use]
pub fn default_spill_path() -> PathBuf {
    let name = format!("airfreight-{}-spill", rustix::process::geteuid().as_raw());
    let disk = Path::new("/var/tmp");
    if rustix::fs::access(disk, rustix::fs::Access::WRITE_OK).is_ok() {
        disk.join(name)
    } else {
        std::env::temp_dir().join(name)
    }
}

/// The `huge=` option of the mount that holds `path`, such as `within_size`; `None` where there is none.
#[must_use]
pub fn huge_pages(path: &Path) -> Option<String> {
    let path = fs_err::canonicalize(path).ok()?;
    let mounts = fs_err::read_to_string("/proc/self/mounts").ok()?;
    // device, mount point, type, options; the longest mount point that is a prefix holds the path.
    let (_, options) = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let point = Path::new(fields.next()?);
            path.starts_with(point).then_some((point.components().count(), fields.nth(1)?))
        })
        .max_by_key(|&(depth, _)| depth)?;
    options.split(',').find_map(|option| option.strip_prefix("huge=")).map(str::to_owned)
}

/// Whether the kernel gives a process huge pages in any tmpfs when it asks for them, as writing a large object does.
#[must_use]
pub fn huge_pages_on_request() -> bool {
    let Ok(setting) = fs_err::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled") else { return false };
    let system = rustix::system::uname();
    let mut numbers = system.release().to_str().unwrap_or_default().split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|digits| digits.parse::<u32>().ok()).unwrap_or(0);
    // `MADV_COLLAPSE` came with 6.1.
    (number(), number()) >= (6, 1) && !setting.contains("[deny]")
}

pub(crate) fn is_tmpfs(stat: &StatFs) -> bool {
    u64::try_from(stat.f_type).is_ok_and(|kind| kind == TMPFS_MAGIC)
}

pub(crate) fn total_bytes(stat: &StatFs) -> u64 {
    u64::try_from(stat.f_bsize).unwrap_or(0).saturating_mul(stat.f_blocks)
}

pub(crate) fn available_bytes(stat: &StatFs) -> u64 {
    u64::try_from(stat.f_bsize).unwrap_or(0).saturating_mul(stat.f_bavail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tmpfs_the_disk_is_taken_and_the_reason_given() {
        let disk = tempfile::tempdir_in("/var/tmp").unwrap();
        let location = Location::find_in(Path::new("/proc"), disk.path());
        assert!(location.path.starts_with(disk.path()));
        let notice = location.notice.unwrap();
        assert!(notice.contains("`/proc` is not shared memory") && notice.contains("--shm-size"), "{notice}");

        let location = Location::find_in(Path::new("/nonexistent"), disk.path());
        assert!(location.notice.unwrap().contains("`/nonexistent` cannot be used"));
    }
}
