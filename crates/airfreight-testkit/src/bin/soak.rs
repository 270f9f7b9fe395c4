//! Kills writers, readers and whoever makes room at random moments, over and over, on one store; after each round every
//! promise that was made must hold.
//!
//! ```text
//! make soak SOAK="--kills 1000"
//! ```

#![allow(clippy::print_stdout, reason = "a program that reports")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use airfreight_store::{Options, Store};
use airfreight_testkit::chaos::{Mix, Plan, run};
use airfreight_testkit::{Event, Promise, Reporter, Scratch, Supervisor, audit};
use clap::Parser;

const CAPACITY_BYTES: u64 = 24 << 20;
/// Enough for everything that memory has no room for: here no put may fail.
const SPILL_BYTES: u64 = 512 << 20;
/// Names that are left from one round to the next.
const KEPT_MAX: usize = 40;

/// Kills processes at random until one that comes after finds something wrong.
#[derive(Parser, Clone)]
struct Arguments {
    /// How many processes are killed.
    #[arg(long, default_value_t = 10_000)]
    kills: u64,
    /// How many use the store at a time.
    #[arg(long, default_value_t = 4)]
    workers: u64,
    /// Where randomness starts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Be a worker on the store in this folder.
    #[arg(long, hide = true)]
    worker: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.worker {
        Some(folder) => work(&arguments, folder),
        None => supervise(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            println!("failed {what}");
            ExitCode::FAILURE
        }
    }
}

fn options(folder: &Path) -> Options {
    Scratch::of(folder.to_owned()).options_with_spill(CAPACITY_BYTES, SPILL_BYTES)
}

fn work(arguments: &Arguments, folder: &Path) -> Result<(), String> {
    let plan = Plan {
        options: options(folder),
        seed: arguments.seed,
        mix: Mix { put: 40, hold: 20, fork: 1, delete: 26, link: 6, expire: 2, tidy: 5 },
        bytes: (1, 2 << 20),
        hold_ms_max: 20,
        own_names_only: true,
        run_for: None,
    };
    run(&plan, &Reporter::install())
}

fn supervise(arguments: &Arguments) -> Result<(), String> {
    let scratch = Scratch::new().map_err(|error| error.to_string())?;
    let options = options(scratch.path());
    let mut rng = fastrand::Rng::with_seed(arguments.seed);
    let mut promise = Promise::default();
    let (mut kills, mut written, mut reclaimed) = (0, 0_u64, 0);
    let began = Instant::now();
    let mut next_report = Duration::from_secs(30);
    while kills < arguments.kills {
        let (round, put) = round(arguments, &scratch, &mut rng, &mut promise)?;
        kills += round;
        written += put;
        let scene = |what| format!("after {kills} kills: {what}");
        let found = audit(&options).map_err(scene)?;
        promise.check(&found, usize::try_from(round).unwrap_or(0)).map_err(scene)?;
        reclaimed += found.reclaimed;

        // Some of what is there stays, for the next round to evict and the last to find.
        let store = Store::open(&options).map_err(|error| error.to_string())?;
        let mut names: Vec<_> = found.seeds.keys().copied().collect();
        rng.shuffle(&mut names);
        for &name in names.iter().skip(KEPT_MAX) {
            store.delete(name).map_err(|error| scene(error.to_string()))?;
            promise.gone.insert(name);
        }
        promise.going.clear();
        names.truncate(KEPT_MAX);
        promise.kept = names.iter().map(|name| (*name, found.seeds[name])).collect();
        if began.elapsed() >= next_report {
            next_report += Duration::from_secs(30);
            println!("{:5} s: {kills} kills, {written} objects written", began.elapsed().as_secs());
        }
    }
    println!(
        "{:5} s: {kills} kills, {written} objects written, {reclaimed} remains removed; every acknowledged object was \
         whole, nothing partial was seen, and no memory was lost",
        began.elapsed().as_secs()
    );
    Ok(())
}

/// Lets workers run for a moment and kills them all. Returns how many were killed and how much they had put.
fn round(
    arguments: &Arguments,
    scratch: &Scratch,
    rng: &mut fastrand::Rng,
    promise: &mut Promise,
) -> Result<(u64, u64), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut supervisor = Supervisor::default();
    let mut workers = Vec::new();
    for _ in 0..arguments.workers {
        let mut command = Command::new(&program);
        command.arg("--worker").arg(scratch.path()).args(["--seed", &rng.u64(..).to_string()]);
        workers.push(supervisor.start(command).map_err(|error| error.to_string())?);
    }
    // From the first one's beginning on: the others may still be opening the store.
    let first = supervisor.next(Duration::from_mins(1)).ok_or("no worker begins")?;
    promise.hear(first.1)?;
    std::thread::sleep(Duration::from_micros(rng.u64(..60_000)));
    let mut kills = 0;
    for worker in workers {
        let status = worker.kill_and_join().map_err(|error| error.to_string())?;
        if status.code().is_some() {
            supervisor.events().try_for_each(|(_, event)| promise.hear(event))?;
            return Err(format!("a worker ended by itself: {status}"));
        }
        kills += 1;
    }
    let mut written = 0;
    for (_, event) in supervisor.rest() {
        written += u64::from(matches!(event, Event::Put { .. }));
        promise.hear(event)?;
    }
    Ok((kills, written))
}
