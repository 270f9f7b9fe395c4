//! Garbage collection: what expired or was left unfinished goes always, what Airflow no longer needs goes when Airflow
//! says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use airfreight_core::{ErrorKind, ObjectName};
use airfreight_store::{Description, Store, StoreError};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::{Airflow, AirflowError, Fate, Owner, Window};

/// A task may still write after somebody ended its run by hand; so long before an object its run may have ended.
const LAST_WORDS: SignedDuration = SignedDuration::from_hours(24);

/// What may be collected.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Objects of a run stay for so long after its end.
    pub retention: Duration,
    /// Objects stay for so long after they were written, even if Airflow doesn't know their task instances.
    pub grace: Duration,
    /// The fingerprints of the keys of the Airflow deployment that is asked: whose objects may go.
    pub deployments: Vec<String>,
    /// Only say what would go.
    pub dry_run: bool,
}

/// Objects and their bytes; a further name of the same bytes counts as an object.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// How many.
    pub objects: u64,
    /// What their payloads come to.
    pub bytes: u64,
}

/// Why objects stay.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Kept {
    /// Airflow knows their task instances, and their runs have not ended long ago.
    pub needed: u64,
    /// They were written a moment ago.
    pub recent: u64,
    /// Airflow gave no sure answer.
    pub unknown: u64,
    /// They name no task instance; only expiry removes them.
    pub without_owner: u64,
    /// Another Airflow deployment of this user wrote them, which this one knows nothing of.
    pub elsewhere: u64,
    /// Nobody was asked.
    pub not_asked: u64,
}

/// Why nothing is known of a DAG.
#[derive(Clone, Debug, Serialize)]
pub struct Doubt {
    /// The DAG.
    pub dag_id: String,
    /// What went wrong.
    pub error: String,
}

/// What a collection came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Nothing was removed; this is what would be.
    pub dry_run: bool,
    /// Not used for longer than `ttl_hours`.
    pub expired: u64,
    /// Files of writers that were killed, here and on the spill disk.
    pub leftovers: u64,
    /// Their runs ended long ago.
    pub ended: Tally,
    /// Their task instances don't exist any more.
    pub gone: Tally,
    /// What stays, and why.
    pub kept: Kept,
    /// Of which DAGs nothing is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<Doubt>,
}

/// One pass over a store; without an Airflow to ask, over what expired or was left unfinished. With [`Terms::dry_run`],
/// what dead writers left is not counted.
///
/// The second part of the answer is the failure that made asking on pointless: what is done stays done, and is told.
///
/// # Errors
/// Those of the store.
pub fn collect(
    store: &Store,
    airflow: Option<&Airflow>,
    terms: &Terms,
) -> Result<(Report, Option<AirflowError>), StoreError> {
    let mut report = Report { dry_run: terms.dry_run, ..Report::default() };
    let now = Timestamp::now();
    let before = |age: Duration| now.checked_sub(age).unwrap_or(Timestamp::MIN);
    if !terms.dry_run {
        let collected = store.collect()?;
        report.expired = collected.expired;
        report.leftovers = collected.reclaimed + collected.orphaned;
    }
    let mut objects = candidates(store)?;
    if terms.dry_run {
        let all = objects.len();
        objects.retain(|object| object.used_at > before(store.ttl()));
        report.expired = (all - objects.len()) as u64;
    }
    let Some(airflow) = airflow else {
        report.kept.not_asked = objects.len() as u64;
        return Ok((report, None));
    };
    let rules = Rules { ended_before: before(terms.retention), written_before: before(terms.grace) };
    // A DAG and a run of the same names may exist in several deployments: whose objects these are is no guess.
    objects.retain(|object| {
        let ours =
            object.owner.is_none() || object.deployment.as_ref().is_some_and(|one| terms.deployments.contains(one));
        report.kept.elsewhere += u64::from(!ours);
        ours
    });
    let (fates, failure) = ask(airflow, &objects, rules.ended_before, &mut report.doubts);
    for object in &objects {
        let tally = match rules.verdict(object, &fates) {
            Verdict::Ended => &mut report.ended,
            Verdict::Gone => &mut report.gone,
            Verdict::Keep(reason) => {
                *reason(&mut report.kept) += 1;
                continue;
            }
        };
        if terms.dry_run || store.delete(object.name)? {
            tally.objects += 1;
            tally.bytes += object.payload_bytes;
        }
    }
    Ok((report, failure))
}

/// An object that may go.
struct Candidate {
    name: ObjectName,
    payload_bytes: u64,
    created_at: Timestamp,
    used_at: Timestamp,
    owner: Option<Owner>,
    /// The fingerprint of the key of the Airflow deployment that wrote it.
    deployment: Option<String>,
}

impl From<Description> for Candidate {
    fn from(description: Description) -> Self {
        let metadata = serde_json::from_str(&description.metadata).unwrap_or(Value::Null);
        Self {
            name: description.name,
            payload_bytes: description.payload_bytes,
            created_at: timestamp(description.created_ns),
            used_at: timestamp(description.used_ns),
            owner: Owner::in_metadata(&metadata),
            deployment: metadata["owner"]["deployment"].as_str().map(str::to_owned),
        }
    }
}

/// All objects but those that can't be read, which `doctor` and `ls` tell of.
fn candidates(store: &Store) -> Result<Vec<Candidate>, StoreError> {
    let mut found = Vec::new();
    for name in store.names()? {
        match store.describe(name) {
            Ok(description) => found.push(description.into()),
            Err(error) => match error.kind() {
                // It went between the listing and now.
                ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::Denied | ErrorKind::Conflict => {}
                _ => return Err(error),
            },
        }
    }
    Ok(found)
}

fn timestamp(ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(ns.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What Airflow says of the owners of all objects, DAG by DAG; and the failure that made asking on pointless.
fn ask(
    airflow: &Airflow,
    objects: &[Candidate],
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
    // One DAG may be hidden from the token's user. If all of them are, it is the token, and who runs this must hear it.
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
    fn verdict(&self, object: &Candidate, fates: &HashMap<Owner, Fate>) -> Verdict {
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
