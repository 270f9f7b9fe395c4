//! A Ray dashboard without Ray, for tests and measurements in other languages.
//!
//! Its first line says where it listens: `{"port": 34567, "agent_port": 34568}`. It ends with the process that started
//! it. How to give it jobs and faults: `airfreight_testkit::dashboard`.

use std::process::ExitCode;

use airfreight_testkit::dashboard::{Dashboard, Options};
use clap::Parser;
use nix::sys::prctl;
use nix::sys::signal::Signal;

#[derive(Parser)]
struct Arguments {
    /// The port on 127.0.0.1; 0 for any
    #[arg(long, default_value_t = 0)]
    port: u16,

    /// The port of the node's agent; 0 for any
    #[arg(long, default_value_t = 0)]
    agent_port: u16,

    /// Let jobs name an agent that can't be reached
    #[arg(long)]
    no_agent: bool,

    /// The Ray to be
    #[arg(long, default_value = "2.60.0")]
    ray_version: String,

    /// Refuse who doesn't know this token
    #[arg(long)]
    token: Option<String>,

    /// Be behind a proxy that wants this `login:password`
    #[arg(long)]
    basic: Option<String>,

    /// Let that proxy pass its login on to Ray
    #[arg(long)]
    basic_passes: bool,

    /// What a list of jobs costs for each job; Ray needs 0.4
    #[arg(long, default_value_t = 0.0)]
    list_ms_per_job: f64,

    /// What any other call costs; Ray needs 4 for one job
    #[arg(long, default_value_t = 0.0)]
    call_ms: f64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if prctl::set_pdeathsig(Signal::SIGKILL).is_err() {
        eprintln!("cannot end with the process that started this");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.and_then(|runtime| runtime.block_on(serve(arguments)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot serve: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the line that says where it listens")]
async fn serve(arguments: Arguments) -> std::io::Result<()> {
    let dashboard = Dashboard::start(Options {
        port: arguments.port,
        agent_port: arguments.agent_port,
        agent_reachable: !arguments.no_agent,
        ray_version: arguments.ray_version,
        token: arguments.token,
        basic: arguments.basic,
        basic_passes: arguments.basic_passes,
        list_ms_per_job: arguments.list_ms_per_job,
        call_ms: arguments.call_ms,
        ..Options::default()
    })
    .await?;
    println!("{}", serde_json::json!({"port": dashboard.port(), "agent_port": dashboard.agent_port()}));
    std::future::pending().await
}
