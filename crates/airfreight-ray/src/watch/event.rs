//! What a watch has to say.

use std::time::Duration;

use crate::{Cursor, Job};

/// One thing that happened to a job, or to our view of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// More of its log.
    Lines {
        /// Complete lines without their ends, in order.
        lines: Vec<String>,
        /// The place after the last of them.
        cursor: Cursor,
    },
    /// The lines from here on may have been handed out before.
    Repeats {
        /// Why, for people.
        reason: String,
    },
    /// Its status is known, or has changed.
    Status {
        /// The job as it is now.
        job: Job,
    },
    /// The dashboard does not answer; the watch goes on.
    Unreachable {
        /// For how long.
        silence: Duration,
        /// What came instead, last.
        error: String,
    },
    /// The deadline has passed; the watch goes on.
    Deadline,
    /// It is over, and its log has been handed out. Always the last event.
    Ended {
        /// The job as it ended.
        job: Job,
        /// Why its log is incomplete, if it is.
        log_error: Option<String>,
    },
    /// Ray does not know it any more. Always the last event.
    Gone {
        /// Because this is another cluster than the one that it was submitted to.
        replaced: bool,
    },
}

impl Event {
    /// Its name, as Python and the command line spell it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Lines { .. } => "lines",
            Self::Repeats { .. } => "repeats",
            Self::Status { .. } => "status",
            Self::Unreachable { .. } => "unreachable",
            Self::Deadline => "deadline",
            Self::Ended { .. } => "ended",
            Self::Gone { .. } => "gone",
        }
    }

    /// Whether nothing can come after it.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::Gone { .. })
    }
}
