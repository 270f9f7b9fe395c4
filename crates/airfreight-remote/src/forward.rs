//! `airfreight._remote.KubeForward`.

use std::sync::{Mutex, PoisonError};

use airfreight_cluster::Forward;
use pyo3::prelude::*;

#[pyclass(frozen, module = "airfreight._remote")]
pub(crate) struct KubeForward {
    address: String,
    pid: u32,
    /// Of another process after a fork, and then not even to be dropped: its port is the parent's.
    open: Mutex<Option<Forward>>,
}

impl KubeForward {
    pub(crate) fn new(forward: Forward) -> Self {
        let address = format!("http://{}", forward.address());
        Self { address, pid: std::process::id(), open: Mutex::new(Some(forward)) }
    }

    fn end(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        if self.pid != std::process::id() {
            std::mem::forget(open);
        }
    }
}

impl Drop for KubeForward {
    fn drop(&mut self) {
        self.end();
    }
}

#[pymethods]
impl KubeForward {
    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    fn close(&self) {
        self.end();
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*exc))]
    #[expect(unused_variables, reason = "whatever was raised, it is closed")]
    fn __exit__(&self, exc: &Bound<'_, PyAny>) {
        self.end();
    }

    fn __repr__(&self) -> String {
        format!("<KubeForward {}>", self.address)
    }
}
