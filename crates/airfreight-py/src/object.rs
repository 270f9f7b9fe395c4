//! `airfreight._store.Object`.

use airfreight_core::PlainArray;
use airfreight_core::format::HEADER_BYTES;
use airfreight_store::Access;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyMemoryView, PyTuple};

use crate::buffer::Slice;

#[pyclass(frozen, module = "airfreight._store")]
pub(crate) struct Object {
    pub(crate) object: airfreight_store::Object,
    pub(crate) access: Access,
}

fn view<'py>(object: &Bound<'py, Object>, offset: u64, bytes: u64) -> PyResult<Bound<'py, PyMemoryView>> {
    let slice = Slice::new(object.clone().unbind(), offset, bytes);
    PyMemoryView::from(Bound::new(object.py(), slice)?.as_any())
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
    fn stream<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyMemoryView>> {
        view(slf, HEADER_BYTES, slf.get().object.stream_bytes())
    }

    #[getter]
    fn buffers<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        let views = PyList::empty(slf.py());
        for entry in slf.get().object.entries() {
            views.append(view(slf, entry.offset(), entry.bytes())?)?;
        }
        Ok(views)
    }

    #[pyo3(signature = (ndarray, /))]
    fn array<'py>(slf: &Bound<'py, Self>, ndarray: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        let object = &slf.get().object;
        let array = PlainArray::parse(object.stream())?;
        let [entry] = object.entries() else { return None };
        let slice = Slice::new(slf.clone().unbind(), entry.offset(), entry.bytes());
        let shape = PyTuple::new(slf.py(), array.shape()).ok()?;
        // What NumPy doesn't like, an unpickler can say best.
        match array.order {
            "C" => ndarray.call1((shape, array.dtype, slice)),
            order => ndarray.call1((shape, array.dtype, slice, 0, slf.py().None(), order)),
        }
        .ok()
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("json")?.call_method1("loads", (self.object.metadata(),))
    }

    fn __repr__(&self) -> String {
        format!("<Object {} of {} bytes in {}>", self.object.name(), self.object.payload_bytes(), self.tier())
    }
}
