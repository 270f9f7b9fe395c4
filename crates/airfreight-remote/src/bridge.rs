//! From our threads into an asyncio loop, without ever entering Python from a thread of ours.
//!
//! Each loop gets a socket pair. A watch that has something to say writes one byte; the loop, which reads the other end
//! like any socket of its own, then settles the futures whose watches have spoken. However many watches speak at once,
//! one byte is under way. A loop that was closed, or an interpreter that ends, just doesn't read it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use airfreight_core::ErrorKind;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::error;
use crate::watch::Source;

/// How long the loop is held in one go.
const TURN: Duration = Duration::from_millis(5);

/// What is on its way into one loop.
pub(crate) struct Bridge {
    pid: u32,
    reader: UnixStream,
    writer: UnixStream,
    /// A byte is under way.
    signalled: AtomicBool,
    next_ticket: AtomicU64,
    /// Tickets whose watches have something to say.
    spoken: Mutex<Vec<u64>>,
    waiting: Mutex<HashMap<u64, Waiting>>,
}

/// A future that somebody awaits, and where its result comes from.
struct Waiting {
    future: Py<PyAny>,
    source: Arc<Source>,
}

/// Tells a bridge that a ticket's watch has spoken. Weak: a loop that is gone isn't kept alive by who would wake it.
struct Ticket {
    bridge: Weak<Bridge>,
    number: u64,
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        if let Some(bridge) = self.bridge.upgrade() {
            locked(&bridge.spoken).push(self.number);
            bridge.signal();
        }
    }
}

impl Bridge {
    /// The bridge into the running loop, made with its first use.
    pub(crate) fn of_running_loop(py: Python<'_>) -> PyResult<(Arc<Self>, Bound<'_, PyAny>)> {
        static BRIDGES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let running = py.import("asyncio")?.call_method0("get_running_loop")?;
        let bridges = BRIDGES.get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("weakref")?.call_method0("WeakKeyDictionary")?.unbind())
        })?;
        let bridges = bridges.bind(py);
        if let Ok(known) = bridges.call_method1("get", (&running,))?.cast_into::<Drain>() {
            let bridge = Arc::clone(&known.get().bridge);
            if bridge.pid == std::process::id() {
                return Ok((bridge, running));
            }
        }
        let bridge = Arc::new(Self::new().map_err(|source| {
            error::new(py, ErrorKind::Unavailable, &format!("cannot open a socket pair: {source}"), None)
        })?);
        let drain = Bound::new(py, Drain { bridge: Arc::clone(&bridge) })?;
        running.call_method1("add_reader", (bridge.reader.as_raw_fd(), &drain))?;
        bridges.call_method1("__setitem__", (&running, drain))?;
        Ok((bridge, running))
    }

    fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self {
            pid: std::process::id(),
            reader,
            writer,
            signalled: AtomicBool::new(false),
            next_ticket: AtomicU64::new(0),
            spoken: Mutex::default(),
            waiting: Mutex::default(),
        })
    }

    /// Settles `future` with the next event of `source`: at once, or when there is one.
    ///
    /// Returns the ticket under which it waits.
    pub(crate) fn settle(
        self: &Arc<Self>,
        py: Python<'_>,
        future: Py<PyAny>,
        source: Arc<Source>,
    ) -> PyResult<Option<u64>> {
        let number = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        self.settle_as(py, number, Waiting { future, source })
    }

    fn settle_as(self: &Arc<Self>, py: Python<'_>, number: u64, waiting: Waiting) -> PyResult<Option<u64>> {
        let future = waiting.future.bind(py);
        // Cancelled, most likely. The event stays where it is, for the next call.
        if future.call_method0("done")?.extract()? {
            return Ok(None);
        }
        let waker = Waker::from(Arc::new(Ticket { bridge: Arc::downgrade(self), number }));
        match waiting.source.poll(py, &mut Context::from_waker(&waker)) {
            Poll::Ready(Ok(event)) => drop(future.call_method1("set_result", (event,))?),
            Poll::Ready(Err(raised)) => drop(future.call_method1("set_exception", (raised.into_value(py),))?),
            Poll::Pending => {
                // The ticket may have been called already; then its byte is under way, and this thread reads it later.
                locked(&self.waiting).insert(number, waiting);
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Nobody waits under this ticket any more.
    pub(crate) fn forget(&self, ticket: u64) {
        let forgotten = locked(&self.waiting).remove(&ticket);
        drop(forgotten);
    }

    /// Whether somebody still waits under this ticket, on a loop that can still settle it.
    pub(crate) fn is_waiting(&self, py: Python<'_>, ticket: u64) -> PyResult<bool> {
        let future = locked(&self.waiting).get(&ticket).map(|waiting| waiting.future.clone_ref(py));
        let Some(future) = future else { return Ok(false) };
        let future = future.bind(py);
        if future.call_method0("done")?.extract()? {
            return Ok(false);
        }
        let closed: bool = future.call_method0("get_loop")?.call_method0("is_closed")?.extract()?;
        Ok(!closed)
    }

    fn signal(&self) {
        if !self.signalled.swap(true, Ordering::AcqRel) {
            // Full means that the loop has something to read anyway; gone, that it doesn't want to.
            let _ = (&self.writer).write(&[1]);
        }
    }

    fn drain(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let began = Instant::now();
        let mut bytes = [0; 64];
        while matches!((&self.reader).read(&mut bytes), Ok(count) if count > 0) {}
        // Before the tickets are taken: whoever speaks after that writes a byte again.
        self.signalled.store(false, Ordering::Release);
        let mut spoken = std::mem::take(&mut *locked(&self.spoken)).into_iter();
        for number in spoken.by_ref() {
            let waiting = locked(&self.waiting).remove(&number);
            if let Some(waiting) = waiting {
                self.settle_as(py, number, waiting)?;
            }
            if began.elapsed() > TURN {
                break;
            }
        }
        // The loop gets its turn; the rest comes with its next one.
        let rest: Vec<u64> = spoken.collect();
        if !rest.is_empty() {
            locked(&self.spoken).extend(rest);
            self.signal();
        }
        Ok(())
    }
}

/// What the loop calls when there is something to read.
#[pyclass(frozen, module = "airfreight._remote", name = "_Drain", weakref)]
struct Drain {
    bridge: Arc<Bridge>,
}

#[pymethods]
impl Drain {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.bridge.drain(py)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
