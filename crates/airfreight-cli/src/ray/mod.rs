//! `airfreight ray …`: Ray jobs without Ray and without Python.

mod arguments;
mod connection;
mod ending;
mod follow;
mod jobs;
mod logs;
mod runner;
mod signals;
mod submission;

use std::process::ExitCode;
use std::time::Duration;

use airfreight_ray::{Client, JobStatus, RayError, Stopped};
use serde_json::json;

use self::arguments::{RayCommand, SubmitOptions};
use self::follow::{Following, follow};
use crate::error::CliError;
use crate::output::{Output, progress};

pub(crate) use self::arguments::RayArguments;
pub(crate) use self::signals::{Signals, Wish};

/// Ray kills what SIGTERM does not end after three seconds; a loaded cluster takes its time to notice.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// The code for a command that failed: not one that a job may have ended with, where that was asked.
pub(crate) fn failure(arguments: &RayArguments) -> ExitCode {
    match &arguments.command {
        RayCommand::Submit(options) if !options.no_wait => ExitCode::from(ending::UNKNOWN),
        _ => ExitCode::FAILURE,
    }
}

pub(crate) fn run(arguments: &RayArguments, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    runtime.block_on(async {
        let client = connection::connect(arguments).await?;
        match &arguments.command {
            RayCommand::Submit(options) => submit(options, &client, output).await,
            RayCommand::Status { id } => {
                jobs::show(&find(&client, id).await?, &client, output)?;
                Ok(ExitCode::SUCCESS)
            }
            RayCommand::Logs(options) if options.follow => {
                find(&client, &options.id).await?;
                let following = Following { id: &options.id, session: None, talks: false };
                follow(&client, &following, None, output).await?;
                Ok(ExitCode::SUCCESS)
            }
            RayCommand::Logs(options) => {
                logs::show(options, &client, output).await?;
                Ok(ExitCode::SUCCESS)
            }
            RayCommand::Stop { ids, no_wait } => stop(ids, !no_wait, &client, output).await,
            RayCommand::List { status } => {
                let mut all = client.jobs().await?;
                all.retain(|job| status.is_none_or(|status| job.status() == status));
                jobs::list(all, output)?;
                Ok(ExitCode::SUCCESS)
            }
            RayCommand::Runner(command) => runner::run(command, &client, output).await,
            RayCommand::Delete { ids } => delete(ids, &client, output).await,
        }
    })
}

async fn find(client: &Client, id: &str) -> Result<airfreight_ray::Job, CliError> {
    let missing = || RayError::NotFound { what: format!("job `{id}`"), address: client.address().to_owned() };
    Ok(client.job(id).await?.ok_or_else(missing)?)
}

async fn submit(options: &SubmitOptions, client: &Client, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    // A job that came to a cluster which is replaced later is lost, not unknown.
    let session = client.cluster().await?.session_name;
    let submission = submission::prepare(options, client).await?;
    // From here on there may be a job to stop.
    let mut signals = Signals::new().map_err(CliError::Runtime)?;
    let id = signals.hold(client.submit(submission)).await?.submission_id;
    if options.no_wait {
        if output.json {
            output.json(&json!({"submission_id": id, "url": client.job_url(&id)}))?;
        } else {
            output.line(&id)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    progress(format_args!("submitted job {id}: {}", client.job_url(&id)));
    let following = Following { id: &id, session, talks: true };
    let job = follow(client, &following, Some(&mut signals), output).await?;
    progress(format_args!(
        "job {id} {}{}",
        ending::words(&job),
        jobs::took(&job, jiff::Timestamp::now()).map(|took| format!(" after {took}")).unwrap_or_default()
    ));
    if let Some(reason) = ending::reason(&job) {
        progress(format_args!("  because: {reason}"));
    }
    if output.json {
        output.json_line(&json!({"job": jobs::details(&job, client)}))?;
    }
    Ok(ending::exit_code(&job))
}

async fn stop(ids: &[String], wait: bool, client: &Client, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    let mut answers = Vec::new();
    for id in ids {
        let stopped = client.stop(id).await?;
        let status = match stopped {
            Stopped::Stopping if wait => client.stop_and_wait(id, STOP_LIMIT).await?.status(),
            _ => find(client, id).await?.status(),
        };
        if !output.json {
            output.line(match (stopped, status) {
                (Stopped::WasOver, status) => format!("job {id} was over already: {status}"),
                (_, status) if status.is_terminal() => format!("job {id} is over: {status}"),
                (Stopped::StillPending, JobStatus::Pending) => {
                    format!("job {id} waits for resources, and Ray cannot stop it before it has them: stop it then")
                }
                (_, status) => format!("job {id} is being stopped: {status}"),
            })?;
            output.flush()?;
        }
        answers.push((id, status));
    }
    if output.json {
        let answers = answers.iter().map(|(id, status)| json!({"submission_id": id, "status": status.as_str()}));
        output.json(&answers.collect::<Vec<_>>())?;
    }
    let over = answers.iter().all(|(_, status)| status.is_terminal());
    Ok(if over || !wait { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn delete(ids: &[String], client: &Client, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    let mut deleted = Vec::new();
    for id in ids {
        if !client.delete(id).await? {
            return Err(find(client, id).await.err().unwrap_or(CliError::Kept { id: id.clone() }));
        }
        deleted.push(id);
        if !output.json {
            output.line(format_args!("deleted {id}"))?;
            output.flush()?;
        }
    }
    if output.json {
        output.json(&json!({ "deleted": deleted }))?;
    }
    Ok(ExitCode::SUCCESS)
}
