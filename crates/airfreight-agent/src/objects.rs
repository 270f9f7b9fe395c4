//! `/v1/objects/{name}`: reading and deleting.

use std::sync::Arc;

use airfreight_core::{ErrorKind, ObjectName, format};
use airfreight_store::StoreError;
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
use crate::opened::{Keeping, Opened};
use crate::range::{Wanted, wanted};
use crate::routes::{Shared, blocking};
use crate::send::Outgoing;

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
    let (response, keeping) = answer.await?;
    if let Some(keeping) = keeping {
        Opened::forget_later(&shared, keeping);
    }
    Ok(response)
}

fn answer(
    shared: &Arc<Shared>,
    name: ObjectName,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(Response, Option<Keeping>), Refusal> {
    let (object, keeping) = shared.opened.open(&shared.store, name)?;
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
        return Ok((finish(response, Body::empty())?, keeping));
    }
    response =
        response.header(CONTENT_LENGTH, range.end - range.start).header(CONTENT_TYPE, "application/octet-stream");
    if status == StatusCode::PARTIAL_CONTENT {
        response = response.header(CONTENT_RANGE, format!("bytes {}-{}/{length}", range.start, range.end - 1));
    }
    if *method == Method::HEAD {
        return Ok((finish(response, Body::empty())?, keeping));
    }
    let is_checked = range.end - range.start <= CHECKED_BYTES_MAX;
    let body = Outgoing::new(&object, range, &shared.metrics);
    if is_checked {
        let crc64 = HeaderValue::try_from(format!("{:016x}", format::checksum(body.bytes())));
        response = response.header(CHECKSUM_HEADER, crc64.map_err(|error| Refusal::broken(&error))?);
    }
    Ok((finish(response, Body::new(body))?, keeping))
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
