//! `GET /v1/objects` and `/v1/objects/{name}/description`: what there is, in pages.

use std::cmp::Reverse;
use std::sync::{Arc, PoisonError};

use airfreight_core::ObjectName;
use airfreight_store::{Description, StoreError, TierKind};
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Refusal;
use crate::index::{Filter, Place};
use crate::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::objects::object_name;
use crate::routes::{Shared, blocking};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    dag_id: Option<String>,
    run_id: Option<String>,
    task_id: Option<String>,
    tier: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// One object, without its payload.
#[derive(Serialize)]
pub(crate) struct Item {
    name: String,
    nbytes: u64,
    file_bytes: u64,
    tier: &'static str,
    created_at: Timestamp,
    used_at: Timestamp,
    links: u64,
    pinned: bool,
    #[serde(rename = "type")]
    type_name: Value,
    owner: Value,
    /// Only where one object was asked for: previews are long.
    #[serde(skip_serializing_if = "Option::is_none")]
    preview: Option<Value>,
}

#[derive(Serialize)]
pub(crate) struct Page {
    objects: Vec<Item>,
    /// Where the next page begins; `null` on the last one.
    cursor: Option<String>,
}

/// One page, the newest objects first.
pub(crate) async fn list(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Page>, Refusal> {
    let Query(wanted) = query.map_err(|error| Refusal::invalid(error.body_text()))?;
    let limit = wanted.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Refusal::invalid(format!("`limit` is {limit}: a page has 1 to {PAGE_MAX} objects")));
    }
    let after = wanted.cursor.as_deref().map(place).transpose()?;
    let tier = wanted.tier.as_deref().map(tier).transpose()?;
    let filter = Filter { dag_id: wanted.dag_id, run_id: wanted.run_id, task_id: wanted.task_id, tier };
    blocking(move || {
        let (found, cursor) = page(&shared, &filter, after, limit)?;
        Ok(Json(Page { objects: found.iter().map(|object| Item::new(object, false)).collect(), cursor }))
    })
    .await
}

/// The objects of a page, and where the next one begins.
pub(crate) fn page(
    shared: &Shared,
    filter: &Filter,
    after: Option<Place>,
    limit: usize,
) -> Result<(Vec<Description>, Option<String>), Refusal> {
    let mut index = shared.index.lock().unwrap_or_else(PoisonError::into_inner);
    let (places, more) = index.page(filter, after, limit)?;
    drop(index);
    let cursor = places.last().filter(|_| more).map(|(Reverse(created_ns), name)| format!("{created_ns}.{name}"));
    let mut objects = Vec::with_capacity(places.len());
    for (_, name) in places {
        match shared.store.describe(name) {
            Ok(description) => objects.push(description),
            // It went between the listing and now, or is damaged: that is told to who reads it.
            Err(StoreError::NotFound { .. } | StoreError::Corrupt { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((objects, cursor))
}

/// One object with its preview.
pub(crate) async fn describe(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Item>, Refusal> {
    let name = object_name(name)?;
    blocking(move || Ok(Json(Item::new(&shared.store.describe(name)?, true)))).await
}

impl Item {
    fn new(description: &Description, with_preview: bool) -> Self {
        let mut metadata: Value = serde_json::from_str(&description.metadata).unwrap_or(Value::Null);
        Self {
            name: description.name.to_string(),
            nbytes: description.payload_bytes,
            file_bytes: description.file_bytes,
            tier: description.kind.as_str(),
            created_at: timestamp(description.created_ns),
            used_at: timestamp(description.used_ns),
            links: description.links,
            pinned: description.pinned,
            type_name: metadata["type"].take(),
            owner: metadata["owner"].take(),
            preview: with_preview.then(|| metadata["preview"].take()),
        }
    }
}

fn timestamp(ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(ns)).unwrap_or_default()
}

fn tier(text: &str) -> Result<TierKind, Refusal> {
    let known = [TierKind::Memory, TierKind::Disk, TierKind::Spill];
    let found = known.into_iter().find(|tier| tier.as_str() == text);
    found.ok_or_else(|| Refusal::invalid("`tier` is none of memory, disk and spill"))
}

/// Where a page begins that is asked for by the end of the one before.
pub(crate) fn place(cursor: &str) -> Result<Place, Refusal> {
    let parsed = cursor.split_once('.').and_then(|(created_ns, name)| {
        Some((Reverse(created_ns.parse::<i64>().ok()?), name.parse::<ObjectName>().ok()?))
    });
    parsed.ok_or_else(|| Refusal::invalid("`cursor` is not one that a page ended with"))
}
