//! Which way a value takes.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{DASHBOARD_BYTES_MAX, Route, TransferError};
use crate::Result;
use crate::runner::Runner;

/// How long is waited for a port without which nothing goes.
const PORT_PATIENCE: Duration = Duration::from_secs(5);
const PORT_EVERY: Duration = Duration::from_millis(250);

/// The way for so many bytes, of those that there are.
pub(crate) async fn choose<E: std::error::Error + Send + Sync + 'static>(
    runner: &Runner,
    route: Route,
    file_bytes: u64,
    has_bucket: bool,
    action: &str,
) -> Result<Route, TransferError<E>> {
    let too_large = file_bytes > DASHBOARD_BYTES_MAX;
    let refuse = |obstacle: String| TransferError::OutOfReach { action: action.to_owned(), obstacle };
    match route {
        Route::Auto => {
            let limit = if too_large && !has_bucket { PORT_PATIENCE } else { Duration::ZERO };
            if has_port(runner, limit).await? {
                return Ok(Route::Port);
            }
            match (too_large, has_bucket) {
                (false, _) => Ok(Route::Dashboard),
                (true, true) => Ok(Route::Bucket),
                (true, false) => Err(refuse(format!(
                    "the runner's own port can't be reached, through the dashboard go {} MiB at most, it has {} MiB, and \
                     there is no bucket",
                    DASHBOARD_BYTES_MAX >> 20,
                    file_bytes >> 20
                ))),
            }
        }
        Route::Dashboard if too_large => Err(refuse(format!(
            "through the dashboard go {} MiB at most, it has {} MiB",
            DASHBOARD_BYTES_MAX >> 20,
            file_bytes >> 20
        ))),
        Route::Bucket if !has_bucket => Err(refuse("there is no bucket".to_owned())),
        chosen => Ok(chosen),
    }
}

async fn has_port(runner: &Runner, limit: Duration) -> Result<bool> {
    let began = Instant::now();
    loop {
        if runner.port().await?.is_some() {
            return Ok(true);
        }
        if began.elapsed() >= limit {
            return Ok(false);
        }
        sleep(PORT_EVERY).await;
    }
}
