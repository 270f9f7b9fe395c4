//! What a user is told when there is no room: who holds what, and why the spill disk didn't help.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use airfreight_core::ErrorKind;
use airfreight_store::{Access, Object, Options, Store, StoreError};

const MIB: usize = 1 << 20;

/// A store of 10 MiB with two objects of 4 MiB that this process reads.
fn held(folder: &tempfile::TempDir, spill_capacity_bytes: u64) -> (Store, [Object; 2]) {
    let options = Options {
        path: Some(folder.path().join("store")),
        capacity_bytes: Some(10 << 20),
        spill_path: Some(folder.path().join("spill")),
        spill_capacity_bytes: Some(spill_capacity_bytes),
        ..Options::default()
    };
    let store = Store::open(&options).unwrap();
    let objects = [0, 1].map(|fill| {
        let name = store.create().unwrap().seal(&[&vec![fill; 4 * MIB]], "{}").unwrap();
        store.get(name, Access::ReadOnly).unwrap()
    });
    (store, objects)
}

fn refused(store: &Store, bytes: usize) -> (StoreError, String) {
    let error = store.create().unwrap().seal(&[&vec![9; bytes]], "{}").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.hint().is_some());
    let text = error.to_string();
    (error, text)
}

#[test]
fn without_spilling_the_holders_are_named() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let (store, _objects) = held(&folder, 0);
    let (error, text) = refused(&store, 4 * MIB);
    let StoreError::Full { pinned_bytes, .. } = error else { panic!("{error}") };
    assert!(pinned_bytes >= 8 << 20, "{text}");
    assert!(text.contains(&std::process::id().to_string()), "{text}");
    assert!(text.contains("turned off"), "{text}");
}

#[test]
fn with_a_small_spill_disk_both_reasons_are_told() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let (store, _objects) = held(&folder, 1 << 20);
    let (error, text) = refused(&store, 4 * MIB);
    let StoreError::Full { pinned_bytes, .. } = error else { panic!("{error}") };
    assert!(pinned_bytes >= 8 << 20, "{text}");
    assert!(text.contains("larger than that may ever get") && text.contains("of 1048576 bytes"), "{text}");
}

#[test]
fn once_nobody_holds_them_there_is_room() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let (store, objects) = held(&folder, 64 << 20);
    drop(objects);
    let name = store.create().unwrap().seal(&[&vec![9; 4 * MIB]], "{}").unwrap();
    assert_eq!(store.get(name, Access::ReadOnly).unwrap().buffer(0).unwrap(), vec![9; 4 * MIB]);
    let stat = store.stat().unwrap();
    assert!(stat.spilled_objects >= 1 && stat.used_bytes <= 10 << 20, "{stat:?}");
}
