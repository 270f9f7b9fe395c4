//! `airfreight cluster gc`: clusters and jobs that were made for one task go when Airflow says that the task is over.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use airfreight_airflow::{Airflow, AirflowError, Fate, Options, Owner};
use airfreight_cluster::{Attempt, ClusterError, Clusters, Kind, Known};
use airfreight_core::{ErrorKind, chain};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::runtime::Runtime;

use super::arguments::CollectOptions;
use super::status::task;
use crate::error::CliError;
use crate::output::Output;
use crate::settings::Settings;

/// A cluster or job that goes, and why.
#[derive(Serialize)]
struct Deleted {
    kind: &'static str,
    name: String,
    namespace: String,
    task: String,
    why: &'static str,
}

/// Why clusters stay.
#[derive(Default, Serialize)]
struct Kept {
    /// Airflow knows their tasks, which are not over.
    needed: u64,
    /// They were made a moment ago.
    recent: u64,
    /// Airflow gave no sure answer, or they don't say in full whose they are.
    unknown: u64,
    /// They were made for more than one task: somebody deletes them by hand or by a task.
    shared: u64,
    /// Another Airflow deployment has made them.
    elsewhere: u64,
    /// Kubernetes is at it already.
    ending: u64,
    /// Nobody was asked.
    not_asked: u64,
}

/// Why nothing is known of a DAG.
#[derive(Serialize)]
struct Doubt {
    dag_id: String,
    error: String,
}

#[derive(Default, Serialize)]
struct Report {
    dry_run: bool,
    deleted: Vec<Deleted>,
    kept: Kept,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    doubts: Vec<Doubt>,
    /// Why no jobs were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs_denied: Option<String>,
}

enum Verdict {
    Delete(&'static str),
    Keep(fn(&mut Kept) -> &mut u64),
}

/// By what a cluster is judged.
enum Rule {
    Age(SignedDuration),
    Airflow { fates: HashMap<Owner, Fate>, deployments: Vec<String>, grace: SignedDuration },
    Nothing,
}

pub(super) fn run(
    options: &CollectOptions,
    settings: &Settings,
    clusters: &Clusters,
    runtime: &Runtime,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    // A wrong setting or an unreadable token file is told before anything is deleted.
    let airflow = if options.older_than.is_some() { None } else { airflow(options, settings)? };
    let namespace = clusters.default_namespace();
    let mut found = runtime.block_on(clusters.list(namespace, None))?;
    let first_job = found.len();
    let mut report = Report { dry_run: options.dry_run, ..Report::default() };
    match runtime.block_on(clusters.list_of(Kind::Job, namespace, None)) {
        // Those whose operators may leave them name no attempt, and stay.
        Ok(jobs) => found.extend(jobs.into_iter().filter(|job| job.attempt().is_some())),
        // Who has clusters alone need not be allowed more.
        Err(error @ ClusterError::Denied { .. }) => report.jobs_denied = Some(chain(&error)),
        Err(error) => return Err(error.into()),
    }
    let (rule, failure) = match (options.older_than, airflow) {
        (Some(hours), _) => {
            let age = std::time::Duration::from_secs_f64(hours * 3600.0);
            (Rule::Age(age.try_into().unwrap_or(SignedDuration::MAX)), None)
        }
        (None, Some(airflow)) => {
            let deployments = settings.deployments();
            let (fates, failure) = ask(&airflow, &found, &deployments, &mut report.doubts);
            let grace = SignedDuration::from_mins(options.grace_minutes.into());
            (Rule::Airflow { fates, deployments, grace }, failure)
        }
        (None, None) => (Rule::Nothing, None),
    };
    let now = Timestamp::now();
    for (number, known) in found.iter().enumerate() {
        let kind = if number < first_job { Kind::Cluster } else { Kind::Job };
        match rule.verdict(known, now) {
            Verdict::Keep(reason) => *reason(&mut report.kept) += 1,
            Verdict::Delete(why) => {
                let gone = options.dry_run
                    || runtime.block_on(clusters.delete_of(kind, &known.namespace, &known.name, Some(&known.uid)))?;
                if gone {
                    let (name, namespace) = (known.name.clone(), known.namespace.clone());
                    report.deleted.push(Deleted { kind: kind.as_str(), name, namespace, task: task(known), why });
                }
            }
        }
    }
    tell(&report, output)?;
    // What is done stays done and is told; that Airflow could not be asked is a failure all the same.
    failure.map_or(Ok(()), |error| Err(error.into()))
}

fn airflow(options: &CollectOptions, settings: &Settings) -> Result<Option<Airflow>, CliError> {
    let Some(url) = options.api_url.clone().or_else(|| settings.api_url()) else { return Ok(None) };
    let token = settings.api_token(options.token_file.as_deref())?;
    Ok(Some(Airflow::new(&url, token, Options::default())?))
}

fn owner(attempt: Attempt) -> Owner {
    let Attempt { dag_id, run_id, task_id, map_index, .. } = attempt;
    Owner { dag_id, run_id, task_id, map_index }
}

/// What Airflow says of the tasks of all clusters, DAG by DAG; and the failure that made asking on pointless.
fn ask(
    airflow: &Airflow,
    found: &[Known],
    deployments: &[String],
    doubts: &mut Vec<Doubt>,
) -> (HashMap<Owner, Fate>, Option<AirflowError>) {
    let attempts = found.iter().filter(|known| known.owner.is_some()).filter_map(Known::attempt);
    let mut dags: BTreeMap<String, BTreeSet<Owner>> = BTreeMap::new();
    for attempt in attempts.filter(|attempt| deployments.contains(&attempt.deployment)) {
        dags.entry(attempt.dag_id.clone()).or_default().insert(owner(attempt));
    }
    let mut fates = HashMap::new();
    let mut refused = None;
    for (dag_id, owners) in dags {
        match airflow.own_fates(&dag_id, &owners) {
            Ok(known) => fates.extend(known),
            Err(error) if error.is_final() => return (fates, Some(error)),
            Err(error) => {
                doubts.push(Doubt { dag_id, error: error.to_string() });
                refused = refused.or_else(|| (error.kind() == ErrorKind::Denied).then_some(error));
            }
        }
    }
    // One DAG may be hidden from the token's user. If all of them are, it is the token, and cron must hear of it.
    let is_blind = fates.values().all(|fate| *fate == Fate::Unknown);
    (fates, refused.filter(|_| is_blind))
}

impl Rule {
    fn verdict(&self, known: &Known, now: Timestamp) -> Verdict {
        if known.owner.is_none() {
            return Verdict::Keep(|kept| &mut kept.shared);
        }
        if known.is_ending() {
            return Verdict::Keep(|kept| &mut kept.ending);
        }
        let made: Option<Timestamp> = known.created_at().and_then(|text| text.parse().ok());
        let is_older = |age: SignedDuration| made.is_some_and(|made| now.duration_since(made) >= age);
        let (fates, deployments, grace) = match self {
            Self::Nothing => return Verdict::Keep(|kept| &mut kept.not_asked),
            Self::Age(age) if is_older(*age) => return Verdict::Delete("old"),
            Self::Age(_) => return Verdict::Keep(|kept| &mut kept.recent),
            Self::Airflow { fates, deployments, grace } => (fates, deployments, *grace),
        };
        let Some(attempt) = known.attempt() else { return Verdict::Keep(|kept| &mut kept.unknown) };
        // A DAG and a run of the same names may exist in several deployments: whose clusters these are is no guess.
        if !deployments.contains(&attempt.deployment) {
            return Verdict::Keep(|kept| &mut kept.elsewhere);
        }
        match fates.get(&owner(attempt)) {
            Some(Fate::Ended) if is_older(grace) => Verdict::Delete("its task is over"),
            Some(Fate::Gone) if is_older(grace) => Verdict::Delete("its task is gone"),
            Some(Fate::Ended | Fate::Gone) => Verdict::Keep(|kept| &mut kept.recent),
            Some(Fate::Needed) => Verdict::Keep(|kept| &mut kept.needed),
            Some(Fate::Unknown) | None => Verdict::Keep(|kept| &mut kept.unknown),
        }
    }
}

fn tell(report: &Report, output: &mut Output<'_>) -> Result<(), CliError> {
    if output.json {
        return Ok(output.json(report)?);
    }
    output.line(format_args!(
        "{} {} clusters and jobs",
        if report.dry_run { "would delete" } else { "deleted" },
        report.deleted.len()
    ))?;
    let rows: Vec<_> = report
        .deleted
        .iter()
        .map(|one| vec![format!("  {} {}", one.kind, one.name), one.why.to_owned(), one.task.clone()])
        .collect();
    if !rows.is_empty() {
        output.table(&[], &[], &rows)?;
    }
    let kept = &report.kept;
    let rows = [
        ("needed", kept.needed),
        ("made just now", kept.recent),
        ("Airflow is not sure", kept.unknown),
        ("not of one task", kept.shared),
        ("of another Airflow deployment", kept.elsewhere),
        ("being deleted already", kept.ending),
        ("Airflow was not asked (no --api-url, no --older-than)", kept.not_asked),
    ];
    let rows: Vec<_> = rows.into_iter().filter(|(_, count)| *count > 0).collect();
    if !rows.is_empty() {
        output.line("kept")?;
        let rows: Vec<_> = rows.into_iter().map(|(why, count)| vec![format!("  {why}"), count.to_string()]).collect();
        output.table(&[], &[], &rows)?;
    }
    if let Some(error) = &report.jobs_denied {
        output.line(format_args!("jobs were not looked at: {error}"))?;
    }
    for doubt in &report.doubts {
        output.line(format_args!("kept the clusters of DAG {}: {}", doubt.dag_id, doubt.error))?;
    }
    Ok(())
}
