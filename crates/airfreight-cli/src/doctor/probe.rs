//! What Airflow's own Python knows: `python -m airfreight.doctor` tells it as one line of JSON.

use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use wait_timeout::ChildExt as _;

/// Importing Airflow takes seconds on a busy machine.
const TIME_LIMIT: Duration = Duration::from_mins(2);

/// The answer of python/airfreight/doctor.py. What it did not get to is `None`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Facts {
    pub(super) python: String,
    pub(super) executable: String,
    pub(super) airfreight: Option<String>,
    pub(super) airflow: Option<String>,
    pub(super) provider: bool,
    pub(super) home: String,
    pub(super) executor: String,
    pub(super) backend: Backend,
    pub(super) problems: Vec<Problem>,
    pub(super) settings: Option<AirflowSettings>,
    pub(super) key: Option<Key>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Backend {
    pub(super) path: String,
    pub(super) ours: bool,
    pub(super) error: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// The `[airfreight]` section as tasks see it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AirflowSettings {
    pub(super) store_path: Option<PathBuf>,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) spill_path: Option<PathBuf>,
    pub(super) spill_capacity_bytes: Option<u64>,
    pub(super) pool_bytes: Option<u64>,
    pub(super) ttl_hours: Option<f64>,
    pub(super) shared_store: bool,
    pub(super) mapping: Option<String>,
    pub(super) api_url: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Key {
    pub(super) source: String,
    pub(super) path: String,
    pub(super) exists: bool,
    pub(super) writable: bool,
    pub(super) fingerprints: Vec<String>,
    pub(super) file_system: Option<String>,
    pub(super) problem: Option<Problem>,
}

/// Why there are no facts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unasked {
    /// There is no Python to ask.
    NoPython,
    /// It was asked, and failed.
    Failed { python: PathBuf, reason: String },
}

/// Asks the Python that runs Airflow.
pub(super) fn ask(python: Option<&Path>) -> Result<Facts, Unasked> {
    let python = python.map(ToOwned::to_owned).or_else(find).ok_or(Unasked::NoPython)?;
    let failed = |reason: String| Unasked::Failed { python: python.clone(), reason };
    // -P: nothing from the directory that the user happens to be in.
    let mut child = Command::new(&python)
        .args(["-P", "-m", "airfreight.doctor"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let status = match child.wait_timeout(TIME_LIMIT) {
        Ok(Some(status)) => status,
        Ok(None) => {
            // It may end between the two calls.
            let _ = child.kill();
            let _ = child.wait();
            return Err(failed(format!("no answer in {} s", TIME_LIMIT.as_secs())));
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    let text = |pipe: Option<thread::JoinHandle<String>>| pipe.and_then(|p| p.join().ok()).unwrap_or_default();
    let (stdout, stderr) = (text(stdout), text(stderr));
    if !status.success() {
        let reason = stderr.lines().rfind(|line| !line.trim().is_empty());
        return Err(failed(reason.map_or_else(|| status.to_string(), ToOwned::to_owned)));
    }
    // Airflow and its plugins may print; our line is the last.
    let line = stdout.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(line).map_err(|error| failed(format!("its answer is not understood: {error}")))
}

/// The Python next to this program, where the wheel puts it; else the one next to `airflow`.
fn find() -> Option<PathBuf> {
    let beside = |program: &Path| {
        let directory = program.parent()?;
        ["python", "python3"].map(|name| directory.join(name)).into_iter().find(|path| path.is_file())
    };
    let here = env::current_exe().ok().and_then(|program| beside(&program));
    here.or_else(|| {
        let path = env::var_os("PATH")?;
        let airflow = env::split_paths(&path).map(|directory| directory.join("airflow")).find(|path| path.is_file())?;
        // A link in ~/.local/bin leads to the environment.
        beside(&fs_err::canonicalize(airflow).ok()?)
    })
}

/// Reads a pipe to its end, so that a full one never stops the child.
fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read until the pipe broke is all there is.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
