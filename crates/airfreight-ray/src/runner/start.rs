//! The runner's job: finding it, and starting it where there is none.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use super::beacon::{Beacon, to_hex};
use super::mailbox;
use super::port::Port;
use super::{Inner, RunnerOptions};
use crate::package::Package;
use crate::{Client, Job, JobStatus, RayError, Result, Submission};

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A runner that ends so often before it answers has a reason.
const STARTS_MAX: u32 = 2;
/// How long a port that is not there yet is waited for, after the runner's job has begun.
const PORT_PATIENCE: Duration = Duration::from_secs(5);
/// What the second of a runner's two job ids ends in.
const OTHER: &str = "-b";
/// As Ray's own entrypoints find Python: not every image has one by this name.
const PYTHON: &str = "\"$(command -v python || command -v python3)\"";

/// The id of the runner that a driver package makes: other code is another runner.
#[must_use]
pub fn runner_id(package: &[u8]) -> String {
    format!("airfreight-runner-{}", &to_hex(&Sha256::digest(package))[..12])
}

/// The submission ids of a runner's jobs, which take turns.
///
/// For about a second after a job's end, what has watched it in Ray takes the next job of the same id for it and calls
/// that one failed; and once such a job is deleted, nothing ends its supervisor, whose name is taken for good.
fn job_ids(id: &str) -> [String; 2] {
    [id.to_owned(), format!("{id}{OTHER}")]
}

/// The runner whose job this is.
#[must_use]
pub fn runner_of(job_id: &str) -> &str {
    job_id.strip_suffix(OTHER).unwrap_or(job_id)
}

/// A job that ought to be the runner.
enum Found {
    Ready(Beacon),
    /// It is on its way, and this is how far.
    Coming(String),
    /// None is there. The next one is to have this id, and a job that had it before is to be deleted.
    Nobody {
        next: String,
        before: bool,
        last: Option<Box<Job>>,
    },
}

async fn look(client: &Client, id: &str) -> Result<Found> {
    let ids = job_ids(id);
    let one = client.job(&ids[0]).await?;
    let other = if one.as_ref().is_some_and(is_there) { None } else { client.job(&ids[1]).await? };
    let jobs = [one, other];
    let Some(job) = jobs.iter().flatten().find(|job| is_there(job)) else {
        return Ok(nobody(ids, jobs));
    };
    let Some(node_id) = job.driver_node_id().filter(|_| job.status() == JobStatus::Running) else {
        return Ok(Found::Coming(format!("its job is {}", job.status())));
    };
    Ok(match mailbox::find(client, id, node_id).await? {
        Some(beacon) => Found::Ready(beacon),
        None => Found::Coming("its job runs, but it has not said where it is".to_owned()),
    })
}

fn is_there(job: &Job) -> bool {
    !job.status().is_terminal()
}

/// Whose turn it is: the id that nobody has, else the one whose job ended first.
fn nobody(ids: [String; 2], jobs: [Option<Job>; 2]) -> Found {
    let [one, other] = ids;
    match jobs {
        [None, last] => Found::Nobody { next: one, before: false, last: last.map(Box::new) },
        [last, None] => Found::Nobody { next: other, before: false, last: last.map(Box::new) },
        [Some(first), Some(second)] => {
            let is_first_older = first.end_ms() <= second.end_ms();
            let (next, last) = if is_first_older { (one, second) } else { (other, first) };
            Found::Nobody { next, before: true, last: Some(Box::new(last)) }
        }
    }
}

/// The runner's job, if there is one that is not over.
pub(crate) async fn running(client: &Client, id: &str) -> Result<Option<Job>> {
    for id in job_ids(id) {
        if let Some(job) = client.job(&id).await?.filter(is_there) {
            return Ok(Some(job));
        }
    }
    Ok(None)
}

/// The runner's beacon; starts the runner if there is none.
///
/// However many do this at once, there is one runner: they agree on whose turn it is, Ray takes an id once, and a job
/// that is not over can't be deleted.
pub(crate) async fn find_or_start(inner: &Inner, limit: Duration) -> Result<Beacon> {
    let (client, id) = (&inner.client, &inner.id);
    let began = Instant::now();
    let mut pause = PAUSE_MIN;
    let mut starts = 0_u32;
    let mut came = None;
    loop {
        let state = match look(client, id).await? {
            Found::Ready(beacon) => {
                // What an earlier life has left in the file is not believed before somebody answers there.
                let doubtful = starts > 0 && *came.get_or_insert_with(Instant::now) + PORT_PATIENCE > Instant::now();
                if !doubtful || !is_forsaken(inner, &beacon).await {
                    return Ok(beacon);
                }
                "it has not opened its port".to_owned()
            }
            Found::Coming(state) => state,
            Found::Nobody { next, before, last } => {
                let Some(package) = inner.package.clone() else {
                    return Err(failed(client, &format!("{id} does not run")));
                };
                if starts >= STARTS_MAX {
                    let how = last.map_or_else(|| "vanished".to_owned(), |job| ending(&job));
                    return Err(failed(client, &format!("the last job of {id} {how}")));
                }
                if before && !make_way(client, &next).await? {
                    "somebody else is starting it".to_owned()
                } else {
                    start(client, id, &next, package, &inner.options).await?;
                    starts += 1;
                    pause = PAUSE_MIN;
                    "its job has been submitted".to_owned()
                }
            }
        };
        if began.elapsed() + pause > limit {
            let seconds = began.elapsed().as_secs_f64();
            return Err(failed(client, &format!("{id} is not ready after {seconds:.1} s: {state}")));
        }
        sleep(pause).await;
        pause = (pause + pause / 2).min(PAUSE_MAX);
    }
}

/// Deletes a job that is over, so that the next can have its id; `false` where somebody else was faster, and has one
/// running by now.
async fn make_way(client: &Client, job_id: &str) -> Result<bool> {
    match client.delete(job_id).await {
        Ok(_) | Err(RayError::NotFound { .. }) => Ok(true),
        Err(RayError::Rejected { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether nobody listens where the beacon says, as far as one can see from here.
async fn is_forsaken(inner: &Inner, beacon: &Beacon) -> bool {
    let Some(host) = inner.hosts(beacon).into_iter().next() else { return false };
    Port::open(beacon, &host, &inner.port_pool).await.is_err_and(|unusable| unusable.is_not_there)
}

/// Submits the runner's job; that somebody else has done so is as good.
async fn start(client: &Client, id: &str, job_id: &str, package: Bytes, options: &RunnerOptions) -> Result<()> {
    let uri = client.upload_package(Package::from_zip("the runner".into(), package.to_vec())?).await?;
    let submission = Submission::new(format!("exec {PYTHON} -c 'import airfreight_runner; airfreight_runner.hold()'"))
        .with("submission_id", job_id)
        .with("metadata", json!({"airfreight_runner": "1"}))
        .with(
            "runtime_env",
            json!({
                "py_modules": [uri],
                "env_vars": {
                    "AIRFREIGHT_RUNNER_ID": id,
                    "AIRFREIGHT_RUNNER_JOB": job_id,
                    "AIRFREIGHT_RUNNER_PORT": options.port.to_string(),
                    "AIRFREIGHT_RUNNER_IDLE_SECONDS": options.idle.as_secs_f64().to_string(),
                },
            }),
        );
    match client.submit(submission).await {
        Ok(_) | Err(RayError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn ending(job: &Job) -> String {
    let message = job.message().unwrap_or_default().trim();
    let last = message.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let kind = job.error_type().map(|kind| format!(" ({kind})")).unwrap_or_default();
    format!("ended as {}{kind}: {last}", job.status())
}

fn failed(client: &Client, reason: &str) -> RayError {
    RayError::NoRunner { address: client.address().to_owned(), reason: reason.to_owned() }
}
