//! `airfreight._remote.ApoloClient`.

use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use airfreight_apolo::{
    ApoloError, Client, Cursor, Event, Follow, JobSpec, JobStatus, Settings, Trust, Until, Wanted, resource_uri,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::{Map, Value};

use crate::client::{moment, seconds};
use crate::error::{from_apolo, invalid};
use crate::json::{from_python, to_python};
use crate::process::{knows_platform, process};
use crate::wait::block;
use crate::watch::{Following, Happening, Watch};

#[pyclass(frozen, module = "airfreight._remote")]
pub(crate) struct ApoloClient {
    settings: Settings,
}

impl ApoloClient {
    fn client(&self, py: Python<'_>) -> PyResult<Client> {
        process(py)?.platform(py, &self.settings)
    }

    /// Calls the platform without the interpreter's lock.
    fn call<T, F>(&self, py: Python<'_>, call: impl FnOnce(Client) -> F) -> PyResult<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ApoloError>> + Send + 'static,
    {
        block(py, call(self.client(py)?))?.map_err(|error| from_apolo(py, &error))
    }
}

#[pymethods]
impl ApoloClient {
    #[new]
    #[pyo3(signature = (
        token, *, api_url=None, cluster=None, org=None, project=None, verify=None, proxy=None, timeout=30.0,
        patience=300.0
    ), text_signature = "(token, *, api_url=None, cluster=None, org=None, project=None, verify=True, proxy=None, \
        timeout=30.0, patience=300.0)")]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn new(
        py: Python<'_>,
        token: &str,
        api_url: Option<String>,
        cluster: Option<String>,
        org: Option<String>,
        project: Option<String>,
        verify: Option<Bound<'_, PyAny>>,
        proxy: Option<String>,
        timeout: f64,
        patience: f64,
    ) -> PyResult<Self> {
        let raise = |error: ApoloError| from_apolo(py, &error);
        let mut settings = Settings::new(token).map_err(raise)?;
        settings.api_url = api_url.unwrap_or(settings.api_url);
        if cluster.is_some() && cluster != settings.cluster {
            // The passed config's are those of its own cluster.
            (settings.org, settings.project) = (None, None);
        }
        settings.cluster = cluster.or(settings.cluster);
        settings.org = org.or(settings.org);
        settings.project = project.or(settings.project);
        settings.proxy = proxy;
        if let Some(verify) = verify {
            match verify.extract::<bool>() {
                Ok(true) => {}
                Ok(false) => settings.verify = Trust::Anyone,
                Err(_) => settings = settings.trusting(verify.extract()?),
            }
        }
        settings.timeout = seconds(py, "timeout", timeout)?;
        settings.patience = seconds(py, "patience", patience)?;
        settings.api_url = String::from(settings.api_url.trim().trim_end_matches('/'));
        if !knows_platform(&settings) {
            // Says what is wrong with the arguments, and is dropped again: what is made before a fork is of no use
            // after it.
            Client::new(settings.clone()).map_err(raise)?;
        }
        Ok(Self { settings })
    }

    #[getter]
    fn api_url(&self) -> &str {
        &self.settings.api_url
    }

    fn place<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let place = self.call(py, |client| async move { client.place().await })?;
        let dict = PyDict::new(py);
        dict.set_item("cluster", place.cluster.name)?;
        dict.set_item("org", place.org)?;
        dict.set_item("project", place.project)?;
        Ok(dict)
    }

    fn request<'py>(&self, py: Python<'py>, spec: &Bound<'py, PyAny>) -> PyResult<(String, Bound<'py, PyAny>)> {
        let spec = read(py, spec)?;
        let (path, body) = self.call(py, |client| async move { client.request(&spec).await })?;
        Ok((path.to_owned(), to_python(py, &body)?))
    }

    #[pyo3(signature = (spec, *, tag=None))]
    fn create<'py>(
        &self,
        py: Python<'py>,
        spec: &Bound<'py, PyAny>,
        tag: Option<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let spec = read(py, spec)?;
        let job = self.call(py, |client| async move { client.create(&spec, tag.as_deref()).await })?;
        to_python(py, job.details())
    }

    fn job<'py>(&self, py: Python<'py>, job_id: String) -> PyResult<Bound<'py, PyAny>> {
        let job = self.call(py, |client| async move { client.job(&job_id).await })?;
        to_python(py, job.details())
    }

    #[pyo3(signature = (*, tags=Vec::new(), statuses=Vec::new(), name=None, limit=None),
        text_signature = "($self, *, tags=(), statuses=(), name=None, limit=None)")]
    fn jobs<'py>(
        &self,
        py: Python<'py>,
        tags: Vec<String>,
        statuses: Vec<String>,
        name: Option<String>,
        limit: Option<u32>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let wanted = Wanted { tags, statuses, name, limit };
        let jobs = self.call(py, |client| async move { client.jobs(&wanted).await })?;
        to_python(py, &jobs.iter().map(airfreight_apolo::Job::details).collect::<Vec<_>>())
    }

    #[pyo3(signature = (job_id, *, patience=None))]
    fn kill(&self, py: Python<'_>, job_id: String, patience: Option<f64>) -> PyResult<()> {
        let patience = patience.map(|patience| seconds(py, "patience", patience)).transpose()?;
        self.call(py, |client| async move {
            let client = patience.map_or_else(|| client.clone(), |patience| client.with_patience(patience));
            client.kill(&job_id).await
        })
    }

    fn resource_uri(&self, py: Python<'_>, uri: String, scheme: String) -> PyResult<String> {
        self.call(py, |client| async move { resource_uri(&uri, &scheme, &client.place().await?) })
    }

    #[pyo3(signature = (job_id, *, until="end", logs=true, cursor=None, deadline=None, poll_interval=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn watch(
        &self,
        py: Python<'_>,
        job_id: String,
        until: &str,
        logs: bool,
        cursor: Option<&str>,
        deadline: Option<f64>,
        poll_interval: Option<f64>,
    ) -> PyResult<Watch> {
        let cursor = cursor.filter(|text| !text.is_empty()).map(str::parse::<Cursor>).transpose().map_err(|error| {
            invalid(py, &format!("cannot watch `{job_id}`: {error}"), Some("pass on what `watch.cursor` said"))
        })?;
        let until = match until {
            "end" => Until::End,
            "start" => Until::Start,
            other => Until::Other(JobStatus::parse(other)),
        };
        let mut follow = Follow {
            until,
            logs,
            cursor: cursor.unwrap_or_default(),
            deadline: deadline.map(|unix| moment(py, unix)).transpose()?,
            patience: self.settings.patience,
            ..Follow::new(&job_id)
        };
        if let Some(interval) = poll_interval {
            let interval = seconds(py, "poll_interval", interval)?.max(Duration::from_millis(50));
            (follow.pause_min, follow.pause_max) = (interval, interval);
        }
        let client = self.client(py)?;
        let _context = process(py)?.runtime.enter();
        Ok(Watch::new(job_id, client.watch(follow)))
    }

    fn __repr__(&self) -> String {
        format!("<ApoloClient {}>", self.settings.api_url)
    }
}

fn read(py: Python<'_>, spec: &Bound<'_, PyAny>) -> PyResult<JobSpec> {
    let spec: Map<String, Value> = from_python(spec, "the job")?;
    JobSpec::from_json(Value::Object(spec)).map_err(|error| from_apolo(py, &error))
}

impl Following for airfreight_apolo::Watch {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Happening> {
        airfreight_apolo::Watch::poll(self, context).map(|said| -> Happening {
            Box::new(|py| match said {
                Ok(event) => to_dict(py, event),
                Err(error) => Err(from_apolo(py, &error)),
            })
        })
    }

    fn cursor(&self) -> String {
        airfreight_apolo::Watch::cursor(self).to_string()
    }

    fn close(self: Box<Self>) -> String {
        airfreight_apolo::Watch::cursor(&self).to_string()
    }
}

fn to_dict(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("event", event.name())?;
    match event {
        Event::Lines { lines, cursor } => {
            dict.set_item("lines", lines)?;
            dict.set_item("cursor", cursor.to_string())?;
        }
        Event::Status { job } => {
            dict.set_item("status", job.status().as_str())?;
            dict.set_item("job", to_python(py, job.details())?)?;
        }
        Event::Unreachable { silence, error } => {
            dict.set_item("seconds", silence.as_secs_f64())?;
            dict.set_item("error", error)?;
        }
        Event::Ended { job, log_error } => {
            dict.set_item("job", to_python(py, job.details())?)?;
            dict.set_item("log_error", log_error)?;
        }
        _ => {}
    }
    Ok(dict)
}
