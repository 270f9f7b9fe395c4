//! Objects written into the files of deleted ones hold nothing but what was written.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::os::unix::fs::MetadataExt;

use airfreight_store::{Access, Options, Store, TierKind};

fn store(folder: &tempfile::TempDir) -> Store {
    let options = Options {
        path: Some(folder.path().join("store")),
        capacity_bytes: Some(64 << 20),
        spill_capacity_bytes: Some(0),
        ..Options::default()
    };
    Store::open(&options).unwrap()
}

fn inode(store: &Store, name: airfreight_core::ObjectName) -> u64 {
    fs_err::metadata(store.path().join("objects").join(name.to_string())).unwrap().ino()
}

#[test]
fn empty_parts_between_others_do_not_end_the_copy() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = store(&folder);
    assert_eq!(store.kind(), TierKind::Memory);
    let filler = vec![0xff; 1 << 20];
    let (half, quarter) = (vec![1; 1 << 19], vec![2; 1 << 18]);
    for stream in [&b""[..], b"stream"] {
        let former = store.create().unwrap().seal(&[&filler], "{}").unwrap();
        let segment = inode(&store, former);
        assert!(store.delete(former).unwrap());

        let mut writer = store.create().unwrap();
        writer.write(stream).unwrap();
        let name = writer.seal(&[&half, b"", &quarter, b"", b"end"], "{}").unwrap();
        assert_eq!(inode(&store, name), segment, "this test is about recycled files");
        let object = store.get(name, Access::ReadOnly).unwrap();
        assert_eq!(object.stream(), stream);
        for (index, expected) in [&half[..], b"", &quarter, b"", b"end"].into_iter().enumerate() {
            assert!(object.buffer(index) == Some(expected), "buffer {index} holds something else");
        }
        store.delete(name).unwrap();
    }
}

#[test]
fn an_object_does_not_inherit_the_age_of_the_one_before() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = store(&folder);
    let former = store.create().unwrap().seal(&[&vec![1; 1 << 20]], "{}").unwrap();
    let segment = inode(&store, former);
    store.expire(former, 0.0).unwrap();
    assert_eq!(store.collect().unwrap().expired, 1);

    let name = store.create().unwrap().seal(&[&vec![2; 1 << 20]], "{}").unwrap();
    assert_eq!(inode(&store, name), segment, "the file was reused");
    assert_eq!(store.collect().unwrap().expired, 0);
    assert!(store.contains(name));
}
