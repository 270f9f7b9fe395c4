//! `airfreight._remote.Agent`.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use airfreight_client::{Fetched, Identity, Progress, Settings};
use pyo3::prelude::*;

use crate::error::{from_client, invalid};
use crate::store::{object_name, open_store};
use crate::wait::block_watching;

#[pyclass(frozen, module = "airfreight._remote")]
pub(crate) struct Agent {
    settings: Settings,
    url: String,
    /// Of the process that made it; another makes its own.
    made: Mutex<Option<(u32, airfreight_client::Agent)>>,
}

impl Agent {
    fn here(&self, py: Python<'_>) -> PyResult<airfreight_client::Agent> {
        let pid = std::process::id();
        // Held only by threads that are attached to Python, so it is free in a forked process.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some((owner, agent)) if *owner == pid => return Ok(agent.clone()),
            // What was inherited by a fork is left alone: its sockets are the parent's, too.
            Some(_) => std::mem::forget(made.take()),
            None => {}
        }
        let agent = airfreight_client::Agent::new(self.settings.clone()).map_err(|error| from_client(py, &error))?;
        *made = Some((pid, agent.clone()));
        Ok(agent)
    }
}

#[pymethods]
impl Agent {
    #[new]
    #[pyo3(signature = (url, *, token=None, authorities=None, certificate=None, key=None, patience=30.0, doubt=5.0),
        text_signature = "(url, *, token=None, authorities=None, certificate=None, key=None, patience=30.0, doubt=5.0)")]
    #[expect(clippy::too_many_arguments, reason = "each has a name in Python")]
    fn new(
        py: Python<'_>,
        url: String,
        token: Option<String>,
        authorities: Option<PathBuf>,
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
        patience: f64,
        doubt: f64,
    ) -> PyResult<Self> {
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            (None, None) => None,
            _ => return Err(invalid(py, "cannot use a certificate without its key, nor a key alone", None)),
        };
        let seconds = |name: &str, seconds: f64| {
            Duration::try_from_secs_f64(seconds)
                .map_err(|_| invalid(py, &format!("cannot use {name}={seconds}: it must be a number of seconds"), None))
        };
        let settings = Settings {
            token: token.map(Into::into),
            authorities,
            identity,
            patience: seconds("patience", patience)?,
            doubt: seconds("doubt", doubt)?,
            ..Settings::new(url)
        };
        let agent = airfreight_client::Agent::new(settings.clone()).map_err(|error| from_client(py, &error))?;
        let url = agent.address().to_owned();
        Ok(Self { settings, url, made: Mutex::new(Some((std::process::id(), agent))) })
    }

    #[getter]
    fn url(&self) -> &str {
        &self.url
    }

    #[pyo3(signature = (store, name, progress=None))]
    fn fetch(
        &self,
        py: Python<'_>,
        store: &Bound<'_, PyAny>,
        name: &str,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Option<u64>> {
        let (store, name) = (open_store(store)?, object_name(py, name)?);
        let (agent, course) = (self.here(py)?, Progress::default());
        let fetch = {
            let course = course.clone();
            async move { agent.fetch(&store, name, &course).await }
        };
        let mut report = move || match (&progress, course.get()) {
            (Some(progress), (done, total)) if total > 0 => progress.call1((done, total)).map(drop),
            _ => Ok(()),
        };
        match block_watching(py, fetch, &mut report)?.map_err(|error| from_client(py, &error))? {
            Fetched::Here => Ok(None),
            Fetched::Moved { file_bytes } => Ok(Some(file_bytes)),
        }
    }

    fn __repr__(&self) -> String {
        format!("<Agent {}>", self.url)
    }
}
