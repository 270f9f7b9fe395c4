//! At most so many connections to a cluster, and some of them always free for what must not wait.
//!
//! A ready-made HTTP client bounds its idle connections only: under load it opens more than there are requests. Here a
//! connection's place is given back when its socket is closed, so the bound holds at every moment.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use airfreight_http::{Connector, Identity, Route, Trust};
use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tower_service::Service;

use crate::address::{Address, without_credentials};
use crate::error::Source;
use crate::settings::Settings;
use crate::{CONNECTIONS_MAX, Cluster, RayError, Result};

/// How many connections there may be, and which of them stay free for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// All together.
    pub(crate) sockets: usize,
    /// What calls may take together; the rest stays free for [`Lane::Urgent`] ones.
    pub(crate) ordinary: usize,
    /// What takes long may take together; the rest stays free for small calls.
    pub(crate) bulk: usize,
}

/// Those to a cluster's dashboard and its nodes' agents.
const DASHBOARD: Limits = Limits { sockets: CONNECTIONS_MAX, ordinary: CONNECTIONS_MAX - 1, bulk: 5 };
/// Who doesn't take a connection for so long isn't there.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A connection that was idle for longer is not used again: servers and proxies close theirs, some without a word.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// How long it is remembered whether a node's agent can be reached.
const REACH_REMEMBERED: Duration = Duration::from_mins(5);

/// How a call shares the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Submitting and stopping: never behind anything else.
    Urgent,
    /// Small questions.
    Ordinary,
    /// Answers that take long.
    Bulk,
}

pub(crate) type Sender = SendRequest<Full<Bytes>>;

/// The connections of this process to one cluster.
pub(crate) struct Pool {
    /// To the dashboard; nodes' agents are never behind its proxies.
    connector: Connector,
    dashboard: Uri,
    busy: Arc<Semaphore>,
    ordinary: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
    sockets: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    agents: Mutex<HashMap<Uri, (Instant, bool)>>,
    /// What the cluster said of itself last.
    pub(crate) cluster: Mutex<Option<(Instant, Cluster)>>,
}

struct Idle {
    origin: Uri,
    sender: Sender,
    since: Instant,
}

/// A connection for one exchange. Dropping it closes the connection; [`Lease::give_back`] keeps it for the next.
pub(crate) struct Lease {
    pub(crate) sender: Sender,
    pub(crate) route: Route,
    /// It carried an exchange before, so the server may just have closed it.
    pub(crate) used: bool,
    origin: Uri,
    pool: Arc<Pool>,
    _places: Places,
}

/// The right to be busy with one connection.
#[expect(dead_code, reason = "held, not read")]
pub(crate) struct Places(Vec<OwnedSemaphorePermit>);

/// What tells clusters, and ways to them, apart. Credentials travel with each request and are no part of it.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    /// After a fork, connections belong to the parent.
    process: u32,
    base: String,
    verify: Trust,
    client_certificate: Option<Identity>,
    proxy: Option<String>,
}

static POOLS: LazyLock<Mutex<HashMap<Key, Weak<Pool>>>> = LazyLock::new(Mutex::default);

impl Pool {
    /// The pool that all clients of the same cluster in this process share.
    pub(crate) fn shared(settings: &Settings, address: &Address) -> Result<Arc<Self>> {
        let key = Key {
            process: std::process::id(),
            base: address.base.clone(),
            verify: settings.verify.clone(),
            client_certificate: settings.client_certificate.clone(),
            proxy: settings.proxy.clone(),
        };
        let mut pools = lock(&POOLS);
        if let Some(pool) = pools.get(&key).and_then(Weak::upgrade) {
            return Ok(pool);
        }
        let connector = connector(settings, &address.origin)?;
        let pool = Arc::new(Self::new(connector, address.origin.clone(), DASHBOARD));
        pools.retain(|_, pool| pool.strong_count() > 0);
        pools.insert(key, Arc::downgrade(&pool));
        Ok(pool)
    }

    fn new(connector: Connector, dashboard: Uri, limits: Limits) -> Self {
        let permits = |count| Arc::new(Semaphore::new(count));
        Self {
            connector,
            dashboard,
            busy: permits(limits.sockets),
            ordinary: permits(limits.ordinary),
            bulk: permits(limits.bulk),
            sockets: permits(limits.sockets),
            idle: Mutex::default(),
            agents: Mutex::default(),
            cluster: Mutex::default(),
        }
    }

    /// Connections to something else in the same cluster, with limits of their own.
    pub(crate) fn beside(&self, limits: Limits) -> Arc<Self> {
        Arc::new(Self::new(self.connector.clone(), self.dashboard.clone(), limits))
    }

    /// A connection to an origin that is behind no proxy, for whoever has its [`Places`].
    pub(crate) async fn direct(self: &Arc<Self>, origin: &Uri, places: Places) -> Result<Lease, Source> {
        self.lease(places, origin).await
    }

    /// A connection to the dashboard, for whoever has its [`Places`].
    pub(crate) async fn dashboard(self: &Arc<Self>, places: Places) -> Result<Lease, Source> {
        let origin = self.dashboard.clone();
        self.lease(places, &origin).await
    }

    async fn lease(self: &Arc<Self>, places: Places, origin: &Uri) -> Result<Lease, Source> {
        let route = if *origin == self.dashboard { self.connector.route(origin) } else { Route::default() };
        let (sender, used) = match self.take_idle(origin) {
            Some(sender) => (sender, true),
            None => (self.connect(origin).await?, false),
        };
        Ok(Lease { sender, route, used, origin: origin.clone(), pool: Arc::clone(self), _places: places })
    }

    /// Waits for its turn. Each lane passes through all wider ones, so that a full lane never blocks a wider one.
    pub(crate) async fn places(&self, lane: Lane) -> Result<Places, Source> {
        let mut lanes = Vec::with_capacity(3);
        if lane == Lane::Bulk {
            lanes.push(Arc::clone(&self.bulk).acquire_owned().await?);
        }
        if lane != Lane::Urgent {
            lanes.push(Arc::clone(&self.ordinary).acquire_owned().await?);
        }
        lanes.push(Arc::clone(&self.busy).acquire_owned().await?);
        Ok(Places(lanes))
    }

    fn take_idle(&self, origin: &Uri) -> Option<Sender> {
        let mut idle = lock(&self.idle);
        idle.retain(|kept| !kept.sender.is_closed() && kept.since.elapsed() < IDLE_MAX);
        // The one that was used last, so that those beyond the need grow old.
        let at = idle.iter().rposition(|kept| kept.origin == *origin && kept.sender.is_ready())?;
        Some(idle.remove(at).sender)
    }

    async fn connect(&self, origin: &Uri) -> Result<Sender, Source> {
        let sockets = Arc::clone(&self.sockets);
        let socket = if let Ok(free) = Arc::clone(&sockets).try_acquire_owned() {
            free
        } else {
            // Fewer than all are busy, so some socket is idle, or about to close.
            self.close_idle();
            sockets.acquire_owned().await?
        };
        let mut connector = if *origin == self.dashboard { self.connector.clone() } else { self.connector.directly() };
        let stream = connector.call(origin.clone()).await?;
        let (sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(async move {
            // Its requests hear of a failure.
            let _ = connection.await;
            drop(socket);
        });
        Ok(sender)
    }

    fn close_idle(&self) {
        let mut idle = lock(&self.idle);
        if !idle.is_empty() {
            idle.remove(0);
        }
    }

    /// Whether a node's agent is worth another attempt.
    pub(crate) fn is_agent_reachable(&self, origin: &Uri) -> bool {
        let known = lock(&self.agents).get(origin).copied();
        known.is_none_or(|(at, reached)| reached || at.elapsed() >= REACH_REMEMBERED)
    }

    /// A connection to a node's agent, or `None` if it can't be reached from here, which is remembered for a while.
    pub(crate) async fn agent(self: &Arc<Self>, origin: &Uri, places: Places, limit: Duration) -> Option<Lease> {
        let lease = timeout(limit, self.lease(places, origin)).await.ok().and_then(Result::ok);
        self.remember_agent(origin, lease.is_some());
        lease
    }

    pub(crate) fn remember_agent(&self, origin: &Uri, reached: bool) {
        let mut agents = lock(&self.agents);
        agents.retain(|_, (at, _)| at.elapsed() < REACH_REMEMBERED);
        agents.insert(origin.clone(), (Instant::now(), reached));
    }
}

/// How a cluster is reached. Files that can't be used are found out at once.
fn connector(settings: &Settings, origin: &Uri) -> Result<Connector> {
    let patience = settings.timeout.min(CONNECT_MAX);
    let connector = Connector::new(settings.verify.clone(), settings.client_certificate.clone(), patience);
    let connector = match &settings.proxy {
        None => connector,
        Some(proxy) => connector.via(proxy).ok_or_else(|| RayError::Setting {
            setting: "proxy",
            reason: format!("`{}` is not a URL of a proxy, such as http://proxy:3128", without_credentials(proxy)),
        })?,
    };
    if connector.needs_tls(origin) {
        connector.prepare_tls()?;
    }
    Ok(connector)
}

impl Lease {
    /// Keeps the connection for the next exchange, once the last answer was read to its end.
    pub(crate) async fn give_back(mut self) {
        // The connection's own task has to see the end, too; that takes a turn of the runtime.
        if matches!(timeout(Duration::from_secs(1), self.sender.ready()).await, Ok(Ok(()))) {
            let kept = Idle { origin: self.origin, sender: self.sender, since: Instant::now() };
            lock(&self.pool.idle).push(kept);
        }
    }

    /// The origin this connection leads to.
    pub(crate) fn origin(&self) -> &Uri {
        &self.origin
    }
}

/// Nothing here panics while it holds a lock, and what the locks guard is consistent at all times.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
