//! Proves the lock-and-link rule of the warm pool (`docs/design/object.md`): creates, reads, forks, kills and recycles
//! in a loop, and looks at every byte that a reader holds just before it lets go.
//!
//! ```text
//! make proof PROOF="--seconds 60 --workers 4"
//! ```

#![allow(clippy::print_stdout, reason = "a program that reports")]

use std::collections::HashSet;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use airfreight_store::Options;
use airfreight_testkit::chaos::{Mix, Plan, run};
use airfreight_testkit::{Event, Reporter, Scratch, Supervisor, Worker, audit};
use clap::Parser;

/// Kills, forks and recycles until the time is over or a byte is wrong.
#[derive(Parser, Clone)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// How many processes use the store at a time; each forks up to three more.
    #[arg(long, default_value_t = 4)]
    workers: u64,
    /// Where randomness starts; what the kernel's scheduler does is another matter.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The store's limit in MiB: small enough that deleted files are reused at once.
    #[arg(long, default_value_t = 96)]
    capacity_mib: u64,
    /// Be a worker on the store in this folder.
    #[arg(long, hide = true)]
    worker: Option<std::path::PathBuf>,
}

#[derive(Default)]
struct Counts {
    written: u64,
    verified: u64,
    recycled: u64,
    forked: u64,
    full: u64,
    kills: u64,
    inodes: HashSet<u64>,
}

impl Counts {
    fn add(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Put { inode, .. } => {
                self.written += 1;
                // The kernel doesn't give an inode's number away twice in one tmpfs.
                self.recycled += u64::from(inode != 0 && !self.inodes.insert(inode));
            }
            Event::Verified => self.verified += 1,
            Event::Forked => self.forked += 1,
            Event::Full => self.full += 1,
            Event::Failed(what) => return Err(what),
            _ => {}
        }
        Ok(())
    }

    fn print(&self, elapsed: Duration) {
        println!(
            "{:5} s: {} objects written, {} of them into recycled segments, {} reads verified, \
             {} forked children verified, {} puts found no room, {} kills",
            elapsed.as_secs(),
            self.written,
            self.recycled,
            self.verified,
            self.forked,
            self.full,
            self.kills
        );
    }
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

fn options(arguments: &Arguments, folder: &std::path::Path) -> Options {
    Options {
        path: Some(folder.join("store")),
        capacity_bytes: Some(arguments.capacity_mib << 20),
        spill_path: Some(folder.join("spill")),
        spill_capacity_bytes: Some((arguments.capacity_mib << 20) / 4),
        pool_bytes: Some((arguments.capacity_mib << 20) / 2),
        ..Options::default()
    }
}

fn work(arguments: &Arguments, folder: &std::path::Path) -> Result<(), String> {
    let plan = Plan {
        options: options(arguments, folder),
        seed: arguments.seed,
        mix: Mix { put: 30, hold: 34, fork: 2, delete: 26, link: 3, expire: 1, tidy: 4 },
        bytes: (200 << 10, 1200 << 10),
        hold_ms_max: 60,
        own_names_only: false,
        run_for: None,
    };
    run(&plan, &Reporter::install())
}

fn start(supervisor: &mut Supervisor, arguments: &Arguments, scratch: &Scratch, seed: u64) -> Result<Worker, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg("--worker").arg(scratch.path()).args(["--seed", &seed.to_string()]);
    command.args(["--capacity-mib", &arguments.capacity_mib.to_string()]);
    supervisor.start(command).map_err(|error| error.to_string())
}

fn supervise(arguments: &Arguments) -> Result<(), String> {
    let scratch = Scratch::new().map_err(|error| error.to_string())?;
    let mut rng = fastrand::Rng::with_seed(arguments.seed);
    let mut supervisor = Supervisor::default();
    let mut counts = Counts::default();
    let mut workers = Vec::new();
    for _ in 0..arguments.workers {
        workers.push(start(&mut supervisor, arguments, &scratch, rng.u64(..))?);
    }
    let began = Instant::now();
    let mut next_report = Duration::from_mins(1);
    let mut next_kill = Duration::ZERO;
    while began.elapsed().as_secs() < arguments.seconds {
        if let Some((_, event)) = supervisor.next(Duration::from_millis(20)) {
            counts.add(event)?;
        }
        supervisor.events().try_for_each(|(_, event)| counts.add(event))?;
        for worker in &mut workers {
            if let Some(status) = worker.ended() {
                supervisor.events().try_for_each(|(_, event)| counts.add(event))?;
                return Err(format!("a worker ended by itself: {status}"));
            }
        }
        if began.elapsed() >= next_kill {
            next_kill = began.elapsed() + Duration::from_millis(rng.u64(20..400));
            let killed = workers.swap_remove(rng.usize(..workers.len()));
            killed.kill().map_err(|error| error.to_string())?;
            counts.kills += 1;
            workers.push(start(&mut supervisor, arguments, &scratch, rng.u64(..))?);
        }
        if began.elapsed() >= next_report {
            next_report += Duration::from_mins(1);
            counts.print(began.elapsed());
        }
    }
    for worker in workers {
        worker.kill().map_err(|error| error.to_string())?;
    }
    // What the killed ones forked looks at its memory and ends by itself.
    supervisor.rest().try_for_each(|(_, event)| counts.add(event))?;
    counts.print(began.elapsed());
    if counts.recycled == 0 || counts.verified == 0 || counts.forked == 0 {
        return Err("nothing was recycled, read or forked: this run proves nothing".into());
    }
    let found = audit(&options(arguments, scratch.path()))?;
    println!(
        "every byte was right; the {} names that are left are whole, the ledger equals a scan, {} remains of killed \
         writers were removed and none is left",
        found.seeds.len(),
        found.reclaimed
    );
    Ok(())
}
