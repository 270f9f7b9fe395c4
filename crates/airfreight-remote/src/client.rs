//! `airfreight._remote.RayClient`.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use airfreight_ray::{Client, Cursor, Follow, Identity, Job, Lines, RayError, Settings, Stopped, Submission, Trust};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::error::{from_ray, invalid};
use crate::forward::KubeForward;
use crate::json::{from_python, to_python};
use crate::process::{Cluster, process};
use crate::runner::{self, RayRunner};
use crate::wait::block;
use crate::watch::Watch;

#[pyclass(frozen, module = "airfreight._remote")]
pub(crate) struct RayClient {
    settings: Settings,
    address: String,
    /// What leads to that address, kept open for as long as somebody may call.
    through: Option<Py<KubeForward>>,
}

impl RayClient {
    fn cluster_of(&self, py: Python<'_>) -> PyResult<Cluster> {
        process(py)?.cluster(py, &self.settings)
    }

    /// Calls the cluster without the interpreter's lock.
    fn call<T, F>(&self, py: Python<'_>, call: impl FnOnce(Client) -> F) -> PyResult<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RayError>> + Send + 'static,
    {
        let client = self.cluster_of(py)?.client;
        block(py, call(client))?.map_err(|error| from_ray(py, &error))
    }
}

pub(crate) fn seconds(py: Python<'_>, name: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| invalid(py, &format!("cannot use {name}={seconds}: it must be a number of seconds"), None))
}

#[pymethods]
impl RayClient {
    #[new]
    #[pyo3(signature = (
        address, *, token=None, basic=None, headers=None, cookies=None, verify=None, client_cert=None,
        client_key=None, proxy=None, timeout=30.0, patience=300.0, through=None
    ), text_signature = "(address, *, token=None, basic=None, headers=None, cookies=None, verify=True, \
        client_cert=None, client_key=None, proxy=None, timeout=30.0, patience=300.0, through=None)")]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn new(
        py: Python<'_>,
        address: String,
        token: Option<String>,
        basic: Option<(String, String)>,
        headers: Option<Bound<'_, PyAny>>,
        cookies: Option<Bound<'_, PyAny>>,
        verify: Option<Bound<'_, PyAny>>,
        client_cert: Option<PathBuf>,
        client_key: Option<PathBuf>,
        proxy: Option<String>,
        timeout: f64,
        patience: f64,
        through: Option<Py<KubeForward>>,
    ) -> PyResult<Self> {
        let secrets = |pairs: Option<Bound<'_, PyAny>>| -> PyResult<Vec<(String, SecretString)>> {
            let Some(pairs) = pairs else { return Ok(Vec::new()) };
            let pairs: BTreeMap<String, String> = py.import("builtins")?.call_method1("dict", (pairs,))?.extract()?;
            Ok(pairs.into_iter().map(|(name, value)| (name, value.into())).collect())
        };
        let verify = match verify {
            None => Trust::System,
            Some(verify) => match verify.extract::<bool>() {
                Ok(true) => Trust::System,
                Ok(false) => Trust::Anyone,
                Err(_) => Trust::Bundle(verify.extract()?),
            },
        };
        let mut settings = Settings::new(address);
        settings.token = token.map(SecretString::from);
        settings.basic = basic.map(|(login, password)| (login, password.into()));
        settings.headers = secrets(headers)?;
        settings.cookies = secrets(cookies)?;
        settings.verify = verify;
        settings.client_certificate = client_cert
            .map(|certificate| Identity { key: client_key.unwrap_or_else(|| certificate.clone()), certificate });
        settings.proxy = proxy;
        settings.timeout = seconds(py, "timeout", timeout)?;
        settings.patience = seconds(py, "patience", patience)?;
        // Says what is wrong with the arguments, and is dropped again: what is made before a fork is of no use after it.
        let client = Client::new(settings.clone()).map_err(|error| from_ray(py, &error))?;
        Ok(Self { address: client.address().to_owned(), settings, through })
    }

    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    #[getter]
    fn is_forwarded(&self) -> bool {
        self.through.is_some()
    }

    fn cluster<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let cluster = self.call(py, |client| async move { client.cluster().await })?;
        let dict = PyDict::new(py);
        dict.set_item("ray_version", cluster.ray_version)?;
        dict.set_item("python_version", cluster.python_version)?;
        dict.set_item("session_name", cluster.session_name)?;
        dict.set_item("authentication", cluster.authentication)?;
        Ok(dict)
    }

    fn submit(&self, py: Python<'_>, submission: &Bound<'_, PyAny>) -> PyResult<bool> {
        let body: Map<String, Value> = from_python(submission, "the submission")?;
        let submission = Submission::from_body(body).map_err(|error| from_ray(py, &error))?;
        if submission.submission_id().is_none() {
            let hint = "choose an id: it is how a lost answer is told from a lost job";
            return Err(invalid(py, "cannot submit the job: it has no submission_id", Some(hint)));
        }
        Ok(self.call(py, |client| async move { client.submit(submission).await })?.created)
    }

    fn job<'py>(&self, py: Python<'py>, submission_id: String) -> PyResult<Option<Bound<'py, PyAny>>> {
        let job = self.call(py, |client| async move { client.job(&submission_id).await })?;
        job.map(|job| to_python(py, job.details())).transpose()
    }

    fn jobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let jobs = self.call(py, |client| async move { client.jobs().await })?;
        to_python(py, &jobs.into_iter().map(Job::into_details).collect::<Vec<_>>())
    }

    fn stop(&self, py: Python<'_>, submission_id: String) -> PyResult<bool> {
        let stopped = self.call(py, |client| async move { client.stop(&submission_id).await })?;
        Ok(stopped != Stopped::WasOver)
    }

    fn delete(&self, py: Python<'_>, submission_id: String) -> PyResult<bool> {
        self.call(py, |client| async move { client.delete(&submission_id).await })
    }

    fn logs(&self, py: Python<'_>, submission_id: String) -> PyResult<String> {
        self.call(py, |client| async move { client.log_text(&submission_id).await })
    }

    fn last_lines(&self, py: Python<'_>, submission_id: String, lines: u32) -> PyResult<Vec<String>> {
        self.call(py, |client| async move { client.last_lines(&submission_id, lines).await })
    }

    fn log_file<'py>(&self, py: Python<'py>, node_id: String, name: String) -> PyResult<Bound<'py, PyBytes>> {
        let read = |client: Client| async move { client.log_file(&node_id, &name, Lines::All).await?.bytes().await };
        Ok(PyBytes::new(py, &self.call(py, read)?))
    }

    fn upload(&self, py: Python<'_>, package: Vec<u8>) -> PyResult<String> {
        self.call(py, |client| async move { client.upload(package).await })
    }

    #[pyo3(signature = (runtime_env, base=None))]
    fn resolve_runtime_env<'py>(
        &self,
        py: Python<'py>,
        runtime_env: &Bound<'py, PyAny>,
        base: Option<PathBuf>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let given: Map<String, Value> = from_python(runtime_env, "the runtime environment")?;
        let resolve = |client: Client| async move { client.resolve_runtime_env(given, base.as_deref()).await };
        to_python(py, &self.call(py, resolve)?)
    }

    fn job_url(&self, py: Python<'_>, submission_id: &str) -> PyResult<String> {
        Ok(self.cluster_of(py)?.client.job_url(submission_id))
    }

    #[pyo3(signature = (submission_id, *, logs=true, cursor=None, session=None, deadline=None))]
    fn watch(
        &self,
        py: Python<'_>,
        submission_id: String,
        logs: bool,
        cursor: Option<&str>,
        session: Option<String>,
        deadline: Option<f64>,
    ) -> PyResult<Watch> {
        let cursor = cursor.map(str::parse::<Cursor>).transpose().map_err(|error| {
            invalid(py, &format!("cannot watch `{submission_id}`: {error}"), Some("pass on what `watch.cursor` said"))
        })?;
        let deadline = deadline.map(|unix| moment(py, unix)).transpose()?;
        let process = process(py)?;
        let cluster = process.cluster(py, &self.settings)?;
        let follow = Follow { logs, cursor, session, deadline, ..Follow::new(&submission_id) };
        Ok(Watch::new(submission_id, cluster.watcher.watch(follow)))
    }

    #[pyo3(signature = (driver_package, *, port=0, idle_seconds=900.0, transport="auto"))]
    fn runner(
        &self,
        py: Python<'_>,
        driver_package: Vec<u8>,
        port: u16,
        idle_seconds: f64,
        transport: &str,
    ) -> PyResult<RayRunner> {
        let options = runner::options(py, port, idle_seconds, transport)?;
        Ok(RayRunner::new(self.settings.clone(), driver_package, options))
    }

    fn __repr__(&self) -> String {
        format!("<RayClient {}>", self.address)
    }
}

pub(crate) fn moment(py: Python<'_>, unix: f64) -> PyResult<SystemTime> {
    let name = "deadline";
    // What lies before 1970 is as over as 1970.
    let since = seconds(py, name, unix.max(0.0))?;
    UNIX_EPOCH
        .checked_add(since)
        .ok_or_else(|| invalid(py, &format!("cannot use {name}={unix}: it must be a number of seconds"), None))
}
