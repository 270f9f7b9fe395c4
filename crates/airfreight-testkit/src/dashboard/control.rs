//! How other processes control the server: `/_control…`, in JSON.
//!
//! | call | does |
//! |---|---|
//! | `POST /_control` | adds a [`Fault`], or a list of them |
//! | `DELETE /_control` | removes all faults |
//! | `GET /_control/requests` | the [`Traffic`](super::Traffic) so far |
//! | `DELETE /_control/requests` | forgets it |
//! | `POST /_control/jobs` | adds a [`JobScript`] or a list of them; `{"count", "prefix", "script"}` adds many alike |
//! | `GET /_control/jobs/{id}` | the body with which the job was submitted |
//! | `POST /_control/jobs/{id}` | `{"append": text, "status": word}`: lets its log grow, takes it to a status |
//! | `POST /_control/script` | the [`JobScript`] of all jobs that are submitted from now on |
//! | `POST /_control/session` | replaces the cluster: no jobs, another session name |
//! | `GET /_control/packages` | names, sizes, pins and uploads of the packages |
//! | `GET /_control/packages/{name}` | its bytes |
//! | `DELETE /_control/packages/{name}` | forgets it, as Ray does when its last job has ended |
//! | `POST /_control/runner` | the [`RunnerScript`] of all runners that begin from now on |
//! | `DELETE /_control/runner` | ends the runner as SIGKILL does |
//! | `POST /_control/runner/{id}` | lets it begin another life |
//! | `POST /_control/files` | `{"name", "text"}`: a file below the session's log directory |

use std::sync::Arc;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answer::{Answer, answer, full, json as json_answer, not_found, text};
use super::fault::Fault;
use super::job::{JobScript, Word};
use super::runner;
use super::serve::Shared;

pub(super) const PREFIX: &str = "/_control";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    count: usize,
    prefix: String,
    #[serde(default)]
    script: JobScript,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    append: Option<String>,
    status: Option<Word>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    text: String,
}

/// Does what was asked, or says with status 400 what is wrong with it.
pub(super) fn control(shared: &Arc<Shared>, request: &Parts, body: &Bytes) -> Answer {
    let path = request.uri.path().trim_start_matches(PREFIX).trim_start_matches('/');
    let parts: Vec<_> = path.split('/').map(|part| percent_decode_str(part).decode_utf8_lossy()).collect();
    let parts: Vec<&str> = parts.iter().map(|part| &**part).collect();
    let done = match (&request.method, parts.as_slice()) {
        (&Method::POST, [""]) => list::<Fault>(body).and_then(|faults| {
            faults.into_iter().try_for_each(|fault| shared.faults().add(fault)).map_err(|error| error.to_string())
        }),
        (&Method::DELETE, [""]) => {
            shared.faults().clear();
            Ok(())
        }
        (&Method::GET, ["requests"]) => return json_answer(&shared.requests().traffic()),
        (&Method::DELETE, ["requests"]) => {
            shared.requests().forget();
            Ok(())
        }
        (&Method::POST, ["jobs"]) => add_jobs(shared, body),
        (&Method::GET, ["jobs", id]) => {
            return shared.state().job(id).map_or_else(not_found, |job| json_answer(&job.submission));
        }
        (&Method::POST, ["jobs", id]) => parse::<Change>(body).and_then(|change| {
            let mut state = shared.state();
            let appended = change.append.is_none_or(|text| state.append(id, &text));
            let changed = change.status.is_none_or(|status| state.set_status(id, status));
            if appended && changed { Ok(()) } else { Err(format!("there is no job {id}")) }
        }),
        (&Method::POST, ["script"]) => parse(body).map(|script| shared.state().template = script),
        (&Method::POST, ["runner"]) => parse(body).map(|script| shared.state().runner.script = script),
        (&Method::DELETE, ["runner"]) => {
            runner::kill(shared);
            Ok(())
        }
        (&Method::POST, ["runner", id]) => {
            runner::revive(shared, (*id).to_owned());
            Ok(())
        }
        (&Method::POST, ["session"]) => {
            shared.state().replace();
            Ok(())
        }
        (&Method::GET, ["packages"]) => return packages(shared),
        (&Method::GET, ["packages", name]) => {
            let content = shared.state().packages.get(*name).map(|package| package.content.clone());
            let zip = |content: Bytes| answer(StatusCode::OK, "application/zip", full(content));
            return content.map_or_else(not_found, zip);
        }
        (&Method::DELETE, ["packages", name]) => {
            shared.state().packages.remove(*name);
            Ok(())
        }
        (&Method::POST, ["files"]) => parse::<File>(body).map(|file| {
            shared.state().files.insert(file.name, file.text.into());
        }),
        _ => return not_found(),
    };
    match done {
        Ok(()) => json_answer(&json!({})),
        Err(error) => text(StatusCode::BAD_REQUEST, error),
    }
}

fn add_jobs(shared: &Shared, body: &Bytes) -> Result<(), String> {
    let mut state = shared.state();
    if parse::<Value>(body)?.get("count").is_some() {
        let many: Many = parse(body)?;
        for number in 0..many.count {
            state.add(JobScript { id: format!("{}{number}", many.prefix), ..many.script.clone() });
        }
        return Ok(());
    }
    for script in list::<JobScript>(body)? {
        if script.id.is_empty() {
            return Err("a job needs an id".into());
        }
        state.add(script);
    }
    Ok(())
}

fn packages(shared: &Shared) -> Answer {
    let state = shared.state();
    let packages = state.packages.values().map(|package| {
        json!({"name": package.name, "bytes": package.content.len(), "pins": package.pins, "uploads": package.uploads})
    });
    json_answer(&packages.collect::<Vec<_>>())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// One, or several in a list.
fn list<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, String> {
    if parse::<Value>(body)?.is_array() { parse(body) } else { parse(body).map(|one| vec![one]) }
}
