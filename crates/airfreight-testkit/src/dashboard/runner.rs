//! A runner without Ray: its file, its own port, its mailbox and its events, and calls that end by the clock.
//!
//! A job that is submitted with the metadata of a runner becomes one. What a call does stands in its metadata:
//! `after_ms` (for ever without), `status`, `log`, and `tail` (`no` keeps the log out of the state).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::StatusCode;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, answer, full};
use super::fault::Server;
use super::files::log_name;
use super::job::{NODE_ID, Word};
use super::serve::{Shared, accept};

/// How a runner is, from its next start on.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "what goes wrong is named in JSON")]
pub struct RunnerScript {
    /// How long it takes from its job's run to its file.
    pub start_ms: u64,
    /// Whether the port in its file is its own; otherwise nobody listens there.
    pub listens: bool,
    /// Whether it knows its token when it is asked to prove that.
    pub proves: bool,
    /// Whether it ends before it says where it is.
    pub fails: bool,
    /// What it answers to letters; nothing if not.
    pub reads_mail: bool,
}

impl Default for RunnerScript {
    fn default() -> Self {
        Self { start_ms: 20, listens: true, proves: true, fails: false, reads_mail: true }
    }
}

/// The runner, and what its owners hold, which outlives it.
#[derive(Debug, Default)]
pub(super) struct Runner {
    pub(super) script: RunnerScript,
    id: String,
    job: String,
    alive: Option<Alive>,
    /// How often one has begun.
    pub(super) lives: u32,
    /// What an actor keeps when Ray starts it again.
    generation: Option<String>,
    calls: BTreeMap<String, Call>,
    /// Letters that nobody has read.
    letters: Vec<(String, Bytes)>,
}

#[derive(Debug)]
struct Alive {
    generation: String,
    epoch: String,
    token: String,
    listener: JoinHandle<()>,
    events: Vec<Value>,
}

#[derive(Debug)]
struct Call {
    nonce: Value,
    state: Map<String, Value>,
    log: String,
    shows_tail: bool,
}

impl Runner {
    /// One that does the same in another cluster.
    pub(super) fn like(other: &Self) -> Self {
        Self { script: other.script.clone(), ..Self::default() }
    }

    fn version(&self, id: &str) -> i64 {
        self.calls.get(id).and_then(|call| call.state["version"].as_i64()).unwrap_or(-1)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Begins a life of the runner of this name, in this job, after its time.
pub(super) fn begin(shared: &Arc<Shared>, id: String, job: String) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let script = {
            let mut state = shared.state();
            state.runner.id.clone_from(&id);
            state.runner.job.clone_from(&job);
            state.runner.script.clone()
        };
        tokio::time::sleep(Duration::from_millis(script.start_ms)).await;
        if script.fails {
            shared.state().set_status(&job, Word::Failed);
            return;
        }
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let port = listener.local_addr().expect("its port").port();
        // A listener that is dropped leaves a port at which nobody listens.
        let listener = if script.listens {
            tokio::spawn(accept(Arc::clone(&shared), listener, Server::Runner))
        } else {
            tokio::spawn(std::future::pending())
        };
        let hex = || format!("{:016x}", fastrand::u64(..));
        let generation = shared.state().runner.generation.get_or_insert_with(hex).clone();
        let alive = Alive { generation, epoch: hex(), token: hex().repeat(4), listener, events: Vec::new() };
        let file = json!({
            "protocol": 1, "runner": id, "generation": alive.generation, "epoch": alive.epoch, "node_id": NODE_ID,
            "node_ip": "127.0.0.1", "port": port, "token": alive.token, "python": "3.11.7",
            "ray": shared.options.ray_version, "pid": 1, "job": job,
        });
        let letters = {
            let mut state = shared.state();
            state.files.insert(format!("airfreight/{id}.json"), file.to_string().into());
            state.files.entry(format!("airfreight/{}/events.jsonl", alive.generation)).or_default();
            state.runner.lives += 1;
            state.runner.alive = Some(alive);
            std::mem::take(&mut state.runner.letters)
        };
        shared.runner_changed.notify_waiters();
        for (message, letter) in letters {
            read_letter(&shared, message, letter);
        }
    });
}

/// Begins its next life, in the same job.
pub(super) fn revive(shared: &Arc<Shared>, id: String) {
    let job = shared.state().runner.job.clone();
    begin(shared, id, job);
}

/// Ends it with its job.
pub(super) fn stop(shared: &Arc<Shared>, job: &str) {
    if shared.state().runner.job == job {
        kill(shared);
        shared.state().runner.generation = None;
    }
}

/// Ends its life as SIGKILL does: its file stays, and what its owners hold.
pub(super) fn kill(shared: &Arc<Shared>) {
    let alive = shared.state().runner.alive.take();
    drop(alive);
    shared.hang_up_runner();
}

/// A letter in the mailbox.
pub(super) fn read_letter(shared: &Arc<Shared>, message: String, letter: Bytes) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let (token, generation) = {
            let mut state = shared.state();
            if !state.runner.script.reads_mail {
                return;
            }
            let Some(alive) = &state.runner.alive else {
                state.runner.letters.push((message, letter));
                return;
            };
            (alive.token.clone(), alive.generation.clone())
        };
        let Ok(letter) = serde_json::from_slice::<Value>(&letter) else { return };
        let text = |key: &str| letter[key].as_str().unwrap_or_default().to_owned();
        let (status, body) = if text("token") == token {
            carry_out(&shared, &text("method"), &text("path"), letter["body"].clone()).await
        } else {
            refuse(401, "Denied", "the token is another one")
        };
        let name = format!("airfreight/{generation}/{message}.json");
        let mut state = shared.state();
        // Who has died meanwhile answers no more.
        if state.runner.alive.as_ref().is_some_and(|alive| alive.generation == generation) {
            state.files.insert(name, json!({"status": status, "body": body}).to_string().into());
        }
    });
}

/// A request on the runner's own port.
pub(super) async fn from_port(shared: &Arc<Shared>, request: &Parts, body: &Bytes) -> Answer {
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let (status, body) = if let Some(nonce) = path.strip_prefix("/v1/ping?nonce=") {
        ping(shared, nonce)
    } else {
        let given = request.headers.get("authorization").and_then(|value| value.to_str().ok());
        let wanted = shared.state().runner.alive.as_ref().map(|alive| format!("Bearer {}", alive.token));
        if wanted.is_some() && given == wanted.as_deref() {
            let body = serde_json::from_slice(body).unwrap_or(Value::Null);
            carry_out(shared, request.method.as_str(), &path, body).await
        } else {
            refuse(401, "Denied", "the token is another one")
        }
    };
    let status = StatusCode::from_u16(status).expect("a status of ours");
    answer(status, "application/json", full(body.to_string()))
}

fn ping(shared: &Shared, nonce: &str) -> (u16, Value) {
    let state = shared.state();
    let Some(alive) = &state.runner.alive else { return refuse(503, "Unavailable", "it has ended") };
    let known = if state.runner.script.proves { alive.token.as_str() } else { "another" };
    let mut mac = Hmac::<Sha256>::new_from_slice(known.as_bytes()).expect("any key");
    mac.update(nonce.as_bytes());
    let proof = mac.finalize().into_bytes().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let (generation, epoch) = (&alive.generation, &alive.epoch);
    (200, json!({"protocol": 1, "runner": state.runner.id, "generation": generation, "epoch": epoch, "proof": proof}))
}

fn refuse(status: u16, kind: &str, message: &str) -> (u16, Value) {
    (status, json!({"error": {"kind": kind, "message": message, "hint": null}}))
}

async fn carry_out(shared: &Arc<Shared>, method: &str, path: &str, body: Value) -> (u16, Value) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let wait = query.get("wait").and_then(|wait| wait.parse().ok()).unwrap_or(0.0);
    let until = Instant::now() + Duration::from_secs_f64(wait);
    let parts: Vec<String> =
        path.split('/').skip(2).map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match (method, parts.as_slice()) {
        ("POST", ["calls"]) => {
            let id = body["id"].as_str().unwrap_or_default().to_owned();
            if let Err(refusal) = submit(shared, &id, &body) {
                return refusal;
            }
            wait_until(shared, until, |runner| runner.calls.get(&id).is_none_or(|call| is_over(&call.state))).await;
            state_of(shared, &id)
        }
        ("GET", ["calls"]) => {
            let state = shared.state();
            let calls: Vec<Value> = state.runner.calls.values().map(|call| shown(call, false)).collect();
            (200, json!({ "calls": calls }))
        }
        ("GET", ["calls", id]) => {
            let seen = query.get("seen").and_then(|seen| seen.parse().ok()).unwrap_or(-1);
            wait_until(shared, until, |runner| runner.version(id) > seen).await;
            state_of(shared, id)
        }
        ("POST", ["calls", id, "cancel"]) => {
            let is_running = shared.state().runner.calls.get(*id).map(|call| !is_over(&call.state));
            match is_running {
                None => refuse(404, "NotFound", "there is no such call"),
                Some(true) => {
                    end_call(shared, id, "STOPPED");
                    (200, json!({"cancelled": true}))
                }
                Some(false) => (200, json!({"cancelled": false})),
            }
        }
        ("GET", ["events"]) => events(shared, &query, until).await,
        ("GET", ["owners"]) => (200, json!({"owners": [{"name": "airfreight-owner-0", "values": 0, "running": 0}]})),
        ("DELETE", ["owners", _]) => {
            shared.state().runner.calls.clear();
            (200, json!({"dropped": true}))
        }
        _ => refuse(404, "NotFound", "there is no such thing"),
    }
}

async fn wait_until(shared: &Shared, until: Instant, holds: impl Fn(&Runner) -> bool) {
    loop {
        let changed = shared.runner_changed.notified();
        if holds(&shared.state().runner) || timeout_at(until, changed).await.is_err() {
            return;
        }
    }
}

async fn events(shared: &Shared, query: &BTreeMap<String, String>, until: Instant) -> (u16, Value) {
    let since = query.get("since").and_then(|since| since.parse::<usize>().ok());
    let known = query.get("epoch").cloned();
    let count = |runner: &Runner| runner.alive.as_ref().map_or(0, |alive| alive.events.len());
    let is_known = |runner: &Runner| runner.alive.as_ref().map(|alive| &alive.epoch) == known.as_ref();
    if let Some(since) = since {
        wait_until(shared, until, |runner| !is_known(runner) || count(runner) > since).await;
    }
    let state = shared.state();
    let Some(alive) = &state.runner.alive else { return refuse(503, "Unavailable", "it has ended") };
    let lost = known.is_some() && !is_known(&state.runner);
    let new = if lost { &[] } else { &alive.events[since.unwrap_or(alive.events.len()).min(alive.events.len())..] };
    (200, json!({"epoch": alive.epoch, "seq": alive.events.len(), "lost": lost, "events": new}))
}

fn submit(shared: &Arc<Shared>, id: &str, body: &Value) -> Result<(), (u16, Value)> {
    let nonce = body["nonce"].clone();
    let known = shared.state().runner.calls.get(id).map(|call| call.nonce.clone());
    match known {
        Some(known) if known == nonce => return Ok(()),
        Some(_) => return Err(refuse(409, "Conflict", "the id belongs to another call")),
        None => {}
    }
    let told = |key: &str| body["metadata"][key].as_str().map(str::to_owned);
    let log = told("log").unwrap_or_default();
    let state = json!({
        "id": id, "nonce": nonce, "owner": body["owner"]["name"], "version": 0, "status": "PENDING", "node_id": null,
        "start_time": null, "end_time": null, "metadata": body["metadata"], "message": null, "error_type": null,
    });
    let Value::Object(state) = state else { unreachable!("an object") };
    let shows_tail = told("tail").as_deref() != Some("no");
    shared.state().runner.calls.insert(id.to_owned(), Call { nonce, state, log: log.clone(), shows_tail });
    change(shared, id, &[("status", json!("RUNNING")), ("node_id", json!(NODE_ID))]);
    shared.state().files.insert(log_name(id), log.into());
    if let Some(ms) = told("after_ms").and_then(|ms| ms.parse().ok()) {
        let status = told("status").unwrap_or_else(|| "SUCCEEDED".to_owned());
        let (shared, id) = (Arc::clone(shared), id.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            end_call(&shared, &id, &status);
        });
    }
    Ok(())
}

/// Ends a call.
pub(super) fn end_call(shared: &Arc<Shared>, id: &str, status: &str) {
    change(shared, id, &[("status", json!(status)), ("record", json!({"result": {"json": id}}))]);
}

/// Changes a call, and tells of it.
fn change(shared: &Arc<Shared>, id: &str, changes: &[(&str, Value)]) {
    {
        let mut state = shared.state();
        let Some(call) = state.runner.calls.get_mut(id) else { return };
        if is_over(&call.state) {
            return;
        }
        for (key, value) in changes {
            call.state.insert((*key).to_owned(), value.clone());
        }
        let version = call.state["version"].as_i64().unwrap_or(0) + 1;
        call.state.insert("version".to_owned(), version.into());
        let mut event = shown(call, false);
        let runner = &mut state.runner;
        if let Some(alive) = &mut runner.alive {
            event["seq"] = (alive.events.len() + 1).into();
            event["epoch"] = alive.epoch.clone().into();
            let name = format!("airfreight/{}/events.jsonl", alive.generation);
            let line = format!("{event}\n");
            alive.events.push(event);
            let file = state.files.entry(name).or_default();
            *file = Bytes::from([file.as_ref(), line.as_bytes()].concat());
        }
    }
    shared.runner_changed.notify_waiters();
}

fn shown(call: &Call, with_result: bool) -> Value {
    let mut state = call.state.clone();
    if is_over(&state) && with_result {
        state.insert("log_bytes".to_owned(), call.log.len().into());
        if with_result && call.shows_tail {
            state.insert("tail".to_owned(), call.log.clone().into());
        }
    }
    if !with_result {
        state.remove("record");
    }
    Value::Object(state)
}

fn state_of(shared: &Shared, id: &str) -> (u16, Value) {
    let state = shared.state();
    let call = state.runner.calls.get(id);
    call.map_or_else(|| refuse(404, "NotFound", "there is no such call"), |call| (200, shown(call, true)))
}

fn is_over(state: &Map<String, Value>) -> bool {
    !matches!(state["status"].as_str(), Some("PENDING" | "RUNNING"))
}
