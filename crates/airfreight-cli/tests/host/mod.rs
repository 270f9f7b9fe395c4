//! A store of a test's own, and the binary run against it.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use airfreight_store::{Options, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct Host {
    folder: TempDir,
}

impl Host {
    /// With an empty store.
    pub(crate) fn new() -> Self {
        let host = Self::empty();
        host.store();
        host
    }

    /// Without a store.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn store_path(&self) -> PathBuf {
        self.folder().join("store")
    }

    /// The store, made if it isn't there.
    pub(crate) fn store(&self) -> Store {
        let options = Options {
            path: Some(self.store_path()),
            spill_path: Some(self.folder().join("spill")),
            capacity_bytes: Some(64 << 20),
            ..Options::default()
        };
        Store::open(&options).unwrap()
    }

    /// Stores that many bytes and returns the object's name.
    pub(crate) fn put(&self, bytes: usize, metadata: &Value) -> String {
        let mut writer = self.store().create().unwrap();
        writer.write(&vec![7; bytes]).unwrap();
        writer.seal(&[], &metadata.to_string()).unwrap().to_string()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.store().names().unwrap().iter().map(ToString::to_string).collect()
    }

    /// The binary with nothing of the user's own set-up.
    pub(crate) fn bare(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_airfreight"));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder())
            .env("AIRFREIGHT_SPILL_PATH", self.folder().join("spill"));
        command
    }

    /// The binary over this store.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare();
        command
            .env("AIRFREIGHT_STORE_PATH", self.store_path())
            .env("AIRFREIGHT_CAPACITY_BYTES", "64 MiB")
            .env("AIRFREIGHT_DEPLOYMENT", DEPLOYMENT)
            .args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Answer {
        answer(&mut self.command(arguments))
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        answer(self.command(arguments).arg("--json")).json()
    }
}

/// The fingerprint of the key of the Airflow that the binary is told to ask.
pub(crate) const DEPLOYMENT: &str = "0f1e2d3c";

/// An owner as the XCom backend writes it.
pub(crate) fn owner(dag_id: &str, run_id: &str, task_id: &str) -> Value {
    json!({
        "dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": -1, "try_number": 1,
        "deployment": DEPLOYMENT
    })
}

pub(crate) struct Answer(Output);

pub(crate) fn answer(command: &mut Command) -> Answer {
    Answer(command.output().unwrap())
}

impl Answer {
    /// Standard output of a call that must succeed.
    pub(crate) fn success(self) -> String {
        assert!(self.0.status.success(), "{:?}", self.0);
        String::from_utf8(self.0.stdout).unwrap()
    }

    /// Standard error of a call that must fail with this code.
    pub(crate) fn failure(self, code: i32) -> String {
        assert_eq!(self.0.status.code(), Some(code), "{:?}", self.0);
        String::from_utf8(self.0.stderr).unwrap()
    }

    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.success()).unwrap()
    }

    /// Both streams, whatever came of it.
    pub(crate) fn everything(&self) -> (String, String) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&self.0.stdout), text(&self.0.stderr))
    }
}
