//! Hosts with a store and an agent, for the tests of transfers.

use airfreight_agent::{Access, Tokens};
use airfreight_core::ObjectName;
use airfreight_store::{Options, Store};

pub(crate) const MIB: usize = 1 << 20;
pub(crate) const TOKEN: &str = "the-token-of-those-who-read";

/// A host's store.
pub(crate) struct Host {
    pub(crate) store: Store,
    _folder: tempfile::TempDir,
}

pub(crate) fn host(capacity_bytes: u64) -> Host {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let options = Options {
        path: Some(folder.path().join("store")),
        capacity_bytes: Some(capacity_bytes),
        spill_path: Some(folder.path().join("spill")),
        spill_capacity_bytes: Some(0),
        ..Options::default()
    };
    Host { store: Store::open(&options).unwrap(), _folder: folder }
}

impl Host {
    pub(crate) fn seal(&self, bytes: usize) -> ObjectName {
        let buffer: Vec<u8> = (0..bytes).map(|at| u8::try_from((at * 31 + at / 4096) % 251).unwrap()).collect();
        let mut writer = self.store.create().unwrap();
        writer.write(b"the stream").unwrap();
        writer.seal(&[&buffer], "{}").unwrap()
    }

    pub(crate) fn file(&self, name: ObjectName) -> Vec<u8> {
        let file = self.store.file(name).unwrap();
        let mut bytes = vec![0; usize::try_from(file.file_bytes()).unwrap()];
        file.read(&mut bytes, 0).unwrap();
        bytes
    }

    pub(crate) fn assert_empty(&self) {
        let stat = self.store.stat().unwrap();
        assert_eq!((stat.objects, stat.unfinished, stat.used_bytes - stat.warm_bytes), (0, 0, 0), "{stat:?}");
    }

    /// An agent of this host that listens at `listen`, if anywhere.
    pub(crate) async fn agent(&self, listen: Vec<String>) -> airfreight_agent::Agent {
        let read = Tokens { file: None, text: Some(("a test".into(), TOKEN.to_owned().into())) };
        let access = Access { read, ..Access::default() };
        let options = airfreight_agent::Options { listen, access, ..Default::default() };
        airfreight_agent::Agent::bind(self.store.clone(), &options).await.unwrap()
    }
}
