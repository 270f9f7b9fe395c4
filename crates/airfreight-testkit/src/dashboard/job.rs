//! Jobs that advance by a script.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::text::Text;

/// The only node.
pub(super) const NODE_ID: &str = "a75c412fa3156d2f946b3a3f4fc0ab3783daa9a3c8536bd9f55d5fe0";

/// Ray's word for where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "Ray's own words")]
pub enum Word {
    Pending,
    Running,
    Stopped,
    Succeeded,
    Failed,
}

impl Word {
    pub(super) fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// What a job is and does. Times count from its creation, those of its log from when it runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobScript {
    /// Its submission id.
    pub id: String,
    /// When it is what: milliseconds and status, in order. A job that stays PENDING waits for resources, and Ray can't
    /// stop it.
    pub states: Vec<(u64, Word)>,
    /// What its log begins with, beyond the two lines of Ray's.
    pub log: String,
    /// What it writes when.
    pub log_chunks: Vec<(u64, String)>,
    /// Numbered lines, so many in a second, after all chunks. A reader mostly meets an incomplete last line.
    pub log_lines_per_second: f64,
    /// How long a numbered line is with its end.
    pub log_line_bytes: usize,
    /// How much there is of numbered lines at most. Without `log_lines_per_second` all of it is there at once.
    pub log_bytes_total: Option<u64>,
    /// What its log ends with once it is over.
    pub log_end: String,
    /// The entrypoint's exit code; by default 0 if it SUCCEEDED and 1 if it FAILED.
    pub exit_code: Option<i64>,
    /// Ray's word for the kind of failure; by default that of an entrypoint that failed.
    pub error_type: Option<String>,
    /// What Ray says; by default what it says of such a status.
    pub message: Option<String>,
    /// How long a stop takes.
    pub stop_ms: u64,
    /// The shell command.
    pub entrypoint: String,
    /// What it was submitted with.
    pub metadata: Option<Map<String, Value>>,
    /// What it was submitted with.
    pub runtime_env: Option<Map<String, Value>>,
    /// Ray's own id, if the entrypoint connects to Ray.
    pub job_id: Option<String>,
    /// Blows the record up to so many bytes; those of Airflow's jobs have 830 to 990.
    pub record_bytes: usize,
}

impl Default for JobScript {
    fn default() -> Self {
        Self {
            id: String::new(),
            states: vec![(0, Word::Pending), (20, Word::Running), (60, Word::Succeeded)],
            log: String::new(),
            log_chunks: Vec::new(),
            log_lines_per_second: 0.0,
            log_line_bytes: 80,
            log_bytes_total: None,
            log_end: String::new(),
            exit_code: None,
            error_type: None,
            message: None,
            stop_ms: 0,
            entrypoint: "python script.py".into(),
            metadata: None,
            runtime_env: None,
            job_id: None,
            record_bytes: 0,
        }
    }
}

/// A job of the cluster.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) script: JobScript,
    /// The body of the request that made it.
    pub(super) submission: Option<Value>,
    /// An id with a slash: Ray makes a record and can then neither stop nor delete it.
    pub(super) poisoned: bool,
    created: Instant,
    created_at: SystemTime,
}

impl Job {
    pub(super) fn new(script: JobScript) -> Self {
        Self { script, submission: None, poisoned: false, created: Instant::now(), created_at: SystemTime::now() }
    }

    /// The status at a time and since when it holds, both counted from the creation.
    fn at(&self, elapsed: Duration) -> (Word, Duration) {
        let mut due = self.script.states.iter().filter(|(ms, _)| Duration::from_millis(*ms) <= elapsed);
        due.next_back().map_or((Word::Pending, Duration::ZERO), |(ms, word)| (*word, Duration::from_millis(*ms)))
    }

    pub(super) fn status(&self) -> Word {
        self.at(self.created.elapsed()).0
    }

    /// From now on the job is this.
    pub(super) fn set_status(&mut self, word: Word, after: Duration) {
        let now = self.created.elapsed();
        let ms = |time: Duration| u64::try_from(time.as_millis()).expect("no test takes so long");
        let (current, _) = self.at(now);
        self.script.states.retain(|(at, _)| Duration::from_millis(*at) <= now);
        if self.script.states.is_empty() {
            self.script.states.push((0, current));
        }
        self.script.states.push((ms(now + after), word));
    }

    /// What Ray answers to a stop: whether there was something to stop.
    pub(super) fn stop(&mut self) -> bool {
        match self.status() {
            Word::Pending if self.waits_for_resources() => true,
            Word::Pending | Word::Running => {
                self.set_status(Word::Stopped, Duration::from_millis(self.script.stop_ms));
                true
            }
            _ => false,
        }
    }

    fn waits_for_resources(&self) -> bool {
        self.script.states.iter().all(|(_, word)| *word == Word::Pending)
    }

    /// Appends to the log.
    pub(super) fn append(&mut self, text: &str) {
        let since = self.running_for().unwrap_or_default();
        let ms = u64::try_from(since.as_millis()).expect("no test takes so long");
        self.script.log_chunks.push((ms, text.to_owned()));
    }

    /// How long it has run, or did; `None` if it never did.
    fn running_for(&self) -> Option<Duration> {
        let elapsed = self.created.elapsed();
        let began = self.script.states.iter().find(|(_, word)| *word == Word::Running)?.0;
        let began = Duration::from_millis(began);
        let (status, since) = self.at(elapsed);
        let until = if status.is_terminal() { since } else { elapsed };
        until.checked_sub(began)
    }

    /// The log as it is now; `None` before there is a file.
    pub(super) fn log(&self) -> Option<Text> {
        let running = self.running_for()?;
        let script = &self.script;
        let mut text = Text::default();
        text.push(format!(
            "2026-11-21 08:13:04,781\tINFO job_manager.py:581 -- Runtime env is setting up.\n\
             Running entrypoint for job {}: {}\n{}",
            script.id, script.entrypoint, script.log
        ));
        let over = self.status().is_terminal();
        let mut began = 0;
        for (ms, chunk) in &script.log_chunks {
            began = began.max(*ms);
            // What was appended to a job that is over stands there, too.
            if over || Duration::from_millis(*ms) <= running {
                text.push(Bytes::from(chunk.clone()));
            }
        }
        let wanted = self.numbered_bytes(running.saturating_sub(Duration::from_millis(began)));
        text.push_numbered(script.log_line_bytes.max(16), wanted);
        if over {
            text.push(script.log_end.clone());
        }
        Some(text)
    }

    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a rate")]
    fn numbered_bytes(&self, time: Duration) -> u64 {
        let script = &self.script;
        if script.log_lines_per_second <= 0.0 {
            return script.log_bytes_total.unwrap_or(0);
        }
        let grown = script.log_lines_per_second * script.log_line_bytes.max(16) as f64 * time.as_secs_f64();
        (grown as u64).min(script.log_bytes_total.unwrap_or(u64::MAX))
    }

    /// Ray's `JobDetails`.
    pub(super) fn details(&self, agent: &str) -> Value {
        let script = &self.script;
        let (status, since) = self.at(self.created.elapsed());
        let ran = self.running_for().is_some();
        let millis = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
            u64::try_from(since.as_millis()).expect("before the year 500,000,000")
        };
        let exit_code = match status {
            Word::Succeeded => Some(script.exit_code.unwrap_or(0)),
            // Where Ray itself has failed there was no entrypoint.
            Word::Failed if script.error_type.is_none() || script.exit_code.is_some() => {
                Some(script.exit_code.unwrap_or(1))
            }
            _ => None,
        };
        let error_type = (status == Word::Failed)
            .then(|| script.error_type.clone().unwrap_or_else(|| "JOB_ENTRYPOINT_COMMAND_ERROR".into()));
        let driver = script.job_id.as_ref().filter(|_| ran);
        let mut details = json!({
            "type": "SUBMISSION",
            "job_id": driver,
            "submission_id": script.id,
            "driver_info": driver.map(|id| json!({"id": id, "node_ip_address": "127.0.0.1", "pid": "6203"})),
            "status": status,
            "entrypoint": script.entrypoint,
            "message": self.message(status, exit_code),
            "error_type": error_type,
            "start_time": millis(self.created_at),
            "end_time": status.is_terminal().then(|| millis(self.created_at + since)),
            "metadata": script.metadata,
            "runtime_env": script.runtime_env,
            "driver_agent_http_address": ran.then_some(agent),
            "driver_node_id": ran.then_some(NODE_ID),
            "driver_exit_code": exit_code,
        });
        if let Some(missing) = script.record_bytes.checked_sub(details.to_string().len() + 40) {
            let padding = BTreeMap::from([("PADDING", "x".repeat(missing))]);
            details["runtime_env"]["env_vars"] = json!(padding);
        }
        details
    }

    fn message(&self, status: Word, exit_code: Option<i64>) -> String {
        if let Some(message) = self.script.message.clone().filter(|_| status.is_terminal()) {
            return message;
        }
        match status {
            Word::Pending if self.waits_for_resources() => {
                "Job has not started yet. It may be waiting for resources (CPUs, GPUs, memory, custom resources) to \
                 become available."
                    .into()
            }
            Word::Pending => {
                "Job has not started yet. It may be waiting for the runtime environment to be set up.".into()
            }
            Word::Running => "Job is currently running.".into(),
            Word::Stopped => "Job was intentionally stopped.".into(),
            Word::Succeeded => "Job finished successfully.".into(),
            Word::Failed => {
                let log = self.log().unwrap_or_default();
                let last = log.read(log.tail(10)..log.len());
                format!(
                    "Job entrypoint command failed with exit code {}, last available logs (truncated to 20,000 \
                     chars):\n{}",
                    exit_code.unwrap_or(1),
                    String::from_utf8_lossy(&last)
                )
            }
        }
    }
}
