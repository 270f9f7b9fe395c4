//! `/v1/objects/{name}`: reading and deleting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use airfreight_core::{ErrorKind, ObjectName, format};
use airfreight_store::{Access, Object, Store, StoreError, TierKind};
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tracing::info;

use crate::CHECKSUM_HEADER;
use crate::error::Refusal;
use crate::limits::CHECKED_BYTES_MAX;
use crate::range::{Wanted, wanted};
use crate::routes::{Shared, blocking};
use crate::send::Outgoing;

/// Objects on a disk are kept open so long after a request: opening one anew reads all of it.
const KEPT_ON_DISK: Duration = Duration::from_secs(10);
/// Large ones in memory are kept until the next part is asked for: to enter their pages and leave them again takes the
/// agent a fifth of the time in which it sends them, and leaving can wait. Not for long: a segment whose object is
/// deleted meanwhile is lost for the next one, and what is open can't make room for others.
const KEPT_IN_MEMORY: Duration = Duration::from_millis(50);
/// Smaller ones are asked for once.
const KEPT_BYTES_MIN: usize = 4 << 20;

/// What a request calls an object.
pub(crate) fn object_name(name: Result<Path<String>, PathRejection>) -> Result<ObjectName, Refusal> {
    let Path(name) = name.map_err(|error| Refusal::invalid(error.body_text()))?;
    name.parse().map_err(|error: airfreight_core::InvalidName| Refusal::invalid(error.to_string()))
}

/// The entity tag of an object: its bytes never change. Where a checksum was filled in when it left memory, the header
/// differs and nothing else.
pub(crate) fn e_tag(name: ObjectName) -> String {
    format!("\"{}\"", name.id())
}

/// An object's file, or a range of it.
pub(crate) async fn read(
    State(shared): State<Arc<Shared>>,
    method: Method,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let name = object_name(name)?;
    let answering = Arc::clone(&shared);
    let answer = blocking(move || answer(&answering, name, &method, &headers));
    let (response, is_kept) = answer.await?;
    if is_kept {
        shared.opened.forget_later(&shared);
    }
    Ok(response)
}

fn answer(
    shared: &Arc<Shared>,
    name: ObjectName,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(Response, bool), Refusal> {
    let (object, is_kept) = shared.opened.open(&shared.store, name)?;
    let length = object.file().len() as u64;
    let tag = e_tag(name);
    let (status, range) = match wanted(headers, length, &tag) {
        Wanted::Whole => (StatusCode::OK, 0..length),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Unmodified => (StatusCode::NOT_MODIFIED, 0..0),
        Wanted::Another => {
            let message = format!("object {name} is not the one that `If-Match` names");
            return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, ErrorKind::Conflict, message));
        }
        Wanted::Unsatisfiable => {
            let message = format!("object {name} has {length} bytes, and the range begins after them");
            return Err(Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, ErrorKind::Invalid, message).length(length));
        }
    };
    let mut response = Response::builder().status(status).header(ETAG, tag).header(ACCEPT_RANGES, "bytes");
    if status == StatusCode::NOT_MODIFIED {
        return Ok((finish(response, Body::empty())?, is_kept));
    }
    response =
        response.header(CONTENT_LENGTH, range.end - range.start).header(CONTENT_TYPE, "application/octet-stream");
    if status == StatusCode::PARTIAL_CONTENT {
        response = response.header(CONTENT_RANGE, format!("bytes {}-{}/{length}", range.start, range.end - 1));
    }
    if *method == Method::HEAD {
        return Ok((finish(response, Body::empty())?, is_kept));
    }
    let is_checked = range.end - range.start <= CHECKED_BYTES_MAX;
    let body = Outgoing::new(&object, range, &shared.metrics);
    if is_checked {
        let crc64 = HeaderValue::try_from(format!("{:016x}", format::checksum(body.bytes())));
        response = response.header(CHECKSUM_HEADER, crc64.map_err(|error| Refusal::broken(&error))?);
    }
    Ok((finish(response, Body::new(body))?, is_kept))
}

fn finish(response: http::response::Builder, body: Body) -> Result<Response, Refusal> {
    response.body(body).map_err(|error| Refusal::broken(&error))
}

/// Takes a name away; who reads it at the moment keeps what it has.
pub(crate) async fn delete(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let name = object_name(name)?;
    blocking(move || {
        shared.opened.forget(name);
        if !shared.store.delete(name)? {
            return Err(StoreError::NotFound { name, store: shared.store.path().to_owned() }.into());
        }
        info!(object = %name, "deleted");
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}

/// Objects that are in use in parts, or were a moment ago.
#[derive(Default)]
pub(crate) struct Opened(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    objects: HashMap<ObjectName, (Arc<Object>, Instant)>,
    /// Somebody will forget what isn't used any more.
    is_watched: bool,
}

impl Opened {
    /// Opens an object; the second value says that it is kept for the next request.
    fn open(&self, store: &Store, name: ObjectName) -> Result<(Arc<Object>, bool), StoreError> {
        if let Some((object, used_at)) = self.kept().objects.get_mut(&name)
            && store.contains(name)
        {
            *used_at = Instant::now();
            return Ok((Arc::clone(object), true));
        }
        let object = Arc::new(store.get(name, Access::ReadOnly)?);
        let is_kept = object.kind() != TierKind::Memory || object.file().len() > KEPT_BYTES_MIN;
        if is_kept {
            self.kept().objects.insert(name, (Arc::clone(&object), Instant::now()));
        }
        Ok((object, is_kept))
    }

    fn forget(&self, name: ObjectName) {
        self.kept().objects.remove(&name);
    }

    /// Sees to it that what is kept is forgotten in time; nothing runs while nothing is kept.
    fn forget_later(&self, shared: &Arc<Shared>) {
        if std::mem::replace(&mut self.kept().is_watched, true) {
            return;
        }
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let mut is_any_left = true;
            while is_any_left {
                tokio::time::sleep(KEPT_IN_MEMORY).await;
                let unused;
                (unused, is_any_left) = shared.opened.unused();
                // Nobody else waits for it.
                let _ = tokio::task::spawn_blocking(move || drop(unused)).await;
            }
        });
    }

    /// Takes out what nobody has asked for lately; the second value tells whether anything is left.
    fn unused(&self) -> (Vec<Arc<Object>>, bool) {
        let mut kept = self.kept();
        let unused = kept.objects.extract_if(|_, (object, used_at)| {
            let is_in_memory = object.kind() == TierKind::Memory;
            used_at.elapsed() >= if is_in_memory { KEPT_IN_MEMORY } else { KEPT_ON_DISK }
        });
        let unused = unused.map(|(_, (object, _))| object).collect();
        kept.is_watched = !kept.objects.is_empty();
        (unused, kept.is_watched)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
