//! SIGKILL at every named point of queueing, uploading and completing a checkpoint, in a real process: a task that leaves
//! an upload to the agent, and the agent itself.
//!
//! After each kill the next agent must complete every upload that is in the queue, exactly once and byte for byte, and leave
//! nothing else: not in the bucket, which is a directory here, nor in the queue. What only a bucket with uploads in parts
//! has is killed in `tests/checkpoint/test_checkpoint_later.py`.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod host;

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use airfreight_bucket::{Bucket, Queue, Queued};
use airfreight_core::ObjectName;
use airfreight_core::format::checksum;
use airfreight_store::{Options, Store};
use host::Host;
use serde_json::{Value, json};

/// How many passages of a point are tried: the objects of a row, and the parts of one, pass some of them again.
const PASSAGES_MAX: u64 = 4;
const WAIT_MAX: Duration = Duration::from_mins(1);
const SIGKILL: i32 = 9;

/// In one piece, and in several parts.
const LENGTHS: [usize; 2] = [5_000, 20 << 20];

/// A host with a bucket, and what its tasks have returned.
struct Scene {
    host: Host,
    names: Vec<ObjectName>,
}

impl Scene {
    fn new() -> Self {
        let host = Host::new();
        let names = LENGTHS.map(|length| host.put(length, &json!({ "type": "test" })).parse().unwrap()).to_vec();
        fs_err::create_dir(host.folder().join("bucket")).unwrap();
        fs_err::write(host.folder().join("bucket/before"), "what the task returned before").unwrap();
        Self { host, names }
    }

    fn bucket(&self) -> PathBuf {
        self.host.folder().join("bucket")
    }

    /// The row's upload, as its task would write it.
    fn queued(&self) -> Queued {
        let store = self.host.store();
        let objects: Vec<Value> = self
            .names
            .iter()
            .map(|&name| {
                let copied = Bucket::checksum(&store, name).unwrap();
                json!({
                    "name": name.to_string(), "key": format!("run/{name}"), "nbytes": copied.nbytes,
                    "crc64": format!("{:016x}", copied.crc64),
                })
            })
            .collect();
        let text = json!({
            "version": 1, "url": format!("file://{}", self.bucket().display()), "conn": null, "objects": objects,
            "newest": {"key": "newest", "text": "what it returned last"}, "replaces": ["before"],
        });
        Queued::parse(&text.to_string()).unwrap()
    }

    fn agent(&self) -> Command {
        let mut command = self.host.command(&["agent", "--listen", "127.0.0.1:0"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn queue(&self) -> Queue {
        Queue::of(&self.host.store())
    }

    fn waits(&self) -> bool {
        !self.queue().list().unwrap().is_empty()
    }

    /// Another agent gets all done; then everything is where it belongs, and nothing is anywhere else.
    fn complete(&self, what: &str) {
        let mut agent = self.agent().spawn().unwrap();
        let began = Instant::now();
        // Who has not claimed the queue yet may still be starting, and deaf to signals.
        while self.waits() || !self.queue().is_claimed() {
            assert!(began.elapsed() < WAIT_MAX, "{what}: the queue is not empty");
            std::thread::sleep(Duration::from_millis(20));
        }
        // It notes that there are copies, which the store's audit would otherwise find half done.
        end(&mut agent);
        let mut expected: Vec<_> = self.names.iter().map(|name| format!("run/{name}")).collect();
        expected.push("newest".into());
        expected.sort_unstable();
        assert_eq!(files(&self.bucket()), expected, "{what}");
        assert_eq!(fs_err::read(self.bucket().join("newest")).unwrap(), b"what it returned last", "{what}");
        let store = self.host.store();
        for &name in &self.names {
            let copy = fs_err::read(self.bucket().join(format!("run/{name}"))).unwrap();
            assert_eq!(checksum(&copy), Bucket::checksum(&store, name).unwrap().crc64, "{what}");
        }
        assert_eq!(files(&self.host.store_path().join("uploads")), ["lock"], "{what}");
    }
}

/// All files below a folder, in order.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs_err::read_dir(inner).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort_unstable();
    found
}

fn end(agent: &mut Child) {
    rustix::process::kill_process(rustix::process::Pid::from_child(agent), rustix::process::Signal::TERM).unwrap();
    assert!(agent.wait().unwrap().success());
}

#[test]
fn an_agent_that_is_killed_at_any_point_is_followed_by_one_that_completes() {
    let points = airfreight_bucket::CRASH_POINTS.iter().filter(|point| !point.starts_with("queue."));
    for &point in points.chain(airfreight_agent::CRASH_POINTS) {
        for after in 0..PASSAGES_MAX {
            let what = format!("killed at the passage {after} of {point}");
            let scene = Scene::new();
            scene.queue().add(scene.names[0], &scene.queued()).unwrap();
            let mut command = scene.agent();
            command.env("AIRFREIGHT_CRASH_AT", point).env("AIRFREIGHT_CRASH_AFTER", after.to_string());
            let mut agent = command.spawn().unwrap();
            let began = Instant::now();
            let killed = loop {
                if let Some(status) = agent.try_wait().unwrap() {
                    assert_eq!(status.signal(), Some(SIGKILL), "{what}: {status}");
                    break true;
                }
                // Taking it out of the queue is its last step but for notes about copies.
                if !scene.waits() && began.elapsed() > Duration::from_secs(1) {
                    end(&mut agent);
                    break false;
                }
                assert!(began.elapsed() < WAIT_MAX, "{what}: it does not get on");
                std::thread::sleep(Duration::from_millis(20));
            };
            assert!(killed || after > 0, "no agent passes {point}");
            scene.complete(&what);
            if !killed {
                break;
            }
        }
    }
}

#[test]
fn a_task_that_is_killed_at_any_point_leaves_a_whole_upload_or_none() {
    for &point in airfreight_bucket::CRASH_POINTS.iter().filter(|point| point.starts_with("queue.")) {
        let scene = Scene::new();
        let mut task = Command::new(std::env::current_exe().unwrap());
        task.args(["--ignored", "--exact", "a_task_that_leaves_an_upload"]).stdout(Stdio::null());
        task.env("AIRFREIGHT_CRASH_AT", point).env("AIRFREIGHT_TEST_STORE", scene.host.store_path());
        task.env("AIRFREIGHT_TEST_QUEUED", serde_json::to_string(&scene.queued()).unwrap());
        let status = task.status().unwrap();
        assert_eq!(status.signal(), Some(SIGKILL), "no task passes {point}: {status}");
        let left: Vec<_> = files(&scene.host.store_path().join("uploads"));
        assert_eq!(left.len(), 1, "{point}: {left:?}");
        if scene.waits() {
            scene.complete(point);
            continue;
        }
        // An agent removes what is left of it, once nobody can be in the middle of it.
        let path = scene.host.store_path().join("uploads").join(&left[0]);
        let long_ago = SystemTime::now() - Duration::from_mins(10);
        fs_err::OpenOptions::new().write(true).open(path).unwrap().file().set_modified(long_ago).unwrap();
        scene.queue().add(scene.names[0], &scene.queued()).unwrap();
        scene.complete(point);
    }
}

#[test]
#[ignore = "the test above runs it in a process of its own, and kills it"]
fn a_task_that_leaves_an_upload() {
    let path = std::env::var_os("AIRFREIGHT_TEST_STORE").unwrap();
    let queued = Queued::parse(&std::env::var("AIRFREIGHT_TEST_QUEUED").unwrap()).unwrap();
    let store = Store::open(&Options { path: Some(path.into()), ..Options::default() }).unwrap();
    Queue::of(&store).add(store.names().unwrap()[0], &queued).unwrap();
}
