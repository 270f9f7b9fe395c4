//! The command line.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::agent::AgentOptions;
use crate::apolo::ApoloArguments;
use crate::checkpoint::CheckpointArguments;
use crate::cluster::ClusterArguments;
use crate::ray::RayArguments;
use crate::settings::HOURS_MAX;

/// Looks after the values that Airflow tasks keep on this host, serves them to other hosts, checks the whole set-up, runs
/// jobs on Ray and Apolo, and looks after Ray clusters on Kubernetes.
#[derive(Debug, Parser)]
#[command(
    name = "airfreight",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Settings come from flags, then AIRFREIGHT_<NAME>, then AIRFLOW__AIRFREIGHT__<NAME>, then the \
                  [airfreight] section of $AIRFLOW_HOME/airflow.cfg.\n\n\
                  Exit codes: 0 done, 1 not done (doctor: something is broken), 2 wrong usage. `ray submit` and `apolo run` \
                  have those of the job."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Answer in JSON
    #[arg(long, global = true, display_order = LAST)]
    pub(crate) json: bool,
}

/// Where the help shows what all commands have.
const LAST: usize = 100;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Objects of this host: list, show, count, remove, collect
    Store(StoreArguments),
    /// Serve this host's objects to tasks on other hosts, until SIGTERM
    Agent(AgentOptions),
    /// Jobs of a Ray cluster: submit, look at, follow, stop; needs no Ray
    Ray(RayArguments),
    /// Ray clusters on Kubernetes: create, look at, reach, delete, collect; needs no kubectl
    Cluster(ClusterArguments),
    /// Jobs on Apolo: run, look at, follow, cancel; needs no SDK
    Apolo(ApoloArguments),
    /// Copies of values in a bucket: list, bring here, remove
    Checkpoint(CheckpointArguments),
    /// Check Airflow's configuration, shared memory, permissions and versions, and say how to mend what is wrong
    Doctor(DoctorOptions),
}

impl Command {
    /// The store's directory, where one was named.
    pub(crate) fn store(&self) -> Option<&Path> {
        match self {
            Self::Store(arguments) => arguments.store.as_deref(),
            Self::Checkpoint(arguments) => arguments.store.as_deref(),
            Self::Agent(options) => options.store.as_deref(),
            Self::Doctor(options) => options.store.as_deref(),
            Self::Ray(_) | Self::Apolo(_) | Self::Cluster(_) => None,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct StoreArguments {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,

    /// The store's directory (default: the setting `store_path`, else `/dev/shm/airfreight-<uid>`)
    #[arg(long, global = true, value_name = "PATH", display_order = LAST)]
    pub(crate) store: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// List the objects
    Ls(LsOptions),
    /// Show one object: what it is, who wrote it, a preview
    Show {
        /// The object's name, or a beginning of it that no other has
        id: String,
    },
    /// How full the store is
    Stat,
    /// Remove objects; tasks that read them at the moment keep what they have
    Rm {
        /// Names, or beginnings of names that no other object has
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Remove what nobody needs: expired objects, what killed writers left, and (asking Airflow) objects of ended runs
    Gc(GcOptions),
}

#[derive(Debug, Args)]
pub(crate) struct LsOptions {
    /// Only objects of this DAG
    #[arg(long)]
    pub(crate) dag: Option<String>,

    /// Only objects of this DAG run
    #[arg(long)]
    pub(crate) run: Option<String>,

    /// What comes first
    #[arg(long, value_enum, default_value_t = Order::Age)]
    pub(crate) sort: Order,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Order {
    /// The newest
    Age,
    /// The largest
    Size,
    /// The last used
    Used,
}

/// The token is no flag, since every user of the host can read a process's arguments.
#[derive(Debug, Args)]
#[command(after_help = "With an API URL, Airflow is asked whether each object's task instance still exists and when \
                        its run ended. Any error or doubt means keep. The token comes from AIRFREIGHT_API_TOKEN or \
                        --token-file; it needs to read DAGs, DAG runs and task instances.")]
pub(crate) struct GcOptions {
    /// The base URL of Airflow's API server (default: the setting `api_url`)
    #[arg(long, value_name = "URL")]
    pub(crate) api_url: Option<String>,

    /// A file that holds the token and nothing else
    #[arg(long, value_name = "PATH")]
    pub(crate) token_file: Option<PathBuf>,

    /// Keep the objects of a DAG run for so long after its end (default: the setting `retention_hours`, else 48)
    #[arg(long, value_name = "HOURS", value_parser = hours)]
    pub(crate) retention_hours: Option<f64>,

    /// Keep an object for so long after it was written, even if Airflow does not know its task instance
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    pub(crate) grace_minutes: u32,

    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// The Python that runs Airflow (default: the one next to this program, else next to `airflow` on PATH)
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,

    /// The store's directory (default: the setting `store_path`, else `/dev/shm/airfreight-<uid>`)
    #[arg(long, value_name = "PATH")]
    pub(crate) store: Option<PathBuf>,
}

pub(crate) fn hours(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(hours) if (0.0..=HOURS_MAX).contains(&hours) => Ok(hours),
        _ => Err("not a number of hours".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
