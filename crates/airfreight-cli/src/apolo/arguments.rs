//! The command line of `airfreight apolo`.

use std::time::Duration;

use airfreight_apolo::Trust;
use clap::{Args, Subcommand};

const PLATFORM: &str = "Platform";

/// The token is no flag, since every user of the host can read a process's arguments.
#[derive(Debug, Args)]
#[command(after_help = "The token, raw or as the platform's passed config, comes from APOLO_TOKEN, else from \
                        APOLO_PASSED_CONFIG, which jobs have that were run with their owner's credentials.")]
pub(crate) struct ApoloArguments {
    #[command(subcommand)]
    pub(crate) command: ApoloCommand,

    /// The platform's API (default: what the passed config says, else Apolo's own)
    #[arg(long, global = true, help_heading = PLATFORM, value_name = "URL", env = "APOLO_API_URL")]
    pub(crate) api_url: Option<String>,

    /// The cluster (default: what the passed config says, else the first that the token opens)
    #[arg(long, global = true, help_heading = PLATFORM, value_name = "NAME")]
    pub(crate) cluster: Option<String>,

    /// The organisation
    #[arg(long, global = true, help_heading = PLATFORM, value_name = "NAME")]
    pub(crate) org: Option<String>,

    /// The project
    #[arg(long, global = true, help_heading = PLATFORM, value_name = "NAME")]
    pub(crate) project: Option<String>,

    /// Whether to verify the platform's certificate (`true`, `false`), or the file of the authorities to trust, too
    #[arg(long, global = true, help_heading = PLATFORM, value_name = "BOOL|PATH", default_value = "true", value_parser = verify)]
    pub(crate) verify: Trust,

    /// How long to try again while the platform does not answer
    #[arg(long, global = true, help_heading = PLATFORM, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) patience: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApoloCommand {
    /// Run a command in a container, show its log, and exit with its code
    #[command(
        after_help = "Exit codes: the command's own; 125 if the job was cancelled, never started, or has none.\n\n\
                            Ctrl-C asks, a second one cancels the job; Ctrl-\\ leaves it running. Without a terminal, \
                            and on SIGTERM, it is cancelled at once."
    )]
    Run(Box<RunOptions>),
    /// Show one job: where it stands, and why
    Status {
        /// Its id or name
        id: String,
    },
    /// Show a job's log
    Logs(LogsOptions),
    /// Cancel jobs
    Kill {
        /// Ids or names
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// The image: `ubuntu:24.04`, or `image:mine:1` of the platform's registry
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: String,

    /// The preset that says what the job gets
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: String,

    /// A name that no other live job has
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// A description for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,

    /// A variable; a value `secret:NAME` is that secret's
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,

    /// `storage:PATH:/MOUNT[:ro]`, `disk:NAME:/MOUNT[:ro]` or `secret:NAME:/MOUNT`
    #[arg(long, short, value_name = "VOLUME")]
    pub(crate) volume: Vec<String>,

    /// A tag
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,

    /// The platform ends the job after so long, rounded up to minutes
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) life_span: Option<Duration>,

    /// A port that the job serves HTTP on
    #[arg(long, value_name = "PORT")]
    pub(crate) http_port: Option<u16>,

    /// Only start the job, and print its id
    #[arg(long)]
    pub(crate) detach: bool,

    /// What the container runs
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsOptions {
    /// Its id or name
    pub(crate) id: String,

    /// Go on until the job is over
    #[arg(long, short, overrides_with = "_no_follow")]
    pub(crate) follow: bool,

    /// End with what the job has written so far, as without this flag
    #[arg(long = "no-follow", overrides_with = "follow")]
    _no_follow: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "what clap wants")]
fn verify(text: &str) -> Result<Trust, String> {
    Ok(match text.to_lowercase().as_str() {
        "true" | "1" | "yes" => Trust::System,
        "false" | "0" | "no" => Trust::Anyone,
        _ => Trust::SystemAnd(text.into()),
    })
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| "not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a number of seconds".into())
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("not NAME=VALUE".into()),
    }
}
