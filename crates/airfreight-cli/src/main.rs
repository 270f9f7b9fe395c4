//! The `airfreight` command: look after the store of this host, serve it to others, check the whole set-up, run jobs on
//! Ray and Apolo, look after Ray clusters on Kubernetes.
//!
//! Exit codes: 0 done, 1 not done or `doctor` found a failure, 2 the command line makes no sense; `ray submit` and
//! `apolo run` end with the job's own code, or 125 where that isn't known.

mod agent;
mod apolo;
mod arguments;
mod checkpoint;
mod cluster;
mod doctor;
mod error;
mod leftovers;
mod output;
mod ray;
mod settings;
mod store;

use std::error::Error as _;
use std::io;
use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Command};
use crate::error::CliError;
use crate::output::Output;
use crate::settings::Settings;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        // `airfreight store ls | head` is no failure.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            match &arguments.command {
                Command::Ray(ray) => ray::failure(ray),
                Command::Apolo(apolo) => apolo::failure(apolo),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, CliError> {
    let mut output = Output::new(io::stdout().lock(), arguments.json);
    let settings = || Settings::load(arguments.command.store());
    let code = match &arguments.command {
        Command::Store(arguments) => store::run(&arguments.command, &settings()?, &mut output),
        Command::Doctor(options) => doctor::run(options, &settings()?, &mut output),
        Command::Agent(options) => agent::run(options, &settings()?),
        Command::Ray(arguments) => ray::run(arguments, &mut output),
        Command::Apolo(arguments) => apolo::run(arguments, &mut output),
        Command::Cluster(arguments) => cluster::run(arguments, &settings()?, &mut output),
        Command::Checkpoint(arguments) => checkpoint::run(arguments, &settings()?, &mut output),
    }?;
    output.flush()?;
    Ok(code)
}

/// The error, what caused it, and what to try: each on a line of its own, on standard error.
fn report(error: &CliError) {
    let mut lines = vec![format!("error: {error}")];
    let mut source = error.source();
    while let Some(cause) = source {
        lines.push(format!("  because: {cause}"));
        source = cause.source();
    }
    lines.extend(error.hint().map(|hint| format!("hint: {hint}")));
    output::progress(lines.join("\n"));
}
