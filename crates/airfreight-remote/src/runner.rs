//! `airfreight._remote.RayRunner`.

use std::future::Future;

use airfreight_ray::{CallId, Cursor, Follow, RayError, Runner, RunnerOptions, Settings, Transport, runner_id};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::{Map, Value};

use crate::client::{moment, seconds};
use crate::error::{from_ray, invalid};
use crate::json::{from_python, to_python};
use crate::process::process;
use crate::values;
use crate::wait::block;
use crate::watch::Watch;

#[pyclass(frozen, module = "airfreight._remote")]
pub(crate) struct RayRunner {
    settings: Settings,
    package: Vec<u8>,
    options: RunnerOptions,
    id: String,
}

impl RayRunner {
    /// Starts nothing: what is made before a fork is of no use after it.
    pub(crate) fn new(settings: Settings, package: Vec<u8>, options: RunnerOptions) -> Self {
        Self { id: runner_id(&package), settings, package, options }
    }

    /// The runner as this process knows it.
    pub(crate) fn runner_of(&self, py: Python<'_>) -> PyResult<Runner> {
        process(py)?.runner(py, &self.settings, &self.package, &self.options)
    }

    /// Asks the runner without the interpreter's lock.
    fn ask<T, F>(&self, py: Python<'_>, ask: impl FnOnce(Runner) -> F) -> PyResult<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RayError>> + Send + 'static,
    {
        let runner = self.runner_of(py)?;
        block(py, ask(runner))?.map_err(|error| from_ray(py, &error))
    }
}

#[pymethods]
impl RayRunner {
    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    #[getter]
    fn job_id(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.runner_of(py)?.job_id())
    }

    #[getter]
    fn transport(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        Ok(self.runner_of(py)?.transport())
    }

    #[pyo3(signature = (wait=None))]
    fn ready<'py>(&self, py: Python<'py>, wait: Option<f64>) -> PyResult<Bound<'py, PyDict>> {
        let limit = wait.map(|wait| seconds(py, "wait", wait)).transpose()?;
        let ready = self.ask(py, |runner| async move { runner.ready(limit).await })?;
        let dict = PyDict::new(py);
        dict.set_item("python", ready.python)?;
        dict.set_item("ray", ready.ray)?;
        dict.set_item("generation", ready.generation)?;
        dict.set_item("node_id", ready.node_id)?;
        dict.set_item("transport", ready.transport)?;
        Ok(dict)
    }

    fn running(&self, py: Python<'_>) -> PyResult<bool> {
        self.ask(py, |runner| async move { runner.is_running().await })
    }

    fn call<'py>(&self, py: Python<'py>, spec: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let spec: Map<String, Value> = from_python(spec, "the call")?;
        to_python(py, &self.ask(py, |runner| async move { runner.call(spec).await })?)
    }

    fn calls<'py>(&self, py: Python<'py>, owner: String) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.ask(py, |runner| async move { runner.calls(&owner).await })?)
    }

    fn state<'py>(&self, py: Python<'py>, owner: String, call_id: String) -> PyResult<Option<Bound<'py, PyAny>>> {
        let state = self.ask(py, |runner| async move { runner.state(&CallId::new(owner, call_id)).await })?;
        state.map(|state| to_python(py, &state)).transpose()
    }

    fn cancel(&self, py: Python<'_>, owner: String, call_id: String) -> PyResult<bool> {
        self.ask(py, |runner| async move { runner.cancel(&CallId::new(owner, call_id)).await })
    }

    #[pyo3(signature = (owner, call_id, *, logs=true, cursor=None, session=None, deadline=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn watch(
        &self,
        py: Python<'_>,
        owner: &str,
        call_id: String,
        logs: bool,
        cursor: Option<&str>,
        session: Option<String>,
        deadline: Option<f64>,
    ) -> PyResult<Watch> {
        let cursor = cursor.map(str::parse::<Cursor>).transpose().map_err(|error| {
            invalid(py, &format!("cannot watch `{call_id}`: {error}"), Some("pass on what `watch.cursor` said"))
        })?;
        let deadline = deadline.map(|unix| moment(py, unix)).transpose()?;
        let runner = self.runner_of(py)?;
        let _context = process(py)?.runtime.enter();
        let follow = Follow { logs, cursor, session, deadline, ..Follow::new(&call_id) };
        Ok(Watch::new(call_id, runner.watch(owner, follow)))
    }

    fn owners<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.ask(py, |runner| async move { runner.owners().await })?)
    }

    fn drop_owner(&self, py: Python<'_>, name: String) -> PyResult<bool> {
        self.ask(py, |runner| async move { runner.drop_owner(&name).await })
    }

    fn drop(&self, py: Python<'_>, owner: String, key: String) -> PyResult<bool> {
        self.ask(py, |runner| async move { runner.drop_value(&owner, &key).await })
    }

    fn value<'py>(
        &self,
        py: Python<'py>,
        owner: String,
        key: String,
        generation: String,
    ) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.ask(py, |runner| async move { runner.value(&owner, &key, &generation).await })?)
    }

    #[pyo3(signature = (value, store, *, route="auto", url=None, progress=None))]
    fn fetch<'py>(
        &self,
        py: Python<'py>,
        value: &Bound<'py, PyAny>,
        store: &Bound<'py, PyAny>,
        route: &str,
        url: Option<&Bound<'py, PyAny>>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<String> {
        values::fetch(self, py, value, store, route, url, progress)
    }

    #[pyo3(signature = (name, store, owner, info, *, route="auto", url=None, progress=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn send<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        store: &Bound<'py, PyAny>,
        owner: String,
        info: &Bound<'py, PyAny>,
        route: &str,
        url: Option<&Bound<'py, PyAny>>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        values::send(self, py, name, store, owner, info, route, url, progress)
    }

    fn end(&self, py: Python<'_>) -> PyResult<bool> {
        self.ask(py, |runner| async move { Ok(runner.end().await?.is_some()) })
    }

    fn __repr__(&self) -> String {
        format!("<RayRunner {}>", self.id)
    }
}

/// How the runner is started and reached, as Python spells it.
pub(crate) fn options(py: Python<'_>, port: u16, idle_seconds: f64, transport: &str) -> PyResult<RunnerOptions> {
    let transport = match transport {
        "auto" => Transport::Auto,
        "port" => Transport::Port,
        "mailbox" => Transport::Mailbox,
        other => {
            return Err(invalid(py, &format!("cannot use transport={other}: it must be auto, port or mailbox"), None));
        }
    };
    Ok(RunnerOptions { port, idle: seconds(py, "idle_seconds", idle_seconds)?, transport })
}
