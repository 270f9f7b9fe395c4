//! The store of this host, opened as `airfreight._store` has opened it; the two modules share files and nothing else.

use std::time::Duration;

use airfreight_core::ObjectName;
use airfreight_store::{Options, Store, StoreError};
use pyo3::prelude::*;

use crate::error::from_store;

pub(crate) fn object_name(py: Python<'_>, name: &str) -> PyResult<ObjectName> {
    name.parse().map_err(|error| from_store(py, &StoreError::from(error)))
}

/// Opens the store by the same path and within the same limits, from a mapping with the names of `Store`'s arguments.
pub(crate) fn open_store(store: &Bound<'_, PyAny>) -> PyResult<Store> {
    let given = |name: &str| -> PyResult<Option<Bound<'_, PyAny>>> {
        Ok(store.call_method1("get", (name,))?.extract::<Option<_>>()?)
    };
    let options = Options {
        path: given("path")?.map(|path| path.extract()).transpose()?,
        capacity_bytes: given("capacity_bytes")?.map(|bytes| bytes.extract()).transpose()?,
        spill_path: given("spill_path")?.map(|path| path.extract()).transpose()?,
        spill_capacity_bytes: given("spill_capacity_bytes")?.map(|bytes| bytes.extract()).transpose()?,
        pool_bytes: given("pool_bytes")?.map(|bytes| bytes.extract()).transpose()?,
        ttl: given("ttl_seconds")?.map(|seconds| seconds.extract().map(Duration::from_secs)).transpose()?,
        must_exist: false,
    };
    Store::open(&options).map_err(|error| from_store(store.py(), &error))
}
