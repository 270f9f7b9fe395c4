//! Errors of the clients as the classes of `airfreight.errors`.

use std::error::Error;
use std::io;

use airfreight_apolo::ApoloError;
use airfreight_bucket::BucketError;
use airfreight_client::ClientError;
use airfreight_cluster::ClusterError;
use airfreight_core::{ErrorKind, chain};
use airfreight_ray::RayError;
use airfreight_store::StoreError;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The Python exception for an error of the Ray client: its chain as the message, its hint, an `OSError` as its cause.
pub(crate) fn from_ray(py: Python<'_>, error: &RayError) -> PyErr {
    let raised = new(py, error.kind(), &chain(error), error.hint());
    if let Some(source) = system_error(error) {
        let cause = match source.raw_os_error() {
            Some(code) => PyOSError::new_err((code, source.to_string())),
            None => PyOSError::new_err(source.to_string()),
        };
        raised.set_cause(py, Some(cause));
    }
    raised
}

/// The Python exception for an error of Apolo's client.
pub(crate) fn from_apolo(py: Python<'_>, error: &ApoloError) -> PyErr {
    new(py, error.kind(), &chain(error), error.hint())
}

/// The Python exception for an error between us and a Kubernetes API server, or with a cluster on it.
pub(crate) fn from_cluster(py: Python<'_>, error: &ClusterError) -> PyErr {
    new(py, error.kind(), &chain(error), error.hint())
}

/// The Python exception for an error of a bucket.
pub(crate) fn from_bucket(py: Python<'_>, error: &BucketError) -> PyErr {
    new(py, error.kind(), &chain(error), error.hint().as_deref())
}

/// The Python exception for an error between this host and another's agent.
pub(crate) fn from_client(py: Python<'_>, error: &ClientError) -> PyErr {
    new(py, error.kind(), &chain(error), error.hint().as_deref())
}

/// The Python exception for an error of the store.
pub(crate) fn from_store(py: Python<'_>, error: &StoreError) -> PyErr {
    new(py, error.kind(), &chain(error), error.hint().as_deref())
}

/// An `InvalidError`.
pub(crate) fn invalid(py: Python<'_>, message: &str, hint: Option<&str>) -> PyErr {
    new(py, ErrorKind::Invalid, message, hint)
}

/// An exception of the class that stands for `kind`.
pub(crate) fn new(py: Python<'_>, kind: ErrorKind, message: &str, hint: Option<&str>) -> PyErr {
    let class = match kind {
        ErrorKind::NotFound => "ObjectNotFoundError",
        ErrorKind::Lost => "ObjectLostError",
        ErrorKind::Full => "StoreFullError",
        ErrorKind::Unavailable => "UnavailableError",
        ErrorKind::Denied => "DeniedError",
        ErrorKind::Invalid => "InvalidError",
        ErrorKind::Corrupt => "CorruptError",
        ErrorKind::Conflict => "ConflictError",
        _ => "InternalError",
    };
    of_class(py, class, message, hint)
}

/// An exception of a class of `airfreight.errors`.
pub(crate) fn of_class(py: Python<'_>, class: &str, message: &str, hint: Option<&str>) -> PyErr {
    let class = py
        .import("airfreight.errors")
        .and_then(|errors| errors.getattr(class)?.cast_into::<PyType>().map_err(PyErr::from));
    match class {
        Ok(class) => PyErr::from_type(class, (message.to_owned(), hint.map(str::to_owned))),
        Err(error) => error,
    }
}

fn system_error(error: &RayError) -> Option<&io::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
