//! Room and life, while no task has to wait for them: objects leave memory before it is full, a DAG stays within its
//! limit, what expired goes, and so does what Airflow no longer needs.
//!
//! Every task does as much of it as it must. What the agent has done already, none of them has to.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use airfreight_airflow::{Airflow, Report, Terms, collect};
use airfreight_core::{ObjectName, chain};
use airfreight_store::{Moved, Stamp, Store, StoreError};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{info, warn};

use crate::index::Index;
use crate::metrics::{Metrics, Removed};

/// How often it is looked: at a page of counters, and at two directories' times of change. For one look the runtime's
/// threads wake up five times or so, which should come to less than once a second.
pub(crate) const TICK: Duration = Duration::from_secs(6);
/// When nothing could be moved, it is tried again after this.
const REST: Duration = Duration::from_mins(1);
/// Steps of expiry at a time, of 256 names each.
const STEPS: usize = 8;
/// After its start the agent waits this long before it first collects: a host that comes up has other things to do.
const FIRST_COLLECTION: Duration = Duration::from_mins(1);
/// In limits: every DAG that has none of its own.
pub const EVERY_DAG: &str = "*";

/// How an agent keeps its store.
#[derive(Clone, Debug)]
pub struct LifeOptions {
    /// This part of the store's limit is kept free of objects; 0 leaves making room to the tasks.
    pub keep_free: f64,
    /// How many bytes of memory each DAG's objects may take; [`EVERY_DAG`] for those that have no limit of their own.
    pub dag_limits: BTreeMap<String, u64>,
    /// How often garbage is collected; `None` never.
    pub collect_every: Option<Duration>,
    /// What may be collected.
    pub terms: Terms,
    /// Whom to ask what is still needed; without it, only what expired or was left unfinished is collected.
    pub airflow: Option<Ask>,
}

impl Default for LifeOptions {
    fn default() -> Self {
        let terms = Terms {
            retention: Duration::from_hours(48),
            grace: Duration::from_hours(1),
            deployments: Vec::new(),
            dry_run: false,
        };
        Self {
            keep_free: 0.1,
            dag_limits: BTreeMap::new(),
            collect_every: Some(Duration::from_hours(1)),
            terms,
            airflow: None,
        }
    }
}

/// Prepares to ask Airflow, anew for each collection: tokens expire, and their files are written again.
#[derive(Clone)]
pub struct Ask(Arc<dyn Fn() -> Result<Airflow, String> + Send + Sync>);

impl Ask {
    /// Asks by what `prepare` makes; why it can't is told as it says it.
    pub fn new(prepare: impl Fn() -> Result<Airflow, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(prepare))
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ask")
    }
}

/// The last collection, for the page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collection {
    pub(crate) at: Timestamp,
    pub(crate) report: Report,
    /// Why Airflow could not be asked, or the store not be read.
    pub(crate) problem: Option<String>,
}

/// A DAG that has a limit.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) dag_id: String,
    pub(crate) bytes: u64,
    pub(crate) limit_bytes: u64,
}

/// What the page shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overview {
    pub(crate) collection: Option<Collection>,
    /// Why nothing more can leave memory.
    pub(crate) obstacle: Option<String>,
    /// The DAGs that take most of what they may.
    pub(crate) shares: Vec<Share>,
}

pub(crate) struct Life {
    store: Store,
    index: Arc<Mutex<Index>>,
    options: LifeOptions,
    metrics: Arc<Metrics>,
    overview: Mutex<Overview>,
}

/// What is remembered from one look to the next.
#[derive(Default)]
struct Rhythm {
    /// Not before this is anything moved.
    rest_until: Option<Instant>,
    /// The store's state when DAGs were last counted.
    counted: Option<Stamp>,
}

impl Life {
    pub(crate) fn new(
        store: Store,
        index: Arc<Mutex<Index>>,
        options: LifeOptions,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self { store, index, options, metrics, overview: Mutex::default() })
    }

    pub(crate) fn overview(&self) -> Overview {
        self.overview.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What part of the limit is kept free.
    pub(crate) fn keep_free(&self) -> f64 {
        self.options.keep_free
    }

    /// Looks after the store until `ended` says so. Looks at times that are counted from `began`, so that one wake-up
    /// serves all who do so.
    pub(crate) async fn run(self: Arc<Self>, mut ended: watch::Receiver<bool>, began: Instant) {
        // An Airflow that is slow to answer must not keep anybody from making room. What is cut off here harms nothing:
        // the next agent, or the next task, goes on.
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => {}
            () = Arc::clone(&self).keep(began) => {}
            () = self.collect_again_and_again(began) => {}
        }
    }

    async fn collect_again_and_again(self: Arc<Self>, began: Instant) {
        let Some(every) = self.options.collect_every else { return std::future::pending().await };
        let mut collect_at = began + every.min(FIRST_COLLECTION);
        loop {
            tokio::time::sleep_until(collect_at).await;
            let this = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || this.collect()).await {
                warn!(%error, "the collection broke");
            }
            collect_at = Instant::now() + every;
        }
    }

    async fn keep(self: Arc<Self>, began: Instant) {
        let mut ticks = interval_at(began, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rhythm = Rhythm::default();
        loop {
            ticks.tick().await;
            let this = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || {
                let looked = this.look(&mut rhythm);
                (rhythm, looked)
            });
            rhythm = match looked.await {
                Ok((rhythm, Ok(()))) => rhythm,
                Ok((rhythm, Err(error))) => {
                    warn!(error = %chain(&error), "could not look after the store");
                    Rhythm { rest_until: Some(Instant::now() + REST), ..rhythm }
                }
                Err(error) => {
                    warn!(%error, "looking after the store broke");
                    Rhythm { rest_until: Some(Instant::now() + REST), counted: None }
                }
            };
        }
    }

    /// One look: expiry, room, limits.
    fn look(&self, rhythm: &mut Rhythm) -> Result<(), StoreError> {
        for _ in 0..STEPS {
            let expired = self.store.sweep(256)?;
            self.metrics.count_removed(Removed::Expired, expired);
            if expired == 0 {
                break;
            }
        }
        if rhythm.rest_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        rhythm.rest_until = None;
        let mut moved = self.keep_room()?;
        if !self.options.dag_limits.is_empty() {
            let stamp = self.store.stamp()?;
            if rhythm.counted.as_ref().is_none_or(|counted| !stamp.is_unchanged_since(counted)) {
                let shares = self.shares()?;
                let over: Vec<_> = shares.iter().filter(|share| share.bytes > share.limit_bytes).cloned().collect();
                self.overview.lock().unwrap_or_else(PoisonError::into_inner).shares = shares;
                for share in over {
                    let more = self.keep_limit(&share)?;
                    moved = Some(moved.map_or(more.clone(), |moved| sum(moved, more)));
                }
                rhythm.counted = Some(stamp);
            }
        }
        let Some(moved) = moved else {
            self.overview.lock().unwrap_or_else(PoisonError::into_inner).obstacle = None;
            return Ok(());
        };
        self.metrics.count_moved(&moved);
        if moved.bytes() > 0 {
            info!(
                spilled = moved.spilled,
                spilled_bytes = moved.spilled_bytes,
                evicted = moved.evicted,
                evicted_bytes = moved.evicted_bytes,
                "made room"
            );
        } else {
            // Whatever is in the way (readers, a full disk) is seldom gone in a few seconds.
            rhythm.rest_until = Some(Instant::now() + REST);
            rhythm.counted = None;
        }
        let mut overview = self.overview.lock().unwrap_or_else(PoisonError::into_inner);
        if moved.obstacle.is_some() && overview.obstacle != moved.obstacle {
            warn!(obstacle = moved.obstacle, held_bytes = moved.held_bytes, "could not make more room");
        }
        overview.obstacle = moved.obstacle;
        Ok(())
    }

    /// Moves out what is over the mark, and a bit more, so that this isn't done at every look. `None`: there is room.
    fn keep_room(&self) -> Result<Option<Moved>, StoreError> {
        if self.options.keep_free <= 0.0 {
            return Ok(None);
        }
        let usage = self.store.usage();
        let objects = usage.used_bytes.saturating_sub(usage.warm_bytes);
        let mark = part(usage.capacity_bytes, 1.0 - self.options.keep_free);
        if objects <= mark {
            return Ok(None);
        }
        let enough = part(usage.capacity_bytes, 1.0 - self.options.keep_free - HYSTERESIS);
        self.store.move_out(objects - enough, |_| true).map(Some)
    }

    /// The DAGs that have limits, those that take most of theirs first.
    fn shares(&self) -> Result<Vec<Share>, StoreError> {
        let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
        for run in self.index.lock().unwrap_or_else(PoisonError::into_inner).runs(None)? {
            *bytes.entry(run.dag_id).or_default() += run.sum.bytes - run.sum.spilled_bytes;
        }
        let limits = &self.options.dag_limits;
        let mut shares: Vec<_> = bytes
            .into_iter()
            .filter(|(dag_id, _)| !dag_id.is_empty())
            .filter_map(|(dag_id, bytes)| {
                let limit_bytes = *limits.get(&dag_id).or_else(|| limits.get(EVERY_DAG))?;
                Some(Share { dag_id, bytes, limit_bytes })
            })
            .collect();
        self.metrics.set_shares(shares.iter().filter(|share| limits.contains_key(&share.dag_id)));
        let filled = |share: &Share| u128::from(share.bytes) * 1_000_000 / u128::from(share.limit_bytes.max(1));
        shares.sort_by_key(|share| std::cmp::Reverse(filled(share)));
        Ok(shares)
    }

    /// Moves a DAG's objects out until the others fit its limit.
    fn keep_limit(&self, share: &Share) -> Result<Moved, StoreError> {
        let names: HashSet<ObjectName> =
            self.index.lock().unwrap_or_else(PoisonError::into_inner).in_memory_of(&share.dag_id)?;
        let moved =
            self.store.move_out(share.bytes - share.limit_bytes, |all| all.iter().any(|name| names.contains(name)))?;
        info!(
            dag_id = share.dag_id,
            limit_bytes = share.limit_bytes,
            moved_bytes = moved.bytes(),
            "a DAG was over its limit"
        );
        Ok(moved)
    }

    fn collect(&self) {
        let made = self.options.airflow.as_ref().map(|ask| (ask.0)()).transpose();
        let (airflow, mut problem) = match made {
            Ok(airflow) => (airflow, None),
            Err(reason) => (None, Some(reason)),
        };
        let report = match collect(&self.store, airflow.as_ref(), &self.options.terms) {
            Ok((report, failure)) => {
                problem = problem.or_else(|| failure.map(|error| chain(&error)));
                report
            }
            Err(error) => {
                problem = Some(chain(&error));
                Report::default()
            }
        };
        self.metrics.count_removed(Removed::Expired, report.expired);
        self.metrics.count_removed(Removed::Ended, report.ended.objects);
        self.metrics.count_removed(Removed::Gone, report.gone.objects);
        self.metrics.count_collection(problem.is_none());
        for doubt in &report.doubts {
            warn!(dag_id = doubt.dag_id, error = doubt.error, "kept what a DAG returned");
        }
        if let Some(problem) = &problem {
            warn!(error = problem, expired = report.expired, "could not collect all garbage");
        } else {
            info!(
                expired = report.expired,
                leftovers = report.leftovers,
                ended = report.ended.objects,
                gone = report.gone.objects,
                needed = report.kept.needed,
                unknown = report.kept.unknown,
                of_other_deployments = report.kept.elsewhere,
                "collected garbage"
            );
        }
        let collection = Collection { at: Timestamp::now(), report, problem };
        self.overview.lock().unwrap_or_else(PoisonError::into_inner).collection = Some(collection);
    }
}

/// So much of the limit is moved beyond the mark.
const HYSTERESIS: f64 = 0.05;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "saturates, and to a part in 2^52 is enough"
)]
fn part(bytes: u64, share: f64) -> u64 {
    (bytes as f64 * share.clamp(0.0, 1.0)) as u64
}

fn sum(one: Moved, other: Moved) -> Moved {
    Moved {
        spilled: one.spilled + other.spilled,
        spilled_bytes: one.spilled_bytes + other.spilled_bytes,
        evicted: one.evicted + other.evicted,
        evicted_bytes: one.evicted_bytes + other.evicted_bytes,
        held_bytes: one.held_bytes + other.held_bytes,
        obstacle: one.obstacle.or(other.obstacle),
    }
}
