//! When to try again, and when to give up: patience is for silence, not for long transfers.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::sleep;

use crate::error::Source;
use crate::{RayError, Result};

/// The attempts since something last arrived.
pub(crate) struct Attempts {
    action: String,
    address: String,
    patience: Duration,
    since: Instant,
    count: u32,
    pauses: ExponentialBackoff,
}

impl Attempts {
    pub(crate) fn new(action: &str, address: &str, patience: Duration) -> Self {
        Self {
            action: action.to_owned(),
            address: address.to_owned(),
            patience,
            since: Instant::now(),
            count: 0,
            pauses: pauses(),
        }
    }

    /// Something has arrived.
    pub(crate) fn advance(&mut self) {
        if self.count > 0 {
            self.count = 0;
            self.pauses = pauses();
        }
        self.since = Instant::now();
    }

    /// Waits before the next attempt, or says that there is none.
    pub(crate) async fn failed(&mut self, source: Source) -> Result<()> {
        self.count += 1;
        let pause = self.pauses.next().unwrap_or_default();
        if self.since.elapsed() + pause > self.patience {
            return Err(RayError::Unavailable {
                action: self.action.clone(),
                address: self.address.clone(),
                attempts: self.count,
                elapsed: self.since.elapsed(),
                source,
            });
        }
        sleep(pause).await;
        Ok(())
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_jitter()
        .build()
}
