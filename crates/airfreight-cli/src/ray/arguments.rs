//! The command line of `airfreight ray`.

use std::path::PathBuf;
use std::time::Duration;

use airfreight_ray::{JobStatus, Trust};
use clap::{Args, Subcommand};
use serde_json::{Map, Number, Value};

const CLUSTER: &str = "Cluster";

#[derive(Debug, Args)]
#[command(after_help = "The token of a cluster that wants one comes from RAY_AUTH_TOKEN, else from the file that \
                        RAY_AUTH_TOKEN_PATH names, else from ~/.ray/auth_token.")]
pub(crate) struct RayArguments {
    #[command(subcommand)]
    pub(crate) command: RayCommand,

    /// The Ray dashboard's address (default: `RAY_API_SERVER_ADDRESS`, `RAY_ADDRESS`, `RAY_URL`, else
    /// `http://127.0.0.1:8265`)
    #[arg(long, global = true, help_heading = CLUSTER, value_name = "URL")]
    pub(crate) address: Option<String>,

    /// Whether to verify the server's certificate (`true`, `false`), or the file of the authorities to trust
    #[arg(long, global = true, help_heading = CLUSTER, value_name = "BOOL|PATH", default_value = "true", value_parser = verify)]
    pub(crate) verify: Trust,

    /// More headers for every request, as a JSON object; other users of this host can read arguments, so secrets are
    /// better in `RAY_JOB_HEADERS`
    #[arg(long, global = true, help_heading = CLUSTER, value_name = "JSON", value_parser = texts)]
    pub(crate) headers: Option<Texts>,

    /// How long to try again while the cluster does not answer
    #[arg(long, global = true, help_heading = CLUSTER, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) patience: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RayCommand {
    /// Run a shell command on the cluster, show its log, and exit with its code
    #[command(
        after_help = "Exit codes: the entrypoint's own; 1 if the job failed without one, 128 + n if signal n killed \
                      it, 143 if it was stopped, 125 if how it ended is not known.\n\n\
                      Ctrl-C asks, a second one stops the job; Ctrl-\\ leaves it running. Without a terminal, and on \
                      SIGTERM, it is stopped at once."
    )]
    Submit(Box<SubmitOptions>),
    /// Show one job: where it stands, since when, and why it failed
    Status {
        /// Its submission id
        id: String,
    },
    /// Show a job's log
    Logs(LogsOptions),
    /// Stop jobs and wait until they are over
    Stop {
        /// Submission ids
        #[arg(required = true)]
        ids: Vec<String>,

        /// Only ask Ray to
        #[arg(long)]
        no_wait: bool,
    },
    /// List the jobs, the newest first
    List {
        /// Only jobs in this state
        #[arg(long, value_name = "STATUS", value_parser = status)]
        status: Option<JobStatus>,
    },
    /// Look after the runners, which execute functions of warm tasks
    #[command(subcommand)]
    Runner(RunnerCommand),
    /// Remove the records of jobs that are over, which Ray keeps for ever; their ids must not be used again
    Delete {
        /// Submission ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunnerCommand {
    /// Show the runners of the cluster: one for each version of Airfreight that works with it
    Status,
    /// End a runner, as it does itself when nobody needs it; the values on the cluster stay
    Stop(RunnerOptions),
    /// List what DAG runs have on the cluster: values, bytes, calls
    Owners(RunnerOptions),
    /// End the owners of DAG runs: their calls are stopped, and their values freed
    Drop {
        /// Names of owners
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        names: Vec<String>,

        /// All of them
        #[arg(long)]
        all: bool,

        #[command(flatten)]
        runner: RunnerOptions,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunnerOptions {
    /// The runner's id (default: the only one that runs)
    #[arg(long, value_name = "ID")]
    pub(crate) runner: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitOptions {
    /// The directory or zip to run in: packed, and uploaded unless the cluster has it; or a URI
    #[arg(long, value_name = "PATH|URI")]
    pub(crate) working_dir: Option<String>,

    /// A YAML or JSON file with the runtime environment
    #[arg(long, value_name = "PATH", conflicts_with = "runtime_env_json")]
    pub(crate) runtime_env: Option<PathBuf>,

    /// The runtime environment as a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub(crate) runtime_env_json: Option<Object>,

    /// An id that no job had before (default: a random one)
    #[arg(long, value_name = "ID")]
    pub(crate) submission_id: Option<String>,

    /// Texts to keep with the job, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = texts)]
    pub(crate) metadata_json: Option<Texts>,

    /// The CPUs that the entrypoint takes, besides those of its tasks and actors
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    pub(crate) entrypoint_num_cpus: Option<Number>,

    /// The GPUs that the entrypoint takes
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    pub(crate) entrypoint_num_gpus: Option<Number>,

    /// The memory that the entrypoint takes
    #[arg(long, value_name = "BYTES")]
    pub(crate) entrypoint_memory: Option<u64>,

    /// Other resources that the entrypoint takes, as a JSON object of numbers
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub(crate) entrypoint_resources: Option<Object>,

    /// The labels that the entrypoint's node must have, as a JSON object of texts
    #[arg(long, value_name = "JSON", value_parser = texts)]
    pub(crate) entrypoint_label_selector: Option<Texts>,

    /// Only submit, and print the id
    #[arg(long)]
    pub(crate) no_wait: bool,

    /// The shell command; several arguments are quoted for the shell, a single one is left as it is
    #[arg(required = true, last = true, value_name = "ENTRYPOINT")]
    pub(crate) entrypoint: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsOptions {
    /// The job's submission id
    pub(crate) id: String,

    /// Go on until the job is over
    #[arg(long, short, conflicts_with = "tail")]
    pub(crate) follow: bool,

    /// Only the last so many lines
    #[arg(long, short = 'n', value_name = "LINES")]
    pub(crate) tail: Option<u32>,
}

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// A JSON object of texts.
#[derive(Clone)]
pub(crate) struct Texts(pub(crate) Object);

impl std::fmt::Debug for Texts {
    /// They may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The errors name no value.
pub(crate) fn texts(json: &str) -> Result<Texts, String> {
    let object = object(json)?;
    match object.iter().find(|(_, value)| !value.is_string()) {
        None => Ok(Texts(object)),
        Some((key, _)) => Err(format!("the value of `{key}` is not a text")),
    }
}

fn object(json: &str) -> Result<Object, String> {
    serde_json::from_str(json).map_err(|error| format!("not a JSON object: {error}"))
}

fn number(text: &str) -> Result<Number, String> {
    match text.parse::<Number>() {
        Ok(number) if number.as_f64().is_some_and(|number| number >= 0.0) => Ok(number),
        _ => Err("not a number of 0 or more".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| "not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a number of seconds".into())
}

fn status(text: &str) -> Result<JobStatus, String> {
    let known = "PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED";
    JobStatus::parse(&text.to_uppercase()).ok_or_else(|| format!("not one of {known}"))
}

#[expect(clippy::unnecessary_wraps, reason = "what clap wants")]
fn verify(text: &str) -> Result<Trust, String> {
    Ok(match text.to_lowercase().as_str() {
        "true" | "1" | "yes" => Trust::System,
        "false" | "0" | "no" => Trust::Anyone,
        _ => Trust::Bundle(text.into()),
    })
}
