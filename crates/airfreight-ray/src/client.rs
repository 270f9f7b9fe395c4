//! One cluster's Jobs API.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::{Cluster, Job, Lines, LogStream, Result, Settings, Submission};

/// A cluster's Jobs API. Cheap to clone; connects at first use.
#[derive(Clone, Debug)]
pub struct Client {
    settings: Settings,
}

/// A job that runs, or waits to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Its id.
    pub submission_id: String,
    /// Whether this answer came with its creation; otherwise an earlier answer was lost, and the job was found.
    pub created: bool,
}

/// What came of stopping a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It is being stopped, or was while it was being prepared.
    Stopping,
    /// It was over already.
    WasOver,
    /// It waits for resources, and Ray cannot cancel it before it has them: stop it again once it runs.
    StillPending,
}

impl Client {
    /// Prepares to talk to a cluster; nothing is connected yet.
    ///
    /// # Errors
    /// - [`crate::RayError::Address`], [`crate::RayError::Setting`], [`crate::RayError::Certificate`].
    pub fn new(settings: Settings) -> Result<Self> {
        Ok(Self { settings })
    }

    /// The dashboard's address, without credentials and trailing slash.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.settings.address
    }

    /// The job's page in the Ray dashboard.
    #[must_use]
    pub fn job_url(&self, id: &str) -> String {
        format!("{}/#/jobs/{id}", self.address())
    }

    /// Asks the cluster for its version and the like.
    ///
    /// # Errors
    /// - [`crate::RayError::TooOld`], and those of every call: [`crate::RayError::Unavailable`],
    ///   [`crate::RayError::Denied`], [`crate::RayError::Rejected`], [`crate::RayError::Unreadable`], …
    pub async fn cluster(&self) -> Result<Cluster> {
        todo!()
    }

    /// Submits a job, once, however often the answer is lost on the way.
    ///
    /// # Errors
    /// - [`crate::RayError::Submission`]: the description is wrong; nothing was posted.
    /// - [`crate::RayError::Unsupported`]: the cluster's Ray is too old for it; nothing was posted.
    /// - [`crate::RayError::Conflict`]: the id belongs to another job.
    pub async fn submit(&self, _submission: Submission) -> Result<Submitted> {
        todo!()
    }

    /// Reads one job; `None` if there is none of this id.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn job(&self, _id: &str) -> Result<Option<Job>> {
        todo!()
    }

    /// Lists every job that the cluster remembers. Costs the cluster 0.4 ms per job: not for loops.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn jobs(&self) -> Result<Vec<Job>> {
        todo!()
    }

    /// Asks Ray to stop a job and says what came of it.
    ///
    /// # Errors
    /// - [`crate::RayError::NotFound`].
    pub async fn stop(&self, _id: &str) -> Result<Stopped> {
        todo!()
    }

    /// Stops a job and keeps on until it is over, for at most `limit`: a job that was pending is stopped once it runs.
    ///
    /// Answers the job as it was seen last.
    ///
    /// # Errors
    /// - [`crate::RayError::NotFound`].
    pub async fn stop_and_wait(&self, _id: &str, _limit: Duration) -> Result<Job> {
        todo!()
    }

    /// Removes the record of a job that is over; `false` if there is none. Its log file stays on the cluster.
    ///
    /// # Errors
    /// - [`crate::RayError::Rejected`]: it is not over.
    pub async fn delete(&self, _id: &str) -> Result<bool> {
        todo!()
    }

    /// Reads a job's log from `offset` (bytes) straight from its node's agent; `None` if the agent can't be reached
    /// from here, or the job has none yet. An empty stream if there is nothing beyond `offset`.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn log_range(&self, _job: &Job, _offset: u64) -> Result<Option<LogStream>> {
        todo!()
    }

    /// Reads a file below the session's log directory on a node.
    ///
    /// # Errors
    /// - [`crate::RayError::NotFound`]: the node is gone, or there is no such file.
    pub async fn log_file(&self, _node_id: &str, _name: &str, _lines: Lines) -> Result<LogStream> {
        todo!()
    }

    /// Reads a job's whole log through the Jobs API. Costs the head node three times the log's size in memory:
    /// [`Client::log_file`] is better where the job's node is known.
    ///
    /// # Errors
    /// - [`crate::RayError::NotFound`].
    pub async fn log_whole(&self, _id: &str) -> Result<LogStream> {
        todo!()
    }

    /// Uploads a package unless the cluster has it, and answers its URI. Either way the cluster keeps it for the next
    /// ten minutes, so upload just before submitting.
    ///
    /// # Errors
    /// - [`crate::RayError::PackageTooLarge`].
    pub async fn upload(&self, _package: Vec<u8>) -> Result<String> {
        todo!()
    }

    /// Packs and uploads what a runtime environment names on this machine (`working_dir`, `py_modules`), relative to
    /// `base`, and answers one that Ray takes.
    ///
    /// # Errors
    /// - [`crate::RayError::RuntimeEnv`], [`crate::RayError::Pack`], [`crate::RayError::PackageTooLarge`].
    pub async fn resolve_runtime_env(
        &self,
        _runtime_env: Map<String, Value>,
        _base: Option<&Path>,
    ) -> Result<Map<String, Value>> {
        todo!()
    }
}
