//! What can be asked of an agent, and who may ask it.

use std::sync::{Arc, Mutex, PoisonError};

use airfreight_core::ErrorKind;
use airfreight_store::{Store, StoreError};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::access::Gate;
use crate::checkpoints::Checkpoints;
use crate::error::Refusal;
use crate::index::Index;
use crate::life::{Life, LifeOptions};
use crate::limits::UPLOADS_MAX;
use crate::metrics::{self, Metrics};
use crate::opened::Opened;
use crate::page::Page;
use crate::{listing, objects, page, uploads};

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) index: Arc<Mutex<Index>>,
    pub(crate) opened: Opened,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) uploads: Semaphore,
    pub(crate) gate: Gate,
    pub(crate) page: Page,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) life: Arc<Life>,
}

/// Who asks, for the log.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) std::net::SocketAddr);

impl Shared {
    pub(crate) fn new(
        store: Store,
        gate: Gate,
        metrics: Arc<Metrics>,
        page: Page,
        checkpoints: Arc<Checkpoints>,
        life: LifeOptions,
    ) -> Arc<Self> {
        let index = Arc::new(Mutex::new(Index::new(store.clone())));
        let life = Life::new(store.clone(), Arc::clone(&index), life, Arc::clone(&metrics));
        let uploads = Semaphore::new(UPLOADS_MAX);
        Arc::new(Self { store, index, opened: Opened::default(), metrics, uploads, gate, page, checkpoints, life })
    }
}

/// Runs what waits for disks and locks where that holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Refusal::broken(&error)),
    }
}

pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let guarded = Router::new()
        .route("/v1/objects", get(listing::list))
        .route("/v1/objects/{name}", put(uploads::write).get(objects::read).delete(objects::delete))
        .route("/v1/objects/{name}/description", get(listing::describe))
        .route("/metrics", get(read_metrics))
        .fallback(nothing_there)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn_with_state(Arc::clone(shared), admit));
    Router::new()
        .route("/v1/health", get(health))
        .route("/v1/ready", get(ready))
        .method_not_allowed_fallback(not_allowed)
        .merge(page::router(shared))
        .merge(guarded)
        .layer(from_fn_with_state(Arc::clone(shared), count))
        .with_state(Arc::clone(shared))
}

async fn admit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Result<Response, Refusal> {
    shared.gate.admit(request.method(), request.headers())?;
    Ok(next.run(request).await)
}

async fn count(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    let status = response.status();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    shared.metrics.requests.get_or_create(&metrics::Request { method, route, status: status.as_u16() }).inc();
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN || status.is_server_error() {
        warn!(method, path, status = status.as_u16(), peer = peer.map(tracing::field::display), "refused");
    } else {
        debug!(method, path, status = status.as_u16(), peer = peer.map(tracing::field::display), "answered");
    }
    response
}

/// Anybody may send any word as a method, and each would be kept.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// The process lives.
async fn health() -> Response {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") })).into_response()
}

/// The store can be used.
async fn ready(State(shared): State<Arc<Shared>>) -> Result<Response, Refusal> {
    blocking(move || {
        shared.store.stamp()?;
        Ok(Json(json!({ "status": "ready", "store": shared.store.id(), "tier": shared.store.kind().as_str() }))
            .into_response())
    })
    .await
}

async fn read_metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Refusal> {
    blocking(move || {
        let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        Ok(([(CONTENT_TYPE, form)], encoded_metrics(&shared)?).into_response())
    })
    .await
}

/// All metrics as of now.
pub(crate) fn encoded_metrics(shared: &Shared) -> Result<String, Refusal> {
    let metrics = &shared.metrics;
    let usage = shared.store.usage();
    let own = shared.store.kind().as_str();
    for (state, bytes) in [("used", usage.used_bytes), ("warm", usage.warm_bytes), ("spilled", usage.spilled_bytes)] {
        metrics.store_bytes.get_or_create(&metrics::State { state }).set(bytes);
    }
    for (tier, bytes) in [(own, usage.capacity_bytes), ("spill", usage.spill_capacity_bytes)] {
        metrics.store_limit_bytes.get_or_create(&metrics::Tier { tier }).set(bytes);
    }
    let (objects, damaged) = shared.index.lock().unwrap_or_else(PoisonError::into_inner).counts()?;
    for (tier, count) in objects {
        metrics.store_objects.get_or_create(&metrics::Tier { tier }).set(count);
    }
    metrics.damaged_objects.set(i64::try_from(damaged).unwrap_or(i64::MAX));
    let checkpoints = shared.checkpoints.overview();
    metrics.checkpoints_waiting.set(checkpoints.waiting);
    metrics.checkpoints_waiting_bytes.set(checkpoints.bytes);
    metrics.encode().map_err(|error| Refusal::broken(&error))
}

async fn nothing_there(request: Request) -> Refusal {
    let message = format!("there is nothing at `{}`", request.uri().path().chars().take(100).collect::<String>());
    Refusal::new(StatusCode::NOT_FOUND, ErrorKind::NotFound, message)
        .hint("the page is at /, objects are at /v1/objects; docs/openapi.yaml says what else there is")
}

pub(crate) async fn not_allowed(request: Request) -> Refusal {
    let message = format!("`{}` cannot be done there", request.method().as_str().chars().take(20).collect::<String>());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Invalid, message)
}

/// The index is read before the first page is asked for.
pub(crate) fn warm_up(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    tokio::task::spawn_blocking(move || {
        let counted: Result<_, StoreError> = shared.index.lock().unwrap_or_else(PoisonError::into_inner).counts();
        match counted {
            Ok((counts, damaged)) => debug!(?counts, damaged, "counted the store"),
            Err(error) => warn!(error = %airfreight_core::chain(&error), "could not count the store"),
        }
    });
}
