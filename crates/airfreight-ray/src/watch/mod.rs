//! Following jobs until they are over.

mod driver;
mod event;
mod outlet;
mod plan;
mod turn;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use self::driver::{Command, Order, States, drive};
pub use self::event::Event;
use self::outlet::Outlet;
use crate::runner::{CallId, Inner, feed};
use crate::{Client, Cursor, RayError};

/// Follows any number of jobs of one cluster, with few questions for all of them together.
///
/// The state of many jobs comes from one list per interval, that of few from a question each; an end is noticed within a
/// second while up to 50 jobs are followed, and within five seconds with 1,000. Logs are read in turns, at most four at
/// once and 50 requests a second. A watcher that follows nothing does nothing.
#[derive(Clone, Debug)]
pub struct Watcher {
    commands: UnboundedSender<Command>,
}

/// What to follow.
#[derive(Clone, Debug)]
pub struct Follow {
    /// The job's submission id.
    pub id: String,
    /// Whether the lines of its log are wanted.
    pub logs: bool,
    /// Where an earlier watch of this job had got to.
    pub cursor: Option<Cursor>,
    /// The session of the cluster when the job was submitted; tells a replaced cluster from a lost job.
    pub session: Option<String>,
    /// When to say [`Event::Deadline`].
    pub deadline: Option<SystemTime>,
}

impl Follow {
    /// A job and its whole log, for as long as it takes.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), logs: true, cursor: None, session: None, deadline: None }
    }
}

impl Watcher {
    /// Begins to watch over a cluster. A silent dashboard is waited for with `patience`.
    ///
    /// The client's own patience does not matter here: each question is asked once, and again in the next round.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(client: &Client, patience: Duration) -> Self {
        let (commands, orders) = unbounded_channel();
        // Ends when the watcher and all its watches are gone.
        tokio::spawn(drive(client.with_patience(Duration::ZERO), States::Asked, patience, orders));
        Self { commands }
    }

    /// Watches over a runner's calls: what becomes of them the feed tells, their logs are read as jobs' are.
    pub(crate) fn of_calls(runner: &Arc<Inner>) -> Self {
        let (commands, orders) = unbounded_channel();
        let (wanted, wishes) = unbounded_channel();
        let (told, news) = unbounded_channel();
        tokio::spawn(feed(Arc::clone(runner), wishes, told));
        let (client, patience) = (runner.client(), runner.client().patience());
        tokio::spawn(drive(client.with_patience(Duration::ZERO), States::Told { wanted, news }, patience, orders));
        Self { commands }
    }

    /// Follows a job. It is no error if there is none of this id: [`Event::Gone`] says so.
    #[must_use]
    pub fn watch(&self, follow: Follow) -> Watch {
        self.watch_call("", follow)
    }

    /// Follows a call of this owner.
    pub(crate) fn watch_call(&self, owner: &str, follow: Follow) -> Watch {
        let outlet = Arc::new(Outlet::new(follow.cursor.clone().unwrap_or_default()));
        let call = CallId::new(owner, &follow.id);
        let order = Order { follow, call, outlet: Arc::clone(&outlet) };
        // The driver lives as long as this sender.
        let _ = self.commands.send(Command::Follow(order));
        Watch { outlet, commands: self.commands.clone() }
    }
}

/// One job being followed. Dropping it ends that, at once.
#[derive(Debug)]
pub struct Watch {
    outlet: Arc<Outlet>,
    commands: UnboundedSender<Command>,
}

impl Watch {
    /// The next event. After the last one, and after an error, the same comes again. Nothing is lost by cancelling.
    ///
    /// # Errors
    /// - [`RayError::Unavailable`]: the dashboard has not answered for as long as the watcher's patience.
    /// - [`RayError::Denied`]: it does not take our credentials.
    pub async fn next(&self) -> Result<Event, Arc<RayError>> {
        poll_fn(|context| self.poll(context)).await
    }

    /// [`Watch::next`] for who has no async function: with any waker, from any thread, outside of a runtime, too.
    ///
    /// # Errors
    /// Those of [`Watch::next`].
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Event, Arc<RayError>>> {
        self.outlet.poll(context)
    }

    /// Where the lines that have been handed out end.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.outlet.cursor()
    }

    /// Stops following, and says where the lines that were handed out end for good.
    #[must_use]
    pub fn close(self) -> Cursor {
        self.outlet.cursor().into_exact()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.outlet.close();
        let _ = self.commands.send(Command::Forget);
    }
}
