//! `airfreight apolo …`: jobs on Apolo without its SDK and without Python.

mod arguments;

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::{Pin, pin};
use std::process::ExitCode;

use airfreight_apolo::{ApoloError, Client, Event, Follow, Job, JobSpec, JobStatus, Settings, Until};
use serde_json::json;

use self::arguments::{ApoloCommand, RunOptions};
use crate::error::CliError;
use crate::output::{Output, progress};
use crate::ray::{Signals, Wish};

pub(crate) use self::arguments::ApoloArguments;

/// How the job ended is not known, or it has no code of its own.
const UNKNOWN: u8 = 125;
const TOKEN_VARIABLES: [&str; 2] = ["APOLO_TOKEN", "APOLO_PASSED_CONFIG"];

/// The code for a command that failed: not one that a job may have ended with, where that was asked.
pub(crate) fn failure(arguments: &ApoloArguments) -> ExitCode {
    match &arguments.command {
        ApoloCommand::Run(options) if !options.detach => ExitCode::from(UNKNOWN),
        _ => ExitCode::FAILURE,
    }
}

pub(crate) fn run(arguments: &ApoloArguments, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::ApoloRuntime)?;
    runtime.block_on(async {
        let client = Client::new(settings(arguments)?)?;
        match &arguments.command {
            ApoloCommand::Run(options) => start(options, &client, output).await,
            ApoloCommand::Status { id } => {
                show(&client.job(id).await?, output)?;
                Ok(ExitCode::SUCCESS)
            }
            ApoloCommand::Logs(options) => {
                let id = client.job(&options.id).await?.id().to_owned();
                let until = if options.follow { Until::End } else { Until::Now };
                follow(&client, Follow { until, ..Follow::new(id) }, None, output).await?;
                Ok(ExitCode::SUCCESS)
            }
            ApoloCommand::Kill { ids } => {
                for id in ids {
                    // The platform reads jobs by their names, and cancels by ids alone.
                    client.kill(client.job(id).await?.id()).await?;
                    if !output.json {
                        output.line(format_args!("job {id} is cancelled, unless it was over already"))?;
                    }
                }
                if output.json {
                    output.json(&json!({ "cancelled": ids }))?;
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

fn settings(arguments: &ApoloArguments) -> Result<Settings, CliError> {
    let token = TOKEN_VARIABLES.iter().find_map(|name| env::var(name).ok().filter(|text| !text.trim().is_empty()));
    let mut settings = Settings::new(&token.ok_or(CliError::NoApoloToken)?)?;
    if let Some(url) = &arguments.api_url {
        settings.api_url.clone_from(url);
    }
    if arguments.cluster.is_some() && arguments.cluster != settings.cluster {
        // The passed config's are those of its own cluster.
        (settings.org, settings.project) = (None, None);
    }
    settings.cluster = arguments.cluster.clone().or(settings.cluster);
    settings.org = arguments.org.clone().or(settings.org);
    settings.project = arguments.project.clone().or(settings.project);
    settings.verify = arguments.verify.clone();
    settings.patience = arguments.patience;
    Ok(settings)
}

async fn start(options: &RunOptions, client: &Client, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    let words = options.command.iter().map(String::as_str);
    let command = match options.command.as_slice() {
        [line] => line.clone(),
        _ => shlex::try_join(words).map_err(|source| CliError::Entrypoint(source.into()))?,
    };
    let env: serde_json::Map<_, _> =
        options.env.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let spec = JobSpec::from_json(json!({
        "image": options.image,
        "command": command,
        "preset": options.preset,
        "name": options.name,
        "description": options.description,
        "env": env,
        "volumes": options.volume,
        "tags": options.tag,
        "life_span": options.life_span.map(|span| span.as_secs_f64()),
        "http_port": options.http_port,
    }))?;
    // From here on there may be a job to cancel.
    let mut signals = Signals::new().map_err(CliError::ApoloRuntime)?;
    let tag = format!("airfreight-cli:{:016x}", RandomState::new().hash_one(std::process::id()));
    let job = signals.hold(client.create(&spec, Some(&tag))).await?;
    if options.detach {
        progress(format_args!("created job {}", job.id()));
        let watch = Follow { until: Until::Start, logs: false, ..Follow::new(job.id()) };
        let job = follow(client, watch, Some(&mut signals), output).await?;
        if output.json {
            output.json(job.details())?;
        } else {
            output.line(job.id())?;
        }
        return Ok(ending(&job));
    }
    progress(format_args!("created job {}", job.id()));
    let job = follow(client, Follow::new(job.id()), Some(&mut signals), output).await?;
    progress(words_of(&job));
    if output.json {
        output.json_line(&json!({"job": job.details()}))?;
    }
    Ok(ending(&job))
}

/// Shows the log up to its end and answers the job as it is then. With `signals` the job can be cancelled.
async fn follow(
    client: &Client,
    follow: Follow,
    mut signals: Option<&mut Signals>,
    output: &mut Output<'_>,
) -> Result<Job, CliError> {
    let id = follow.id.clone();
    let talks = signals.is_some();
    let watch = client.watch(follow);
    let mut killing: Pin<Box<dyn Future<Output = Result<(), ApoloError>>>> = Box::pin(std::future::pending());
    let mut kills = false;
    let mut deaf = false;
    loop {
        let wish = async {
            match &mut signals {
                Some(signals) => signals.next().await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            event = watch.next() => event.map_err(CliError::ApoloFollowed)?,
            killed = &mut killing => {
                killed?;
                // The watch says the rest.
                killing = Box::pin(std::future::pending());
                continue;
            }
            wish = pin!(wish) => {
                match wish {
                    Wish::Ask => progress(format_args!(
                        "\njob {id} still runs: Ctrl-C again cancels it, Ctrl-\\ leaves it running"
                    )),
                    Wish::Stop if !kills => {
                        progress(format_args!("cancelling job {id}; once more to leave it as it is"));
                        kills = true;
                        killing = Box::pin(client.kill(&id));
                    }
                    Wish::Stop | Wish::Leave => return Err(CliError::ApoloLeft { id: id.clone() }),
                }
                continue;
            }
        };
        match event {
            Event::Lines { lines, .. } if !deaf => {
                let shown = lines.iter().try_for_each(|line| output.log(format!("{line}\n").as_bytes()));
                match shown.and_then(|()| output.flush()) {
                    // Nobody reads the log any more; a job's end still counts.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe && talks => deaf = true,
                    other => other?,
                }
            }
            Event::Status { job } if talks && !job.status().is_over() => progress(words_of(&job)),
            Event::Unreachable { silence, error } => progress(format_args!(
                "{} has not answered for {} s, still trying: {error}",
                client.api_url(),
                silence.as_secs()
            )),
            Event::Ended { job, log_error } => {
                if let Some(error) = log_error {
                    progress(format_args!("the log is incomplete: {error}"));
                }
                return Ok(job);
            }
            _ => {}
        }
    }
}

fn show(job: &Job, output: &mut Output<'_>) -> io::Result<()> {
    if output.json {
        return output.json(job.details());
    }
    let text = |key: &str| job.details().get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let rows = [
        ("job", Some(job.id().to_owned())),
        ("name", text("name")),
        ("status", Some(job.status().to_string())),
        ("reason", job.reason().map(str::to_owned)),
        ("description", job.description().map(str::to_owned)),
        ("exit code", job.exit_code().map(|code| code.to_string())),
        ("cluster", text("cluster_name")),
        ("organisation", text("org_name")),
        ("project", text("project_name")),
        ("url", job.http_url().map(str::to_owned)),
    ];
    let rows: Vec<_> = rows.into_iter().filter_map(|(name, value)| Some(vec![name.to_owned(), value?])).collect();
    output.table(&[], &[], &rows)
}

/// `job … is failed (exit code 3, Error): …`.
fn words_of(job: &Job) -> String {
    let mut why: Vec<String> = job.exit_code().map(|code| format!("exit code {code}")).into_iter().collect();
    why.extend(job.reason().map(str::to_owned));
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
    let more = job.description().map(|text| format!(": {text}")).unwrap_or_default();
    format!("job {} is {}{why}{more}", job.id(), job.status())
}

fn ending(job: &Job) -> ExitCode {
    ExitCode::from(match (job.status(), job.exit_code()) {
        (JobStatus::Failed, Some(code @ 1..=255)) => u8::try_from(code).unwrap_or(UNKNOWN),
        (JobStatus::Failed | JobStatus::Cancelled, _) => UNKNOWN,
        _ => 0,
    })
}
