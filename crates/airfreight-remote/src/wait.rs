//! Waiting without the interpreter, but not deaf to signals.

use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Wake;
use std::time::Duration;

use airfreight_core::ErrorKind;
use pyo3::prelude::*;

use crate::error;
use crate::process::process;

/// How long a signal may wait for its handler.
pub(crate) const SIGNALS_EVERY: Duration = Duration::from_millis(100);

/// Runs `future` in the background until it is done, or a signal's handler raises.
///
/// A handler may itself come here: nothing is locked while it runs.
pub(crate) fn block<T: Send + 'static>(
    py: Python<'_>,
    future: impl Future<Output = T> + Send + 'static,
) -> PyResult<T> {
    let (sender, receiver) = sync_channel(1);
    let task = process(py)?.runtime.spawn(async move {
        // Nobody listens any more when a handler has raised.
        let _ = sender.send(future.await);
    });
    let mut receiver = receiver;
    loop {
        let (answer, back) = py.detach(move || (receiver.recv_timeout(SIGNALS_EVERY), receiver));
        receiver = back;
        match answer {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Timeout) => {
                if let Err(raised) = py.check_signals() {
                    task.abort();
                    return Err(raised);
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(error::new(py, ErrorKind::Internal, "a call to Ray broke down", None));
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
