//! Authentication of references: functions of `airfreight._store`.

#![allow(clippy::needless_pass_by_value, reason = "what Python passes is owned here")]

use airfreight_core::{ReferenceError, chain};
use pyo3::prelude::*;

use crate::error;

fn raise(py: Python<'_>, error: &ReferenceError) -> PyErr {
    error::new(py, error.kind(), &chain(error), error.hint())
}

#[pyfunction]
pub(crate) fn sign_reference(py: Python<'_>, document: &str, keys: Vec<Vec<u8>>) -> PyResult<String> {
    airfreight_core::sign_reference(document, &keys).map_err(|error| raise(py, &error))
}

#[pyfunction]
pub(crate) fn verify_reference(py: Python<'_>, document: &str, keys: Vec<Vec<u8>>) -> PyResult<()> {
    airfreight_core::verify_reference(document, &keys).map_err(|error| raise(py, &error))
}

#[pyfunction]
pub(crate) fn key_fingerprint(key: Vec<u8>) -> String {
    airfreight_core::key_fingerprint(&key)
}
