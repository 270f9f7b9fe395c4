//! An agent over a store of its own, and a client that sends exactly what it is told.

#![allow(dead_code, reason = "no test needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use airfreight_agent::{Access, Agent, Options, Tokens};
use airfreight_core::ObjectName;
use airfreight_store::Store;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

pub(crate) const READER: &str = "the-token-of-those-who-read";
pub(crate) const WRITER: &str = "the-token-of-those-who-write";

/// One host: its store, and its agent in the background.
pub(crate) struct Host {
    pub(crate) store: Store,
    pub(crate) address: SocketAddr,
    pub(crate) runtime: Runtime,
    pub(crate) running: tokio::task::JoinHandle<()>,
    pub(crate) end: oneshot::Sender<()>,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) fn tokens(text: &str) -> Tokens {
    Tokens { file: None, text: Some(("a test".into(), text.to_owned().into())) }
}

/// With a token for each right.
pub(crate) fn guarded() -> Options {
    let access = Access { read: tokens(READER), write: tokens(WRITER) };
    Options { listen: vec!["127.0.0.1:0".into()], access, ..Options::default() }
}

impl Host {
    pub(crate) fn start(options: &Options) -> Self {
        Self::with_capacity(options, 256 << 20)
    }

    pub(crate) fn with_capacity(options: &Options, capacity_bytes: u64) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let store = Store::open(&airfreight_store::Options {
            path: Some(folder.path().join("store")),
            capacity_bytes: Some(capacity_bytes),
            spill_path: Some(folder.path().join("spill")),
            spill_capacity_bytes: Some(capacity_bytes),
            ..airfreight_store::Options::default()
        })
        .unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let agent = runtime.block_on(Agent::bind(store.clone(), options)).unwrap();
        let address = agent.addresses()[0];
        let (end, ended) = oneshot::channel();
        let running = runtime.spawn(agent.run(async {
            let _ = ended.await;
        }));
        Self { store, address, runtime, running, end, folder }
    }

    /// Puts an object with this buffer into the store.
    pub(crate) fn seal(&self, buffer: &[u8], task_id: &str) -> ObjectName {
        let mut writer = self.store.create().unwrap();
        writer.write(b"the stream").unwrap();
        let owner = format!(r#"{{"dag_id": "d", "run_id": "r", "task_id": "{task_id}"}}"#);
        writer.seal(&[buffer], &format!(r#"{{"type": "test", "preview": {{"x": 1}}, "owner": {owner}}}"#)).unwrap()
    }

    pub(crate) fn file(&self, name: ObjectName) -> Vec<u8> {
        let file = self.store.file(name).unwrap();
        let mut bytes = vec![0; usize::try_from(file.file_bytes()).unwrap()];
        file.read(&mut bytes, 0).unwrap();
        bytes
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream
    }

    /// Sends a request's head and body as they are, and reads the answer to its end.
    pub(crate) fn raw(&self, head: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(head.replace('\n', "\r\n").as_bytes()).unwrap();
        // The agent may refuse, and close, before all of it is sent.
        let _ = stream.write_all(body);
        Answer::read(stream)
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        self.send(method, path, headers, &[])
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\n", body.len()) };
        let token = if headers.contains("Authorization") { String::new() } else { bearer(WRITER) };
        let head = format!("{method} {path} HTTP/1.1\nHost: localhost\nConnection: close\n{length}{token}{headers}\n");
        self.raw(&head, body)
    }
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\n")
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        // What came before a reset is the answer.
        let _ = stream.read_to_end(&mut bytes);
        Self::parse(&bytes)
    }

    /// Status 0: there was none.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Self { status: 0, headers: BTreeMap::new(), body: bytes.to_vec() };
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let pair = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_lowercase(), value.trim().to_owned())
        };
        Self { status, headers: lines.map(pair).collect(), body: bytes[end + 4..].to_vec() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It refuses, in our form.
    pub(crate) fn assert_refused(&self, status: u16, kind: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.json()["kind"], kind, "{self:?}");
        assert!(self.json()["message"].is_string());
    }
}

/// Bytes in which every place is told from its neighbours.
pub(crate) fn content(bytes: usize, seed: u8) -> Vec<u8> {
    (0..bytes).map(|index| u8::try_from((index * 31 + index / 4096) % 251).unwrap() ^ seed).collect()
}

pub(crate) fn crc64(bytes: &[u8]) -> String {
    format!("x-airfreight-crc64: {:016x}\n", airfreight_core::format::checksum(bytes))
}
