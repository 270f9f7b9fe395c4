//! Files that are cut, changed, swapped or foreign: an error that names the object, never a wrong value, a crash or a
//! hang.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use airfreight_core::{ErrorKind, ObjectId, ObjectName};
use airfreight_store::{Access, Options, Store, StoreError, TierKind};

struct Place {
    _folder: tempfile::TempDir,
    options: Options,
    store: Store,
}

fn place() -> Place {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let options = Options {
        path: Some(folder.path().join("store")),
        capacity_bytes: Some(4 << 20),
        spill_path: Some(folder.path().join("spill")),
        spill_capacity_bytes: Some(64 << 20),
        pool_bytes: Some(0),
        ..Options::default()
    };
    Place { store: Store::open(&options).unwrap(), options, _folder: folder }
}

impl Place {
    fn put(&self, bytes: usize) -> ObjectName {
        let mut writer = self.store.create().unwrap();
        writer.write(b"the stream").unwrap();
        writer.seal(&[&vec![7; bytes], b"", b"the end"], r#"{"type": "test"}"#).unwrap()
    }

    /// An object that is too long for memory.
    fn put_spilled(&self) -> ObjectName {
        let name = self.put(5 << 20);
        assert_eq!(self.store.get(name, Access::ReadOnly).unwrap().kind(), TierKind::Spill);
        name
    }

    fn file(&self, name: ObjectName) -> PathBuf {
        let spilled = self.store.spill_path().join(self.store.id()).join("objects").join(name.to_string());
        if spilled.exists() { spilled } else { self.store.path().join("objects").join(name.to_string()) }
    }

    fn errors(&self, name: ObjectName) -> [StoreError; 2] {
        [self.store.get(name, Access::ReadOnly).err().unwrap(), self.store.describe(name).err().unwrap()]
    }

    fn assert_corrupt(&self, name: ObjectName, scene: &str) {
        for error in self.errors(name) {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{scene}: {error}");
            assert!(error.to_string().contains(&name.to_string()), "{scene}: {error}");
            assert!(error.hint().unwrap().contains("clear the task"), "{scene}");
        }
    }
}

/// Changes a sealed file as nobody of ours ever does.
fn tamper(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs_err::read(file).unwrap();
    change(&mut bytes);
    fs_err::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
    fs_err::write(file, bytes).unwrap();
    fs_err::set_permissions(file, PermissionsExt::from_mode(0o400)).unwrap();
}

/// Changes one byte of a sealed file.
fn flip(file: &Path, at: usize, by: u8) {
    fs_err::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
    let opened = fs_err::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let (mut byte, at) = ([0], at as u64);
    opened.file().read_exact_at(&mut byte, at).unwrap();
    opened.file().write_all_at(&[byte[0] ^ by], at).unwrap();
    fs_err::set_permissions(file, PermissionsExt::from_mode(0o400)).unwrap();
}

/// Where the footer starts and the object ends, from the header (`docs/design/object.md`).
fn bounds(bytes: &[u8]) -> (usize, usize) {
    let word = |at: usize| usize::try_from(u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())).unwrap();
    (word(56), word(32))
}

#[test]
fn a_file_that_is_cut_anywhere_is_damaged() {
    let place = place();
    for name in [place.put(100), place.put(200 << 10), place.put_spilled()] {
        let file = place.file(name);
        let whole = fs_err::read(&file).unwrap();
        let (table, end) = bounds(&whole);
        for length in [0, 1, 7, 8, 64, 127, 128, 129, table / 2, table - 1, table, table + 1, end - 1] {
            tamper(&file, |bytes| bytes.truncate(length));
            place.assert_corrupt(name, &format!("cut to {length} of {end} bytes"));
            tamper(&file, |bytes| bytes.clone_from(&whole));
        }
        place.store.get(name, Access::ReadOnly).unwrap();
    }
}

#[test]
fn every_changed_byte_of_header_and_footer_is_noticed_in_memory_and_on_the_spill_disk() {
    let place = place();
    for name in [place.put(100), place.put(200 << 10), place.put_spilled()] {
        let file = place.file(name);
        let (table, end) = bounds(&fs_err::read(&file).unwrap());
        for at in (0..128).chain(table..end) {
            for by in [0x01, 0xff] {
                flip(&file, at, by);
                place.assert_corrupt(name, &format!("byte {at} changed by {by:02x}"));
                flip(&file, at, by);
            }
        }
        place.store.get(name, Access::ReadOnly).unwrap();
    }
}

#[test]
fn a_changed_payload_is_noticed_where_the_format_promises_a_checksum() {
    let place = place();
    let (small, spilled) = (place.put(300), place.put_spilled());
    let table = |name| bounds(&fs_err::read(place.file(name)).unwrap()).0;
    let everywhere = (128..table(small)).map(|at| (small, at));
    let here_and_there = (128..table(spilled)).step_by(999_983).map(|at| (spilled, at));
    for (name, at) in everywhere.chain(here_and_there) {
        flip(&place.file(name), at, 1);
        let error = place.store.get(name, Access::ReadOnly).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
        flip(&place.file(name), at, 1);
    }
}

#[test]
fn a_file_under_another_name_is_not_taken_for_that_object() {
    let place = place();
    let name = place.put(100);
    let other = ObjectName::new(ObjectId::from_bytes([9; 16]));
    fs_err::rename(place.file(name), place.file(other)).unwrap();
    place.assert_corrupt(other, "renamed");
    assert_eq!(place.errors(name)[0].kind(), ErrorKind::NotFound);
}

#[test]
fn a_file_that_others_could_have_written_is_not_read() {
    let place = place();
    let name = place.put(100);
    let file = place.file(name);
    let foreign = |scene: &str| {
        for error in place.errors(name) {
            assert!(matches!(error, StoreError::Foreign { .. }), "{scene}: {error}");
            assert_eq!(error.kind(), ErrorKind::Denied);
            assert!(error.to_string().contains(file.to_str().unwrap()), "{scene}: {error}");
        }
    };
    for mode in [0o600, 0o440, 0o404, 0o500, 0o4400] {
        fs_err::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        foreign(&format!("mode {mode:o}"));
    }
    fs_err::set_permissions(&file, PermissionsExt::from_mode(0o400)).unwrap();
    if std::os::unix::fs::chown(&file, Some(65534), None).is_ok() {
        foreign("another owner");
    }
    fs_err::rename(&file, file.with_extension("moved")).unwrap();
    symlink(file.with_extension("moved"), &file).unwrap();
    foreign("a symbolic link");
    fs_err::remove_file(&file).unwrap();
    fs_err::create_dir(&file).unwrap();
    foreign("a directory");
    fs_err::remove_dir(&file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR).unwrap();
    foreign("a pipe, which must not be waited for");
}

#[test]
fn what_cannot_be_moved_does_not_keep_the_rest_in_memory() {
    let place = place();
    let (damaged, linked, piped) = (place.put(1000), place.put(1000), place.put(1000));
    tamper(&place.file(damaged), |bytes| bytes[20] ^= 1);
    fs_err::remove_file(place.file(linked)).unwrap();
    symlink("/dev/zero", place.file(linked)).unwrap();
    fs_err::remove_file(place.file(piped)).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, place.file(piped), rustix::fs::Mode::RUSR).unwrap();
    // Three times what memory holds.
    let names: Vec<_> = (0..12).map(|_| place.put(1 << 20)).collect();
    for name in names {
        assert_eq!(place.store.get(name, Access::ReadOnly).unwrap().buffer(0).unwrap()[5], 7);
    }
}

#[test]
fn a_store_that_others_may_enter_is_refused() {
    let place = place();
    place.put(10);
    for folder in ["", "objects", "tmp"] {
        let path = place.options.path.as_ref().unwrap().join(folder);
        fs_err::set_permissions(&path, PermissionsExt::from_mode(0o770)).unwrap();
        let error = Store::open(&place.options).err().unwrap();
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
        assert!(error.hint().unwrap().contains("chmod 700"));
        fs_err::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    }
    let linked = place.options.path.as_ref().unwrap().with_file_name("link");
    symlink(place.store.path(), &linked).unwrap();
    let error = Store::open(&Options { path: Some(linked), ..place.options.clone() }).err().unwrap();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}

#[test]
fn a_ledger_that_is_lost_or_damaged_is_counted_anew() {
    let place = place();
    let name = place.put(1 << 20);
    let used = place.store.stat().unwrap().used_bytes;
    let ledger = place.store.path().join("ledger");
    let damages: [fn(&Path); 6] = [
        |ledger| fs_err::remove_file(ledger).unwrap(),
        |ledger| fs_err::write(ledger, "").unwrap(),
        |ledger| fs_err::write(ledger, vec![0; 4096]).unwrap(),
        |ledger| fs_err::write(ledger, vec![0xff; 4096]).unwrap(),
        |ledger| fs_err::write(ledger, vec![0xff; 100]).unwrap(),
        // Right but for counters that nothing explains.
        |ledger| {
            let mut page = fs_err::read(ledger).unwrap();
            page[16..56].fill(0xff);
            fs_err::write(ledger, page).unwrap();
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        // Not the one that a process maps: cutting that is beyond what a store can survive.
        let copy = ledger.with_extension("copy");
        fs_err::copy(&ledger, &copy).unwrap();
        fs_err::rename(&copy, &ledger).unwrap();
        damage(&ledger);
        let store = Store::open(&place.options).unwrap();
        store.get(name, Access::ReadOnly).unwrap();
        let next = store.create().unwrap().seal(&[&vec![1; 3 << 19]], "{}").unwrap();
        store.delete(next).unwrap();
        store.sweep(10).unwrap();
        assert_eq!(store.stat().unwrap().used_bytes, used, "damage {number}");
    }
}

#[test]
fn a_store_that_is_removed_while_open_says_so_and_is_made_anew_by_the_next() {
    let place = place();
    let name = place.put(1 << 20);
    let held = place.store.get(name, Access::ReadOnly).unwrap();
    fs_err::remove_dir_all(place.store.path()).unwrap();

    let mut unfinished = place.store.create().unwrap();
    let errors = [
        place.store.get(name, Access::ReadOnly).err().unwrap(),
        place.store.delete(name).err().unwrap(),
        place.store.collect().err().unwrap(),
        place.store.stat().err().unwrap(),
        unfinished.write(&vec![0; 2 << 20]).err().unwrap(),
        place.store.create().unwrap().seal(&[b"small"], "{}").err().unwrap(),
        place.store.create().unwrap().seal(&[&vec![0; 1 << 20]], "{}").err().unwrap(),
    ];
    for error in errors {
        assert!(matches!(error, StoreError::Removed { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains(place.store.path().to_str().unwrap()), "{error}");
        assert!(error.hint().unwrap().contains("clear the tasks"));
    }
    assert_eq!(held.buffer(2), Some(&b"the end"[..]));

    let anew = Store::open(&place.options).unwrap();
    assert_ne!(anew.id(), place.store.id());
    let name = anew.create().unwrap().seal(&[b"small"], "{}").unwrap();
    anew.get(name, Access::ReadOnly).unwrap();
}

#[test]
fn a_clock_that_jumped_back_expires_nothing_and_stops_nothing() {
    let place = place();
    let name = place.put(1 << 20);
    let future = rustix::fs::Timespec { tv_sec: 7_258_118_400, tv_nsec: 5 };
    let times = rustix::fs::Timestamps { last_access: future, last_modification: future };
    let file = fs_err::File::open(place.file(name)).unwrap();
    rustix::fs::futimens(&file, &times).unwrap();
    // The time of the next expiry step, word 5, is as far away.
    let ledger = place.store.path().join("ledger");
    let next_step = || u64::from_le_bytes(*fs_err::read(&ledger).unwrap()[40..].first_chunk().unwrap());
    let page = fs_err::OpenOptions::new().write(true).open(&ledger).unwrap();
    page.file().write_all_at(&7_258_118_400_u64.to_le_bytes(), 40).unwrap();

    let lapsed = place.put(10);
    place.store.expire(lapsed, 0.0).unwrap();
    assert_eq!(place.store.sweep(10).unwrap(), 1);
    assert!(next_step() < 7_258_118_400, "the next step is due soon");
    assert_eq!(place.store.collect().unwrap().expired, 0);
    let described = place.store.describe(name).unwrap();
    assert!(described.used_ns < 7_258_118_400 * 1_000_000_000);
    // It can still be moved out.
    let _fillers: Vec<_> = (0..6).map(|_| place.put(1 << 20)).collect();
    assert_eq!(place.store.get(name, Access::ReadOnly).unwrap().payload_bytes(), (1 << 20) + 17);
}

#[test]
fn metadata_that_is_too_long_is_refused_and_nothing_is_left() {
    let place = place();
    let metadata = format!("{{\"preview\": \"{}\"}}", "x".repeat(1 << 20));
    for bytes in [10, 1 << 20] {
        let error = place.store.create().unwrap().seal(&[&vec![0; bytes]], &metadata).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("1 MiB"));
    }
    let mut writer = place.store.create().unwrap();
    writer.write(&vec![0; 2 << 20]).unwrap();
    assert_eq!(writer.seal(&[], &metadata).err().unwrap().kind(), ErrorKind::Invalid);
    let stat = place.store.stat().unwrap();
    assert_eq!((stat.objects, stat.unfinished, stat.used_bytes), (0, 0, 0));
}

#[test]
fn a_stream_whose_first_part_is_long_and_odd_moves_to_the_spill_disk_whole() {
    let place = place();
    let (first, second) = (vec![3; (3 << 20) + 1], vec![4; 3 << 20]);
    let mut writer = place.store.create().unwrap();
    writer.write(&first).unwrap();
    writer.write(&second).unwrap();
    let name = writer.seal(&[b"buffer"], "{}").unwrap();
    let object = place.store.get(name, Access::ReadOnly).unwrap();
    assert_eq!(object.kind(), TierKind::Spill);
    assert!(object.stream() == [first, second].concat());
    assert_eq!(object.buffer(0), Some(&b"buffer"[..]));
}

#[test]
fn all_names_of_an_object_move_to_the_spill_disk_as_links_to_one_copy() {
    use std::os::unix::fs::MetadataExt;
    let place = place();
    let name = place.put(1 << 20);
    let names = [name, place.store.link(name).unwrap(), place.store.link(name).unwrap()];
    let fillers: Vec<_> = (0..4).map(|_| place.put(1 << 20)).collect();
    let inodes = names.map(|name| fs_err::metadata(place.file(name)).unwrap().ino());
    assert!(inodes.iter().all(|inode| *inode == inodes[0]));
    for name in names {
        assert_eq!(place.store.get(name, Access::ReadOnly).unwrap().kind(), TierKind::Spill);
    }
    let before = place.store.stat().unwrap().spilled_bytes;
    for name in names {
        assert!(place.store.delete(name).unwrap());
        assert!(!place.store.delete(name).unwrap());
    }
    let freed = before - place.store.stat().unwrap().spilled_bytes;
    assert!((1 << 20..2 << 20).contains(&freed), "{freed} bytes of one copy");
    drop(fillers);
}
