//! `airfreight._remote.Bucket`.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use airfreight_bucket::{BucketError, Copied, Settings};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use secrecy::SecretString;

use crate::error::{from_bucket, from_store, invalid};
use crate::store::{object_name, open_store};
use crate::wait::{block, block_watching};

#[pyclass(frozen, module = "airfreight._remote")]
pub(crate) struct Bucket {
    settings: Settings,
    url: String,
    /// Of the process that opened it; another opens its own.
    opened: Mutex<Option<(u32, airfreight_bucket::Bucket)>>,
}

impl Bucket {
    fn here(&self, py: Python<'_>) -> PyResult<airfreight_bucket::Bucket> {
        let pid = std::process::id();
        // Held only by threads that are attached to Python, so it is free in a forked process.
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        match &*opened {
            Some((owner, bucket)) if *owner == pid => return Ok(bucket.clone()),
            // What was inherited by a fork is left alone: its sockets are the parent's, too.
            Some(_) => std::mem::forget(opened.take()),
            None => {}
        }
        let bucket = airfreight_bucket::Bucket::open(&self.settings).map_err(|error| from_bucket(py, &error))?;
        *opened = Some((pid, bucket.clone()));
        Ok(bucket)
    }

    fn call<T, F>(&self, py: Python<'_>, call: impl FnOnce(airfreight_bucket::Bucket) -> F) -> PyResult<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, BucketError>> + Send + 'static,
    {
        let bucket = self.here(py)?;
        block(py, call(bucket))?.map_err(|error| from_bucket(py, &error))
    }
}

#[pymethods]
impl Bucket {
    #[new]
    #[pyo3(signature = (url, options=None, *, environment=true, verify=None, proxy=None, patience=120.0),
        text_signature = "(url, options=None, *, environment=True, verify=True, proxy=None, patience=120.0)")]
    fn new(
        py: Python<'_>,
        url: String,
        options: Option<Bound<'_, PyAny>>,
        environment: bool,
        verify: Option<Bound<'_, PyAny>>,
        proxy: Option<String>,
        patience: f64,
    ) -> PyResult<Self> {
        let mut settings = Settings::new(url);
        if let Some(options) = options {
            let pairs: BTreeMap<String, String> = py.import("builtins")?.call_method1("dict", (options,))?.extract()?;
            settings.options = pairs.into_iter().map(|(name, value)| (name, SecretString::from(value))).collect();
        }
        settings.environment = environment;
        if let Some(verify) = verify {
            match verify.extract::<bool>() {
                Ok(verify) => settings.verify = verify,
                Err(_) => settings.authorities = Some(verify.extract::<PathBuf>()?),
            }
        }
        settings.proxy = proxy;
        settings.patience = Duration::try_from_secs_f64(patience).map_err(|_| {
            invalid(py, &format!("cannot use patience={patience}: it must be a number of seconds"), None)
        })?;
        let url =
            airfreight_bucket::Location::parse(&settings.url).map_err(|error| from_bucket(py, &error))?.to_string();
        Ok(Self { settings, url, opened: Mutex::new(None) })
    }

    #[getter]
    fn url(&self) -> &str {
        &self.url
    }

    #[getter]
    fn way<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        match &self.settings.authorities {
            Some(authorities) if self.settings.verify => dict.set_item("verify", authorities.to_string_lossy())?,
            _ => dict.set_item("verify", self.settings.verify)?,
        }
        dict.set_item("proxy", &self.settings.proxy)?;
        Ok(dict)
    }

    #[pyo3(signature = (store, name, key, progress=None))]
    fn put_object<'py>(
        &self,
        py: Python<'py>,
        store: &Bound<'py, PyAny>,
        name: &str,
        key: String,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (store, name) = (open_store(store)?, object_name(py, name)?);
        let file = store.describe(name).map_err(|error| from_store(py, &error))?;
        let (bucket, done) = (self.here(py)?, Arc::new(AtomicU64::new(0)));
        let put = {
            let done = Arc::clone(&done);
            async move { bucket.put_object_watched(&store, name, &key, &done).await }
        };
        let mut report = reporter(done, file.file_bytes, progress);
        let copied = block_watching(py, put, &mut report)?.map_err(|error| from_bucket(py, &error))?;
        to_dict(py, copied)
    }

    #[pyo3(signature = (store, name, key, expected=None, progress=None))]
    fn get_object<'py>(
        &self,
        py: Python<'py>,
        store: &Bound<'py, PyAny>,
        name: &str,
        key: String,
        expected: Option<Bound<'py, PyAny>>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (store, name) = (open_store(store)?, object_name(py, name)?);
        let expected = expected.map(|expected| from_mapping(&expected)).transpose()?;
        let (bucket, done) = (self.here(py)?, Arc::new(AtomicU64::new(0)));
        let get = {
            let done = Arc::clone(&done);
            async move { bucket.get_object_watched(&store, name, &key, expected, &done).await }
        };
        let mut report = reporter(done, expected.map_or(0, |expected| expected.nbytes), progress);
        let copied = block_watching(py, get, &mut report)?.map_err(|error| from_bucket(py, &error))?;
        to_dict(py, copied)
    }

    fn put(&self, py: Python<'_>, key: String, data: Vec<u8>) -> PyResult<()> {
        self.call(py, |bucket| async move { bucket.put(&key, data).await })
    }

    #[pyo3(signature = (key, bytes_max=1_048_576))]
    fn get<'py>(&self, py: Python<'py>, key: String, bytes_max: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let found = self.call(py, |bucket| async move { bucket.get(&key, bytes_max).await })?;
        Ok(found.map(|bytes| PyBytes::new(py, &bytes)))
    }

    fn size(&self, py: Python<'_>, key: String) -> PyResult<Option<u64>> {
        self.call(py, |bucket| async move { bucket.size(&key).await })
    }

    #[pyo3(signature = (prefix=String::new()), text_signature = "($self, prefix='')")]
    fn list<'py>(&self, py: Python<'py>, prefix: String) -> PyResult<Bound<'py, PyList>> {
        let entries = self.call(py, |bucket| async move { bucket.list(&prefix).await })?;
        let listed = PyList::empty(py);
        for entry in entries {
            let dict = PyDict::new(py);
            dict.set_item("key", entry.key)?;
            dict.set_item("nbytes", entry.nbytes)?;
            dict.set_item("modified_at", entry.modified_at.as_second())?;
            listed.append(dict)?;
        }
        Ok(listed)
    }

    fn delete(&self, py: Python<'_>, key: String) -> PyResult<bool> {
        self.call(py, |bucket| async move { bucket.delete(&key).await })
    }

    fn sign(&self, py: Python<'_>, method: &str, key: String, seconds: f64) -> PyResult<String> {
        let refuse = |what: &str| invalid(py, &format!("cannot sign a URL: {what}"), None);
        let method = match method {
            "GET" => airfreight_bucket::Method::GET,
            "PUT" => airfreight_bucket::Method::PUT,
            "HEAD" => airfreight_bucket::Method::HEAD,
            "DELETE" => airfreight_bucket::Method::DELETE,
            _ => return Err(refuse("the method is none of GET, PUT, HEAD and DELETE")),
        };
        let valid = Duration::try_from_secs_f64(seconds).map_err(|_| refuse("its time is no number of seconds"))?;
        self.call(py, |bucket| async move { bucket.sign(method, &key, valid).await })
    }

    fn __repr__(&self) -> String {
        format!("<Bucket {}>", self.url)
    }
}

/// JSON's numbers end at 2^53, so a checksum is 16 hexadecimal digits.
pub(crate) fn to_dict(py: Python<'_>, copied: Copied) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("nbytes", copied.nbytes)?;
    dict.set_item("crc64", format!("{:016x}", copied.crc64))?;
    Ok(dict)
}

fn from_mapping(copied: &Bound<'_, PyAny>) -> PyResult<Copied> {
    let crc64: String = copied.get_item("crc64")?.extract()?;
    let crc64 = u64::from_str_radix(&crc64, 16).map_err(|_| {
        invalid(copied.py(), "cannot compare the checkpoint: its checksum is no 16 hexadecimal digits", None)
    })?;
    Ok(Copied { nbytes: copied.get_item("nbytes")?.extract()?, crc64 })
}

/// Tells `progress(done, total)`, where somebody wants to hear of it.
fn reporter(
    done: Arc<AtomicU64>,
    total: u64,
    progress: Option<Bound<'_, PyAny>>,
) -> impl FnMut() -> PyResult<()> + use<'_> {
    move || match &progress {
        Some(progress) => progress.call1((done.load(Ordering::Relaxed), total)).map(drop),
        None => Ok(()),
    }
}
