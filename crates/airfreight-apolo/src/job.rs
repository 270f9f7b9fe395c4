//! A job as the platform describes it.

use std::fmt;

use serde_json::{Map, Value};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobStatus {
    /// It waits for a node, its image or its turn.
    Pending,
    /// The scheduler has taken its node away; it waits for another.
    Suspended,
    /// Its container runs.
    Running,
    /// Its container ended with exit code 0.
    Succeeded,
    /// Its container failed, or never started.
    Failed,
    /// Somebody, its life span or the credits have ended it.
    Cancelled,
    /// A word that this client doesn't know.
    Unknown,
}

impl JobStatus {
    const ALL: [Self; 7] =
        [Self::Pending, Self::Suspended, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Unknown];

    /// The platform's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Suspended => "suspended",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it stays as it is.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Whether its container may have said something.
    #[must_use]
    pub const fn has_started(self) -> bool {
        matches!(self, Self::Running) || self.is_over()
    }

    /// Reads the platform's word; what is new is [`JobStatus::Unknown`].
    #[must_use]
    pub fn parse(word: &str) -> Self {
        Self::ALL.into_iter().find(|status| status.as_str() == word).unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One job: what the platform said, kept as it came, and accessors for what is decided on.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    details: Map<String, Value>,
}

impl Job {
    /// Takes the platform's description; `None` if it has neither id nor status.
    #[must_use]
    pub fn new(details: Map<String, Value>) -> Option<Self> {
        let job = Self { details };
        (job.text("id").is_some() && job.text("status").is_some()).then_some(job)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.text("id").unwrap_or_default()
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        JobStatus::parse(self.text("status").unwrap_or_default())
    }

    /// The cluster that it runs on.
    #[must_use]
    pub fn cluster(&self) -> Option<&str> {
        self.text("cluster_name")
    }

    /// The container's exit code; none while it runs, and when it was cancelled or never started.
    #[must_use]
    pub fn exit_code(&self) -> Option<i64> {
        self.history("exit_code")?.as_i64()
    }

    /// The platform's word for why it is as it is.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.history("reason")?.as_str().filter(|text| !text.is_empty())
    }

    /// The platform's sentences about it.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.history("description")?.as_str().filter(|text| !text.is_empty())
    }

    /// Its tags.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.details.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// Where its HTTP port is served: under its name where it has one.
    #[must_use]
    pub fn http_url(&self) -> Option<&str> {
        self.text("http_url_named").or_else(|| self.text("http_url"))
    }

    /// Everything that the platform said of it.
    #[must_use]
    pub fn details(&self) -> &Map<String, Value> {
        &self.details
    }

    fn history(&self, key: &str) -> Option<&Value> {
        self.details.get("history")?.get(key)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.details.get(key)?.as_str().filter(|text| !text.is_empty())
    }
}
