//! `airfreight._store.Object`.

use std::sync::Arc;

use airfreight_core::format::HEADER_BYTES;
use airfreight_store::Access;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyMemoryView};

use crate::buffer::Slice;

#[pyclass(frozen, module = "airfreight._store")]
pub(crate) struct Object {
    object: Arc<airfreight_store::Object>,
    access: Access,
}

impl Object {
    pub(crate) fn new(object: airfreight_store::Object, access: Access) -> Self {
        Self { object: Arc::new(object), access }
    }

    fn view<'py>(&self, py: Python<'py>, offset: u64, bytes: u64) -> PyResult<Bound<'py, PyMemoryView>> {
        let slice = Slice::new(Arc::clone(&self.object), self.access, offset, bytes);
        PyMemoryView::from(Bound::new(py, slice)?.as_any())
    }
}

#[pymethods]
impl Object {
    #[getter]
    fn name(&self) -> String {
        self.object.name().to_string()
    }

    #[getter]
    fn nbytes(&self) -> u64 {
        self.object.payload_bytes()
    }

    #[getter]
    fn tier(&self) -> &'static str {
        self.object.kind().as_str()
    }

    #[getter]
    fn stream<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        self.view(py, HEADER_BYTES, self.object.stream_bytes())
    }

    #[getter]
    fn buffers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let views = PyList::empty(py);
        for entry in self.object.entries() {
            views.append(self.view(py, entry.offset(), entry.bytes())?)?;
        }
        Ok(views)
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("json")?.call_method1("loads", (self.object.metadata(),))
    }

    fn __repr__(&self) -> String {
        format!("<Object {} of {} bytes in {}>", self.object.name(), self.object.payload_bytes(), self.tier())
    }
}
