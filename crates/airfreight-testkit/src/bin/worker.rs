//! A process for tests to kill: runs a script or a random plan on a store, and tells what it does.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use airfreight_store::Store;
use airfreight_testkit::chaos::{Mix, Plan, run};
use airfreight_testkit::fault::FAULTS;
use airfreight_testkit::{Event, Reporter, Sample, Scratch, Script};
use clap::Parser;

#[derive(Parser)]
enum Arguments {
    /// Runs a script of this name.
    Script { name: String, folder: PathBuf },
    /// Makes a fault of the system and looks at what the store does; ends with 77 where it can't be made.
    Fault { name: String, folder: PathBuf },
    /// Opens the store with others at once, and puts one object.
    Open { folder: PathBuf, seed: u64 },
    /// Puts, gets, deletes and evicts at random for a while.
    Pressure { folder: PathBuf, seed: u64, capacity_mib: u64, seconds: u64 },
}

fn main() -> ExitCode {
    let reporter = Reporter::install();
    match work(Arguments::parse(), &reporter) {
        Ok(code) => code,
        Err(what) => {
            reporter.tell(&Event::Failed(what));
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: Arguments, reporter: &Reporter) -> Result<ExitCode, String> {
    match arguments {
        Arguments::Script { name, folder } => {
            let script = Script::ALL.iter().find(|script| script.name == name).ok_or("no such script")?;
            script.run(&script.options(&Scratch::of(folder)), reporter).map_err(|error| error.to_string())?;
        }
        Arguments::Fault { name, folder } => {
            let (_, fault) = FAULTS.iter().find(|(fault, _)| *fault == name).ok_or("no such fault")?;
            if let Err(reason) = fault(&Scratch::of(folder)) {
                eprintln!("skipped: {reason}");
                return Ok(ExitCode::from(77));
            }
        }
        Arguments::Open { folder, seed } => {
            let scratch = Scratch::of(folder);
            let store =
                Store::open(&scratch.options_with_spill(4 << 20, 1 << 30)).map_err(|error| error.to_string())?;
            // One that memory has no room for, so that all make the spill folder, too.
            let sample = Sample::new(seed, 5 << 20);
            let name = sample.put(&store).map_err(|error| error.to_string())?;
            reporter.tell(&Event::Put { name, seed, bytes: sample.bytes(), inode: 0 });
        }
        Arguments::Pressure { folder, seed, capacity_mib, seconds } => {
            let plan = Plan {
                options: Scratch::of(folder).options_with_spill(capacity_mib << 20, (8 * capacity_mib) << 20),
                seed,
                mix: Mix { put: 36, hold: 40, fork: 0, delete: 18, link: 2, expire: 1, tidy: 3 },
                bytes: (1, 2 << 20),
                hold_ms_max: 20,
                own_names_only: false,
                run_for: Some(Duration::from_secs(seconds)),
            };
            run(&plan, reporter)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
