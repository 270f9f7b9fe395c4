//! The buckets of queued checkpoints, with credentials that are never written down.
//!
//! Without a connection they are the agent's own environment's, as a task's would be. For a connection Airflow's side is
//! asked, by a command whose answer stays in memory for a while: as the AWS SDK's `credential_process` and Kubernetes'
//! credential plugins do.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use airfreight_bucket::{Bucket, Settings};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::error::Problem;

/// For so long a connection's credentials are used before they are asked for again.
const FRESH: Duration = Duration::from_mins(15);
/// Importing Airflow takes seconds, asking a secrets backend some more.
const ANSWER_MAX: Duration = Duration::from_mins(2);

type Place = (Option<String>, String);

pub(super) struct Buckets {
    command: Vec<String>,
    known: Mutex<HashMap<Place, (Instant, Bucket)>>,
}

impl Buckets {
    pub(super) fn new(command: Vec<String>) -> Self {
        Self { command, known: Mutex::default() }
    }

    pub(super) async fn get(&self, conn: Option<&str>, url: &str) -> Result<Bucket, Problem> {
        let place = (conn.map(str::to_owned), url.to_owned());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
        if let Some((since, bucket)) = known
            && (conn.is_none() || since.elapsed() < FRESH)
        {
            return Ok(bucket);
        }
        let settings = match conn {
            None => Settings::new(url),
            Some(conn) => self.ask(conn, url).await?,
        };
        let bucket = Bucket::open(&settings).map_err(|error| Problem::new(&error, error.hint()))?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(place, (Instant::now(), bucket.clone()));
        Ok(bucket)
    }

    /// What a bucket has refused is not tried again with the same credentials.
    pub(super) fn forget(&self, conn: Option<&str>, url: &str) {
        let place = (conn.map(str::to_owned), url.to_owned());
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
    }

    async fn ask(&self, conn: &str, url: &str) -> Result<Settings, Problem> {
        let failed = |reason: &str| {
            Problem {
            text: format!("cannot ask Airflow for the connection `{conn}` of a checkpoint: {reason}"),
            hint: Some(
                "name the command that runs Airflow's Python by --access-command, and let it find the connection: in a \
                 variable AIRFLOW_CONN_… or a secrets backend; or give tasks a URL, and the agent the credentials"
                    .into(),
            ),
        }
        };
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(failed("there is no command for it"));
        };
        let mut command = Command::new(program);
        command.args(arguments).arg(format!("{conn}@{url}")).stdin(Stdio::null()).kill_on_drop(true);
        // What it complains of belongs into the agent's log.
        let answer = timeout(ANSWER_MAX, command.stderr(Stdio::inherit()).output()).await;
        let answer = answer.map_err(|_| failed("it takes too long"))?.map_err(|error| failed(&error.to_string()))?;
        if !answer.status.success() {
            return Err(failed(&format!("{}; the log has what it said", answer.status)));
        }
        // Airflow may greet before.
        let text = String::from_utf8_lossy(&answer.stdout);
        let said = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        Settings::from_json(said).ok_or_else(|| failed("what it says is not a bucket"))
    }
}
