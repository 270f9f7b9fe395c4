//! `airfreight._store.Writer`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use airfreight_core::ErrorKind;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::Lent;
use crate::error;

/// Shorter buffers stay in the stream: an entry, its padding and a view in the reader cost more than a copy.
const OUT_OF_BAND_BYTES_MIN: usize = 512;

#[pyclass(frozen, module = "airfreight._store")]
pub(crate) struct Writer {
    state: Mutex<Option<State>>,
}

struct State {
    writer: airfreight_store::Writer,
    buffers: Vec<Lent>,
    buffer_bytes: u64,
}

impl Writer {
    pub(crate) fn new(writer: airfreight_store::Writer) -> Self {
        Self { state: Mutex::new(Some(State { writer, buffers: Vec::new(), buffer_bytes: 0 })) }
    }

    /// A panic while the lock was held leaves a state that is only ever dropped.
    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn over(py: Python<'_>) -> PyErr {
    error::new(py, ErrorKind::Invalid, "the writer is sealed or aborted already", Some("begin another object"))
}

#[pymethods]
impl Writer {
    #[pyo3(signature = (data, /))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        let append = |bytes: &[u8]| match self.lock().as_mut() {
            Some(state) => state.writer.write(bytes).map_err(|error| error::from_store(py, &error)),
            None => Err(over(py)),
        };
        if let Ok(data) = data.cast::<PyBytes>() {
            let bytes = data.as_bytes();
            return append(bytes).map(|()| bytes.len());
        }
        let data = Lent::from(data)?;
        append(data.bytes()).map(|()| data.len())
    }

    #[pyo3(signature = (buffer, /))]
    fn add_buffer(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let buffer = Lent::from(buffer)?;
        if buffer.len() < OUT_OF_BAND_BYTES_MIN {
            return Ok(true);
        }
        match self.lock().as_mut() {
            Some(state) => {
                state.buffer_bytes += buffer.len() as u64;
                state.buffers.push(buffer);
                Ok(false)
            }
            None => Err(over(py)),
        }
    }

    #[getter]
    fn nbytes(&self) -> u64 {
        self.lock().as_ref().map_or(0, |state| state.writer.stream_bytes() + state.buffer_bytes)
    }

    fn seal(&self, py: Python<'_>, metadata: &str) -> PyResult<String> {
        let State { writer, buffers, .. } = self.lock().take().ok_or_else(|| over(py))?;
        let sealed = py.detach(|| {
            let slices: Vec<&[u8]> = buffers.iter().map(Lent::bytes).collect();
            writer.seal(&slices, metadata)
        });
        sealed.map(|name| name.to_string()).map_err(|error| error::from_store(py, &error))
    }

    fn abort(&self) {
        drop(self.lock().take());
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, _exc: &Bound<'_, PyAny>) {
        self.abort();
    }
}
