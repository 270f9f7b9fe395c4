//! `airfreight ray runner …`: what warm tasks leave on a cluster.

use std::process::ExitCode;

use airfreight_ray::{Client, Job, JobStatus, Runner, RunnerOptions as Reach, runner_of};
use bytesize::ByteSize;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::arguments::{RunnerCommand, RunnerOptions};
use super::{STOP_LIMIT, jobs};
use crate::error::CliError;
use crate::output::{Output, age};

/// What a runner's job is known by.
const MARK: &str = "airfreight_runner";

pub(super) async fn run(
    command: &RunnerCommand,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<ExitCode, CliError> {
    match command {
        RunnerCommand::Status => status(client, output).await,
        RunnerCommand::Stop(options) => stop(options, client, output).await,
        RunnerCommand::Owners(options) => owners(&find(options, client).await?, output).await,
        RunnerCommand::Drop { names, all, runner } => {
            let runner = find(runner, client).await?;
            drop_owners(names, *all, &runner, output).await
        }
    }
}

/// The jobs of runners that are not over.
async fn running(client: &Client) -> Result<Vec<Job>, CliError> {
    let mut jobs = client.jobs().await?;
    jobs.retain(|job| job.metadata(MARK).is_some() && !job.status().is_terminal());
    Ok(jobs)
}

async fn find(options: &RunnerOptions, client: &Client) -> Result<Runner, CliError> {
    let id = if let Some(id) = &options.runner {
        id.clone()
    } else {
        let jobs = running(client).await?;
        let ids: Vec<String> = jobs.iter().filter_map(Job::submission_id).map(|id| runner_of(id).to_owned()).collect();
        match <[String; 1]>::try_from(ids) {
            Ok([id]) => id,
            Err(ids) if ids.is_empty() => return Err(CliError::NoRunner),
            Err(ids) => return Err(CliError::Runners { ids }),
        }
    };
    Ok(Runner::existing(client, runner_of(&id), Reach::default()))
}

async fn status(client: &Client, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    let mut runners = Vec::new();
    for job in running(client).await? {
        let id = job.submission_id().unwrap_or_default().to_owned();
        let runner = Runner::existing(client, runner_of(&id), Reach::default());
        let ready = if job.status() == JobStatus::Running { runner.ready(None).await.ok() } else { None };
        runners.push((job, ready));
    }
    if output.json {
        let shown = runners.iter().map(|(job, ready)| {
            json!({
                "runner": job.submission_id(),
                "status": job.status().as_str(),
                "generation": ready.as_ref().map(|ready| &ready.generation),
                "ray": ready.as_ref().map(|ready| &ready.ray),
                "python": ready.as_ref().map(|ready| &ready.python),
                "transport": ready.as_ref().map(|ready| ready.transport),
                "url": job.submission_id().map(|id| client.job_url(id)),
            })
        });
        output.json(&shown.collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let row = |(job, ready): &(Job, Option<airfreight_ray::Ready>)| {
        let of = |text: fn(&airfreight_ray::Ready) -> &str| ready.as_ref().map_or("", text).to_owned();
        vec![
            job.submission_id().unwrap_or_default().to_owned(),
            job.status().to_string(),
            jobs::took(job, now).unwrap_or_default(),
            of(|ready| &ready.python),
            of(|ready| &ready.ray),
            of(|ready| ready.transport),
        ]
    };
    let rows: Vec<_> = runners.iter().map(row).collect();
    output.table(&["RUNNER", "STATUS", "AGE", "PYTHON", "RAY", "WAY"], &[2], &rows)?;
    Ok(ExitCode::SUCCESS)
}

async fn stop(options: &RunnerOptions, client: &Client, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    let runner = find(options, client).await?;
    let job = runner.end().await?;
    let was_there = job.is_some();
    let over = match job {
        Some(job) => client.stop_and_wait(&job, STOP_LIMIT).await?.status().is_terminal(),
        None => true,
    };
    if output.json {
        output.json(&json!({"runner": runner.id(), "stopped": was_there, "over": over}))?;
    } else {
        output.line(match (was_there, over) {
            (false, _) => format!("{} was over already", runner.id()),
            (true, true) => format!("{} is over; what DAG runs have on the cluster stays", runner.id()),
            (true, false) => format!("{} is being stopped", runner.id()),
        })?;
    }
    Ok(if over { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn owners(runner: &Runner, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    let owners = runner.owners().await?;
    if output.json {
        output.json(&owners)?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let rows: Vec<_> = owners.iter().map(|owner| row(owner, now)).collect();
    output.table(&["OWNER", "DAG", "RUN", "VALUES", "BYTES", "CALLS", "USED"], &[3, 4, 5, 6], &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn row(owner: &Map<String, Value>, now: Timestamp) -> Vec<String> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let info = |key: &str| text(owner.get("info").and_then(|info| info.get(key)));
    let count = |key: &str| owner.get(key).and_then(Value::as_u64).unwrap_or(0);
    let used = owner.get("used_at").and_then(Value::as_i64);
    let used = used.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    vec![
        text(owner.get("name")),
        info("dag_id"),
        info("run_id"),
        count("values").to_string(),
        ByteSize(count("nbytes")).to_string(),
        count("running").to_string(),
        used.map(|used| format!("{} ago", age(now, used))).unwrap_or_default(),
    ]
}

async fn drop_owners(
    names: &[String],
    all: bool,
    runner: &Runner,
    output: &mut Output<'_>,
) -> Result<ExitCode, CliError> {
    let names: Vec<String> = if all {
        let owners = runner.owners().await?;
        owners.iter().filter_map(|owner| owner.get("name")?.as_str()).map(str::to_owned).collect()
    } else {
        names.to_vec()
    };
    for name in &names {
        if !runner.drop_owner(name).await? && !all {
            return Err(CliError::NoOwner { name: name.clone() });
        }
        if !output.json {
            output.line(format_args!("dropped {name}"))?;
            output.flush()?;
        }
    }
    if output.json {
        output.json(&json!({ "dropped": names }))?;
    }
    Ok(ExitCode::SUCCESS)
}
