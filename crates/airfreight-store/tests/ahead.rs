//! Goal: objects leave memory before a put needs the room, the least recently used first; what a bucket has goes without a
//! copy on the spill disk, what a reader holds stays. Method: a small store, and what is there afterwards.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use airfreight_core::ObjectName;
use airfreight_store::{Access, Moved, Options, Store, TierKind};

const MIB: usize = 1 << 20;

struct Scene {
    store: Store,
    options: Options,
    _folder: tempfile::TempDir,
}

fn scene(capacity_mib: u64, spill_mib: u64) -> Scene {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let options = Options {
        path: Some(folder.path().join("store")),
        capacity_bytes: Some(capacity_mib << 20),
        spill_path: Some(folder.path().join("spill")),
        spill_capacity_bytes: Some(spill_mib << 20),
        ..Options::default()
    };
    Scene { store: Store::open(&options).unwrap(), options, _folder: folder }
}

impl Scene {
    fn put(&self, fill: u8) -> ObjectName {
        let name = self.store.create().unwrap().seal(&[&vec![fill; MIB]], "{}").unwrap();
        // A clock may be coarse, and the order of use is what counts here.
        std::thread::sleep(std::time::Duration::from_millis(20));
        name
    }

    fn tier(&self, name: ObjectName) -> Option<TierKind> {
        self.store.contains(name).then(|| self.store.describe(name).unwrap().kind)
    }

    fn read(&self, name: ObjectName) -> u8 {
        let object = self.store.get(name, Access::ReadOnly).unwrap();
        let bytes = object.buffer(0).unwrap();
        assert!(bytes.len() == MIB && bytes.iter().all(|byte| *byte == bytes[0]));
        bytes[0]
    }
}

#[test]
fn the_least_recently_used_go_first_and_no_more_than_needed() {
    let scene = scene(64, 64);
    let names: Vec<_> = (0..4).map(|fill| scene.put(fill)).collect();
    scene.read(names[0]);
    let moved = scene.store.move_out(2 * MIB as u64, |_| true).unwrap();
    assert_eq!((moved.spilled, moved.evicted), (2, 0), "{moved:?}");
    let tiers: Vec<_> = names.iter().map(|name| scene.tier(*name).unwrap()).collect();
    assert_eq!(tiers, [TierKind::Memory, TierKind::Spill, TierKind::Spill, TierKind::Memory]);
    assert_eq!(names.iter().map(|name| scene.read(*name)).collect::<Vec<_>>(), [0, 1, 2, 3]);
    // Their pages serve the next put.
    assert!(scene.store.usage().warm_bytes >= 2 * MIB as u64);
    let before = scene.store.stat().unwrap();
    assert_eq!(before.used_bytes, scene.store.usage().used_bytes, "the ledger is what a count finds");
}

#[test]
fn what_a_bucket_has_goes_and_its_further_names_count() {
    let scene = scene(64, 64);
    let (copied, linked, bare) = (scene.put(1), scene.put(2), scene.put(3));
    let link = scene.store.link(linked).unwrap();
    assert!(scene.store.note_copy(copied).unwrap() && scene.store.note_copy(linked).unwrap());
    let moved = scene.store.move_out(64 << 20, |_| true).unwrap();
    assert_eq!((moved.spilled, moved.evicted), (2, 1), "{moved:?}");
    assert_eq!(scene.tier(copied), None);
    assert_eq!([linked, link, bare].map(|name| scene.tier(name)), [Some(TierKind::Spill); 3]);
    // A note taken back counts for nothing.
    let again = scene.put(4);
    scene.store.note_copy(again).unwrap();
    assert!(scene.store.has_copy(again) && scene.store.forget_copy(again).unwrap());
    assert!(!scene.store.has_copy(again) && !scene.store.forget_copy(again).unwrap());
    assert_eq!(scene.store.move_out(64 << 20, |_| true).unwrap().evicted, 0);
    assert!(scene.store.contains(again));
}

#[test]
fn only_what_is_wanted_goes_and_what_is_read_stays() {
    let scene = scene(64, 64);
    let (one, other, held) = (scene.put(1), scene.put(2), scene.put(3));
    let reader = scene.store.get(held, Access::ReadOnly).unwrap();
    let moved = scene.store.move_out(64 << 20, |names| names != [other]).unwrap();
    assert_eq!((moved.spilled, moved.held_bytes >= MIB as u64), (1, true), "{moved:?}");
    assert_eq!(
        [one, other, held].map(|name| scene.tier(name).unwrap()),
        [TierKind::Spill, TierKind::Memory, TierKind::Memory]
    );
    // So does what a bucket has, as long as somebody reads it: nothing would be won.
    scene.store.note_copy(held).unwrap();
    assert_eq!(scene.store.move_out(64 << 20, |names| names == [held]).unwrap().evicted, 0);
    drop(reader);
    assert_eq!(scene.store.move_out(64 << 20, |names| names == [held]).unwrap().evicted, 1);
}

#[test]
fn without_a_spill_disk_only_copied_objects_go_and_the_rest_is_told() {
    let scene = scene(64, 0);
    let (copied, bare) = (scene.put(1), scene.put(2));
    scene.store.note_copy(copied).unwrap();
    let moved = scene.store.move_out(64 << 20, |_| true).unwrap();
    assert_eq!((moved.evicted, moved.spilled), (1, 0));
    assert!(moved.obstacle.unwrap().contains("turned off"));
    assert!(scene.store.contains(bare) && !scene.store.contains(copied));
    assert_eq!(scene.store.move_out(0, |_| true).unwrap(), Moved::default());
}

#[test]
fn a_put_under_pressure_drops_what_a_bucket_has() {
    let scene = scene(4, 0);
    let names: Vec<_> = (0..3).map(|fill| scene.put(fill)).collect();
    scene.store.note_copy(names[1]).unwrap();
    // Two more than there is room for without the one that was copied.
    scene.put(9);
    assert_eq!(names.iter().map(|name| scene.store.contains(*name)).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_full_spill_disk_gives_way_the_same_way() {
    let scene = scene(64, 3);
    let old = scene.put(1);
    scene.store.move_out(1, |_| true).unwrap();
    assert_eq!(scene.tier(old), Some(TierKind::Spill));
    scene.store.note_copy(old).unwrap();
    let small = Store::open(&Options { capacity_bytes: Some(2 << 20), ..scene.options.clone() }).unwrap();
    // Too large for memory, and for what is left of the disk.
    let name = small.create().unwrap().seal(&[&vec![7; 5 * MIB / 2]], "{}").unwrap();
    assert!(small.contains(name) && !small.contains(old));
}

#[test]
fn notes_on_what_is_gone_are_forgotten() {
    let scene = scene(64, 64);
    let (kept, gone) = (scene.put(1), scene.put(2));
    scene.store.note_copy(kept).unwrap();
    scene.store.note_copy(gone).unwrap();
    scene.store.delete(gone).unwrap();
    assert!(!scene.store.note_copy(gone).unwrap(), "there is no such object");
    scene.store.collect().unwrap();
    assert!(scene.store.has_copy(kept) && !scene.store.has_copy(gone));
}
