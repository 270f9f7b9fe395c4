//! `airfreight store gc`: what expired or was left unfinished goes always, what Airflow no longer needs goes when
//! Airflow says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::ExitCode;

use airfreight_airflow::{Airflow, AirflowError, Fate, Options, Owner, Window};
use airfreight_core::{ErrorKind, ObjectName};
use airfreight_store::Store;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::objects::{Listing, Object};
use crate::arguments::GcOptions;
use crate::error::CliError;
use crate::leftovers;
use crate::output::{Output, size};
use crate::settings::Settings;

/// A task may still write after somebody ended its run by hand; so long before an object its run may have ended.
const LAST_WORDS: SignedDuration = SignedDuration::from_hours(24);

/// Objects and their bytes; a further name of the same bytes counts as an object.
#[derive(Default, Serialize)]
struct Tally {
    objects: u64,
    bytes: u64,
}

impl Tally {
    fn add(&mut self, object: &Object) {
        self.objects += 1;
        self.bytes += object.payload_bytes;
    }
}

/// Why objects stay.
#[derive(Default, Serialize)]
struct Kept {
    /// Airflow knows their task instances, and their runs have not ended long ago.
    needed: u64,
    /// They were written a moment ago.
    recent: u64,
    /// Airflow gave no sure answer.
    unknown: u64,
    /// They name no task instance; only expiry removes them.
    without_owner: u64,
    /// Another Airflow deployment of this user wrote them, which this one knows nothing of.
    elsewhere: u64,
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
    /// Not used for longer than `ttl_hours`.
    expired: u64,
    /// Files of writers that were killed, here and on the spill disk.
    leftovers: u64,
    /// Their runs ended long ago.
    ended: Tally,
    /// Their task instances don't exist any more.
    gone: Tally,
    kept: Kept,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    doubts: Vec<Doubt>,
}

pub(super) fn run(options: &GcOptions, settings: &Settings, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    let mut report = Report { dry_run: options.dry_run, ..Report::default() };
    // A wrong setting or an unreadable token file is told before anything is removed.
    let airflow = airflow(options, settings)?;
    let retention = settings.retention(options.retention_hours)?;
    let ttl = settings.ttl()?;
    let store = match settings.open_store() {
        Err(CliError::Store(error)) if error.kind() == ErrorKind::NotFound => {
            tell(&report, output)?;
            return Ok(ExitCode::SUCCESS);
        }
        other => other?,
    };
    let now = Timestamp::now();
    let before = |age: std::time::Duration| now.checked_sub(age).unwrap_or(Timestamp::MIN);

    if options.dry_run {
        report.leftovers = leftovers::of(&store).files;
    } else {
        let collected = store.collect()?;
        report.expired = collected.expired;
        report.leftovers = collected.reclaimed + collected.orphaned;
    }
    let mut objects = Listing::read(&store)?.objects;
    if options.dry_run {
        let all = objects.len();
        objects.retain(|object| object.used_at > before(ttl));
        report.expired = (all - objects.len()) as u64;
    }
    let Some(airflow) = airflow else {
        report.kept.not_asked = objects.len() as u64;
        tell(&report, output)?;
        return Ok(ExitCode::SUCCESS);
    };

    let rules = Rules {
        ended_before: before(retention),
        written_before: now - SignedDuration::from_mins(options.grace_minutes.into()),
    };
    // A DAG and a run of the same names may exist in several deployments: whose objects these are is no guess.
    let deployments = settings.deployments();
    objects.retain(|object| {
        let ours = object.owner.is_none() || object.deployment.as_ref().is_some_and(|one| deployments.contains(one));
        report.kept.elsewhere += u64::from(!ours);
        ours
    });
    let (fates, failure) = ask(&airflow, &objects, rules.ended_before, &mut report.doubts);
    for object in &objects {
        let tally = match rules.verdict(object, &fates) {
            Verdict::Ended => &mut report.ended,
            Verdict::Gone => &mut report.gone,
            Verdict::Keep(reason) => {
                *reason(&mut report.kept) += 1;
                continue;
            }
        };
        if options.dry_run || remove(&store, object)? {
            tally.add(object);
        }
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

/// What Airflow says of the owners of all objects, DAG by DAG; and the failure that made asking on pointless.
fn ask(
    airflow: &Airflow,
    objects: &[Object],
    ended_before: Timestamp,
    doubts: &mut Vec<Doubt>,
) -> (HashMap<Owner, Fate>, Option<AirflowError>) {
    let mut dags: BTreeMap<&str, (BTreeSet<Owner>, Timestamp)> = BTreeMap::new();
    for object in objects {
        if let Some(owner) = &object.owner {
            let (owners, since) = dags.entry(&owner.dag_id).or_insert_with(|| (BTreeSet::new(), object.created_at));
            owners.insert(owner.clone());
            *since = object.created_at.min(*since);
        }
    }
    let mut fates = HashMap::new();
    let mut refused = None;
    for (dag_id, (owners, oldest)) in dags {
        let since = oldest.checked_sub(LAST_WORDS).unwrap_or(Timestamp::MIN);
        match airflow.fates(dag_id, &owners, Window { since, ended_before }) {
            Ok(known) => fates.extend(known),
            Err(error) if error.is_final() => return (fates, Some(error)),
            Err(error) => {
                doubts.push(Doubt { dag_id: dag_id.to_owned(), error: error.to_string() });
                refused = refused.or_else(|| (error.kind() == ErrorKind::Denied).then_some(error));
            }
        }
    }
    // One DAG may be hidden from the token's user. If all of them are, it is the token, and cron must hear of it.
    let is_blind = fates.values().all(|fate| *fate == Fate::Unknown);
    (fates, refused.filter(|_| is_blind))
}

struct Rules {
    ended_before: Timestamp,
    written_before: Timestamp,
}

enum Verdict {
    Ended,
    Gone,
    Keep(fn(&mut Kept) -> &mut u64),
}

impl Rules {
    fn verdict(&self, object: &Object, fates: &HashMap<Owner, Fate>) -> Verdict {
        let Some(owner) = &object.owner else { return Verdict::Keep(|kept| &mut kept.without_owner) };
        match fates.get(owner) {
            // Written after the end of its run (somebody set the run's state by hand): its time counts from then.
            Some(Fate::Ended) if object.created_at <= self.ended_before => Verdict::Ended,
            Some(Fate::Gone) if object.created_at <= self.written_before => Verdict::Gone,
            Some(Fate::Ended | Fate::Gone) => Verdict::Keep(|kept| &mut kept.recent),
            Some(Fate::Needed) => Verdict::Keep(|kept| &mut kept.needed),
            Some(Fate::Unknown) | None => Verdict::Keep(|kept| &mut kept.unknown),
        }
    }
}

fn remove(store: &Store, object: &Object) -> Result<bool, CliError> {
    let name: ObjectName = object.name.parse().map_err(airfreight_store::StoreError::from)?;
    Ok(store.delete(name)?)
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
