//! `airfreight._store.Store`.

use std::path::PathBuf;
use std::time::Duration;

use airfreight_core::ObjectName;
use airfreight_store::{Access, Options, StoreError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::from_store;
use crate::object::Object;
use crate::writer::Writer;

#[pyclass(frozen, module = "airfreight._store")]
pub(crate) struct Store {
    store: airfreight_store::Store,
}

impl Store {
    /// Calls the store without the interpreter's lock.
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&airfreight_store::Store) -> Result<T, StoreError> + Send,
    ) -> PyResult<T> {
        py.detach(|| call(&self.store)).map_err(|error| from_store(py, &error))
    }
}

fn parse(name: &str) -> Result<ObjectName, StoreError> {
    name.parse().map_err(StoreError::from)
}

fn seconds(unix_ns: i64) -> f64 {
    Duration::from_nanos(u64::try_from(unix_ns).unwrap_or(0)).as_secs_f64()
}

#[pymethods]
impl Store {
    #[new]
    #[pyo3(signature = (
        path=None, *, capacity_bytes=None, spill_path=None, spill_capacity_bytes=None, pool_bytes=None,
        ttl_seconds=None, create=true
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        capacity_bytes: Option<u64>,
        spill_path: Option<PathBuf>,
        spill_capacity_bytes: Option<u64>,
        pool_bytes: Option<u64>,
        ttl_seconds: Option<u64>,
        create: bool,
    ) -> PyResult<Self> {
        let options = Options {
            path,
            capacity_bytes,
            spill_path,
            spill_capacity_bytes,
            pool_bytes,
            ttl: ttl_seconds.map(Duration::from_secs),
            must_exist: !create,
        };
        let store = py.detach(|| airfreight_store::Store::open(&options)).map_err(|error| from_store(py, &error))?;
        Ok(Self { store })
    }

    #[getter]
    fn path(&self) -> String {
        self.store.path().display().to_string()
    }

    #[getter]
    fn store_id(&self) -> &str {
        self.store.id()
    }

    #[getter]
    fn tier(&self) -> &'static str {
        self.store.kind().as_str()
    }

    #[getter]
    fn notice(&self) -> Option<&str> {
        self.store.notice()
    }

    fn create(&self, py: Python<'_>) -> PyResult<Writer> {
        self.store.create().map(Writer::new).map_err(|error| from_store(py, &error))
    }

    #[pyo3(signature = (name, *, writable=true))]
    fn get(&self, py: Python<'_>, name: &str, writable: bool) -> PyResult<Object> {
        let access = if writable { Access::PrivateWritable } else { Access::ReadOnly };
        self.call(py, |store| store.get(parse(name)?, access)).map(|object| Object { object, access })
    }

    fn contains(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        self.call(py, |store| Ok(store.contains(parse(name)?)))
    }

    fn describe<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyDict>> {
        let description = self.call(py, |store| store.describe(parse(name)?))?;
        let dict = PyDict::new(py);
        dict.set_item("name", description.name.to_string())?;
        dict.set_item("id", description.name.id().to_string())?;
        dict.set_item("nbytes", description.payload_bytes)?;
        dict.set_item("file_bytes", description.file_bytes)?;
        dict.set_item("tier", description.kind.as_str())?;
        dict.set_item("created_at", seconds(description.created_ns))?;
        dict.set_item("used_at", seconds(description.used_ns))?;
        dict.set_item("links", description.links)?;
        dict.set_item("pinned", description.pinned)?;
        dict.set_item("metadata", py.import("json")?.call_method1("loads", (description.metadata,))?)?;
        Ok(dict)
    }

    fn delete(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        self.call(py, |store| store.delete(parse(name)?))
    }

    #[pyo3(signature = (name, in_seconds=0.0))]
    fn expire(&self, py: Python<'_>, name: &str, in_seconds: f64) -> PyResult<bool> {
        self.call(py, |store| store.expire(parse(name)?, in_seconds))
    }

    fn link(&self, py: Python<'_>, name: &str) -> PyResult<String> {
        self.call(py, |store| store.link(parse(name)?)).map(|name| name.to_string())
    }

    fn note_copy(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        self.call(py, |store| store.note_copy(parse(name)?))
    }

    fn names(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.call(py, airfreight_store::Store::names).map(|names| names.iter().map(ObjectName::to_string).collect())
    }

    fn stat<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stat = self.call(py, airfreight_store::Store::stat)?;
        let dict = PyDict::new(py);
        dict.set_item("path", self.path())?;
        dict.set_item("store_id", self.store_id())?;
        dict.set_item("tier", self.tier())?;
        dict.set_item("notice", self.notice())?;
        dict.set_item("objects", stat.objects)?;
        dict.set_item("pinned", stat.pinned)?;
        dict.set_item("used_bytes", stat.used_bytes)?;
        dict.set_item("warm_bytes", stat.warm_bytes)?;
        dict.set_item("capacity_bytes", stat.capacity_bytes)?;
        dict.set_item("pool_bytes", stat.pool_bytes)?;
        dict.set_item("unfinished", stat.unfinished)?;
        dict.set_item("spill_path", self.store.spill_path().display().to_string())?;
        dict.set_item("spilled_objects", stat.spilled_objects)?;
        dict.set_item("spilled_bytes", stat.spilled_bytes)?;
        dict.set_item("spill_capacity_bytes", stat.spill_capacity_bytes)?;
        dict.set_item("huge_pages", stat.huge_pages)?;
        Ok(dict)
    }

    #[pyo3(signature = (limit=32))]
    fn sweep(&self, py: Python<'_>, limit: usize) -> PyResult<u64> {
        self.call(py, |store| store.sweep(limit))
    }

    fn collect<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let collected = self.call(py, airfreight_store::Store::collect)?;
        let dict = PyDict::new(py);
        dict.set_item("expired", collected.expired)?;
        dict.set_item("reclaimed", collected.reclaimed)?;
        dict.set_item("orphaned", collected.orphaned)?;
        Ok(dict)
    }

    fn __repr__(&self) -> String {
        format!("<Store {} in {}>", self.store.id(), self.store.path().display())
    }
}
