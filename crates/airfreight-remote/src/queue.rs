//! `airfreight._remote.UploadQueue`.

use airfreight_bucket::{Bucket, Queue, Queued};
use airfreight_store::Store;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::bucket::to_dict;
use crate::error::from_bucket;
use crate::store::{object_name, open_store};

#[pyclass(frozen, module = "airfreight._remote")]
pub(crate) struct UploadQueue {
    store: Store,
    queue: Queue,
}

#[pymethods]
impl UploadQueue {
    #[new]
    fn new(store: &Bound<'_, PyAny>) -> PyResult<Self> {
        let store = open_store(store)?;
        let queue = Queue::of(&store);
        Ok(Self { store, queue })
    }

    fn checksum<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyDict>> {
        let name = object_name(py, name)?;
        let copied = py.detach(|| Bucket::checksum(&self.store, name)).map_err(|error| from_bucket(py, &error))?;
        to_dict(py, copied)
    }

    fn add(&self, py: Python<'_>, name: &str, queued: &str) -> PyResult<()> {
        let name = object_name(py, name)?;
        let added = Queued::parse(queued).and_then(|queued| self.queue.add(name, &queued));
        added.map_err(|error| from_bucket(py, &error))
    }

    fn remove(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        let name = object_name(py, name)?;
        self.queue.remove(name).map_err(|error| from_bucket(py, &error))
    }

    fn names(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let listed = self.queue.list().map_err(|error| from_bucket(py, &error))?;
        Ok(listed.into_iter().map(|(name, _)| name.to_string()).collect())
    }

    #[getter]
    fn is_served(&self) -> bool {
        self.queue.is_claimed()
    }

    fn __repr__(&self) -> String {
        format!("<UploadQueue of {}>", self.store.path().display())
    }
}
