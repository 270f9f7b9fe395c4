//! Faults of the system around a store, each in a process of its own that tells what it found.

use std::io;
use std::path::Path;

use airfreight_core::ErrorKind;
use airfreight_store::{Access, Options, Store, StoreError, TierKind};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Uid, geteuid, setuid};

use crate::{Sample, Scratch, fork};

const MIB: u64 = 1 << 20;

/// A fault by name. `Err` holds the reason why it can't be made here.
pub type Fault = fn(&Scratch) -> Result<(), String>;

/// All faults.
pub const FAULTS: &[(&str, Fault)] = &[
    ("full-memory", full_memory),
    ("full-memory-spills", full_memory_spills),
    ("full-spill-disk", full_spill_disk),
    ("no-permission", no_permission),
    ("no-descriptors", no_descriptors),
    ("no-address-space", no_address_space),
    ("fork", forked),
];

/// Mounts a file system of this size that only this process sees.
fn small_tmpfs(path: &Path, bytes: u64) -> Result<(), String> {
    let made = || -> io::Result<()> {
        if geteuid().is_root() {
            unshare(CloneFlags::CLONE_NEWNS)?;
        } else {
            let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
            fs_err::write("/proc/self/setgroups", "deny")?;
            fs_err::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
            fs_err::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
        }
        // Nothing of this is to be seen outside.
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)?;
        fs_err::create_dir_all(path)?;
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(format!("size={bytes},mode=700").as_str()))?;
        Ok(())
    };
    made().map_err(|error| format!("cannot mount a file system here: {error}"))
}

fn put(store: &Store, bytes: u64) -> Result<airfreight_core::ObjectName, StoreError> {
    Sample::new(bytes, usize::try_from(bytes).unwrap_or(0)).put(store)
}

fn assert_full(error: &StoreError, path: &Path) {
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("space")), "{error}: {:?}", error.hint());
}

/// Others filled the file system although the store's own limit has room.
fn full_memory(scratch: &Scratch) -> Result<(), String> {
    small_tmpfs(&scratch.store_path(), 4 * MIB)?;
    let store = scratch.open(64 * MIB).expect("a store");
    let kept = put(&store, MIB).expect("room");
    for bytes in [16 * MIB, 5 * MIB] {
        assert_full(&put(&store, bytes).expect_err("no room"), store.path());
        let stream = Sample { seed: 1, stream_bytes: usize::try_from(bytes).unwrap_or(0), buffers: vec![3] };
        assert_full(&stream.put(&store).expect_err("no room"), store.path());
    }
    // To the last page, then a small one.
    let mut small = Vec::new();
    let error = loop {
        match put(&store, 3000) {
            Ok(name) => small.push(name),
            Err(error) => break error,
        }
    };
    assert_full(&error, store.path());
    // Recycled segments must not be written where there are no pages.
    store.delete(kept).expect("deleted");
    put(&store, MIB).expect("room again");
    let _ = put(&store, MIB + MIB / 8).map_err(|error| assert_full(&error, store.path()));
    for name in small {
        Sample::new(3000, 3000).verify(&store.get(name, Access::ReadOnly).expect("there")).expect("whole");
    }
    assert_eq!(store.stat().expect("counted").unfinished, 0);
    Ok(())
}

fn full_memory_spills(scratch: &Scratch) -> Result<(), String> {
    small_tmpfs(&scratch.store_path(), 4 * MIB)?;
    let store = Store::open(&scratch.options_with_spill(64 * MIB, 256 * MIB)).expect("a store");
    let mut kinds = Vec::new();
    for round in 0..8 {
        let sample =
            Sample { seed: round, stream_bytes: 900_000 * usize::from(round % 2 == 0), buffers: vec![700_000] };
        let name = sample.put(&store).expect("room on the spill disk");
        let object = store.get(name, Access::ReadOnly).expect("there");
        sample.verify(&object).expect("whole");
        kinds.push(object.kind());
    }
    assert!(kinds.contains(&TierKind::Memory) && kinds.contains(&TierKind::Spill), "{kinds:?}");
    let stat = store.stat().expect("counted");
    assert_eq!(stat.unfinished, 0);
    Ok(())
}

fn full_spill_disk(scratch: &Scratch) -> Result<(), String> {
    small_tmpfs(&scratch.spill_path(), 3 * MIB)?;
    let store = Store::open(&scratch.options_with_spill(4 * MIB, 256 * MIB)).expect("a store");
    let mut names = Vec::new();
    let error = loop {
        match put(&store, MIB) {
            Ok(name) => names.push(name),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("space")), "{error}");
    assert!(names.len() >= 4, "memory and disk were used: {}", names.len());
    assert_full(&put(&store, 8 * MIB).expect_err("too long for both"), &scratch.spill_path());
    for name in &names {
        Sample::new(MIB, 1 << 20).verify(&store.get(*name, Access::ReadOnly).expect("there")).expect("whole");
    }
    assert_eq!(store.stat().expect("counted").unfinished, 0);
    store.delete(names[names.len() - 1]).expect("deleted");
    put(&store, MIB / 2).expect("room again");
    Ok(())
}

fn no_permission(scratch: &Scratch) -> Result<(), String> {
    if !geteuid().is_root() {
        return Err("only root can become somebody else".into());
    }
    let denied = |error: StoreError, path: &Path| {
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert!(error.hint().is_some(), "{error}");
    };
    let theirs = scratch.open(4 * MIB).expect("a store");
    let name = put(&theirs, 10).expect("room");
    // The way to the store is open, the store is not.
    let open = |mode| fs_err::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(mode));
    open(0o755).expect("mode");
    setuid(Uid::from_raw(65534)).expect("become nobody");
    denied(scratch.open(4 * MIB).err().expect("theirs"), &scratch.store_path());
    let beside = scratch.path().join("beside");
    denied(
        Store::open(&Options { path: Some(beside), ..scratch.options(4 * MIB) }).err().expect("no write"),
        scratch.path(),
    );
    // An open store of the former user: its files are not this user's.
    denied(theirs.get(name, Access::ReadOnly).err().expect("theirs"), theirs.path());
    Ok(())
}

fn no_descriptors(scratch: &Scratch) -> Result<(), String> {
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).map_err(|error| error.to_string())?;
    let store = scratch.open(64 * MIB).expect("a store");
    let name = put(&store, 100_000).expect("room");
    let mut held = Vec::new();
    let error = loop {
        match store.get(name, Access::ReadOnly) {
            Ok(object) => held.push(object),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(&name.to_string()), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("ulimit")), "{error}: {:?}", error.hint());
    assert!(put(&store, 10).is_err() && put(&store, MIB).is_err() && store.stat().is_err());
    held.truncate(10);
    put(&store, MIB).expect("a descriptor again");
    assert_eq!(store.stat().expect("counted").unfinished, 0);
    Ok(())
}

fn no_address_space(scratch: &Scratch) -> Result<(), String> {
    let store = scratch.open(2048 * MIB).expect("a store");
    let name = put(&store, 256 * MIB).expect("room");
    let limit = 600 * MIB;
    setrlimit(Resource::RLIMIT_AS, limit, limit).map_err(|error| error.to_string())?;
    let mut held = Vec::new();
    let error = loop {
        match store.get(name, Access::PrivateWritable) {
            Ok(object) => held.push(object),
            Err(error) => break error,
        }
    };
    assert!(!held.is_empty(), "{error}");
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(error.to_string().contains(&name.to_string()), "{error}");
    held.clear();
    store.get(name, Access::PrivateWritable).expect("room again");
    Ok(())
}

/// A store that was opened before `fork()` works in both processes at once.
fn forked(scratch: &Scratch) -> Result<(), String> {
    let store = Store::open(&scratch.options_with_spill(8 * MIB, 256 * MIB)).expect("a store");
    let before = put(&store, MIB).expect("room");
    let held = store.get(before, Access::PrivateWritable).expect("there");
    let busy = |salt: u64| {
        for round in 0..40 {
            let sample = Sample::new(salt + round, 1 << 20);
            let name = sample.put(&store).expect("room");
            sample.verify(&store.get(name, Access::ReadOnly).expect("there")).expect("whole");
            if round % 3 != 0 {
                assert!(store.delete(name).expect("deleted"));
            }
        }
        Sample::new(MIB, 1 << 20).verify(&held).expect("what was held before the fork is whole");
        true
    };
    let children: Vec<_> = (1..4).map(|child| fork(|| busy(child * 1000)).expect("a child")).collect();
    busy(0);
    children.into_iter().try_for_each(crate::Forked::wait)
}
