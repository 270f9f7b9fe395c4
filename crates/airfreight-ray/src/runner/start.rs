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
/// As Ray's own entrypoints find Python: not every image has one by this name.
const PYTHON: &str = "\"$(command -v python || command -v python3)\"";

/// The id of the runner that a driver package makes: other code is another runner.
#[must_use]
pub fn runner_id(package: &[u8]) -> String {
    format!("airfreight-runner-{}", &to_hex(&Sha256::digest(package))[..12])
}

/// A job that ought to be the runner.
enum Found {
    Ready(Beacon),
    /// It is on its way, and this is how far.
    Coming(String),
    Over(Box<Job>),
    Nothing,
}

async fn look(client: &Client, id: &str) -> Result<Found> {
    let Some(job) = client.job(id).await? else { return Ok(Found::Nothing) };
    if job.status().is_terminal() {
        return Ok(Found::Over(Box::new(job)));
    }
    let Some(node_id) = job.driver_node_id().filter(|_| job.status() == JobStatus::Running) else {
        return Ok(Found::Coming(format!("its job is {}", job.status())));
    };
    Ok(match mailbox::find(client, id, node_id).await? {
        Some(beacon) => Found::Ready(beacon),
        None => Found::Coming("its job runs, but it has not said where it is".to_owned()),
    })
}

/// Whether a runner's job is there that is not over.
pub(crate) async fn is_running(client: &Client, id: &str) -> Result<bool> {
    Ok(client.job(id).await?.is_some_and(|job| !job.status().is_terminal()))
}

/// The runner's beacon; starts the runner if there is none.
///
/// However many do this at once, there is one runner: Ray takes an id once, and a job that is not over can't be deleted.
pub(crate) async fn find_or_start(inner: &Inner, limit: Duration) -> Result<Beacon> {
    let (client, id) = (&inner.client, &inner.id);
    let began = Instant::now();
    let mut pause = PAUSE_MIN;
    let mut starts = 0_u32;
    let mut came = None;
    let mut over: Option<String> = None;
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
            Found::Over(_) | Found::Nothing if inner.package.is_none() => {
                return Err(failed(client, &format!("{id} does not run")));
            }
            Found::Over(job) => {
                let how = ending(&job);
                if is_too_early(&job) {
                    starts = starts.saturating_sub(1);
                    pause = PAUSE_MAX;
                } else if starts >= STARTS_MAX {
                    return Err(failed(client, &format!("its job {id} {how}")));
                }
                over = Some(how);
                // Refused where somebody else was faster, and has one running by now.
                match client.delete(id).await {
                    Ok(_) if pause < PAUSE_MAX => continue,
                    Ok(_) => "the job before it is still about to end".to_owned(),
                    Err(RayError::Rejected { .. } | RayError::NotFound { .. }) => "its last job is over".to_owned(),
                    Err(error) => return Err(error),
                }
            }
            Found::Nothing => {
                if starts >= STARTS_MAX {
                    let how = over.as_deref().unwrap_or("vanished");
                    return Err(failed(client, &format!("its job {id} {how}")));
                }
                let package = inner.package.clone().unwrap_or_default();
                start(client, id, package, &inner.options).await?;
                starts += 1;
                pause = PAUSE_MIN;
                "its job has been submitted".to_owned()
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

/// Whether nobody listens where the beacon says, as far as one can see from here.
async fn is_forsaken(inner: &Inner, beacon: &Beacon) -> bool {
    let Some(host) = inner.hosts(beacon).into_iter().next() else { return false };
    Port::open(beacon, &host, &inner.port_pool).await.is_err_and(|unusable| unusable.is_not_there)
}

/// Submits the runner's job; that somebody else has done so is as good.
async fn start(client: &Client, id: &str, package: Bytes, options: &RunnerOptions) -> Result<()> {
    let uri = client.upload_package(Package::from_zip("the runner".into(), package.to_vec())?).await?;
    let submission = Submission::new(format!("exec {PYTHON} -c 'import airfreight_runner; airfreight_runner.hold()'"))
        .with("submission_id", id)
        .with("metadata", json!({"airfreight_runner": "1"}))
        .with(
            "runtime_env",
            json!({
                "py_modules": [uri],
                "env_vars": {
                    "AIRFREIGHT_RUNNER_ID": id,
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

/// Ray has called a job over while what looked after it was still there, and so could not begin the next of its name.
fn is_too_early(job: &Job) -> bool {
    job.message().is_some_and(|message| message.contains("ActorAlreadyExistsError"))
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
