//! Any sequence of operations on a store agrees with a map, whatever is evicted, recycled or held meanwhile, and the
//! ledger is right after each step without ever being counted afresh.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use airfreight_core::{ErrorKind, ObjectName};
use airfreight_store::{Access, Object, Options, Store};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Put { stream: usize, buffers: Vec<usize>, fill: u8 },
    Abort { stream: usize },
    Get(prop::sample::Index),
    Release(prop::sample::Index),
    Delete(prop::sample::Index),
    Link(prop::sample::Index),
    Expire(prop::sample::Index),
    Sweep,
    Collect,
    Reopen,
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        3 => 0..200_usize,
        2 => 60_000..80_000_usize,
        4 => 256 * 1024..700 * 1024_usize,
        1 => 1024 * 1024..3 * 1024 * 1024_usize,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (length(), prop::collection::vec(length(), 0..4), any::<u8>())
            .prop_map(|(stream, buffers, fill)| Step::Put { stream, buffers, fill }),
        1 => length().prop_map(|stream| Step::Abort { stream }),
        4 => index().prop_map(Step::Get),
        2 => index().prop_map(Step::Release),
        4 => index().prop_map(Step::Delete),
        2 => index().prop_map(Step::Link),
        1 => index().prop_map(Step::Expire),
        1 => Just(Step::Sweep),
        1 => Just(Step::Collect),
        1 => Just(Step::Reopen),
    ]
}

/// What an object must hold.
#[derive(Debug, Clone, PartialEq)]
struct Content {
    stream: Vec<u8>,
    buffers: Vec<Vec<u8>>,
}

impl Content {
    fn new(stream: usize, buffers: &[usize], fill: u8) -> Self {
        let part = |length: usize, salt: usize| {
            (0..length).map(|at| fill ^ (at.wrapping_mul(31) + salt).to_le_bytes()[0]).collect()
        };
        Self {
            stream: part(stream, 1),
            buffers: buffers.iter().enumerate().map(|(index, &length)| part(length, index + 2)).collect(),
        }
    }

    fn matches(&self, object: &Object) -> bool {
        object.stream() == self.stream
            && object.entries().len() == self.buffers.len()
            && self.buffers.iter().enumerate().all(|(index, bytes)| object.buffer(index) == Some(bytes))
    }
}

/// File lengths in pages below some directories, each inode once.
fn pages(folders: &[std::path::PathBuf]) -> u64 {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    let mut folders = folders.to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder).into_iter().flatten().flatten() {
            let found = entry.metadata().unwrap();
            if found.is_dir() {
                folders.push(entry.path());
            } else if seen.insert(found.ino()) {
                bytes += found.len().next_multiple_of(4096);
            }
        }
    }
    bytes
}

fn ledger_word(store: &Path, index: usize) -> u64 {
    u64::from_le_bytes(*fs_err::read(store.join("ledger")).unwrap()[index * 8..].first_chunk().unwrap())
}

struct Model {
    options: Options,
    store: Store,
    objects: HashMap<ObjectName, Content>,
    /// Names whose time is over: there or not, until a full pass.
    lapsed: HashSet<ObjectName>,
    held: Vec<(Object, Content)>,
}

impl Model {
    fn name(&self, index: prop::sample::Index) -> Option<ObjectName> {
        let mut names: Vec<_> = self.objects.keys().copied().collect();
        names.sort();
        (!names.is_empty()).then(|| *index.get(&names))
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Put { stream, buffers, fill } => {
                let content = Content::new(stream, &buffers, fill);
                let mut writer = self.store.create().unwrap();
                let buffers: Vec<&[u8]> = content.buffers.iter().map(Vec::as_slice).collect();
                let written = content.stream.chunks(100_003).try_for_each(|part| writer.write(part));
                let sealed = written.and_then(|()| writer.seal(&buffers, "{}"));
                match sealed {
                    Ok(name) => drop(self.objects.insert(name, content)),
                    // Only what readers hold can't be moved.
                    Err(error) => panic!("{error}, {} held", self.held.len()),
                }
            }
            Step::Abort { stream } => self.store.create().unwrap().write(&vec![9; stream]).unwrap(),
            Step::Get(index) => {
                let Some(name) = self.name(index) else { return };
                let object = self.store.get(name, Access::ReadOnly).unwrap();
                assert!(self.objects[&name].matches(&object), "{name} holds something else");
                self.held.push((object, self.objects[&name].clone()));
            }
            Step::Release(index) => {
                if !self.held.is_empty() {
                    let (object, content) = self.held.swap_remove(index.index(self.held.len()));
                    assert!(content.matches(&object), "{} changed while it was held", object.name());
                }
            }
            Step::Delete(index) => {
                let Some(name) = self.name(index) else { return };
                self.objects.remove(&name);
                assert!(self.store.delete(name).unwrap());
                assert!(!self.store.delete(name).unwrap());
                assert!(!self.store.contains(name));
                assert_eq!(self.store.get(name, Access::ReadOnly).err().unwrap().kind(), ErrorKind::NotFound);
            }
            Step::Link(index) => {
                let Some(name) = self.name(index) else { return };
                let link = self.store.link(name).unwrap();
                self.objects.insert(link, self.objects[&name].clone());
            }
            Step::Expire(index) => {
                let Some(name) = self.name(index) else { return };
                self.objects.remove(&name);
                assert!(self.store.expire(name, 0.0).unwrap());
                self.lapsed.insert(name);
            }
            Step::Sweep => drop(self.store.sweep(3).unwrap()),
            Step::Collect => {
                self.store.collect().unwrap();
                self.lapsed.clear();
            }
            Step::Reopen => self.store = Store::open(&self.options).unwrap(),
        }
    }

    fn check(&self) {
        let names: HashSet<_> = self.store.names().unwrap().into_iter().collect();
        for name in self.objects.keys() {
            assert!(names.contains(name), "{name} is gone");
        }
        for name in &names {
            assert!(self.objects.contains_key(name) || self.lapsed.contains(name), "{name} came from nowhere");
        }
        let root = self.store.path();
        let spill = self.store.spill_path().join(self.store.id());
        let memory = pages(&["objects", "tmp", "warm"].map(|part| root.join(part)));
        assert_eq!(ledger_word(root, 2), memory, "bytes in memory");
        assert_eq!(ledger_word(root, 3), pages(&[root.join("warm")]), "bytes of warm segments");
        assert_eq!(ledger_word(root, 4), pages(&["objects", "tmp"].map(|part| spill.join(part))), "bytes spilled");
        assert!(memory <= self.options.capacity_bytes.unwrap(), "the limit is kept");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_agrees_with_a_map(steps in prop::collection::vec(step(), 1..60)) {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let options = Options {
            path: Some(folder.path().join("store")),
            capacity_bytes: Some(4 << 20),
            pool_bytes: Some(2 << 20),
            spill_path: Some(folder.path().join("spill")),
            spill_capacity_bytes: Some(1 << 30),
            ..Options::default()
        };
        let store = Store::open(&options).unwrap();
        let (objects, lapsed, held) = (HashMap::new(), HashSet::new(), Vec::new());
        let mut model = Model { options, store, objects, lapsed, held };
        for step in steps {
            model.run(step);
            model.check();
        }
        for (object, content) in &model.held {
            prop_assert!(content.matches(object), "{} changed while it was held", object.name());
        }
        for (name, content) in &model.objects {
            prop_assert!(content.matches(&model.store.get(*name, Access::ReadOnly).unwrap()));
        }
    }
}
