//! What a plan and those who do the asking say to each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::watch::Event;
use crate::{Job, RayError};

/// Which of the watches.
pub(crate) type Key = u64;

/// What to ask.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ask {
    /// All jobs.
    List,
    /// One job.
    Job(Key, String),
    /// The cluster's session.
    Session,
    /// More of a job's log; all that is left of it if the job is over.
    Log { key: Key, job: Arc<Job>, last: bool },
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Answer {
    List(Result<Vec<Job>, RayError>, Duration),
    Job(Key, Result<Option<Job>, RayError>),
    Session(Result<Option<String>, RayError>),
    Log(Key, LogAnswer),
    /// Somebody has told how it stands, and perhaps brought the whole log along.
    Told {
        key: Key,
        job: Job,
        log_read: bool,
    },
    /// Who tells, knows it no more; in which session.
    Missing(Key, Option<String>),
    /// Whether who tells is still there.
    Heard(Result<(), RayError>),
}

/// How a turn at a log ended.
#[derive(Debug)]
pub(crate) enum LogAnswer {
    Grew,
    Unchanged,
    /// There was no more, and there will be no more.
    Complete,
    /// Who takes the lines is slow.
    Full,
    /// There is no such file or node.
    Missing(RayError),
    Failed(RayError),
}

/// What a watch is told.
#[derive(Debug)]
pub(crate) enum Notice {
    Event(Event),
    Error(Arc<RayError>),
}

/// What somebody wants to know of a job.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) id: String,
    pub(crate) logs: bool,
    pub(crate) session: Option<String>,
    pub(crate) deadline: Option<Instant>,
}
