//! The page: what the store holds, for people. HTML from here, without a script.
//!
//! Names and previews come from anyone's DAG. The templates escape all they are given, and the policy that goes with
//! every page forbids scripts, foreign styles and frames of sites other than Airflow's.

mod airflow;
mod door;
mod json;
mod object;
mod preview;
mod store;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

pub use airflow::AirflowUrl;

use self::door::Sessions;
use crate::error::Refusal;
use crate::limits::FORM_BYTES_MAX;
use crate::routes::{Shared, not_allowed};

/// What all pages share.
pub(crate) struct Page {
    sessions: Sessions,
    airflow: Option<AirflowUrl>,
    /// Whether browsers come by TLS.
    is_secure: bool,
    host: String,
    began_at: Timestamp,
}

impl Page {
    pub(crate) fn new(airflow: Option<AirflowUrl>, is_secure: bool) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { sessions: Sessions::default(), airflow, is_secure, host, began_at: Timestamp::now() }
    }
}

/// One request for a page.
#[derive(Clone)]
struct Visit {
    /// From where it is to the page's root.
    up: String,
    /// Whether it is shown within another page: Airflow's.
    is_framed: bool,
    is_signed_in: bool,
    /// Where the browser has found it, for people.
    address: String,
    now: Timestamp,
}

impl Visit {
    fn of(shared: &Shared, uri: &Uri, headers: &HeaderMap) -> Self {
        let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let scheme = if shared.page.is_secure { "https" } else { "http" };
        Self {
            up: "../".repeat(uri.path().matches('/').count().saturating_sub(1)),
            is_framed: header("sec-fetch-dest") == Some("iframe"),
            is_signed_in: false,
            address: format!("{scheme}://{}/", header(HOST.as_str()).unwrap_or("localhost")),
            now: Timestamp::now(),
        }
    }
}

pub(crate) fn router(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    let guarded = Router::new()
        .route("/", get(store::show))
        .route("/objects/{name}", get(object::show))
        .layer(from_fn_with_state(Arc::clone(shared), door::admit));
    Router::new()
        .route("/style.css", get(style))
        .route("/sign-in", post(door::sign_in))
        .route("/sign-out", post(door::sign_out))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .merge(guarded)
        .method_not_allowed_fallback(not_allowed)
}

async fn style() -> Response {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("style.css")).into_response()
}

/// A whole page.
fn answer(shared: &Shared, visit: &Visit, status: StatusCode, title: &str, body: &Markup) -> Response {
    let page = &shared.page;
    // Who has not been let in learns nothing of what is behind the door.
    let is_in = status != StatusCode::UNAUTHORIZED;
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Airfreight on " (page.host) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href={ (visit.up) "style.css" };
            }
            body .framed[visit.is_framed] {
                a.skip href="#main" { "Skip to the content" }
                header {
                    p.name { a href={ (visit.up) "./" } { "Airfreight" } " on " bdi { (page.host) } }
                    nav aria-label="This page" {
                        @if let (Some(airflow), true) = (&page.airflow, is_in && !visit.is_framed) {
                            a href=(airflow.home()) { "Airflow" }
                        }
                        @if visit.is_signed_in {
                            form method="post" action={ (visit.up) "sign-out" } {
                                button.plain type="submit" { "Sign out" }
                            }
                        }
                    }
                }
                main #main { (body) }
                footer {
                    @if is_in {
                        "Store " code { (shared.store.path().display()) } ", " (shared.store.kind().as_str()) " · "
                    }
                    "Airfreight " (env!("CARGO_PKG_VERSION"))
                    " · as of " time datetime=(format!("{:.0}", visit.now)) { (words::written(visit.now)) }
                }
            }
        }
    };
    let mut response = (status, Html(markup.into_string())).into_response();
    let headers = response.headers_mut();
    let frames = page.airflow.as_ref().map_or("'none'", AirflowUrl::origin);
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; \
         frame-ancestors {frames}"
    );
    let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A refusal for people.
fn sorry(shared: &Shared, visit: &Visit, refusal: &Refusal) -> Response {
    let body = html! {
        h1 { @if refusal.status == StatusCode::NOT_FOUND { "It isn't there" } @else { "That didn't work" } }
        p { (refusal.message) "." }
        @if let Some(hint) = &refusal.hint { p { "Try this: " (hint) "." } }
        p { a href={ (visit.up) "./" } { "What the store holds" } }
    };
    answer(shared, visit, refusal.status, "Sorry", &body)
}

/// The way from the root to where one is; the last step is no link.
fn trail(visit: &Visit, steps: &[(&str, Option<String>)]) -> Markup {
    html! {
        nav.trail aria-label="Where you are" {
            ol {
                li { a href={ (visit.up) "./" } { "All DAGs" } }
                @for (words, target) in steps {
                    li {
                        @match target {
                            Some(target) => a href={ (visit.up) (target) } { bdi { (words) } },
                            None => bdi aria-current="page" { (words) },
                        }
                    }
                }
            }
        }
    }
}

/// Where a DAG's objects are shown, from the page's root; a run's, a task's.
fn place(dag_id: &str, run_id: Option<&str>, task_id: Option<&str>) -> String {
    let part = |name: &str, value: Option<&str>| {
        value.map_or_else(String::new, |value| format!("&{name}={}", airflow::encoded(value)))
    };
    let dag_id = airflow::encoded(dag_id);
    format!("./?dag_id={dag_id}{}{}", part("run_id", run_id), part("task_id", task_id))
}

/// What has no name is called so.
fn named<'a>(name: &'a str, otherwise: &'a str) -> &'a str {
    if name.is_empty() { otherwise } else { name }
}
