//! Objects that arrive as bytes: whole, in any order, whatever tier has room; or refused, and then nothing is left.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use airfreight_core::format::{HEADER_LEN, Header};
use airfreight_core::{ErrorKind, ObjectName};
use airfreight_store::{Access, Options, Payload, Receiver, Store, StoreError, TierKind};
use proptest::prelude::*;

const MIB: usize = 1 << 20;

struct Place {
    _folder: tempfile::TempDir,
    store: Store,
}

fn place(folder: &str, capacity_bytes: u64, spill_capacity_bytes: u64) -> Place {
    let folder = tempfile::tempdir_in(folder).unwrap();
    let options = Options {
        path: Some(folder.path().join("store")),
        capacity_bytes: Some(capacity_bytes),
        spill_path: Some(folder.path().join("spill")),
        spill_capacity_bytes: Some(spill_capacity_bytes),
        ..Options::default()
    };
    Place { store: Store::open(&options).unwrap(), _folder: folder }
}

fn content(bytes: usize, seed: u8) -> Vec<u8> {
    (0..bytes).map(|index| u8::try_from((index * 31 + index / 4096) % 251).unwrap() ^ seed).collect()
}

/// An object's file as another host sends it.
fn sent(buffer: &[u8]) -> (ObjectName, Vec<u8>) {
    let host = place("/dev/shm", 256 << 20, 0);
    let mut writer = host.store.create().unwrap();
    writer.write(b"the stream").unwrap();
    let name = writer.seal(&[buffer, b"", b"the end"], r#"{"type": "test"}"#).unwrap();
    let file = host.store.file(name).unwrap();
    assert_eq!((file.name(), file.payload_bytes()), (name, buffer.len() as u64 + 17));
    let mut bytes = vec![0; usize::try_from(file.file_bytes()).unwrap()];
    let half = bytes.len() / 2;
    file.read(&mut bytes[half..], half as u64).unwrap();
    file.read(&mut bytes[..half], 0).unwrap();
    assert!(file.read(&mut [0], file.file_bytes()).is_err(), "it read beyond the object's end");
    (name, bytes)
}

fn deliver(store: &Store, name: ObjectName, file: &[u8], payload: Payload) -> Result<ObjectName, StoreError> {
    let receiver = store.receive(name, file.len() as u64)?;
    write_in_parts(&receiver, file, 3 * MIB + 5)?;
    receiver.seal(payload)
}

fn write_in_parts(receiver: &Receiver, file: &[u8], part_bytes: usize) -> Result<(), StoreError> {
    let mut parts: Vec<_> = file.chunks(part_bytes).enumerate().collect();
    // Neither first to last nor last to first.
    let middle = parts.len() / 2;
    parts.rotate_left(middle);
    parts.into_iter().try_for_each(|(index, part)| receiver.write((index * part_bytes) as u64, part))
}

fn assert_is(store: &Store, name: ObjectName, buffer: &[u8]) {
    let object = store.get(name, Access::ReadOnly).unwrap();
    assert_eq!(object.stream(), b"the stream");
    assert!(object.buffer(0).unwrap() == buffer, "another content");
    assert_eq!(object.buffer(2).unwrap(), b"the end");
    assert_eq!(object.metadata(), r#"{"type": "test"}"#);
}

/// Nothing is stored, reserved or unfinished.
fn assert_empty(store: &Store) {
    let used_bytes = store.stat().unwrap().used_bytes;
    let stat = store.stat().unwrap();
    assert!(store.names().unwrap().is_empty());
    let numbers = (stat.objects, stat.spilled_objects, stat.unfinished, stat.spilled_bytes);
    assert_eq!(numbers, (0, 0, 0, 0), "{stat:?}");
    assert_eq!(used_bytes, stat.warm_bytes, "{stat:?}");
}

fn payload_crc(store: &Store, name: ObjectName) -> Option<u64> {
    let mut head = [0; HEADER_LEN];
    let file = store.file(name).unwrap();
    file.read(&mut head, 0).unwrap();
    Header::decode(&head, file.file_bytes()).unwrap().payload_crc
}

#[test]
fn a_file_may_be_read_with_the_checksum_that_it_lacks() {
    let place = place("/dev/shm", 128 << 20, 0);
    let mut writer = place.store.create().unwrap();
    writer.write(b"the stream").unwrap();
    let name = writer.seal(&[&content(MIB, 3), b"", b"the end"], r#"{"type": "test"}"#).unwrap();
    assert_eq!(payload_crc(&place.store, name), None, "in memory there is none");
    let file = place.store.file(name).unwrap().with_checksum().unwrap();
    let mut bytes = vec![0; usize::try_from(file.file_bytes()).unwrap()];
    // In pieces that end within the header and at its end.
    for (start, end) in [(0, 7), (7, HEADER_LEN), (HEADER_LEN, bytes.len())] {
        file.read(&mut bytes[start..end], start as u64).unwrap();
    }
    drop(file);
    place.store.delete(name).unwrap();
    // Whoever has not seen the sender's checksums takes no file without one.
    deliver(&place.store, name, &bytes, Payload::Unverified).unwrap();
    assert_is(&place.store, name, &content(MIB, 3));
    bytes[HEADER_LEN] ^= 1;
    assert!(deliver(&place.store, name, &bytes, Payload::Unverified).is_err());
}

#[test]
fn what_arrives_is_the_object_that_was_sent() {
    for folder in ["/dev/shm", "/tmp"] {
        let place = place(folder, 128 << 20, 0);
        for bytes in [0, 1, 1000, 64 << 10, MIB, 5 * MIB + 3, 23 * MIB] {
            let buffer = content(bytes, 1);
            let (sent_name, file) = sent(&buffer);
            let name = deliver(&place.store, sent_name, &file, Payload::Verified).unwrap();
            assert_eq!(name, sent_name);
            assert_is(&place.store, name, &buffer);
            // What follows goes into recycled files, too.
            place.store.delete(name).unwrap();
            let other = content(bytes, 7);
            let (sent_name, file) = sent(&other);
            let name = deliver(&place.store, sent_name, &file, Payload::Verified).unwrap();
            assert_is(&place.store, name, &other);
        }
    }
}

#[test]
fn bytes_go_to_their_place_in_a_recycled_file_as_they_come() {
    let place = place("/dev/shm", 128 << 20, 0);
    let (name, file) = sent(&content(23 * MIB, 1));
    let part = 4 * MIB as u64;
    let fresh = place.store.receive(name, file.len() as u64).unwrap();
    assert!(fresh.window(0..part).is_none(), "a page that isn't there is never written through a mapping");
    drop(fresh);
    deliver(&place.store, name, &file, Payload::Verified).unwrap();
    place.store.delete(name).unwrap();

    let (name, file) = sent(&content(23 * MIB, 9));
    let length = file.len() as u64;
    let receiver = place.store.receive(name, length).unwrap();
    assert!(receiver.window(1..part).is_none(), "it begins within a page");
    assert!(receiver.window(0..length + part).is_none(), "it reaches beyond the pages that are there");
    // What was put into a window and not accepted has not arrived, and may come again.
    let mut dropped = receiver.window(0..part).unwrap();
    dropped.push(&content(4 * MIB, 77));
    drop(dropped);
    for start in (0..length).step_by(4 * MIB) {
        let end = length.min(start + part);
        let bytes = &file[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
        match receiver.window(start..end) {
            Some(mut window) => {
                bytes.chunks(100_001).for_each(|chunk| window.push(chunk));
                assert!(receiver.accept(window));
            }
            // The recycled file may be shorter by its last page.
            None => receiver.write(start, bytes).unwrap(),
        }
    }
    assert_is(&place.store, receiver.seal(Payload::Verified).unwrap(), &content(23 * MIB, 9));

    place.store.delete(name).unwrap();
    let (name, file) = sent(&content(23 * MIB, 3));
    let receiver = place.store.receive(name, file.len() as u64).unwrap();
    let mut window = receiver.window(0..part).unwrap();
    window.push(&file[..4 * MIB]);
    drop(window);
    receiver.write(part, &file[4 * MIB..]).unwrap();
    assert!(matches!(receiver.seal(Payload::Verified), Err(StoreError::Damaged { .. })), "a part has not arrived");
    assert_empty(&place.store);
}

#[test]
fn short_payloads_and_those_on_the_spill_disk_get_their_checksum() {
    let place = place("/dev/shm", 4 << 20, 64 << 20);
    for (bytes, tier, has_checksum) in
        [(1000, TierKind::Memory, true), (MIB, TierKind::Memory, false), (6 * MIB, TierKind::Spill, true)]
    {
        let (sent_name, file) = sent(&content(bytes, 0));
        let name = deliver(&place.store, sent_name, &file, Payload::Verified).unwrap();
        assert_eq!(place.store.describe(name).unwrap().kind, tier);
        assert_eq!(payload_crc(&place.store, name).is_some(), has_checksum, "{bytes} bytes");
        assert_is(&place.store, name, &content(bytes, 0));
    }
}

#[test]
fn what_is_there_already_is_success_also_when_both_arrive_at_once() {
    let place = place("/dev/shm", 64 << 20, 0);
    let buffer = content(MIB, 2);
    let (sent_name, file) = sent(&buffer);
    let first = place.store.receive(sent_name, file.len() as u64).unwrap();
    let second = place.store.receive(sent_name, file.len() as u64).unwrap();
    write_in_parts(&first, &file, 100_000).unwrap();
    write_in_parts(&second, &file, 70_000).unwrap();
    let name = first.seal(Payload::Verified).unwrap();
    assert_eq!(second.seal(Payload::Verified).unwrap(), name);
    assert_eq!(deliver(&place.store, sent_name, &file, Payload::Verified).unwrap(), name);
    assert_is(&place.store, name, &buffer);
    assert_eq!(place.store.stat().unwrap().unfinished, 0);
    place.store.delete(name).unwrap();
    assert_empty(&place.store);
}

#[test]
fn one_at_a_time_has_the_turn_to_fetch_and_it_ends_with_its_holder() {
    let place = place("/dev/shm", 64 << 20, 0);
    let name: ObjectName = "0123456789abcdef0123456789abcdef".parse().unwrap();
    let other = name.with_link(1);
    let turn = place.store.take_turn(name).unwrap().unwrap();
    assert!(place.store.take_turn(name).unwrap().is_none());
    assert!(place.store.take_turn(other).unwrap().is_some(), "another object's turn is another");
    // A full pass takes what the dead left; this one's holder lives.
    place.store.collect().unwrap();
    assert!(place.store.take_turn(name).unwrap().is_none());
    std::thread::sleep(std::time::Duration::from_millis(50));
    let silence = place.store.turn_silence(name).unwrap();
    turn.advance();
    assert!(place.store.turn_silence(name).unwrap() < silence);
    drop(turn);
    assert_eq!(place.store.turn_silence(name), None);
    assert_empty(&place.store);
    // As if its holder had been killed: the file is there, the lock isn't.
    fs_err::write(place.store.path().join("tmp").join(format!("{name}.turn")), "").unwrap();
    drop(place.store.take_turn(name).unwrap().unwrap());
    fs_err::write(place.store.path().join("tmp").join(format!("{name}.turn")), "").unwrap();
    assert_eq!(place.store.collect().unwrap().reclaimed, 1);

    let had = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    if let Some(turn) = place.store.take_turn(name).unwrap() {
                        assert_eq!(had.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0, "two had it");
                        had.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(turn);
                    }
                }
            });
        }
    });
}

#[test]
fn a_stamp_tells_whether_names_came_or_went() {
    let place = place("/dev/shm", 64 << 20, 0);
    let (sent_name, file) = sent(&content(100, 1));
    let settle = || std::thread::sleep(std::time::Duration::from_millis(60));
    settle();
    let empty = place.store.stamp().unwrap();
    assert!(place.store.stamp().unwrap().is_unchanged_since(&empty));
    deliver(&place.store, sent_name, &file, Payload::Verified).unwrap();
    let one = place.store.stamp().unwrap();
    assert!(!one.is_unchanged_since(&empty));
    assert!(!place.store.stamp().unwrap().is_unchanged_since(&one), "it was taken too soon to prove anything");
    settle();
    let one = place.store.stamp().unwrap();
    assert!(place.store.stamp().unwrap().is_unchanged_since(&one));
    assert_eq!(place.store.names_by_tier().unwrap(), [(sent_name, place.store.kind())]);
    assert_eq!(place.store.usage().used_bytes, place.store.stat().unwrap().used_bytes);
    place.store.delete(sent_name).unwrap();
    assert!(!place.store.stamp().unwrap().is_unchanged_since(&one));
}

#[test]
fn threads_may_share_the_work_and_a_further_name_is_kept() {
    let place = place("/dev/shm", 64 << 20, 0);
    let buffer = content(9 * MIB, 9);
    let (sent_name, file) = sent(&buffer);
    let link = sent_name.with_link(7);
    let receiver = place.store.receive(link, file.len() as u64).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (receiver, file) = (&receiver, &file);
            scope.spawn(move || {
                for (index, part) in file.chunks(MIB).enumerate().skip(thread).step_by(3) {
                    receiver.write((index * MIB) as u64, part).unwrap();
                }
            });
        }
    });
    assert_eq!(receiver.seal(Payload::Verified).unwrap(), link);
    assert_is(&place.store, link, &buffer);
    assert!(!place.store.contains(sent_name));
}

#[test]
fn what_is_damaged_is_refused_and_leaves_nothing() {
    let place = place("/dev/shm", 64 << 20, 0);
    let (sent_name, file) = sent(&content(MIB, 3));
    let footer = file.len() - 3;
    let flipped = |at: usize| {
        let mut bad = file.clone();
        bad[at] ^= 1;
        bad
    };
    let longer = [file.clone(), vec![0]].concat();
    let (_, another) = sent(&content(MIB, 3));
    let scenes = [
        ("the magic", flipped(0), "magic"),
        ("the header", flipped(40), "the header does not match"),
        ("the footer", flipped(footer), "the footer does not match"),
        ("its end is missing", file[..file.len() - 1].to_vec(), "are needed"),
        ("something follows", longer, "it ends before"),
        ("another object", another, "another object's id"),
        ("nearly nothing", vec![0; 7], "are needed"),
    ];
    for (scene, bytes, reason) in scenes {
        let error = deliver(&place.store, sent_name, &bytes, Payload::Verified).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{scene}: {error}");
        assert!(airfreight_core::chain(&error).contains(reason), "{scene}: {}", airfreight_core::chain(&error));
        assert!(error.to_string().contains(&sent_name.to_string()), "{scene}");
        assert!(error.hint().is_some(), "{scene}");
        assert_empty(&place.store);
    }
}

#[test]
fn a_payload_that_nobody_verified_needs_a_checksum_that_matches() {
    let place = place("/dev/shm", 64 << 20, 64 << 20);
    let (sent_name, file) = sent(&content(MIB, 4));
    let error = deliver(&place.store, sent_name, &file, Payload::Unverified).unwrap_err();
    assert!(airfreight_core::chain(&error).contains("no checksum"), "{}", airfreight_core::chain(&error));
    let (sent_name, file) = sent(&content(1000, 4));
    let name = deliver(&place.store, sent_name, &file, Payload::Unverified).unwrap();
    place.store.delete(name).unwrap();
    let mut bad = file;
    bad[300] ^= 1;
    let error = deliver(&place.store, sent_name, &bad, Payload::Unverified).unwrap_err();
    assert!(airfreight_core::chain(&error).contains("the payload does not match"));
    assert_empty(&place.store);
}

#[test]
fn gaps_are_noticed_although_a_recycled_file_holds_bytes_there() {
    let place = place("/dev/shm", 64 << 20, 0);
    let (sent_name, file) = sent(&content(2 * MIB, 5));
    let name = deliver(&place.store, sent_name, &file, Payload::Verified).unwrap();
    place.store.delete(name).unwrap();
    let receiver = place.store.receive(sent_name, file.len() as u64).unwrap();
    receiver.write(0, &file[..MIB]).unwrap();
    receiver.write(MIB as u64 + 1, &file[MIB + 1..]).unwrap();
    let error = receiver.seal(Payload::Verified).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_empty(&place.store);

    let receiver = place.store.receive(sent_name, file.len() as u64).unwrap();
    assert!(receiver.write(file.len() as u64, b"x").is_err(), "more arrived than was announced");
    drop(receiver);
    assert_empty(&place.store);
}

#[test]
fn without_room_nothing_is_begun() {
    let place = place("/dev/shm", 4 << 20, 1 << 20);
    let (sent_name, file) = sent(&content(8 * MIB, 6));
    let error = place.store.receive(sent_name, file.len() as u64).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert_empty(&place.store);
}

#[test]
fn a_file_is_read_as_it_was_sealed_and_checked_where_a_disk_held_it() {
    use std::os::unix::fs::{FileExt, PermissionsExt};

    let place = place("/dev/shm", 4 << 20, 64 << 20);
    let (sent_name, file) = sent(&content(6 * MIB, 8));
    let name = deliver(&place.store, sent_name, &file, Payload::Verified).unwrap();
    let spilled = place.store.spill_path().join(place.store.id()).join("objects").join(name.to_string());
    fs_err::set_permissions(&spilled, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs_err::OpenOptions::new().write(true).open(&spilled).unwrap();
    file.file().write_at(b"?", 3 << 20).unwrap();
    fs_err::set_permissions(&spilled, std::fs::Permissions::from_mode(0o400)).unwrap();
    let error = place.store.file(name).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    place.store.delete(name).unwrap();
    assert_eq!(place.store.file(name).err().unwrap().kind(), ErrorKind::NotFound);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_order_of_parts_gives_the_same_object(
        bytes in 0..3 * MIB, part_bytes in 4096..MIB, seed: u8, order in any::<u64>(),
    ) {
        let place = place("/dev/shm", 32 << 20, 0);
        let buffer = content(bytes, seed);
        let (sent_name, file) = sent(&buffer);
        let mut parts: Vec<_> = file.chunks(part_bytes).enumerate().collect();
        parts.sort_by_key(|(index, _)| (*index as u64 + 1).wrapping_mul(order | 1).rotate_left(17));
        let receiver = place.store.receive(sent_name, file.len() as u64).unwrap();
        for (index, part) in parts {
            receiver.write((index * part_bytes) as u64, part).unwrap();
        }
        let name = receiver.seal(Payload::Verified).unwrap();
        assert_is(&place.store, name, &buffer);
    }
}
