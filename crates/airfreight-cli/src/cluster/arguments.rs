//! The command line of `airfreight cluster`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::arguments::hours;

const KUBERNETES: &str = "Kubernetes";

#[derive(Debug, Args)]
#[command(
    after_help = "Without --kubeconfig the API server is found as kubectl finds it: KUBECONFIG, ~/.kube/config; \
                        in a pod its service account."
)]
pub(crate) struct ClusterArguments {
    #[command(subcommand)]
    pub(crate) command: ClusterCommand,

    /// The kubeconfig
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "PATH")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The kubeconfig's context (default: its current one)
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// The namespace of clusters whose description names none (default: the context's)
    #[arg(long, short, global = true, help_heading = KUBERNETES, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// How long to try again while the API server does not answer
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) patience: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Create a cluster, or change the one there is, and wait until it serves
    Apply(ApplyOptions),
    /// Show one cluster: how it and its pods stand, and how to reach it; without a name, list those of Airfreight
    Status {
        /// Its name
        name: Option<String>,
    },
    /// Delete clusters and wait until they and their pods are gone
    Delete(DeleteOptions),
    /// Lead a port of this host to the cluster's head, until Ctrl-C
    Forward(ForwardOptions),
    /// Delete clusters that were made for one task which is over, asking Airflow
    Gc(CollectOptions),
}

#[derive(Debug, Args)]
pub(crate) struct ApplyOptions {
    /// A file with the YAML of one `RayCluster`, as `kubectl apply` takes it; `-` for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Leave a cluster that is there as it is, even if it was described otherwise
    #[arg(long)]
    pub(crate) keep: bool,

    /// Don't wait until it serves
    #[arg(long)]
    pub(crate) no_wait: bool,

    /// How long to wait
    #[arg(long, value_name = "SECONDS", default_value = "1200", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteOptions {
    /// Names
    #[arg(required = true)]
    pub(crate) names: Vec<String>,

    /// Only ask Kubernetes to
    #[arg(long)]
    pub(crate) no_wait: bool,

    /// How long to wait
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct ForwardOptions {
    /// The cluster's name
    pub(crate) name: String,

    /// The head's port: 8265 is the dashboard's
    #[arg(long, value_name = "PORT", default_value_t = airfreight_cluster::DASHBOARD_PORT)]
    pub(crate) port: u16,

    /// The port on 127.0.0.1; 0 for any (default: the same as the head's)
    #[arg(long, value_name = "PORT")]
    pub(crate) local_port: Option<u16>,
}

/// The token is no flag, since every user of the host can read a process's arguments.
#[derive(Debug, Args)]
#[command(
    after_help = "With an API URL, Airflow is asked whether each cluster's task is over; one that waits for its \
                        retry is not. Any error or doubt means keep, and so does a cluster that was not made for one \
                        task. The token comes from AIRFREIGHT_API_TOKEN or --token-file; it needs to read DAGs and \
                        task instances."
)]
pub(crate) struct CollectOptions {
    /// The base URL of Airflow's API server (default: the setting `api_url`)
    #[arg(long, value_name = "URL")]
    pub(crate) api_url: Option<String>,

    /// A file that holds the token and nothing else
    #[arg(long, value_name = "PATH")]
    pub(crate) token_file: Option<PathBuf>,

    /// Don't ask Airflow: delete the tasks' clusters of this age, whatever runs on them
    #[arg(long, value_name = "HOURS", value_parser = hours, conflicts_with = "api_url")]
    pub(crate) older_than: Option<f64>,

    /// Keep a cluster for so long after it was made, even if Airflow does not know its task
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    pub(crate) grace_minutes: u32,

    /// Only say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| "not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a number of seconds".into())
}
