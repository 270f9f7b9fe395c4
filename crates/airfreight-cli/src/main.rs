//! The `airfreight` command.

use clap::Parser;

/// Looks after the values that Airflow tasks keep on this host.
#[derive(Parser)]
#[command(name = "airfreight", version)]
struct Arguments {}

fn main() {
    Arguments::parse();
}
