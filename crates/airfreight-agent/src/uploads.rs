//! `PUT /v1/objects/{name}`: an object that arrives, verified before anybody sees it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use airfreight_core::format::Checksum;
use airfreight_core::{ErrorKind, ObjectName};
use airfreight_store::{Payload, Receiver, StoreError};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, ETAG, EXPECT};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::time::{error::Elapsed, timeout_at};
use tracing::info;

use crate::CHECKSUM_HEADER;
use crate::error::Refusal;
use crate::limits::{BLOCK_BYTES, SLOWEST_BYTES_PER_SECOND};
use crate::objects::{e_tag, object_name};
use crate::routes::{Shared, blocking};

/// Receives an object's file. One that is there already is success, and stays as it is.
pub(crate) async fn write(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let name = object_name(name)?;
    let length = length(&headers)?;
    let expected = checksum(&headers)?;
    let began = Instant::now();
    let deadline = began + Duration::from_mins(1) + Duration::from_secs(length / SLOWEST_BYTES_PER_SECOND);
    let late = |_: Elapsed| {
        let message = format!("object {name} came slower than {SLOWEST_BYTES_PER_SECOND} bytes a second");
        Refusal::new(StatusCode::REQUEST_TIMEOUT, ErrorKind::Unavailable, message)
    };
    timeout_at(deadline.into(), async {
        let _turn = shared.uploads.acquire().await.map_err(|error| Refusal::broken(&error))?;
        if shared.store.contains(name) {
            // Who waits to be told to go on doesn't send it; of others it is taken, or they would hear of a cut.
            if !headers.contains_key(EXPECT) {
                discard(body, name).await?;
            }
            return Ok(answer(StatusCode::OK, name, length));
        }
        receive(&shared, name, length, expected, body).await?;
        info!(object = %name, bytes = length, seconds = began.elapsed().as_secs_f64(), "received");
        shared.metrics.receive_seconds.observe(began.elapsed().as_secs_f64());
        Ok(answer(StatusCode::CREATED, name, length))
    })
    .await
    .map_err(late)?
}

fn answer(status: StatusCode, name: ObjectName, length: u64) -> Response {
    (status, [(ETAG, e_tag(name))], Json(json!({ "name": name.to_string(), "file_bytes": length }))).into_response()
}

fn length(headers: &HeaderMap) -> Result<u64, Refusal> {
    let text = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        Refusal::new(
            StatusCode::LENGTH_REQUIRED,
            ErrorKind::Invalid,
            "an object's length must be known before it comes",
        )
        .hint("send `Content-Length`")
    })
}

fn checksum(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(CHECKSUM_HEADER) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()));
    let parsed = digits.and_then(|text| u64::from_str_radix(text, 16).ok());
    parsed.map(Some).ok_or_else(|| Refusal::invalid(format!("`{CHECKSUM_HEADER}` is not 16 hexadecimal digits")))
}

async fn receive(
    shared: &Arc<Shared>,
    name: ObjectName,
    length: u64,
    expected: Option<u64>,
    mut body: Body,
) -> Result<(), Refusal> {
    let store = shared.store.clone();
    let receiver = Arc::new(blocking(move || Ok(store.receive(name, length)?)).await?);
    let mut sum = Checksum::new();
    let mut block = Vec::with_capacity(BLOCK_BYTES.min(usize::try_from(length).unwrap_or(BLOCK_BYTES)));
    let mut offset = 0;
    while let Some(bytes) = next(&mut body, name).await? {
        shared.metrics.received_bytes.inc_by(bytes.len() as u64);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let room = (BLOCK_BYTES - block.len()).min(rest.len());
            block.extend_from_slice(&rest[..room]);
            rest = &rest[room..];
            if block.len() == BLOCK_BYTES {
                (block, sum) = keep(&receiver, offset, block, sum).await?;
                offset += BLOCK_BYTES as u64;
            }
        }
    }
    let (_, sum) = keep(&receiver, offset, block, sum).await?;
    let payload = match expected {
        Some(expected) if expected == sum.finish() => Payload::Verified,
        Some(_) => {
            let message = format!("object {name} arrived damaged: it does not match `{CHECKSUM_HEADER}`");
            return Err(
                Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, ErrorKind::Corrupt, message).hint("send it again")
            );
        }
        None => Payload::Unverified,
    };
    blocking(move || {
        let receiver = Arc::into_inner(receiver).ok_or(StoreError::Internal("an upload went on after its end"))?;
        Ok(receiver.seal(payload)?)
    })
    .await
    .map(drop)
}

/// Writes a block, where waiting for the kernel holds nobody up, and gives its memory back for the next.
async fn keep(
    receiver: &Arc<Receiver>,
    offset: u64,
    mut block: Vec<u8>,
    mut sum: Checksum,
) -> Result<(Vec<u8>, Checksum), Refusal> {
    let receiver = Arc::clone(receiver);
    blocking(move || {
        sum.update(&block);
        receiver.write(offset, &block)?;
        block.clear();
        Ok((block, sum))
    })
    .await
}

async fn next(body: &mut Body, name: ObjectName) -> Result<Option<Bytes>, Refusal> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
            Some(Err(error)) => return Err(Refusal::invalid(format!("object {name} did not come whole: {error}"))),
        }
    }
}

async fn discard(mut body: Body, name: ObjectName) -> Result<(), Refusal> {
    while next(&mut body, name).await?.is_some() {}
    Ok(())
}
