//! `airfreight agent`: the service of this host, until it is told to end.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use airfreight_agent::{Access, Agent, AirflowUrl, Ask, DEFAULT_ADDRESS, LifeOptions, Options, ServerTls, Tokens};
use airfreight_airflow::{Airflow, Terms};
use airfreight_core::chain;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

use crate::error::CliError;
use crate::settings::Settings;

const WRITE_TOKEN: &str = "AIRFREIGHT_AGENT_WRITE_TOKEN";
/// More would only be idle: what waits for disks has threads of its own.
const THREADS_MAX: usize = 4;

/// Tokens are no flags, since every user of the host can read a process's arguments.
#[derive(Debug, Args)]
#[command(
    after_help = "The token of those who read also comes from AIRFREIGHT_AGENT_TOKEN, that of those who send and \
                        delete from AIRFREIGHT_AGENT_WRITE_TOKEN. Files are read again when they change, certificates, \
                        too. SIGTERM ends the agent; who is being answered gets the rest."
)]
pub(crate) struct AgentOptions {
    /// Where to listen; elsewhere than on this host's own addresses a token is needed
    #[arg(long, value_name = "HOST:PORT", env = "AIRFREIGHT_AGENT_LISTEN", value_delimiter = ',',
        default_value = DEFAULT_ADDRESS)]
    listen: Vec<String>,

    /// A file with the tokens of those who may read, one a line (default: the setting `agent_token_file`)
    #[arg(long, value_name = "PATH")]
    token_file: Option<PathBuf>,

    /// A file with the tokens of those who may also send and delete, one a line; without any, nobody may
    #[arg(long, value_name = "PATH", env = "AIRFREIGHT_AGENT_WRITE_TOKEN_FILE")]
    write_token_file: Option<PathBuf>,

    /// The agent's certificate, in PEM, with those between it and its authority
    #[arg(long, value_name = "PATH", env = "AIRFREIGHT_AGENT_TLS_CERTIFICATE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,

    /// Its key
    #[arg(long, value_name = "PATH", env = "AIRFREIGHT_AGENT_TLS_KEY", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,

    /// Let in only those whose certificate one of the authorities in this file has signed
    #[arg(long, value_name = "PATH", env = "AIRFREIGHT_AGENT_TLS_CLIENT_CA", requires = "tls_certificate")]
    tls_client_ca: Option<PathBuf>,

    /// Where people find Airflow's UI: the page links to it, and it alone may show the page in a frame (default: the
    /// setting `api_url`)
    #[arg(long, value_name = "URL", env = "AIRFREIGHT_AGENT_AIRFLOW_URL")]
    airflow_url: Option<String>,

    /// The command that tells which bucket an Airflow connection names and its credentials, for checkpoints that tasks
    /// leave to the agent (default: `python -m airfreight.checkpoint.access` of the Python beside this program)
    #[arg(long, value_name = "COMMAND", env = "AIRFREIGHT_AGENT_ACCESS_COMMAND")]
    access_command: Option<String>,

    /// So many percent of the store's limit are kept free, ahead of tasks: the least recently used objects go to the spill
    /// disk, or away where a bucket has a copy; 0 leaves that to the tasks
    #[arg(long, value_name = "PERCENT", env = "AIRFREIGHT_AGENT_KEEP_FREE", default_value_t = 10.0, value_parser = percent)]
    keep_free: f64,

    /// What a DAG's objects may take of memory, such as `flights=2GiB`; the rest of them goes like the above. `*=1GiB` is for
    /// each DAG that is not named
    #[arg(long, value_name = "DAG=SIZE", env = "AIRFREIGHT_AGENT_DAG_LIMITS", value_delimiter = ',',
        value_parser = dag_limit)]
    dag_limit: Vec<(String, u64)>,

    /// How often garbage is collected, such as `30m` or `1h`: what expired and what dead writers left; and what Airflow says
    /// it no longer needs, if the setting `api_url` is there. `0` for never
    #[arg(long, value_name = "TIME", env = "AIRFREIGHT_AGENT_GC_EVERY", default_value = "1h", value_parser = every)]
    gc_every: Duration,

    /// A file with the token by which Airflow is asked, read anew each time (default: the setting `api_token`)
    #[arg(long, value_name = "PATH", env = "AIRFREIGHT_AGENT_API_TOKEN_FILE")]
    api_token_file: Option<PathBuf>,

    /// Objects stay for so long after they were written, even if Airflow does not know their task instance
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = every)]
    gc_grace: Duration,

    /// How long answers may go on after SIGTERM, and checkpoints that are being uploaded
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace_seconds: u32,

    /// How the log is written, on standard error
    #[arg(long, value_enum, env = "AIRFREIGHT_AGENT_LOG_FORMAT", default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    /// What is logged: error, warn, info, debug (every request) or off
    #[arg(long, value_name = "LEVEL", env = "AIRFREIGHT_AGENT_LOG_LEVEL", default_value_t = LevelFilter::INFO)]
    log_level: LevelFilter,

    /// The store's directory (default: the setting `store_path`, else `/dev/shm/airfreight-<uid>`)
    #[arg(long, value_name = "PATH")]
    pub(crate) store: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// A line each, for people
    Text,
    /// A JSON object each
    Json,
}

pub(crate) fn run(options: &AgentOptions, settings: &Settings) -> Result<ExitCode, CliError> {
    let log = tracing_subscriber::fmt().with_max_level(options.log_level).with_writer(io::stderr).with_target(false);
    match options.log_format {
        LogFormat::Text => log.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    let store = settings.make_store()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(2 * THREADS_MAX)
        .enable_all()
        .build()
        .map_err(CliError::Threads)?;
    let done = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Threads)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Threads)?;
        let agent = Agent::bind(store, &options.as_agents(settings)?).await?;
        // Only systemd listens for these.
        let _ = sd_notify::notify(false, &[NotifyState::Ready]);
        agent
            .run(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                let _ = sd_notify::notify(false, &[NotifyState::Stopping]);
            })
            .await;
        Ok(ExitCode::SUCCESS)
    });
    // A collection that waits for Airflow is not waited for: it may end anywhere.
    runtime.shutdown_background();
    done
}

impl AgentOptions {
    fn as_agents(&self, settings: &Settings) -> Result<Options, CliError> {
        let read = match &self.token_file {
            Some(path) => Tokens { file: Some(path.clone()), text: None },
            None => Tokens { file: settings.agent_token_file()?, text: settings.agent_token() },
        };
        let text = env::var(WRITE_TOKEN).ok().filter(|text| !text.trim().is_empty());
        let text = text.map(|text| (WRITE_TOKEN.to_owned(), text.into()));
        let write = Tokens { file: self.write_token_file.clone(), text };
        let tls = self.tls_certificate.clone().zip(self.tls_key.clone()).map(|(certificate, key)| ServerTls {
            certificate,
            key,
            client_authorities: self.tls_client_ca.clone(),
        });
        Ok(Options {
            listen: self.listen.clone(),
            access: Access { read, write },
            tls,
            airflow_url: self.airflow(settings)?,
            access_command: self.access_command.as_ref().map_or_else(access_command, |command| words(command)),
            grace: Duration::from_secs(self.grace_seconds.into()),
            life: self.life(settings)?,
        })
    }

    fn life(&self, settings: &Settings) -> Result<LifeOptions, CliError> {
        let airflow = settings.api_url().map(|url| {
            let (settings, file) = (settings.clone(), self.api_token_file.clone());
            Ask::new(move || {
                let token = settings.api_token(file.as_deref()).map_err(|error| chain(&error))?;
                Airflow::new(&url, token, airfreight_airflow::Options::default()).map_err(|error| chain(&error))
            })
        });
        Ok(LifeOptions {
            keep_free: self.keep_free / 100.0,
            dag_limits: self.dag_limit.iter().cloned().collect::<BTreeMap<_, _>>(),
            collect_every: Some(self.gc_every).filter(|every| !every.is_zero()),
            terms: Terms {
                retention: settings.retention(None)?,
                grace: self.gc_grace,
                deployments: settings.deployments(),
                dry_run: false,
            },
            airflow,
        })
    }

    fn airflow(&self, settings: &Settings) -> Result<Option<AirflowUrl>, CliError> {
        let given = self.airflow_url.clone().map(|text| (text, "--airflow-url".to_owned()));
        let Some((text, origin)) = given.or_else(|| settings.api_url_and_origin()) else { return Ok(None) };
        match AirflowUrl::new(&text) {
            Some(url) => Ok(Some(url)),
            None => Err(CliError::Setting { origin, text, expected: "a URL such as https://airflow.example.com" }),
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(percent) if (0.0..=90.0).contains(&percent) => Ok(percent),
        _ => Err("not a number of percent from 0 to 90".into()),
    }
}

fn dag_limit(text: &str) -> Result<(String, u64), String> {
    let wrong = || "not a DAG and a size, such as `flights=2GiB`".to_owned();
    let (dag_id, size) = text.rsplit_once('=').ok_or_else(wrong)?;
    let size = size.trim().parse::<ByteSize>().map_err(|_| wrong())?;
    let dag_id = dag_id.trim();
    if dag_id.is_empty() { Err(wrong()) } else { Ok((dag_id.to_owned(), size.0)) }
}

fn every(text: &str) -> Result<Duration, String> {
    let wrong = || "not a time such as `90s`, `30m` or `1h`, nor `0`".to_owned();
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    let time = text.trim().parse::<jiff::SignedDuration>().map_err(|_| wrong())?;
    Duration::try_from(time).map_err(|_| wrong())
}

/// Split where there is white space; no shell has a part in it.
fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

/// The Python whose wheel has brought this program.
fn access_command() -> Vec<String> {
    let python = env::current_exe().ok().map(|path| path.with_file_name("python")).filter(|path| path.exists());
    let python = python.map(|path| path.to_string_lossy().into_owned());
    python.map(|python| vec![python, "-m".into(), "airfreight.checkpoint.access".into()]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_times_are_read_as_people_write_them() {
        assert_eq!(dag_limit("flights=2GiB"), Ok(("flights".into(), 2 << 30)));
        assert_eq!(dag_limit(" * = 512 MiB"), Ok(("*".into(), 512 << 20)));
        assert_eq!(dag_limit("a=b=1KiB"), Ok(("a=b".into(), 1 << 10)));
        for wrong in ["flights", "=1GiB", "flights=", "flights=much"] {
            assert!(dag_limit(wrong).is_err(), "{wrong}");
        }
        assert_eq!(every("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(every("1h"), Ok(Duration::from_hours(1)));
        assert_eq!(every("0"), Ok(Duration::ZERO));
        assert!(every("-1h").is_err() && every("often").is_err());
        assert_eq!(percent("12.5%"), Ok(12.5));
        assert!(percent("95").is_err() && percent("-1").is_err() && percent("NaN").is_err());
    }
}
