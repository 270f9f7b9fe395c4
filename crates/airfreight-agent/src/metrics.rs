//! What is counted, in the text format of Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

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

    pub(crate) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}
