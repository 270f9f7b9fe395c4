//! Waiting without the interpreter, but not deaf to signals.

use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Wake;
use std::time::{Duration, Instant};

use airfreight_core::ErrorKind;
use pyo3::prelude::*;

use crate::error;
use crate::process::process;

/// How long a signal may wait for its handler.
pub(crate) const SIGNALS_EVERY: Duration = Duration::from_millis(100);
const REPORTS_EVERY: Duration = Duration::from_secs(1);

/// Runs `future` in the background until it is done, or a signal's handler raises.
///
/// A handler may itself come here: nothing is locked while it runs.
pub(crate) fn block<T: Send + 'static>(
    py: Python<'_>,
    future: impl Future<Output = T> + Send + 'static,
) -> PyResult<T> {
    block_watching(py, future, &mut || Ok(()))
}

/// As [`block`], and calls `report` about once a second meanwhile; what that raises ends the call, too.
pub(crate) fn block_watching<T: Send + 'static>(
    py: Python<'_>,
    future: impl Future<Output = T> + Send + 'static,
    report: &mut dyn FnMut() -> PyResult<()>,
) -> PyResult<T> {
    let (sender, receiver) = sync_channel(1);
    let task = process(py)?.runtime.spawn(async move {
        // Nobody listens any more when a handler has raised.
        let _ = sender.send(future.await);
    });
    let mut receiver = receiver;
    let mut reported_at = Instant::now();
    loop {
        let (answer, back) = py.detach(move || (receiver.recv_timeout(SIGNALS_EVERY), receiver));
        receiver = back;
        match answer {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Timeout) => {
                let mut heard = py.check_signals();
                if heard.is_ok() && reported_at.elapsed() >= REPORTS_EVERY {
                    reported_at = Instant::now();
                    heard = report();
                }
                if let Err(raised) = heard {
                    task.abort();
                    return Err(raised);
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(error::new(py, ErrorKind::Internal, "a call broke down", None));
            }
        }
    }
}

/// A thread that sleeps until it is woken.
#[derive(Default)]
pub(crate) struct Sleeper {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Sleeper {
    pub(crate) fn sleep(&self, limit: Duration) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(woken, limit, |woken| !*woken);
        let (mut woken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *woken = false;
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}
