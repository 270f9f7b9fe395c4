//! What is counted, in the text format of Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use airfreight_store::Moved;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::life::Share;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) route: String,
    pub(crate) status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct State {
    pub(crate) state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Tier {
    pub(crate) tier: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

/// What became of a checkpoint that a task has left to the agent, or of one attempt.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stored,
    Failed,
    Withdrawn,
    Lost,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

/// Why an object was removed.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) enum Removed {
    /// Nobody had used it for long.
    Expired,
    /// Its run ended long ago.
    Ended,
    /// Its task instance is gone.
    Gone,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Why {
    why: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct To {
    to: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Dag {
    dag_id: String,
}

/// Gauges of what the store says are set before each reading.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Family<Request, Counter>,
    pub(crate) connections: Gauge<i64, AtomicI64>,
    pub(crate) sent_bytes: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) send_seconds: Histogram,
    pub(crate) receive_seconds: Histogram,
    pub(crate) store_bytes: Family<State, Gauge<u64, AtomicU64>>,
    pub(crate) store_limit_bytes: Family<Tier, Gauge<u64, AtomicU64>>,
    pub(crate) store_objects: Family<Tier, Gauge<u64, AtomicU64>>,
    pub(crate) damaged_objects: Gauge<i64, AtomicI64>,
    pub(crate) checkpoints_waiting: Gauge<u64, AtomicU64>,
    pub(crate) checkpoints_waiting_bytes: Gauge<u64, AtomicU64>,
    checkpoint_uploads: Family<Ended, Counter>,
    moved_objects: Family<To, Counter>,
    moved_bytes: Family<To, Counter>,
    removed_objects: Family<Why, Counter>,
    collections: Family<Ended, Counter>,
    collected_at: Gauge<i64, AtomicI64>,
    dag_bytes: Family<Dag, Gauge<u64, AtomicU64>>,
    dag_limit_bytes: Family<Dag, Gauge<u64, AtomicU64>>,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("airfreight");
        let seconds = Family::<Direction, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 4.0, 10))
        });
        let of = |direction| seconds.get_or_create(&Direction { direction }).clone();
        let metrics = Self {
            send_seconds: of("sent"),
            receive_seconds: of("received"),
            requests: Family::default(),
            connections: Gauge::default(),
            sent_bytes: Counter::default(),
            received_bytes: Counter::default(),
            store_bytes: Family::default(),
            store_limit_bytes: Family::default(),
            store_objects: Family::default(),
            damaged_objects: Gauge::default(),
            checkpoints_waiting: Gauge::default(),
            checkpoints_waiting_bytes: Gauge::default(),
            checkpoint_uploads: Family::default(),
            moved_objects: Family::default(),
            moved_bytes: Family::default(),
            removed_objects: Family::default(),
            collections: Family::default(),
            collected_at: Gauge::default(),
            dag_bytes: Family::default(),
            dag_limit_bytes: Family::default(),
            registry: Registry::default(),
        };
        registry.register("agent_requests", "Answers by route", metrics.requests.clone());
        registry.register("agent_connections", "Open connections", metrics.connections.clone());
        registry.register_with_unit("sent", "Objects' bytes to others", Unit::Bytes, metrics.sent_bytes.clone());
        registry.register_with_unit(
            "received",
            "Objects' bytes from others",
            Unit::Bytes,
            metrics.received_bytes.clone(),
        );
        registry.register_with_unit(
            "transfer",
            "Time of an answer or an upload with bytes of an object",
            Unit::Seconds,
            seconds,
        );
        registry.register_with_unit("store", "What the store takes", Unit::Bytes, metrics.store_bytes.clone());
        registry.register_with_unit("store_limit", "What it may take", Unit::Bytes, metrics.store_limit_bytes.clone());
        registry.register("store_objects", "Names in the store", metrics.store_objects.clone());
        registry.register("store_damaged_objects", "Names that cannot be read", metrics.damaged_objects.clone());
        registry.register("checkpoints_waiting", "Values left to the agent", metrics.checkpoints_waiting.clone());
        registry.register_with_unit(
            "checkpoints_waiting",
            "What they come to",
            Unit::Bytes,
            metrics.checkpoints_waiting_bytes.clone(),
        );
        registry.register("checkpoint_uploads", "What became of them", metrics.checkpoint_uploads.clone());
        registry.register("moved_objects", "Objects that left memory for room", metrics.moved_objects.clone());
        registry.register_with_unit("moved", "What they took", Unit::Bytes, metrics.moved_bytes.clone());
        registry.register("removed_objects", "Objects that are needed no more", metrics.removed_objects.clone());
        registry.register("collections", "Passes over the whole store", metrics.collections.clone());
        registry.register_with_unit(
            "collected_timestamp",
            "When the last pass ended that missed nothing",
            Unit::Seconds,
            metrics.collected_at.clone(),
        );
        registry.register_with_unit("dag", "What limited DAGs take of memory", Unit::Bytes, metrics.dag_bytes.clone());
        registry.register_with_unit("dag_limit", "What they may take", Unit::Bytes, metrics.dag_limit_bytes.clone());
        Arc::new(Self { registry, ..metrics })
    }

    pub(crate) fn count_checkpoint(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Stored => "stored",
            Outcome::Failed => "failed",
            Outcome::Withdrawn => "withdrawn",
            Outcome::Lost => "lost",
        };
        self.checkpoint_uploads.get_or_create(&Ended { outcome }).inc();
    }

    pub(crate) fn count_moved(&self, moved: &Moved) {
        let ways = [("spill", moved.spilled, moved.spilled_bytes), ("bucket", moved.evicted, moved.evicted_bytes)];
        for (to, objects, bytes) in ways.into_iter().filter(|(_, objects, _)| *objects > 0) {
            self.moved_objects.get_or_create(&To { to }).inc_by(objects);
            self.moved_bytes.get_or_create(&To { to }).inc_by(bytes);
        }
    }

    pub(crate) fn count_removed(&self, why: Removed, objects: u64) {
        if objects == 0 {
            return;
        }
        let why = match why {
            Removed::Expired => "expired",
            Removed::Ended => "ended",
            Removed::Gone => "gone",
        };
        self.removed_objects.get_or_create(&Why { why }).inc_by(objects);
    }

    pub(crate) fn count_collection(&self, is_whole: bool) {
        self.collections.get_or_create(&Ended { outcome: if is_whole { "done" } else { "failed" } }).inc();
        if is_whole {
            self.collected_at.set(jiff::Timestamp::now().as_second());
        }
    }

    pub(crate) fn set_shares<'a>(&self, shares: impl Iterator<Item = &'a Share>) {
        // A DAG that has nothing any more is not told of.
        self.dag_bytes.clear();
        self.dag_limit_bytes.clear();
        for share in shares {
            let dag = Dag { dag_id: share.dag_id.clone() };
            self.dag_bytes.get_or_create(&dag).set(share.bytes);
            self.dag_limit_bytes.get_or_create(&dag).set(share.limit_bytes);
        }
    }

    pub(crate) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}
