//! The Jobs API.

use std::sync::Arc;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::answer::{Answer, empty, invalid, json as json_answer, no_job, not_found, text, trouble, wrapped};
use super::job::{Job, JobScript, Word};
use super::serve::Shared;
use super::state::{Package, State};
use super::{files, runner};

/// A name, whether a value will do, and what would.
type Field = (&'static str, fn(&Value) -> bool, &'static str);

/// What `POST /api/jobs/` takes.
const FIELDS: [Field; 11] = [
    ("entrypoint", Value::is_string, "a string"),
    ("submission_id", Value::is_string, "a string"),
    ("job_id", Value::is_string, "a string"),
    ("runtime_env", Value::is_object, "a dict"),
    ("metadata", is_object_of_strings, "a dict of strings"),
    ("entrypoint_num_cpus", Value::is_number, "a number"),
    ("entrypoint_num_gpus", Value::is_number, "a number"),
    ("entrypoint_memory", Value::is_u64, "an integer"),
    ("entrypoint_resources", Value::is_object, "a dict"),
    ("entrypoint_label_selector", is_object_of_strings, "a dict of strings"),
    ("digest", Value::is_string, "a string"),
];

fn is_object_of_strings(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.values().all(Value::is_string))
}

/// Carries a request out.
pub(super) fn answer(shared: &Arc<Shared>, request: &Parts, body: &Bytes) -> Answer {
    let path = request.uri.path();
    let method = &request.method;
    let agent = request.headers.get("user-agent").map(|agent| agent.to_str().unwrap_or_default());
    // Before 2.54 Ray looks the header up as if everybody sent it.
    if agent.is_none() && !shared.is_at_least(54) {
        return trouble();
    }
    let writes = [Method::POST, Method::PUT, Method::DELETE].contains(method);
    if writes && agent.is_some_and(|agent| agent.starts_with("Mozilla")) {
        let refusal = format!("'{method}' method not allowed for browser traffic.");
        return text(StatusCode::METHOD_NOT_ALLOWED, refusal);
    }
    if let Some(rest) = path.strip_prefix("/api/jobs/") {
        return jobs(shared, method, rest, body);
    }
    if let Some(name) = path.strip_prefix("/api/packages/gcs/") {
        if let Some(letter) = name.strip_prefix("afin_").filter(|_| method == Method::PUT) {
            let message = letter.rsplit('_').next().unwrap_or_default().to_owned();
            runner::read_letter(shared, message, body.clone());
            return empty();
        }
        return package(&mut shared.state(), method, name, body);
    }
    match (method, path) {
        (&Method::GET, "/api/version") => version(shared),
        (&Method::GET, "/api/v0/cluster_metadata") => json_answer(&json!({
            "result": true,
            "msg": "",
            "data": {
                "rayVersion": shared.options.ray_version,
                "pythonVersion": "3.11.7",
                "rayInitCluster": false,
            },
        })),
        (&Method::GET, "/api/authentication_mode") if shared.is_at_least(52) => {
            let mode = if shared.options.token.is_some() { "token" } else { "disabled" };
            json_answer(&json!({"authentication_mode": mode}))
        }
        (&Method::GET, "/api/gcs_healthz") => text(StatusCode::OK, "success"),
        (&Method::GET, "/api/v0/logs/file") => files::file(shared, request.uri.query().unwrap_or_default()),
        (&Method::GET, "/") => text(StatusCode::OK, "<!doctype html><title>Ray Dashboard</title>"),
        _ => not_found(),
    }
}

fn version(shared: &Shared) -> Answer {
    let mut version = json!({"version": "4", "ray_version": shared.options.ray_version, "ray_commit": "b7f4259e944b"});
    if shared.is_at_least(40) {
        version["session_name"] = shared.state().session_name.clone().into();
    }
    json_answer(&version)
}

fn jobs(shared: &Arc<Shared>, method: &Method, rest: &str, body: &Bytes) -> Answer {
    let agent = shared.agent_address();
    let parts: Vec<_> = rest.split('/').map(|part| percent_decode_str(part).decode_utf8_lossy()).collect();
    if let (&Method::POST, [id, "stop"]) = (method, parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().as_slice()) {
        runner::stop(shared, id);
    }
    let mut state = shared.state();
    match (method, parts.as_slice()) {
        (&Method::POST, [empty]) if empty.is_empty() => submit(shared, &mut state, body),
        (&Method::GET, [empty]) if empty.is_empty() => {
            json_answer(&state.jobs.iter().map(|job| job.details(&agent)).collect::<Vec<_>>())
        }
        (&Method::GET, [id]) => state.job(id).map_or_else(|| no_job(id), |job| json_answer(&job.details(&agent))),
        (&Method::DELETE, [id]) => delete(&mut state, id),
        (&Method::POST, [id, action]) if action == "stop" => match state.job_mut(id) {
            None => no_job(id),
            Some(job) if job.poisoned => wrapped(500, "stop_job", "ValueError: Could not find actor."),
            Some(job) => json_answer(&json!({"stopped": job.stop()})),
        },
        (&Method::GET, [id, action]) if action == "logs" => match state.job(id) {
            None => no_job(id),
            Some(job) => {
                let log = job.log().unwrap_or_default().all();
                json_answer(&json!({"logs": String::from_utf8_lossy(&log)}))
            }
        },
        // What a WebSocket would be for; a plain request gets this after five seconds.
        (&Method::GET, [_, logs, tail]) if logs == "logs" && tail == "tail" => trouble(),
        _ => not_found(),
    }
}

fn submit(shared: &Arc<Shared>, state: &mut State, body: &Bytes) -> Answer {
    let Ok(Value::Object(mut body)) = serde_json::from_slice::<Value>(body) else { return trouble() };
    body.retain(|_, value| !value.is_null());
    for (key, value) in &body {
        let known = FIELDS.iter().find(|(name, ..)| name == key);
        let known = known.filter(|(name, ..)| *name != "entrypoint_label_selector" || shared.is_at_least(54));
        match known {
            None => {
                let error =
                    format!("TypeError: JobSubmitRequest.__init__() got an unexpected keyword argument '{key}'");
                return invalid(&error);
            }
            Some((name, fits, wanted)) if !fits(value) => {
                return invalid(&format!("TypeError: {name} must be {wanted}, got {value}"));
            }
            Some(_) => {}
        }
    }
    let Some(entrypoint) = body.get("entrypoint").and_then(Value::as_str) else {
        return invalid("TypeError: JobSubmitRequest.__init__() missing 1 required positional argument: 'entrypoint'");
    };
    let given = body.get("submission_id").or(body.get("job_id")).and_then(Value::as_str);
    let id = given.map_or_else(
        || format!("raysubmit_{}", (0..16).map(|_| fastrand::alphanumeric()).collect::<String>()),
        Into::into,
    );
    if state.jobs.iter().any(|job| job.script.id == id) {
        let error =
            format!("ValueError: Job with submission_id {id} already exists. Please use a different submission_id.");
        return wrapped(400, "submit_job", &error);
    }
    let object = |key: &str| body.get(key).and_then(Value::as_object).cloned();
    let poisoned = id.contains('/');
    let states = if poisoned { vec![(0, Word::Pending)] } else { state.template.states.clone() };
    let mut job = Job::new(JobScript {
        id: id.clone(),
        states,
        entrypoint: entrypoint.to_owned(),
        metadata: object("metadata"),
        runtime_env: object("runtime_env"),
        ..state.template.clone()
    });
    let package = missing_package(state, &body);
    if let Some(uri) = &package {
        job.script.states = vec![(0, Word::Pending), (20, Word::Failed)];
        job.script.error_type = Some("RUNTIME_ENV_SETUP_FAILURE".into());
        job.script.message = Some(format!(
            "runtime_env setup failed: Failed to set up runtime environment.\nFailed to download runtime_env file \
             package {uri} from the GCS to the Ray worker node."
        ));
    }
    let is_runner = body.get("metadata").and_then(|metadata| metadata.get("airfreight_runner")).is_some();
    if is_runner && package.is_none() {
        job.script.states = vec![(0, Word::Pending), (10, Word::Running)];
        let name = body.get("runtime_env").and_then(|env| env.pointer("/env_vars/AIRFREIGHT_RUNNER_ID"));
        runner::begin(shared, name.and_then(Value::as_str).unwrap_or(&id).to_owned(), id.clone());
    }
    job.submission = Some(Value::Object(body));
    job.poisoned = poisoned;
    state.jobs.push(job);
    if poisoned {
        return wrapped(500, "submit_job", &format!("FileNotFoundError: job-driver-{id}.log"));
    }
    json_answer(&json!({"job_id": id, "submission_id": id}))
}

/// A package that the job wants and the cluster doesn't have.
fn missing_package(state: &State, body: &Map<String, Value>) -> Option<String> {
    let environment = body.get("runtime_env")?.as_object()?;
    let modules = environment.get("py_modules").and_then(Value::as_array).into_iter().flatten();
    let mut uris = environment.get("working_dir").into_iter().chain(modules).filter_map(Value::as_str);
    let missing = uris.find(|uri| uri.strip_prefix("gcs://").is_some_and(|name| !state.packages.contains_key(name)))?;
    Some(missing.to_owned())
}

fn delete(state: &mut State, id: &str) -> Answer {
    let Some(index) = state.jobs.iter().position(|job| job.script.id == id) else { return no_job(id) };
    let status = state.jobs[index].status();
    if !status.is_terminal() {
        let word = serde_json::to_value(status).expect("a word");
        let error = format!(
            "RuntimeError: Attempted to delete job '{id}', but it is in a non-terminal state {}.",
            word.as_str().unwrap_or_default()
        );
        return wrapped(500, "delete_job", &error);
    }
    // The log stays where it is.
    if let Some(log) = state.jobs[index].log() {
        state.files.insert(files::log_name(id), log.all());
    }
    state.jobs.remove(index);
    json_answer(&json!({"deleted": true}))
}

fn package(state: &mut State, method: &Method, name: &str, body: &Bytes) -> Answer {
    match (method, state.packages.get_mut(name)) {
        (&Method::GET, Some(package)) => {
            package.pins += 1;
            empty()
        }
        (&Method::GET, None) => text(StatusCode::NOT_FOUND, format!("Package gcs://{name} does not exist")),
        (&Method::PUT, Some(package)) => {
            package.content = body.clone();
            package.uploads += 1;
            empty()
        }
        (&Method::PUT, None) => {
            let package = Package { name: name.to_owned(), content: body.clone(), pins: 0, uploads: 1 };
            state.packages.insert(name.to_owned(), package);
            empty()
        }
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"),
    }
}
