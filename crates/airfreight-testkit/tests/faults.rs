//! Faults of the system and of other processes: a clear error each, never a crash, a hang or a wrong value.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::process::Command;

use airfreight_core::ErrorKind;
use airfreight_store::{Access, Store, StoreError};
use airfreight_testkit::fault::FAULTS;
use airfreight_testkit::{Event, Promise, Sample, Scratch, Script, Supervisor, Worker, audit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

fn worker() -> Command {
    Command::new(env!("CARGO_BIN_EXE_worker"))
}

#[test]
fn each_fault_of_the_system_is_a_clear_error() {
    for (name, _) in FAULTS {
        let scratch = Scratch::new().unwrap();
        let mut supervisor = Supervisor::default();
        let mut command = worker();
        command.args(["fault", name]).arg(scratch.path());
        let status = supervisor.start(command).unwrap().join().unwrap();
        for (_, event) in supervisor.rest() {
            assert!(!matches!(event, Event::Failed(_)), "{name}: {event}");
        }
        assert!(status.success() || status.code() == Some(77), "{name}: {status}");
    }
}

#[test]
fn many_processes_make_one_store_at_once() {
    for round in 0..5 {
        let scratch = Scratch::new().unwrap();
        let mut supervisor = Supervisor::default();
        let start = |seed: u64| {
            let mut command = worker();
            command.arg("open").arg(scratch.path()).arg((100 * round + seed).to_string());
            supervisor.start(command).unwrap()
        };
        let workers: Vec<Worker> = (0..12).map(start).collect();
        for worker in workers {
            assert!(worker.join().unwrap().success());
        }
        let mut promise = Promise::default();
        supervisor.rest().try_for_each(|(_, event)| promise.hear(event)).unwrap();
        assert_eq!(promise.kept.len(), 12);
        promise.check(&audit(&scratch.options_with_spill(4 << 20, 1 << 30)).unwrap(), 0).unwrap();
    }
}

/// Runs a script until it stops at a point, locks in hand.
fn stop_at(point: &str, script: &Script, scratch: &Scratch, supervisor: &mut Supervisor) -> Worker {
    let mut command = worker();
    command.args(["script", script.name]).arg(scratch.path());
    command.env("AIRFREIGHT_CRASH_AT", point).env("AIRFREIGHT_CRASH_WITH", "stop");
    let started = supervisor.start(command).unwrap();
    let stopped = waitpid(started.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(stopped, WaitStatus::Stopped(_, Signal::SIGSTOP)), "{point}: {stopped:?}");
    started
}

fn script(name: &str) -> &'static Script {
    Script::ALL.iter().find(|script| script.name == name).unwrap()
}

#[test]
fn an_object_that_is_deleted_while_it_is_spilled_does_not_come_back() {
    for point in ["spill.temp", "spill.copied", "spill.published"] {
        let (script, scratch) = (script("overflow"), Scratch::new().unwrap());
        let mut supervisor = Supervisor::default();
        let stopped = stop_at(point, script, &scratch, &mut supervisor);
        let store = Store::open(&script.options(&scratch)).unwrap();
        let names = store.names().unwrap();
        for &name in &names {
            assert!(store.delete(name).unwrap(), "{point}");
        }
        kill(stopped.pid(), Signal::SIGCONT).unwrap();
        // The script stumbles over what is gone, after it has finished with the object that it was moving.
        stopped.join().unwrap();
        let found = audit(&script.options(&scratch)).unwrap();
        for name in &names {
            assert!(!found.seeds.contains_key(name), "{point}: {name} came back");
        }
    }
}

#[test]
fn a_stopped_process_keeps_no_reader_waiting() {
    for (point, name) in [("create.reserved", "life"), ("delete.locked", "life"), ("evict.scanned", "overflow")] {
        let (script, scratch) = (script(name), Scratch::new().unwrap());
        let store = Store::open(&script.options(&scratch)).unwrap();
        let sample = Sample::new(1, 200_000);
        let object = sample.put(&store).unwrap();
        let mut supervisor = Supervisor::default();
        let _stopped = stop_at(point, script, &scratch, &mut supervisor);
        sample.verify(&store.get(object, Access::ReadOnly).unwrap()).unwrap();
        store.describe(object).unwrap();
        store.names().unwrap();
    }
}

#[test]
#[ignore = "half a minute; `make test-crash` runs it"]
fn who_needs_a_lock_that_a_stopped_process_holds_gives_up_and_says_so() {
    let (script, scratch) = (script("overflow"), Scratch::new().unwrap());
    let mut supervisor = Supervisor::default();
    let _stopped = stop_at("evict.scanned", script, &scratch, &mut supervisor);
    let store = Store::open(&script.options(&scratch)).unwrap();
    let error = Sample::new(1, 10).put(&store).unwrap_err();
    assert!(matches!(error, StoreError::Blocked { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(store.path().to_str().unwrap()), "{error}");
    assert!(error.hint().unwrap().contains("stopped process"));
}

#[test]
#[ignore = "makes 100,000 files; `make test-crash` runs it"]
fn a_hundred_thousand_objects_are_no_obstacle() {
    const OBJECTS: usize = 100_000;
    let scratch = Scratch::new().unwrap();
    let store = scratch.open(1 << 30).unwrap();
    let names: Vec<_> = (0..OBJECTS as u64).map(|seed| Sample::new(seed, 100).put(&store).unwrap()).collect();
    assert_eq!(store.names().unwrap().len(), OBJECTS);
    assert_eq!(store.stat().unwrap().objects, OBJECTS as u64);
    for (seed, &name) in names.iter().enumerate().step_by(1000) {
        Sample::new(seed as u64, 100).verify(&store.get(name, Access::ReadOnly).unwrap()).unwrap();
    }
    for &name in names.iter().step_by(100) {
        store.expire(name, 0.0).unwrap();
    }
    // Small steps find all of them in the end; the last step of a pass makes the next ones rest.
    let mut swept = 0;
    for _ in 0..OBJECTS / 100 {
        swept += store.sweep(8).unwrap();
    }
    assert_eq!(swept, OBJECTS as u64 / 100);
    let deleted = names.iter().filter(|&&name| store.delete(name).unwrap()).count();
    assert_eq!(deleted, OBJECTS - OBJECTS / 100);
    assert_eq!(store.stat().unwrap().used_bytes, 0);
}
