//! Jobs as the commands show them.

use airfreight_ray::{Client, Job};
use jiff::{Timestamp, Unit};
use serde_json::{Map, Value};

use crate::error::CliError;
use crate::output::{Output, age};

/// The most of a shell command that a table shows.
const ENTRYPOINT_CHARS: usize = 60;

/// Everything about one job.
pub(super) fn show(job: &Job, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let id = job.submission_id().unwrap_or_default();
    if output.json {
        output.json(&details(job, client))?;
        return Ok(());
    }
    let now = Timestamp::now();
    let time = |ms: Option<i64>| {
        ms.and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .map(|time| format!("{} ({} ago)", time.round(Unit::Second).unwrap_or(time), age(now, time)))
    };
    let rows = [
        ("job", Some(id.to_owned())),
        ("status", Some(job.status().to_string())),
        ("reason", job.error_type().map(Into::into)),
        ("message", job.message().map(|message| message.trim_end().to_owned())),
        ("exit code", job.exit_code().map(|code| code.to_string())),
        ("submitted", time(job.start_ms())),
        ("ended", time(job.end_ms())),
        ("entrypoint", job.entrypoint().map(Into::into)),
        ("page", Some(client.job_url(id))),
    ];
    let rows = rows.into_iter().filter_map(|(name, value)| Some(vec![name.to_owned(), value?]));
    Ok(output.table(&[], &[], &rows.collect::<Vec<_>>())?)
}

/// The jobs that were submitted, the newest first.
pub(super) fn list(mut jobs: Vec<Job>, output: &mut Output<'_>) -> Result<(), CliError> {
    jobs.retain(|job| job.submission_id().is_some());
    jobs.sort_by_key(|job| std::cmp::Reverse(job.start_ms()));
    if output.json {
        output.json(&jobs.iter().map(Job::details).collect::<Vec<_>>())?;
        return Ok(());
    }
    let now = Timestamp::now();
    let row = |job: &Job| {
        let began = job.start_ms().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        vec![
            job.submission_id().unwrap_or_default().to_owned(),
            job.status().to_string(),
            began.map(|began| age(now, began)).unwrap_or_default(),
            took(job, now).unwrap_or_default(),
            cut(job.entrypoint().unwrap_or_default()),
        ]
    };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    Ok(output.table(&["JOB", "STATUS", "AGE", "TOOK", "ENTRYPOINT"], &[2, 3], &rows)?)
}

/// Ray's details and the page in its dashboard.
pub(super) fn details(job: &Job, client: &Client) -> Map<String, Value> {
    let mut details = job.details().clone();
    details.insert("url".to_owned(), client.job_url(job.submission_id().unwrap_or_default()).into());
    details
}

/// How long the job took, or has taken up to now.
pub(super) fn took(job: &Job, now: Timestamp) -> Option<String> {
    let time = |ms: i64| Timestamp::from_millisecond(ms).ok();
    let end = job.end_ms().map_or(Some(now), time)?;
    Some(age(end, time(job.start_ms()?)?))
}

/// The first line, and not too much of it.
fn cut(entrypoint: &str) -> String {
    let line = entrypoint.lines().next().unwrap_or_default();
    let mut cut: String = line.chars().take(ENTRYPOINT_CHARS).collect();
    if cut.len() < entrypoint.len() {
        cut.push('…');
    }
    cut
}
