//! Following one job: what is said of it, and how it is asked for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;

use crate::follow::drive;
use crate::{ApoloError, Client, Cursor, Job, JobStatus};

/// How long a watch waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// Until the job is over.
    #[default]
    End,
    /// Until it has left its queue: it runs, or is over.
    Start,
    /// Until its status is another than this.
    Other(JobStatus),
    /// No longer than it takes to read what it has written so far.
    Now,
}

/// What to follow.
#[derive(Clone, Debug)]
pub struct Follow {
    /// The job's id.
    pub id: String,
    /// How long.
    pub until: Until,
    /// Whether the lines of its log are wanted.
    pub logs: bool,
    /// Where an earlier watch of this job had got to.
    pub cursor: Cursor,
    /// When to say [`Event::Deadline`].
    pub deadline: Option<SystemTime>,
    /// The pause after the first question; it grows up to `pause_max`.
    pub pause_min: Duration,
    /// The longest pause between two questions.
    pub pause_max: Duration,
    /// How long a silent platform is waited for.
    pub patience: Duration,
}

impl Follow {
    /// A job and its whole log, as closely as a single one can be followed.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            until: Until::End,
            logs: true,
            cursor: Cursor::default(),
            deadline: None,
            pause_min: Duration::from_millis(200),
            pause_max: Duration::from_secs(2),
            patience: Duration::from_mins(5),
        }
    }
}

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
    /// Its status is known, or has changed.
    Status {
        /// The job as it is now.
        job: Job,
    },
    /// The platform does not answer; the watch goes on.
    Unreachable {
        /// For how long.
        silence: Duration,
        /// What came instead, last.
        error: String,
    },
    /// The deadline has passed; the watch goes on.
    Deadline,
    /// What was waited for has come, and its log has been handed out. Always the last event.
    Ended {
        /// The job as it is then.
        job: Job,
        /// Why its log is incomplete, if it is.
        log_error: Option<String>,
    },
}

impl Event {
    /// Its name, as Python spells it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Lines { .. } => "lines",
            Self::Status { .. } => "status",
            Self::Unreachable { .. } => "unreachable",
            Self::Deadline => "deadline",
            Self::Ended { .. } => "ended",
        }
    }
}

pub(crate) type Said = Result<Event, Arc<ApoloError>>;

/// So many events may wait to be taken; a log is not read faster than that.
const WAITING_MAX: usize = 32;

/// One job being followed. Dropping it ends that, at once.
#[derive(Debug)]
pub struct Watch {
    state: Mutex<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    events: Receiver<Said>,
    /// What is said again and again once all is said.
    last: Option<Said>,
    cursor: Cursor,
}

impl Watch {
    pub(crate) fn new(client: Client, follow: Follow) -> Self {
        let (sender, events) = channel(WAITING_MAX);
        let state = State { events, last: None, cursor: follow.cursor.clone() };
        Self { state: Mutex::new(state), task: tokio::spawn(drive(client, follow, sender)) }
    }

    /// The next event. After the last one, and after an error, the same comes again. Nothing is lost by cancelling.
    ///
    /// # Errors
    /// - [`ApoloError::Unavailable`]: the platform has not answered for as long as our patience.
    /// - [`ApoloError::NotFound`], [`ApoloError::Denied`].
    pub async fn next(&self) -> Result<Event, Arc<ApoloError>> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// [`Watch::next`] for who has no async function: with any waker, from any thread, outside of a runtime, too.
    ///
    /// # Errors
    /// Those of [`Watch::next`].
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Event, Arc<ApoloError>>> {
        let mut state = self.lock();
        if let Some(last) = &state.last {
            return Poll::Ready(last.clone());
        }
        let said = ready!(state.events.poll_recv(context))
            .unwrap_or_else(|| Err(Arc::new(ApoloError::Internal { what: "the watch of a job broke down".into() })));
        match &said {
            Ok(Event::Lines { cursor, .. }) => state.cursor = cursor.clone(),
            Ok(Event::Ended { .. }) | Err(_) => state.last = Some(said.clone()),
            Ok(_) => {}
        }
        Poll::Ready(said)
    }

    /// Where the lines that have been handed out end.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.lock().cursor.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
