//! One object: whose it is, what it takes, and what its value looks like.

use std::sync::Arc;

use airfreight_store::Description;
use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

use super::json::Json;
use super::preview::preview;
use super::store::{task_of, to_airflow};
use super::words::{ago, size, timestamp, until, written};
use super::{Visit, answer, named, place, sorry, trail};
use crate::objects::object_name;
use crate::routes::{Shared, blocking};

/// An object's page. Looking at it doesn't count as use.
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(visit): Extension<Visit>,
    name: Result<Path<String>, PathRejection>,
) -> Response {
    let described = match object_name(name) {
        Ok(name) => {
            let store = shared.store.clone();
            blocking(move || Ok(store.describe(name)?)).await
        }
        Err(refusal) => Err(refusal),
    };
    match described {
        Ok(object) => {
            let metadata = Json::parse(&object.metadata);
            let title = task_of(metadata.at("owner"));
            answer(&shared, &visit, StatusCode::OK, &title, &page(&shared, &visit, &object, &metadata))
        }
        Err(refusal) => sorry(&shared, &visit, &refusal),
    }
}

fn page(shared: &Shared, visit: &Visit, object: &Description, metadata: &Json) -> Markup {
    let owner = metadata.at("owner");
    let text = |name: &str| owner.at(name).text().unwrap_or("");
    let (dag_id, run_id, title) = (text("dag_id"), text("run_id"), task_of(owner));
    let steps = [
        (named(dag_id, "without a task"), Some(place(dag_id, None, None))),
        (named(run_id, "without a run"), Some(place(dag_id, Some(run_id), None))),
        (title.as_str(), None),
    ];
    let used_at = timestamp(object.used_ns);
    let ttl = SignedDuration::try_from(shared.store.ttl()).unwrap_or(SignedDuration::MAX);
    let expires_at = used_at.checked_add(ttl).unwrap_or(Timestamp::MAX);
    let moment = |at: Timestamp, words: Markup| html! { (words) span.quiet { (written(at)) } };
    let facts = [
        ("Type", html! { code { (metadata.at("type").text().unwrap_or("?")) } }),
        ("Size", html! { (size(object.payload_bytes)) span.quiet { (size(object.file_bytes)) " with its index" } }),
        ("Tier", html! { span.tier.(object.kind.as_str()) { (object.kind.as_str()) } }),
        ("Made", moment(timestamp(object.created_ns), ago(visit.now, timestamp(object.created_ns)))),
        ("Last used", moment(used_at, ago(visit.now, used_at))),
        ("Expires", moment(expires_at, until(visit.now, expires_at))),
        ("In use", html! { @if object.pinned { "yes, a task has it open" } @else { "no" } }),
        ("Names", html! { (object.links) }),
        ("Name", html! { code { (object.name) } }),
    ];
    html! {
        (trail(visit, &steps))
        h1 { bdi { (title) } @if let Some(key) = owner.at("key").text() { small { "XCom " bdi { (key) } } } }
        (to_airflow(shared, visit, |airflow| airflow.task_instance(owner)))
        section aria-labelledby="object" {
            h2 #object { "Object" }
            dl.facts {
                @for (name, value) in facts { div { dt { (name) } dd { (value) } } }
                @if let Some(attempt) = owner.at("try_number").integer() { div { dt { "Attempt" } dd { (attempt) } } }
            }
        }
        section aria-labelledby="preview" {
            h2 #preview { "Value" }
            (preview(metadata.at("preview")))
        }
    }
}
