//! `RayRunner.fetch` and `RayRunner.send`: values between this host's store and a cluster.

use std::ops::Range;
use std::sync::Arc;

use airfreight_core::{ObjectId, ObjectName, chain};
use airfreight_ray::{BucketUrls, Freight, Landing, Progress, RayError, Route, TransferError, Trust, ValueKey};
use airfreight_store::{ObjectFile, Payload, Receiver, StoreError};
use bytes::{Bytes, BytesMut};
use pyo3::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::{self, from_ray, from_store, invalid};
use crate::json::{from_python, to_python};
use crate::runner::RayRunner;
use crate::store::{object_name, open_store};
use crate::wait::block_watching;

/// An object that arrives in the store.
struct Arriving(Receiver);

impl Landing for Arriving {
    type Error = StoreError;

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.write(offset, bytes)
    }
}

/// An object that leaves it.
struct Leaving(Arc<ObjectFile>);

/// A part of a file that lies in memory, which stays there as long as the part.
struct Part(Arc<ObjectFile>, Range<usize>);

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        self.0.in_memory().and_then(|file| file.get(self.1.clone())).unwrap_or_default()
    }
}

impl Freight for Leaving {
    type Error = StoreError;

    fn file_bytes(&self) -> u64 {
        self.0.file_bytes()
    }

    fn read(&self, start: u64, end: u64, mut spare: BytesMut) -> Result<Bytes, StoreError> {
        let range = usize::try_from(start).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
        if self.0.in_memory().is_some_and(|file| range.end <= file.len()) {
            return Ok(Bytes::from_owner(Part(Arc::clone(&self.0), range)));
        }
        spare.resize(range.len(), 0);
        self.0.read(&mut spare, start)?;
        Ok(spare.freeze())
    }
}

/// A value as Python names it.
#[derive(Deserialize)]
struct Given {
    owner: String,
    generation: String,
    key: String,
    nbytes: Option<u64>,
}

/// Presigned URLs as Python has them.
#[derive(Deserialize)]
struct GivenUrls {
    put: Option<String>,
    get: String,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    way: GivenWay,
}

/// How this host reaches them: `verify` is a flag, or the path of authorities.
#[derive(Default, Deserialize)]
struct GivenWay {
    verify: Option<Value>,
    proxy: Option<String>,
}

/// Brings a value into the store; answers its name there.
pub(crate) fn fetch<'py>(
    runner: &RayRunner,
    py: Python<'py>,
    value: &Bound<'py, PyAny>,
    store: &Bound<'py, PyAny>,
    route: &str,
    url: Option<&Bound<'py, PyAny>>,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<String> {
    let given: Given = from_python(value, "the value")?;
    let (route, urls, store) = (route_of(py, route)?, urls_of(url)?, open_store(store)?);
    let value = ValueKey { owner: given.owner, generation: given.generation, key: given.key };
    let name = ObjectName::new(ObjectId::from_bytes(value.object_id()));
    if store.contains(name) {
        return Ok(name.to_string());
    }
    let (runner, reached) = (runner.runner_of(py)?, Progress::default());
    let watched = reached.clone();
    let arrive = async move {
        let reserve = move |file_bytes| store.receive(name, file_bytes).map(Arriving);
        let fetched = runner.fetch(&value, given.nbytes, route, urls.as_ref(), &watched, reserve).await?;
        // On the spill disk, this reads all of it once more.
        let sealed = tokio::task::spawn_blocking(move || fetched.0.seal(Payload::Verified)).await;
        let broken =
            |source| RayError::Internal { what: format!("cannot fetch {value}: sealing broke down: {source}") };
        sealed.map_err(broken)?.map_err(TransferError::Near)
    };
    let arrived = block_watching(py, arrive, &mut reporter(reached, progress))?;
    arrived.map(|name| name.to_string()).map_err(|error| from_transfer(py, &error))
}

/// Sends an object to the owner of a run; answers what it is called there.
#[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
pub(crate) fn send<'py>(
    runner: &RayRunner,
    py: Python<'py>,
    name: &str,
    store: &Bound<'py, PyAny>,
    owner: String,
    info: &Bound<'py, PyAny>,
    route: &str,
    url: Option<&Bound<'py, PyAny>>,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let info: Map<String, Value> = from_python(info, "what is known of the run")?;
    let (route, urls, store) = (route_of(py, route)?, urls_of(url)?, open_store(store)?);
    let name = object_name(py, name)?;
    let file = py.detach(|| {
        let file = store.file(name)?;
        if route == Route::Bucket { file.with_checksum() } else { Ok(file) }
    });
    let file = file.map_err(|error| from_store(py, &error))?;
    // The same bytes under another name are the same value.
    let key = format!("object-{}", file.name());
    let (runner, reached) = (runner.runner_of(py)?, Progress::default());
    let watched = reached.clone();
    let leave = async move {
        let (freight, info) = (Arc::new(Leaving(Arc::new(file))), Value::Object(info));
        runner.send(freight, &owner, &key, &info, route, urls.as_ref(), &watched).await
    };
    let left = block_watching(py, leave, &mut reporter(reached, progress))?;
    let value = left.map_err(|error| from_transfer(py, &error))?;
    to_python(py, &json!({"owner": value.owner, "generation": value.generation, "key": value.key}))
}

/// Calls Python with how far it has got, if anybody wants to know.
fn reporter(reached: Progress, progress: Option<Bound<'_, PyAny>>) -> impl FnMut() -> PyResult<()> + use<'_> {
    move || {
        let (done_bytes, total_bytes) = reached.get();
        match &progress {
            Some(progress) if total_bytes > 0 => progress.call1((done_bytes, total_bytes)).map(drop),
            _ => Ok(()),
        }
    }
}

fn route_of(py: Python<'_>, route: &str) -> PyResult<Route> {
    match route {
        "auto" => Ok(Route::Auto),
        "port" => Ok(Route::Port),
        "dashboard" => Ok(Route::Dashboard),
        "bucket" => Ok(Route::Bucket),
        _ => Err(invalid(
            py,
            &format!("cannot use route=`{route}`: there is no such way to a cluster"),
            Some("it is one of auto, port, dashboard, bucket"),
        )),
    }
}

fn urls_of(url: Option<&Bound<'_, PyAny>>) -> PyResult<Option<BucketUrls>> {
    let Some(url) = url else { return Ok(None) };
    let GivenUrls { put, get, headers, way } = from_python(url, "the bucket's URLs")?;
    let verify = match way.verify {
        Some(Value::Bool(false)) => Trust::Anyone,
        Some(Value::String(path)) => Trust::SystemAnd(path.into()),
        _ => Trust::System,
    };
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let headers = headers.into_iter().map(|(name, value)| (name, text(value))).collect();
    Ok(Some(BucketUrls { put, headers, get, verify, proxy: way.proxy }))
}

fn from_transfer(py: Python<'_>, error: &TransferError<StoreError>) -> PyErr {
    match error {
        TransferError::Cluster(error) => from_ray(py, error),
        TransferError::Near(error) => from_store(py, error),
        TransferError::OutOfReach { .. } => {
            error::of_class(py, "OutOfReachError", &chain(error), error.hint(StoreError::hint).as_deref())
        }
        other => {
            let kind = other.kind(StoreError::kind);
            error::new(py, kind, &chain(other), other.hint(StoreError::hint).as_deref())
        }
    }
}
