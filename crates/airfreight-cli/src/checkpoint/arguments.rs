//! The command line of `airfreight checkpoint`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::{Span, SpanRelativeTo};

#[derive(Debug, Args)]
#[command(
    after_help = "Credentials come from the usual variables (AWS_…, GOOGLE_…, AZURE_…) or the instance. `airflow \
                        airfreight checkpoint` knows Airflow's connections as well."
)]
pub(crate) struct CheckpointArguments {
    #[command(subcommand)]
    pub(crate) command: CheckpointCommand,

    /// The bucket: s3://, gs://, az:// or file:// (default: the setting `checkpoint`)
    #[arg(long, global = true, value_name = "URL", display_order = 100)]
    pub(crate) bucket: Option<String>,

    /// The store's directory (default: the setting `store_path`, else `/dev/shm/airfreight-<uid>`)
    #[arg(long, global = true, value_name = "PATH", display_order = 100)]
    pub(crate) store: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// List the checkpoints in the bucket, the newest first
    Ls(Selection),
    /// Bring a checkpoint into the store of this host, where `airfreight store show` shows it
    Get {
        /// Its key, as `ls` shows it, or the object's name
        key: String,
    },
    /// Delete checkpoints; a value that is gone from hosts and clusters is lost then
    Rm(RmOptions),
}

#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Only those of this DAG
    #[arg(long)]
    pub(crate) dag: Option<String>,

    /// Only those of this DAG run
    #[arg(long)]
    pub(crate) run: Option<String>,

    /// Only those of this task
    #[arg(long)]
    pub(crate) task: Option<String>,

    /// Only those that were written longer ago, such as 12h or 30d
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) older_than: Option<Duration>,
}

impl Selection {
    pub(crate) const EVERYTHING: Self = Self { dag: None, run: None, task: None, older_than: None };

    /// Whether it would take everything.
    pub(crate) fn is_everything(&self) -> bool {
        self.dag.is_none() && self.run.is_none() && self.task.is_none() && self.older_than.is_none()
    }
}

#[derive(Debug, Args)]
pub(crate) struct RmOptions {
    /// Keys, as `ls` shows them, or objects' names
    #[arg(required_unless_present_any = ["dag", "run", "task", "older_than"], conflicts_with_all = ["dag", "run", "task", "older_than"])]
    pub(crate) keys: Vec<String>,

    #[command(flatten)]
    pub(crate) selection: Selection,

    /// Only say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
}

fn age(text: &str) -> Result<Duration, String> {
    let days = SpanRelativeTo::days_are_24_hours();
    let span: Span = text.parse().map_err(|_| "not an age such as 90min, 12h or 30d".to_owned())?;
    let age = span.to_duration(days).map_err(|error| error.to_string())?;
    Duration::try_from(age).map_err(|_| "an age is no time to come".into())
}
