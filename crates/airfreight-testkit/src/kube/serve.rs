//! Connections, and the way of each request past faults and refusals to the objects.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::answer::{self, Answer, failure, not_found, refuse, text, unserved};
use super::apply::{self, Manner, Strangers};
use super::route::Route;
use super::shared::{Seen, Shared};
use super::store::{Key, Store};
use super::{control, delete, forward, kinds};

/// A watch to which nothing happens hears how far it is at most so often; of a real server, once a minute.
const BOOKMARKS: Duration = Duration::from_secs(5);

/// Serves connections until it is aborted.
pub(super) async fn accept(shared: Arc<Shared>, mut listener: TcpListener, address: SocketAddr) {
    let mut restarts = shared.restarts.subscribe();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(Arc::clone(&shared), stream))),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
            Ok(()) = restarts.changed() => {
                let (_, pause) = *restarts.borrow_and_update();
                drop(listener);
                connections.shutdown().await;
                tokio::time::sleep(pause).await;
                listener = again(address).await;
            }
        }
    }
}

/// The same port once more, which somebody else may have for a moment.
async fn again(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let handler = service_fn(|request| serve(Arc::clone(&shared), request));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), handler);
    // Errors are the client's going away, and faults.
    let _ = connection.with_upgrades().await;
}

async fn serve(shared: Arc<Shared>, mut request: Request<Incoming>) -> io::Result<Answer> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    if path.starts_with(control::PREFIX) {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        return Ok(control::control(&shared, &parts, &body));
    }
    shared.seen().push(Seen { method: request.method().to_string(), path: path.clone() });
    match shared.strike(request.method(), &path) {
        Some(0) => return Err(io::ErrorKind::ConnectionReset.into()),
        Some(429) => return Ok(answer::busy()),
        Some(status) => return Ok(refuse(status, "ServiceUnavailable", "refused on demand", Value::Null)),
        None => {}
    }
    let token = shared.token().clone();
    if let Some(token) = token
        && request.headers().get(AUTHORIZATION).and_then(|given| given.to_str().ok())
            != Some(&format!("Bearer {token}"))
    {
        return Ok(refuse(401, "Unauthorized", "Unauthorized", Value::Null));
    }
    let kinds = shared.ray_kinds();
    if let Some(answer) = kinds::discovery(request.uri().path(), &kinds) {
        return Ok(answer::json(200, &answer));
    }
    let Some(route) = Route::of(request.uri().path(), request.uri().query(), &kinds) else {
        return Ok(unserved());
    };
    let verb = route.verb(request.method());
    let resource = route
        .subresource
        .as_ref()
        .map_or_else(|| route.key.plural.clone(), |subresource| format!("{}/{subresource}", route.key.plural));
    // To apply what isn't there is to create it, too.
    let creates =
        request.method() == Method::PATCH && route.subresource.is_none() && shared.store().object(&route.key).is_none();
    for verb in std::iter::once(verb).chain(creates.then_some("create")) {
        if shared.denied().contains(&(verb.to_owned(), resource.clone())) {
            return Ok(forbidden(&route, verb, &resource));
        }
    }
    if route.subresource.as_deref() == Some("portforward") {
        let upgrade = hyper::upgrade::on(&mut request);
        let port = route.query("ports").and_then(|port| port.parse().ok()).unwrap_or(0);
        let Some(pod) = shared.store().object(&route.key).cloned() else { return Ok(not_found(&route.key)) };
        let opened = forward::forward(request.headers(), upgrade, port, shared.options.dashboard, shared.cuts());
        return Ok(opened.unwrap_or_else(|| {
            let message = match &pod["status"]["hostIP"] {
                Value::Null => format!("pod {} does not have a host assigned", route.key.name),
                _ => "unable to upgrade".to_owned(),
            };
            refuse(400, "BadRequest", &message, Value::Null)
        }));
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
    Ok(carry_out(&shared, &parts.method, &route, content_type, &body))
}

fn forbidden(route: &Route, verb: &str, resource: &str) -> Answer {
    let key = &route.key;
    let group = key.group().unwrap_or_default();
    let subject = if key.name.is_empty() { key.resource() } else { format!("{} \"{}\"", key.resource(), key.name) };
    let place = match key.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let message = format!(
        "{subject} is forbidden: User \"nobody\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {place}"
    );
    refuse(403, "Forbidden", &message, answer::details(key))
}

fn carry_out(shared: &Arc<Shared>, method: &Method, route: &Route, content_type: &str, body: &Bytes) -> Answer {
    let key = &route.key;
    let wanted = || serde_json::from_slice::<Value>(body).unwrap_or(Value::Null);
    let manner = Manner {
        manager: route.query("fieldManager").unwrap_or_default(),
        force: route.query("force") == Some("true"),
        dry_run: route.query("dryRun") == Some("All"),
        strangers: match route.query("fieldValidation") {
            Some("Strict") => Strangers::Refused,
            _ => Strangers::Dropped,
        },
        is_status: route.subresource.as_deref() == Some("status"),
    };
    let mut store = shared.store();
    match *method {
        Method::GET if route.subresource.as_deref() == Some("log") => {
            drop(store);
            shared.logs().get(&key.name).map_or_else(|| text(204, ""), |log| text(200, log.clone()))
        }
        Method::GET if route.verb(method) == "watch" => {
            drop(store);
            watch_objects(shared, route)
        }
        Method::GET if key.name.is_empty() => list(&store, route),
        Method::GET => store.object(key).map_or_else(|| not_found(key), |object| answer::json(200, object)),
        Method::POST if key.plural == "selfsubjectaccessreviews" => {
            let mut review = wanted();
            let asked = &review["spec"]["resourceAttributes"];
            let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
            let is_allowed = !shared.denied().contains(&(text("verb"), text("resource")));
            review["status"] = json!({"allowed": is_allowed});
            answer::json(201, &review)
        }
        Method::POST => {
            let Ok(wanted) = serde_json::from_slice::<Value>(body) else { return unreadable(key, body) };
            let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
            let key = Key::new(&key.plural, &key.namespace, name);
            if let Some(answer) = misplaced(&store, shared.options.namespaces.is_some(), &key, &wanted) {
                return answer;
            }
            apply::create(&mut store, &key, &wanted, &manner)
        }
        Method::PUT => apply::put(&mut store, key, &wanted(), &manner),
        Method::PATCH => match content_type {
            "application/apply-patch+yaml" => {
                let Some(wanted) = yaml(body) else { return unreadable(key, body) };
                if store.object(key).is_none()
                    && let Some(answer) = misplaced(&store, shared.options.namespaces.is_some(), key, &wanted)
                {
                    return answer;
                }
                apply::apply(&mut store, key, &wanted, &manner)
            }
            "application/merge-patch+json" => apply::merge(&mut store, key, &wanted(), &manner),
            "application/json-patch+json" => apply::json_patch(&mut store, key, &wanted(), &manner),
            _ => refuse(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
                Value::Null,
            ),
        },
        Method::DELETE if key.name.is_empty() => {
            let deleted = list(&store, route);
            for key in chosen(&store, route) {
                store.remove(&key);
            }
            deleted
        }
        Method::DELETE => delete::delete(&mut store, key, &wanted(), route.query("propagationPolicy")),
        _ => unserved(),
    }
}

/// JSON, or the YAML that an applied object may be.
fn yaml(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok().or_else(|| serde_saphyr::from_slice(body).ok())
}

fn unreadable(key: &Key, body: &[u8]) -> Answer {
    let message = format!(
        "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: \
         unexpected end of JSON input ({})",
        key.kind(),
        String::from_utf8_lossy(body)
    );
    refuse(400, "BadRequest", &message, Value::Null)
}

/// Why an object can't be created where the path says.
fn misplaced(store: &Store, are_namespaces_known: bool, key: &Key, wanted: &Value) -> Option<Answer> {
    let own = wanted["metadata"]["namespace"].as_str();
    if own.is_some_and(|own| !key.namespace.is_empty() && own != key.namespace) {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Some(refuse(400, "BadRequest", message, Value::Null));
    }
    if !are_namespaces_known || key.namespace.is_empty() {
        return None;
    }
    let namespace = Key::new("namespaces", "", &key.namespace);
    let Some(found) = store.object(&namespace) else { return Some(not_found(&namespace)) };
    if found["metadata"]["deletionTimestamp"].is_string() {
        let message = format!(
            "{} \"{}\" is forbidden: unable to create new content in namespace {} because it is being terminated",
            key.resource(),
            key.name,
            key.namespace
        );
        return Some(refuse(403, "Forbidden", &message, answer::details(key)));
    }
    None
}

/// The objects that the path and the selectors choose.
fn chosen(store: &Store, route: &Route) -> Vec<Key> {
    let found = store.list(&route.key.plural, &route.key.namespace);
    found.into_iter().filter(|(_, object)| route.takes(object)).map(|(key, _)| key.clone()).collect()
}

fn list(store: &Store, route: &Route) -> Answer {
    if let Some(answer) = route.unselectable() {
        return answer;
    }
    let version = route.query("resourceVersion").and_then(|version| version.parse::<u64>().ok()).unwrap_or(0);
    if version > store.version {
        let message = format!("Timeout: Too large resource version: {version}, current: {}", store.version);
        return refuse(504, "Timeout", &message, json!({"retryAfterSeconds": 1}));
    }
    let mut keys = chosen(store, route);
    if let Some(token) = route.query("continue") {
        let Some(last) = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|last| String::from_utf8(last).ok()) else {
            let message = "invalid continue token: continue key is not valid: invalid character";
            return refuse(400, "BadRequest", message, Value::Null);
        };
        keys.retain(|key| key.name > last);
    }
    let limit = route.query("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let left = keys.len().saturating_sub(limit);
    keys.truncate(limit);
    let mut metadata = json!({"continue": "", "resourceVersion": store.version.to_string()});
    if let Some(last) = keys.last().filter(|_| left > 0) {
        metadata["continue"] = BASE64_URL_SAFE_NO_PAD.encode(&last.name).into();
        metadata["remainingItemCount"] = left.into();
    }
    let items: Vec<&Value> = keys.iter().filter_map(|key| store.object(key)).collect();
    answer::json(
        200,
        &json!({
            "apiVersion": route.key.api_version(), "kind": format!("{}List", route.key.kind()), "items": items,
            "metadata": metadata,
        }),
    )
}

fn watch_objects(shared: &Arc<Shared>, route: &Route) -> Answer {
    let given = route.query("resourceVersion").unwrap_or_default();
    let Ok(from) = (if given.is_empty() { "0" } else { given }).parse::<u64>() else {
        let message = format!(
            "resourceVersion: Invalid value: \"{given}\": strconv.ParseUint: parsing \"{given}\": invalid syntax"
        );
        return refuse(500, "", &message, Value::Null);
    };
    let (sender, receiver) = mpsc::channel(64);
    let route = Route { key: route.key.clone(), subresource: None, query: route.query.clone() };
    let seconds = route.query("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(290);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let told = tell(&shared, &route, from, &sender);
        let _ = tokio::time::timeout(Duration::from_secs(seconds), told).await;
    });
    answer::live(receiver)
}

/// Sends what happens until the client leaves or the watch is cut.
async fn tell(shared: &Shared, route: &Route, from: u64, sender: &mpsc::Sender<Bytes>) {
    let line = |kind: &str, object: &Value| Bytes::from(format!("{}\n", json!({"type": kind, "object": object})));
    let epoch = shared.epoch.load(Ordering::Relaxed);
    let mut changed = shared.changed();
    let mut at = from;
    let mut begin = Vec::new();
    {
        let store = shared.store();
        if from == 0 {
            let found = store.list(&route.key.plural, &route.key.namespace);
            begin.extend(found.into_iter().filter(|(_, object)| route.takes(object)).map(|(_, o)| line("ADDED", o)));
            at = store.version;
        } else if from < store.forgotten {
            let message = format!("too old resource version: {from} ({})", store.forgotten);
            begin.push(line("ERROR", &failure(410, "Expired", &message, Value::Null)));
            at = u64::MAX;
        }
    }
    for bytes in begin {
        if sender.send(bytes).await.is_err() {
            return;
        }
    }
    let (bookmarks, mut marked) = (route.query("allowWatchBookmarks") == Some("true"), Instant::now());
    while at != u64::MAX && shared.epoch.load(Ordering::Relaxed) == epoch {
        let news: Vec<Bytes> = {
            let store = shared.store();
            let is_there = |key: &Key| route.key.namespace.is_empty() || key.namespace == route.key.namespace;
            let is_mine = |key: &Key| key.plural == route.key.plural && is_there(key);
            let mut news: Vec<Bytes> = store
                .changes
                .iter()
                .filter(|change| change.version > at && is_mine(&change.key) && route.takes(&change.object))
                .map(|change| line(change.kind, &change.object))
                .collect();
            if bookmarks && news.is_empty() && store.version > at && marked.elapsed() > BOOKMARKS {
                marked = Instant::now();
                let version = json!({"resourceVersion": store.version.to_string()});
                news.push(line(
                    "BOOKMARK",
                    &json!({
                        "apiVersion": route.key.api_version(), "kind": route.key.kind(), "metadata": version,
                    }),
                ));
            }
            at = store.version;
            news
        };
        for bytes in news {
            if sender.send(bytes).await.is_err() {
                return;
            }
        }
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}
