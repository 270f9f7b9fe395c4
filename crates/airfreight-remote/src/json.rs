//! JSON between Rust and Python, through Python's own `json`, whose rules users know.

use airfreight_core::ErrorKind;
use pyo3::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error;

/// A value as Python's `json.loads` makes it.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value)
        .map_err(|source| error::new(py, ErrorKind::Internal, &format!("cannot write JSON: {source}"), None))?;
    py.import("json")?.call_method1("loads", (text,))
}

/// What Python's `json.dumps` makes of `value`; `what` names it in an error.
pub(crate) fn from_python<T: DeserializeOwned>(value: &Bound<'_, PyAny>, what: &str) -> PyResult<T> {
    let py = value.py();
    let refuse =
        |reason: String| error::invalid(py, &format!("cannot send {what}: {reason}"), Some("it must be plain JSON"));
    // A `Mapping` that is no dict is taken, too.
    let plain = py.import("builtins")?.call_method1("dict", (value,)).map_err(|source| refuse(source.to_string()))?;
    let text: String = py
        .import("json")?
        .call_method1("dumps", (plain,))
        .and_then(|text| text.extract())
        .map_err(|source| refuse(source.to_string()))?;
    serde_json::from_str(&text).map_err(|source| refuse(source.to_string()))
}
