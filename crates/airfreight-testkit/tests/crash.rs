//! SIGKILL at every named point of the store, in a real process, in every course of operations that passes it.
//!
//! After each kill a fresh process must find every listed object whole, every acknowledged one there, nothing partial,
//! and after a full pass no memory that belongs to nobody. Each point must be passed by some script: a name in
//! [`CRASH_POINTS`] that no script reaches fails the test.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use airfreight_store::{Access, CRASH_POINTS, Store};
use airfreight_testkit::{Promise, Sample, Scratch, Script, Supervisor, audit};
use nix::sys::signal::Signal;

/// How many passages of a point are tried: the first ones find the store in different states.
const PASSAGES_MAX: u64 = 3;

/// Whether the point was reached, so that the process was killed there.
fn kill_at(point: &str, after: u64, script: &Script) -> bool {
    let scene = format!("killed at the passage {after} of {point} in {}", script.name);
    let scratch = Scratch::new().unwrap();
    let options = script.options(&scratch);
    let mut supervisor = Supervisor::default();
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    command.args(["script", script.name]).arg(scratch.path());
    command.env("AIRFREIGHT_CRASH_AT", point).env("AIRFREIGHT_CRASH_AFTER", after.to_string());
    let status = supervisor.start(command).unwrap().join().unwrap();

    let mut promise = Promise::default();
    supervisor.rest().try_for_each(|(_, event)| promise.hear(event)).unwrap_or_else(|what| panic!("{scene}: {what}"));
    let killed = status.signal() == Some(Signal::SIGKILL as i32);
    assert!(killed || status.success(), "{scene}: {status}");

    let found = audit(&options).unwrap_or_else(|what| panic!("{scene}: {what}"));
    promise.check(&found, usize::from(killed)).unwrap_or_else(|what| panic!("{scene}: {what}"));

    // The store goes on: what is there can be deleted and stays deleted, and new objects can be made.
    let store = Store::open(&options).unwrap();
    for &name in found.seeds.keys() {
        assert!(store.delete(name).unwrap(), "{scene}: {name} is listed and cannot be deleted");
    }
    assert!(store.names().unwrap().is_empty(), "{scene}: a deleted object came back");
    let sample = Sample::new(7, 1 << 20);
    let name = sample.put(&store).unwrap();
    sample.verify(&store.get(name, Access::ReadOnly).unwrap()).unwrap();
    store.delete(name).unwrap();
    let left = audit(&options).unwrap_or_else(|what| panic!("{scene}, everything deleted: {what}"));
    assert!(left.seeds.is_empty(), "{scene}: {left:?}");
    killed
}

fn missed(reached: &BTreeSet<&str>) -> Vec<&'static str> {
    let passable = |point: &&str| *point != "write.huge" || airfreight_store::huge_pages_on_request();
    CRASH_POINTS.iter().copied().filter(passable).filter(|point| !reached.contains(point)).collect()
}

#[test]
fn a_kill_at_each_point_costs_no_object_and_no_memory() {
    let mut reached = BTreeSet::new();
    for &point in CRASH_POINTS {
        if Script::ALL.iter().any(|script| kill_at(point, 0, script)) {
            reached.insert(point);
        }
    }
    assert!(missed(&reached).is_empty(), "no script passes {:?}", missed(&reached));
}

#[test]
#[ignore = "half a minute; `make test-crash` runs it"]
fn a_kill_at_any_passage_of_any_point_costs_no_object_and_no_memory() {
    for script in Script::ALL {
        for &point in CRASH_POINTS {
            let _unreached = (0..PASSAGES_MAX).find(|&after| !kill_at(point, after, script));
        }
    }
}
