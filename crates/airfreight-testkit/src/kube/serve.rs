//! Connections, and the way of each request past faults and refusals to the objects.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::answer::{self, Answer, failure, not_found, refuse, text, unserved};
use super::apply::{self, Manner, Strangers};
use super::operator::Plot;
use super::store::{Key, Store};
use super::{KubeOptions, control, delete, forward, kinds};

/// A watch to which nothing happens hears how far it is at most so often; of a real server, once a minute.
const BOOKMARKS: Duration = Duration::from_secs(5);

/// A request that has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// `GET`, `PATCH`, ….
    pub method: String,
    /// With its query.
    pub path: String,
}

/// What goes wrong instead of an answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubeFault {
    /// A part of the path with its query; empty for all.
    pub path: String,
    /// Only this method.
    pub method: Option<String>,
    /// How many requests it spares before.
    pub after: u32,
    /// For how many requests.
    pub times: u32,
    /// The status to answer; 0 closes the connection.
    pub status: u16,
}

pub(super) struct Shared {
    pub(super) options: KubeOptions,
    store: Mutex<Store>,
    plot: Mutex<Plot>,
    token: Mutex<Option<String>>,
    denied: Mutex<BTreeSet<(String, String)>>,
    faults: Mutex<Vec<KubeFault>>,
    seen: Mutex<Vec<Seen>>,
    logs: Mutex<BTreeMap<String, String>>,
    changed: watch::Sender<u64>,
    /// Watches of an earlier one have ended.
    epoch: AtomicU64,
    /// How often forwarded connections were ended.
    cuts: watch::Sender<u64>,
    /// How often it was restarted, and how long nobody listened the last time.
    restarts: watch::Sender<(u64, Duration)>,
}

/// A panic while one of these was held has failed the test already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The store, whose watchers hear of it when this is dropped.
pub(super) struct Writing<'a>(MutexGuard<'a, Store>, &'a watch::Sender<u64>);

impl std::ops::Deref for Writing<'_> {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.0
    }
}

impl std::ops::DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut Store {
        &mut self.0
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let version = self.0.version;
        self.1.send_if_modified(|known| std::mem::replace(known, version) != version);
    }
}

impl Shared {
    pub(super) fn new(options: KubeOptions) -> Self {
        Self {
            plot: Mutex::new(options.plot.clone()),
            token: Mutex::new(options.token.clone()),
            options,
            store: Mutex::new(Store::new()),
            denied: Mutex::default(),
            faults: Mutex::default(),
            seen: Mutex::default(),
            logs: Mutex::default(),
            changed: watch::Sender::new(0),
            epoch: AtomicU64::new(0),
            cuts: watch::Sender::new(0),
            restarts: watch::Sender::new((0, Duration::ZERO)),
        }
    }

    pub(super) fn store(&self) -> Writing<'_> {
        Writing(lock(&self.store), &self.changed)
    }

    pub(super) fn plot(&self) -> MutexGuard<'_, Plot> {
        lock(&self.plot)
    }

    /// KubeRay's kinds that are served: those that are defined, besides those of the beginning.
    fn ray_kinds(&self) -> Vec<String> {
        if self.options.has_operator {
            return kinds::RAY_PLURALS.map(str::to_owned).to_vec();
        }
        let defined = self.store().all("customresourcedefinitions");
        let served = defined.iter().filter(|(_, object)| !object["status"].is_null());
        served.filter_map(|(key, _)| key.name.strip_suffix(".ray.io").map(str::to_owned)).collect()
    }

    pub(super) fn token(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.token)
    }

    pub(super) fn denied(&self) -> MutexGuard<'_, BTreeSet<(String, String)>> {
        lock(&self.denied)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Vec<KubeFault>> {
        lock(&self.faults)
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        lock(&self.seen)
    }

    pub(super) fn logs(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        lock(&self.logs)
    }

    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn put(&self, plural: &str, namespace: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = Key::new(plural, namespace, &name);
        let mut store = self.store();
        if store.object(&key).is_some() {
            store.update(&key, object)
        } else {
            store.create(&key, object)
        };
    }

    pub(super) fn merge_status(&self, key: &Key, status: &Value) {
        let manner = Manner {
            manager: "operator",
            force: false,
            dry_run: false,
            strangers: Strangers::Dropped,
            is_status: true,
        };
        apply::merge(&mut self.store(), key, &json!({"status": status}), &manner);
    }

    pub(super) fn scale(&self, key: &Key, group: usize, replicas: i64) {
        let manner = Manner {
            manager: "autoscaler",
            force: false,
            dry_run: false,
            strangers: Strangers::Dropped,
            is_status: false,
        };
        let path = format!("/spec/workerGroupSpecs/{group}/replicas");
        let steps = json!([{"op": "replace", "path": path, "value": replicas}]);
        apply::json_patch(&mut self.store(), key, &steps, &manner);
    }

    /// Removes what belongs to objects that are gone.
    pub(super) fn collect_garbage(&self) {
        let mut store = self.store();
        let owners: Vec<Value> = ["rayclusters", "rayjobs", "rayservices"]
            .iter()
            .flat_map(|plural| store.all(plural))
            .map(|(_, mut object)| object["metadata"]["uid"].take())
            .collect();
        let orphans: Vec<Key> = ["rayclusters", "pods", "services"]
            .iter()
            .flat_map(|plural| store.all(plural))
            .filter(|(_, object)| {
                let owner = &object["metadata"]["ownerReferences"][0]["uid"];
                owner.is_string() && !owners.contains(owner)
            })
            .map(|(key, _)| key)
            .collect();
        for key in orphans {
            store.remove(&key);
        }
    }

    pub(super) fn cut_watches(&self, forget: bool) {
        let mut store = self.store();
        if forget {
            store.version += 1;
            store.forgotten = store.version;
            store.changes.clear();
        }
        self.epoch.fetch_add(1, Ordering::Relaxed);
        drop(store);
        self.changed.send_modify(|_| {});
    }

    pub(super) fn cut_forwards(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub(super) fn restart(&self, pause: Duration) {
        self.cut_watches(true);
        self.cut_forwards();
        self.restarts.send_modify(|(count, last)| (*count, *last) = (*count + 1, pause));
    }

    pub(super) fn cuts(&self) -> watch::Receiver<u64> {
        self.cuts.subscribe()
    }

    /// The fault that strikes this request, if any does.
    fn strike(&self, method: &Method, path: &str) -> Option<u16> {
        let mut faults = self.faults();
        let index = faults.iter_mut().position(|fault| {
            let is_meant = fault.times > 0
                && fault.method.as_deref().is_none_or(|only| only.eq_ignore_ascii_case(method.as_str()))
                && path.contains(&fault.path);
            let is_spared = is_meant && fault.after > 0;
            if is_spared {
                fault.after -= 1;
            }
            is_meant && !is_spared
        })?;
        let fault = &mut faults[index];
        fault.times -= 1;
        Some(fault.status)
    }
}

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

/// What a path means.
struct Route {
    key: Key,
    subresource: Option<String>,
    query: Vec<(String, String)>,
}

impl Route {
    /// `None`: nobody serves it.
    fn of(path: &str, query: Option<&str>, ray_kinds: &[String]) -> Option<Self> {
        let parts: Vec<String> =
            path.trim_matches('/').split('/').map(|part| percent_decode_str(part).decode_utf8_lossy().into()).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            ["api", "v1", rest @ ..] => ("", "v1", rest),
            _ => return None,
        };
        let (namespace, plural, name, subresource) = match rest {
            ["namespaces", namespace, plural] => (*namespace, *plural, "", None),
            ["namespaces", namespace, plural, name] => (*namespace, *plural, *name, None),
            ["namespaces", namespace, plural, name, subresource] => {
                (*namespace, *plural, *name, Some((*subresource).to_owned()))
            }
            // Of the whole cluster, or of all namespaces.
            [plural] => ("", *plural, "", None),
            [plural, name] => ("", *plural, *name, None),
            _ => return None,
        };
        if !kinds::is_served(group, version, plural, ray_kinds) {
            return None;
        }
        let query = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        Some(Self { key: Key::new(plural, namespace, name), subresource, query })
    }

    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn verb(&self, method: &Method) -> &'static str {
        match *method {
            _ if self.subresource.as_deref() == Some("portforward") => "create",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ if self.query("watch").is_some_and(|watch| watch == "true") => "watch",
            _ if self.key.name.is_empty() => "list",
            _ => "get",
        }
    }

    /// Why nothing can be selected like that.
    fn unselectable(&self) -> Option<Answer> {
        let refuse = |message: String| Some(refuse(400, "BadRequest", &message, Value::Null));
        if self.query("labelSelector").is_some_and(|labels| labels.contains("===")) {
            return refuse("unable to parse requirement: found '=', expected: identifier".into());
        }
        let fields = self.query("fieldSelector").unwrap_or_default();
        let names = fields.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name);
        let is_known = |name: &&str| self.key.group() != Some("ray.io") || name.starts_with("metadata.");
        names
            .into_iter()
            .find(|name| !is_known(name))
            .and_then(|name| refuse(format!("field label not supported: {name}")))
    }

    /// Whether the selectors take an object.
    fn takes(&self, object: &Value) -> bool {
        let pairs = |name: &str| {
            let text = self.query(name).unwrap_or_default().to_owned();
            let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
            pairs.map(|(key, value)| (key.to_owned(), value.trim_start_matches('=').to_owned())).collect::<Vec<_>>()
        };
        pairs("labelSelector").iter().all(|(key, value)| object["metadata"]["labels"][key] == value.as_str())
            && pairs("fieldSelector")
                .iter()
                .all(|(key, value)| object.pointer(&format!("/{}", key.replace('.', "/"))) == Some(&json!(value)))
    }
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
