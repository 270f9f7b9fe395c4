//! An object's file as bytes: without a copy where it lies in memory, and the same bytes however it is read.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use airfreight_store::{ObjectFile, Options, Store, TierKind};

fn read(file: &ObjectFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.file_bytes()).unwrap()];
    file.read(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn a_file_in_memory_is_had_without_a_copy_and_outlives_its_name() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let options = Options { path: Some(folder.path().join("store")), ..Options::default() };
    let store = Store::open(&options).unwrap();
    for bytes in [0, 1000, 5 << 20] {
        let content = vec![7; bytes];
        let mut writer = store.create().unwrap();
        writer.write(b"the stream").unwrap();
        let name = writer.seal(&[&content], "{}").unwrap();
        let file = store.file(name).unwrap();
        let expected = read(&file);
        store.delete(name).unwrap();
        // Nothing that comes now may take its pages.
        let mut other = store.create().unwrap();
        other.write(&vec![9; bytes + 10]).unwrap();
        other.seal(&[], "{}").unwrap();
        assert!(file.in_memory().unwrap() == expected, "an object of {bytes} bytes");
    }
}

#[test]
fn a_file_on_a_disk_or_with_another_header_is_read() {
    let (folder, disk) = (tempfile::tempdir_in("/dev/shm").unwrap(), tempfile::tempdir().unwrap());
    let options = Options {
        path: Some(folder.path().join("store")),
        capacity_bytes: Some(8 << 20),
        spill_path: Some(disk.path().join("spill")),
        spill_capacity_bytes: Some(64 << 20),
        ..Options::default()
    };
    let store = Store::open(&options).unwrap();
    let put = |bytes| {
        let mut writer = store.create().unwrap();
        writer.write(b"the stream").unwrap();
        writer.seal(&[&vec![7; bytes]], "{}").unwrap()
    };
    let file = store.file(put(5 << 20)).unwrap();
    assert!(file.in_memory().is_some());
    assert!(file.with_checksum().unwrap().in_memory().is_none(), "the header in memory lacks the checksum");

    let spilled = put(12 << 20);
    assert_eq!(store.describe(spilled).unwrap().kind, TierKind::Spill);
    let file = store.file(spilled).unwrap();
    assert!(file.in_memory().is_none());
    assert_eq!(read(&file)[(6 << 20)..][..3], [7, 7, 7]);
}
