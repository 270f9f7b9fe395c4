//! `airfreight._remote.Watch`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::bridge::Bridge;
use crate::error::invalid;
use crate::wait::{SIGNALS_EVERY, Sleeper};

/// Something that is followed, whatever it runs on.
pub(crate) trait Following: Send {
    /// What happens next.
    fn poll(&self, context: &mut Context<'_>) -> Poll<Happening>;

    /// Where the lines that have been handed out end.
    fn cursor(&self) -> String;

    /// Stops following, and says where the lines that were handed out end for good.
    fn close(self: Box<Self>) -> String;
}

/// An event, or the error that ends the watch, still to be told to Python: no lock is held while that runs.
pub(crate) type Happening = Box<dyn FnOnce(Python<'_>) -> PyResult<Bound<'_, PyDict>>>;

/// Where the events come from, until it is closed.
pub(crate) struct Source {
    submission_id: String,
    pid: u32,
    state: Mutex<State>,
}

enum State {
    Open(Box<dyn Following>),
    Closed(String),
    /// Of another process: not to be touched, not even to be dropped.
    Foreign,
}

impl Source {
    /// The next event as Python sees it.
    pub(crate) fn poll<'py>(&self, py: Python<'py>, context: &mut Context<'_>) -> Poll<PyResult<Bound<'py, PyDict>>> {
        match self.poll_event(context) {
            None => Poll::Ready(Err(invalid(py, &format!("the watch of `{}` is closed", self.submission_id), None))),
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(happening)) => Poll::Ready(happening(py)),
        }
    }

    /// `None` when it is closed.
    fn poll_event(&self, context: &mut Context<'_>) -> Option<Poll<Happening>> {
        match &*self.lock() {
            State::Open(watch) => Some(watch.poll(context)),
            State::Closed(_) | State::Foreign => None,
        }
    }

    /// Never locked by a thread that isn't attached to Python, so that it is free in a forked process.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        if self.pid == std::process::id() {
            return Ok(());
        }
        let id = &self.submission_id;
        let hint = Some("open another with its cursor");
        Err(invalid(py, &format!("the watch of `{id}` belongs to the process that this one was forked from"), hint))
    }

    fn close(&self) {
        let mut state = self.lock();
        if let State::Open(watch) = std::mem::replace(&mut *state, State::Foreign) {
            *state = State::Closed(watch.close());
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(std::mem::replace(state, State::Foreign));
        }
    }
}

#[pyclass(frozen, module = "airfreight._remote")]
pub(crate) struct Watch {
    source: Arc<Source>,
    /// Where an `anext` waits.
    waiting: Mutex<Option<(Arc<Bridge>, u64)>>,
}

impl Watch {
    pub(crate) fn new(id: String, followed: impl Following + 'static) -> Self {
        let state = Mutex::new(State::Open(Box::new(followed)));
        let source = Source { submission_id: id, pid: std::process::id(), state };
        Self { source: Arc::new(source), waiting: Mutex::new(None) }
    }

    fn take_waiting(&self) -> Option<(Arc<Bridge>, u64)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl Watch {
    #[getter]
    fn submission_id(&self) -> &str {
        &self.source.submission_id
    }

    #[getter]
    fn cursor(&self, py: Python<'_>) -> PyResult<String> {
        self.source.check_process(py)?;
        Ok(match &*self.source.lock() {
            State::Open(watch) => watch.cursor(),
            State::Closed(cursor) => cursor.clone(),
            State::Foreign => String::new(),
        })
    }

    #[pyo3(signature = (wait=None))]
    fn next<'py>(&self, py: Python<'py>, wait: Option<f64>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.source.check_process(py)?;
        // What no clock can count is for ever.
        let until = wait
            .and_then(|wait| Duration::try_from_secs_f64(wait.max(0.0)).ok())
            .and_then(|wait| Instant::now().checked_add(wait));
        let sleeper = Arc::new(Sleeper::default());
        let waker = Waker::from(Arc::clone(&sleeper));
        loop {
            if let Poll::Ready(event) = self.source.poll(py, &mut Context::from_waker(&waker)) {
                return event.map(Some);
            }
            let rest = until.map_or(SIGNALS_EVERY, |until| until.saturating_duration_since(Instant::now()));
            if rest.is_zero() {
                return Ok(None);
            }
            py.detach(|| sleeper.sleep(rest.min(SIGNALS_EVERY)));
            py.check_signals()?;
        }
    }

    fn anext<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.source.check_process(py)?;
        let (bridge, running) = Bridge::of_running_loop(py)?;
        if let Some((before, ticket)) = self.take_waiting() {
            if before.is_waiting(py, ticket)? {
                *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some((before, ticket));
                let id = &self.source.submission_id;
                let hint = Some("await one anext() after the other");
                return Err(invalid(py, &format!("the watch of `{id}` is awaited already"), hint));
            }
            before.forget(ticket);
        }
        let future = running.call_method0("create_future")?;
        if let Some(ticket) = bridge.settle(py, future.clone().unbind(), Arc::clone(&self.source))? {
            *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some((bridge, ticket));
        }
        Ok(future)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.source.check_process(py)?;
        self.source.close();
        Ok(())
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*exc))]
    #[expect(unused_variables, reason = "whatever was raised, it is closed")]
    fn __exit__(&self, py: Python<'_>, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<Watch of {}>", self.source.submission_id)
    }
}
