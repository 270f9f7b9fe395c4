//! The runner: a job that holds an actor on the cluster's head, which runs functions without a job for each.
//!
//! Where it is, it says in a file (`beacon`). Requests reach it through its own port (`port`), or, where that can't be
//! reached from here, through the dashboard alone (`mailbox`); `link` knows which way is open. All requests may be sent
//! twice, so whatever gets lost is sent again, and a runner that has begun another life is found anew. The runner's
//! state is in its owner actors, which outlive it.

mod beacon;
mod calls;
mod feed;
mod link;
mod mailbox;
mod port;
mod request;
mod start;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use airfreight_core::ErrorKind;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use self::beacon::Beacon;
pub use self::calls::{CallId, Ready};
pub(crate) use self::feed::{Told, Wanted, feed};
use self::link::Link;
use self::mailbox::Posted;
pub(crate) use self::port::Port;
pub(crate) use self::request::{Reply, Request};
pub use self::start::{runner_id, runner_of};
use crate::error::Source;
use crate::pool::{Pool, lock};
use crate::submission::random_hex;
use crate::{Client, RayError, Result, Watcher};

/// How long a runner may take to start, if nobody says.
const START_PATIENCE: Duration = Duration::from_mins(2);
/// So often may a request find the port broken before it goes by mailbox.
const PORT_ATTEMPTS_MAX: u32 = 2;
/// A token that the runner itself has written is refused so often before we believe it.
const DENIALS_MAX: u32 = 3;

/// Which way to a runner is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Its own port where that can be reached, else the mailbox.
    #[default]
    Auto,
    /// Its own port or none, even where the dashboard is behind TLS: the port itself speaks plain HTTP.
    Port,
    /// Never its own port.
    Mailbox,
}

/// How a runner is started, and reached.
#[derive(Clone, Debug, PartialEq)]
pub struct RunnerOptions {
    /// The port that it shall listen on; 0 for any.
    pub port: u16,
    /// After how long without requests and calls it ends; zero for never.
    pub idle: Duration,
    /// Which way is taken to it.
    pub transport: Transport,
}

impl Default for RunnerOptions {
    fn default() -> Self {
        Self { port: 0, idle: Duration::from_mins(15), transport: Transport::Auto }
    }
}

/// A cluster's runner. Cheap to clone; found, and started if need be, with the first request.
#[derive(Clone)]
pub struct Runner {
    inner: Arc<Inner>,
    watcher: Arc<Mutex<Option<Watcher>>>,
}

/// What all handles of a runner share.
pub(crate) struct Inner {
    client: Client,
    /// Whose calls are tried once: what is repeated is decided here.
    once: Client,
    id: String,
    /// What starts it; without, it is there or not.
    package: Option<Bytes>,
    options: RunnerOptions,
    /// Held by who looks for the runner, or starts it.
    finding: tokio::sync::Mutex<()>,
    link: Mutex<Option<Arc<Link>>>,
    port_pool: Arc<Pool>,
    /// The right to wait for a call's end on the connection that has submitted it.
    waits: Semaphore,
    /// When the feed has looked last whether the runner is the same.
    looked: Mutex<Instant>,
}

/// How many submissions may wait for their calls' ends on connections of their own. Others hear of it by the feed.
const WAITS_MAX: usize = 5;

/// Why an attempt failed.
enum Failure {
    /// Another may succeed.
    Passing(Source),
    /// Another may succeed, and there is no reason to wait.
    AtOnce(Source),
    /// No other would.
    Lasting(RayError),
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("address", &self.inner.client.address())
            .field("id", &self.inner.id)
            .finish_non_exhaustive()
    }
}

impl Runner {
    /// The runner that a driver package makes on a cluster. Nothing is asked or started yet.
    #[must_use]
    pub fn new(client: &Client, package: impl Into<Bytes>, options: RunnerOptions) -> Self {
        let package = package.into();
        Self::with(client, start::runner_id(&package), Some(package), options)
    }

    /// A runner that somebody has started, by its id. It is used as it is, and never started.
    #[must_use]
    pub fn existing(client: &Client, id: impl Into<String>, options: RunnerOptions) -> Self {
        Self::with(client, id.into(), None, options)
    }

    fn with(client: &Client, id: String, package: Option<Bytes>, options: RunnerOptions) -> Self {
        let inner = Inner {
            client: client.clone(),
            once: client.with_patience(Duration::ZERO),
            id,
            package,
            options,
            finding: tokio::sync::Mutex::new(()),
            link: Mutex::new(None),
            port_pool: client.transport.pool.beside(port::LIMITS),
            waits: Semaphore::new(WAITS_MAX),
            looked: Mutex::new(Instant::now()),
        };
        Self { inner: Arc::new(inner), watcher: Arc::new(Mutex::new(None)) }
    }

    /// What it is called; its jobs' submission ids begin with it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The cluster's client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// One request by whichever way there is, as often as it takes; statuses of 400 and more are answers, too.
    ///
    /// # Errors
    /// - [`RayError::Unavailable`]: no answer for as long as the client's patience.
    /// - [`RayError::NoRunner`]: it could not be started.
    pub async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let mut request = Request::new(method, path, format!("ask the runner for {}", path_of(path)));
        request.body = body.cloned();
        let reply = self.inner.ask(&request).await?;
        Ok((reply.status, reply.body))
    }

    /// Its own port, if that can be reached.
    pub(crate) async fn port(&self) -> Result<Option<Arc<Port>>> {
        let link = self.inner.link(START_PATIENCE).await?;
        Ok(link.port(&self.inner).await)
    }

    /// Says that something over the port has failed, so that it is looked at anew.
    pub(crate) async fn doubt(&self, port: &Arc<Port>) {
        let link = lock(&self.inner.link).clone();
        if let Some(link) = link {
            link.doubt(port);
            // Found out again with the next request, if not now.
            let _ = self.inner.renew(&link).await;
        }
    }
}

/// A path without its query, which may be long.
fn path_of(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

impl Inner {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Where its port may be.
    fn hosts(&self, beacon: &Beacon) -> Vec<String> {
        link::hosts(&self.client.transport.address.origin, beacon, self.options.transport)
    }

    /// The runner as it is known, else as it is found or started now.
    async fn link(&self, limit: Duration) -> Result<Arc<Link>> {
        if let Some(link) = lock(&self.link).clone() {
            return Ok(link);
        }
        let _finding = self.finding.lock().await;
        if let Some(link) = lock(&self.link).clone() {
            return Ok(link);
        }
        let began = Instant::now();
        let beacon = start::find_or_start(self, limit).await?;
        let link = Arc::new(Link::new(beacon, began.elapsed()));
        *lock(&self.link) = Some(Arc::clone(&link));
        Ok(link)
    }

    /// Looks whether the runner is still the one that `known` leads to. If it isn't, the next request finds the new one.
    async fn renew(&self, known: &Arc<Link>) -> Result<()> {
        let _finding = self.finding.lock().await;
        if !lock(&self.link).as_ref().is_some_and(|link| Arc::ptr_eq(link, known)) {
            return Ok(());
        }
        let began = Instant::now();
        let found = mailbox::find(&self.once, &self.id, &known.beacon.node_id).await?;
        let next = match found {
            Some(beacon) if beacon.is_same_life(&known.beacon) => {
                if start::running(&self.once, &self.id).await?.is_some() {
                    return Ok(());
                }
                None
            }
            Some(beacon) => Some(Arc::new(Link::new(beacon, began.elapsed()))),
            None => None,
        };
        *lock(&self.link) = next;
        Ok(())
    }

    /// Sends a request until it is answered.
    pub(crate) async fn ask(self: &Arc<Self>, request: &Request) -> Result<Reply> {
        let began = Instant::now();
        let patience = self.client.transport.settings.patience;
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .without_max_times()
            .with_jitter()
            .build();
        let mut course = Course::new()?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (source, pause) = match self.attempt(request, &mut course).await {
                Ok(reply) => return Ok(reply),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::AtOnce(source)) => (source, Duration::ZERO),
                Err(Failure::Passing(source)) => (source, pauses.next().unwrap_or(Duration::from_secs(5))),
            };
            if began.elapsed() + pause > patience.max(Duration::from_millis(1)) {
                return Err(RayError::Unavailable {
                    action: request.action.clone(),
                    address: self.client.address().to_owned(),
                    attempts,
                    elapsed: began.elapsed(),
                    source,
                });
            }
            sleep(pause).await;
        }
    }

    async fn attempt(self: &Arc<Self>, request: &Request, course: &mut Course) -> Result<Reply, Failure> {
        let link = self.link(START_PATIENCE).await.map_err(failure)?;
        let port = if course.port_failures < PORT_ATTEMPTS_MAX { link.port(self).await } else { None };
        if let Some(port) = port {
            match port.ask(request).await {
                Ok(reply) => return self.judge(reply, request, course, &link),
                Err(source) => {
                    course.port_failures += 1;
                    link.doubt(&port);
                    // A dashboard that is away, too, says nothing about the port.
                    return Err(match self.renew(&link).await {
                        Ok(()) => Failure::AtOnce(source),
                        Err(error) if error.kind() == ErrorKind::Denied => Failure::Lasting(error),
                        Err(_) => {
                            course.port_failures = 0;
                            Failure::Passing(source)
                        }
                    });
                }
            }
        }
        if self.options.transport == Transport::Port {
            let why = link.why_closed();
            self.renew(&link).await.map_err(failure)?;
            course.port_failures = 0;
            return Err(Failure::Passing(format!("the runner's port can't be reached: {why}").into()));
        }
        match mailbox::ask(&self.once, &self.id, &link.beacon, &course.message, request).await.map_err(failure)? {
            Posted::Answered(reply) => self.judge(reply, request, course, &link),
            Posted::Replaced => {
                self.renew(&link).await.map_err(failure)?;
                course.port_failures = 0;
                Err(Failure::AtOnce("the runner has begun anew".into()))
            }
            Posted::Silent => {
                self.renew(&link).await.map_err(failure)?;
                course.port_failures = 0;
                Err(Failure::Passing("the runner does not answer".into()))
            }
        }
    }

    /// What an answer means for the next attempt.
    fn judge(&self, reply: Reply, request: &Request, course: &mut Course, link: &Arc<Link>) -> Result<Reply, Failure> {
        if matches!(reply.status, 401 | 503) {
            // The answer to this letter stays where it is for a while.
            course.message = random_hex().map_err(Failure::Lasting)?;
        }
        match reply.status {
            401 => {
                course.denials += 1;
                let error = reply.error(&request.action, self.client.address());
                if course.denials >= DENIALS_MAX {
                    return Err(Failure::Lasting(error));
                }
                // It has begun another life, with another token.
                let known = lock(&self.link).take_if(|known| Arc::ptr_eq(known, link));
                drop(known);
                Err(Failure::Passing(error.into()))
            }
            503 => Err(Failure::Passing(reply.error(&request.action, self.client.address()).into())),
            _ => Ok(reply),
        }
    }
}

/// One request's attempts so far.
struct Course {
    /// Under which it is sent by mailbox, each time.
    message: String,
    port_failures: u32,
    denials: u32,
}

impl Course {
    fn new() -> Result<Self> {
        Ok(Self { message: random_hex()?, port_failures: 0, denials: 0 })
    }
}

/// Whether another attempt may help after an error of the dashboard's.
fn failure(error: RayError) -> Failure {
    match error {
        RayError::Unavailable { source, .. } => Failure::Passing(source),
        // Proxies know nothing of a head that restarts; a file may be read while it is written.
        RayError::Rejected { status: 404 | 500..=599, .. } | RayError::Unreadable { .. } | RayError::Cut { .. } => {
            Failure::Passing(error.into())
        }
        _ => Failure::Lasting(error),
    }
}
