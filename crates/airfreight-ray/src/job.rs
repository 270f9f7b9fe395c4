//! A job as Ray describes it.

use std::fmt;

use serde_json::{Map, Value};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobStatus {
    /// It waits for resources, or for its environment.
    Pending,
    /// Its entrypoint runs.
    Running,
    /// It was stopped on request.
    Stopped,
    /// Its entrypoint ended with exit code 0.
    Succeeded,
    /// It did not start, or its entrypoint failed.
    Failed,
}

impl JobStatus {
    /// Ray's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Stopped => "STOPPED",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
        }
    }

    /// Whether it stays as it is.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Stopped | Self::Succeeded | Self::Failed)
    }

    /// Reads Ray's word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Stopped, Self::Succeeded, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One job: Ray's `JobDetails`, kept as they came, and accessors for what is decided on.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    details: Map<String, Value>,
    status: JobStatus,
}

impl Job {
    /// Takes Ray's `JobDetails`; `None` if they have no status that this client knows.
    #[must_use]
    pub fn new(details: Map<String, Value>) -> Option<Self> {
        let status = JobStatus::parse(details.get("status")?.as_str()?)?;
        Some(Self { details, status })
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        self.status
    }

    /// The id under which it was submitted; a plain driver, which nobody submitted, has none.
    #[must_use]
    pub fn submission_id(&self) -> Option<&str> {
        self.text("submission_id")
    }

    /// Ray's own id, once the entrypoint has connected to Ray.
    #[must_use]
    pub fn job_id(&self) -> Option<&str> {
        self.text("job_id")
    }

    /// The shell command.
    #[must_use]
    pub fn entrypoint(&self) -> Option<&str> {
        self.text("entrypoint")
    }

    /// What Ray says about the status; of a failure the reason and the last lines of the log.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.text("message")
    }

    /// Ray's word for the kind of failure, such as `RUNTIME_ENV_SETUP_FAILURE`.
    #[must_use]
    pub fn error_type(&self) -> Option<&str> {
        self.text("error_type")
    }

    /// The entrypoint's exit code; none while it runs, and when it was stopped or never started.
    #[must_use]
    pub fn exit_code(&self) -> Option<i64> {
        self.details.get("driver_exit_code").and_then(Value::as_i64)
    }

    /// When it was submitted, in milliseconds since 1970.
    #[must_use]
    pub fn start_ms(&self) -> Option<i64> {
        self.details.get("start_time").and_then(Value::as_i64)
    }

    /// When it ended, in milliseconds since 1970.
    #[must_use]
    pub fn end_ms(&self) -> Option<i64> {
        self.details.get("end_time").and_then(Value::as_i64)
    }

    /// The node on which the entrypoint runs.
    #[must_use]
    pub fn driver_node_id(&self) -> Option<&str> {
        self.text("driver_node_id")
    }

    /// The HTTP address of that node's agent.
    #[must_use]
    pub fn agent_address(&self) -> Option<&str> {
        self.text("driver_agent_http_address")
    }

    /// One entry of the metadata it was submitted with.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.details.get("metadata")?.get(key)?.as_str()
    }

    /// The name of its log below the session's log directory, if it was submitted.
    #[must_use]
    pub fn log_name(&self) -> Option<String> {
        self.submission_id().map(|id| format!("job-driver-{id}.log"))
    }

    /// Everything that Ray said of it.
    #[must_use]
    pub fn details(&self) -> &Map<String, Value> {
        &self.details
    }

    /// Everything that Ray said of it.
    #[must_use]
    pub fn into_details(self) -> Map<String, Value> {
        self.details
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.details.get(key)?.as_str().filter(|text| !text.is_empty())
    }
}
