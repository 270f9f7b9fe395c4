//! Which way leads to a runner now: its own port where it can be reached, else the mailbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::beacon::Beacon;
use super::port::{Port, Unusable};
use super::{Inner, Transport};

/// How long the first request waits for the port before it goes by mailbox, and how long those wait who want the port.
const GRACE_MIN: Duration = Duration::from_millis(50);
const GRACE_MAX: Duration = Duration::from_millis(500);
/// The second address gets its turn without waiting for the first one's failure.
const STAGGER: Duration = Duration::from_millis(25);
/// How long a port that failed is left alone.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_mins(1);

/// One life of a runner, and what is known of the ways to it.
pub(crate) struct Link {
    pub(crate) beacon: Beacon,
    /// What the dashboard took to say where it is.
    answer_time: Duration,
    way: watch::Sender<Way>,
}

#[derive(Clone)]
enum Way {
    Untried,
    Trying,
    Open(Arc<Port>),
    Closed { until: Instant, failures: u32, why: String },
}

impl Link {
    pub(crate) fn new(beacon: Beacon, answer_time: Duration) -> Self {
        Self { beacon, answer_time, way: watch::Sender::new(Way::Untried) }
    }

    /// The port, if it is open already.
    pub(crate) fn open_port(&self) -> Option<Arc<Port>> {
        match &*self.way.borrow() {
            Way::Open(port) => Some(Arc::clone(port)),
            _ => None,
        }
    }

    /// Why there is no port.
    pub(crate) fn why_closed(&self) -> String {
        match &*self.way.borrow() {
            Way::Closed { why, .. } => why.clone(),
            _ => "it has not answered yet".to_owned(),
        }
    }

    /// The port, if it can be reached. It is tried in the background; who comes first waits for a moment, longer where
    /// the dashboard is far away, and later ones don't wait at all.
    pub(crate) async fn port(self: &Arc<Self>, inner: &Arc<Inner>) -> Option<Arc<Port>> {
        if let Some(port) = self.open_port() {
            return Some(port);
        }
        let hosts = inner.hosts(&self.beacon);
        if hosts.is_empty() {
            return None;
        }
        let mut failed_before = false;
        let begins = self.way.send_if_modified(|way| {
            let due = match way {
                Way::Untried => true,
                Way::Closed { until, .. } => {
                    failed_before = true;
                    Instant::now() >= *until
                }
                Way::Trying | Way::Open(_) => false,
            };
            if due {
                let failures = if let Way::Closed { failures, .. } = way { *failures } else { 0 };
                *way = Way::Trying;
                let (this, inner) = (Arc::clone(self), Arc::clone(inner));
                tokio::spawn(async move {
                    let tried = try_all(&this.beacon, hosts, &inner).await;
                    this.way.send_replace(match tried {
                        Ok(port) => Way::Open(Arc::new(port)),
                        Err(why) => Way::Closed {
                            until: Instant::now() + (REST_MIN * 2_u32.saturating_pow(failures)).min(REST_MAX),
                            failures: failures.saturating_add(1),
                            why,
                        },
                    });
                });
            }
            due
        });
        let wants_it = inner.options.transport == Transport::Port;
        if failed_before && !(wants_it && begins) {
            return None;
        }
        let grace = if wants_it { GRACE_MAX * 4 } else { (3 * self.answer_time).clamp(GRACE_MIN, GRACE_MAX) };
        let mut way = self.way.subscribe();
        let settled = timeout(grace, way.wait_for(|way| !matches!(way, Way::Trying))).await;
        drop(settled);
        self.open_port()
    }

    /// A request over the port has failed: it has to prove itself again.
    pub(crate) fn doubt(&self, port: &Arc<Port>) {
        self.way.send_if_modified(|way| match way {
            Way::Open(open) if Arc::ptr_eq(open, port) => {
                *way = Way::Untried;
                true
            }
            _ => false,
        });
    }
}

/// Tries a few addresses, each a moment after the one before.
async fn try_all(beacon: &Beacon, hosts: Vec<String>, inner: &Inner) -> Result<Port, String> {
    let mut tries = tokio::task::JoinSet::new();
    for (number, host) in hosts.into_iter().enumerate() {
        let (beacon, pool) = (beacon.clone(), Arc::clone(&inner.port_pool));
        tries.spawn(async move {
            sleep(STAGGER * u32::try_from(number).unwrap_or(0)).await;
            let opened = Port::open(&beacon, &host, &pool).await;
            opened.map_err(|Unusable { source, .. }| format!("{host}: {}", words(&*source)))
        });
    }
    let mut failures = Vec::new();
    while let Some(tried) = tries.join_next().await {
        match tried {
            Ok(Ok(port)) => return Ok(port),
            Ok(Err(why)) => failures.push(why),
            Err(broken) => failures.push(broken.to_string()),
        }
    }
    Err(failures.join("; "))
}

fn words(error: &(dyn std::error::Error + 'static)) -> String {
    airfreight_core::chain(error)
}

/// Where a runner's port may be: at the dashboard's host, which we can reach, else at its node's address.
pub(crate) fn hosts(dashboard: &Uri, beacon: &Beacon, transport: Transport) -> Vec<String> {
    // What is behind TLS shall not travel without it, unless somebody wants that.
    let is_safe = dashboard.scheme_str() != Some("https") || transport == Transport::Port;
    if transport == Transport::Mailbox || !is_safe || beacon.port.is_none() {
        return Vec::new();
    }
    let own = dashboard.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let mut hosts = vec![own];
    if !beacon.node_ip.is_empty() && hosts[0] != beacon.node_ip {
        hosts.push(beacon.node_ip.clone());
    }
    hosts
}
