//! Eight processes put, get, delete and evict at once, under a limit of less than half of what they write.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::process::Command;
use std::time::{Duration, Instant};

use airfreight_testkit::{Event, Scratch, Supervisor, audit, used_bytes};

const WORKERS: u64 = 8;
const CAPACITY_MIB: u64 = 32;
/// The longest object that a worker writes, with its header and footer.
const OBJECT_BYTES_MAX: u64 = (2 << 20) + 4096;
/// Longer than anything here takes; a worker that doesn't end by then is stuck.
const DEADLINE: Duration = Duration::from_mins(2);

fn press(seconds: u64) {
    let scratch = Scratch::new().unwrap();
    let mut supervisor = Supervisor::default();
    let mut workers: Vec<_> = (0..WORKERS)
        .map(|seed| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
            command.arg("pressure").arg(scratch.path());
            command.args([seed, CAPACITY_MIB, seconds].map(|number| number.to_string()));
            supervisor.start(command).unwrap()
        })
        .collect();

    let (mut written, mut verified, mut most) = (0, 0_u64, 0);
    let mut hear = |event| match event {
        Event::Put { bytes, .. } => written += bytes,
        Event::Verified => verified += 1,
        Event::Failed(what) => panic!("{what}"),
        _ => {}
    };
    let began = Instant::now();
    while workers.iter_mut().any(|worker| worker.ended().is_none()) {
        most = most.max(used_bytes(&scratch.store_path()).unwrap());
        supervisor.events().for_each(|(_, event)| hear(event));
        assert!(began.elapsed() < DEADLINE + Duration::from_secs(seconds), "a worker makes no progress");
    }
    for worker in workers {
        let status = worker.join().unwrap();
        assert!(status.success(), "{status}");
    }
    supervisor.rest().for_each(|(_, event)| hear(event));
    let capacity = CAPACITY_MIB << 20;
    assert!(written >= 2 * capacity && verified > 0, "{written} bytes written, {verified} reads: no pressure at all");
    assert!(most <= capacity + OBJECT_BYTES_MAX, "{most} bytes were in use, the limit is {capacity}");
    audit(&scratch.options_with_spill(capacity, 8 * capacity)).unwrap();
}

#[test]
fn eight_processes_under_pressure_see_no_wrong_byte_and_keep_the_limit() {
    press(5);
}

#[test]
#[ignore = "a minute; `make test-crash` runs it"]
fn eight_processes_under_pressure_for_a_minute() {
    press(60);
}
