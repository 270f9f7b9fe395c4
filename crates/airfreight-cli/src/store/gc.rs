//! `airfreight store gc`: what expired or was left unfinished goes always, what Airflow no longer needs goes when
//! Airflow says so.

use std::process::ExitCode;
use std::time::Duration;

use airfreight_airflow::{Airflow, Options, Report, Tally, Terms, collect};
use airfreight_core::ErrorKind;

use crate::arguments::GcOptions;
use crate::error::CliError;
use crate::leftovers;
use crate::output::{Output, size};
use crate::settings::Settings;

pub(super) fn run(options: &GcOptions, settings: &Settings, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    // A wrong setting or an unreadable token file is told before anything is removed.
    let airflow = airflow(options, settings)?;
    let terms = Terms {
        retention: settings.retention(options.retention_hours)?,
        grace: Duration::from_secs(60 * u64::from(options.grace_minutes)),
        deployments: settings.deployments(),
        dry_run: options.dry_run,
    };
    let store = match settings.open_store() {
        Err(CliError::Store(error)) if error.kind() == ErrorKind::NotFound => {
            tell(&Report { dry_run: options.dry_run, ..Report::default() }, output)?;
            return Ok(ExitCode::SUCCESS);
        }
        other => other?,
    };
    let (mut report, failure) = collect(&store, airflow.as_ref(), &terms)?;
    if options.dry_run {
        report.leftovers = leftovers::of(&store).files;
    }
    tell(&report, output)?;
    // What is done stays done and is told; that Airflow could not be asked is a failure all the same.
    failure.map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
}

fn airflow(options: &GcOptions, settings: &Settings) -> Result<Option<Airflow>, CliError> {
    let Some(url) = options.api_url.clone().or_else(|| settings.api_url()) else { return Ok(None) };
    let token = settings.api_token(options.token_file.as_deref())?;
    Ok(Some(Airflow::new(&url, token, Options::default())?))
}

fn tell(report: &Report, output: &mut Output<'_>) -> Result<(), CliError> {
    if output.json {
        return Ok(output.json(report)?);
    }
    let Report { expired, leftovers, ended, gone, kept, .. } = report;
    let tally = |tally: &Tally| format!("{} ({})", tally.objects, size(tally.bytes));
    let rows = [
        ("expired", expired.to_string()),
        ("left by killed writers", leftovers.to_string()),
        ("of runs that ended long ago", tally(ended)),
        ("of task instances that are gone", tally(gone)),
    ];
    output.line(if report.dry_run { "would be removed" } else { "removed" })?;
    output.table(&[], &[], &rows.map(|(what, count)| vec![format!("  {what}"), count]))?;
    let rows = [
        ("needed", kept.needed),
        ("written just now", kept.recent),
        ("Airflow is not sure", kept.unknown),
        ("without a task instance", kept.without_owner),
        ("of another Airflow deployment", kept.elsewhere),
        ("Airflow was not asked (no --api-url)", kept.not_asked),
    ];
    let rows: Vec<_> = rows.into_iter().filter(|(_, count)| *count > 0).collect();
    if !rows.is_empty() {
        output.line("kept")?;
        let rows: Vec<_> = rows.into_iter().map(|(why, count)| vec![format!("  {why}"), count.to_string()]).collect();
        output.table(&[], &[], &rows)?;
    }
    for doubt in &report.doubts {
        output.line(format_args!("kept what DAG {} returned: {}", doubt.dag_id, doubt.error))?;
    }
    Ok(())
}
