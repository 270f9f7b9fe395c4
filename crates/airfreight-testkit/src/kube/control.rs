//! How other processes control the server: `/_control…`, in JSON, without a token.
//!
//! | call | does |
//! |---|---|
//! | `POST /_control` | adds a [`KubeFault`], or a list of them: `{"path": "rayclusters", "times": 3, "status": 503}` |
//! | `DELETE /_control` | removes all faults and refusals |
//! | `POST /_control/script` | `{"script": "crash-loop", "pause_ms": 50}`: the [`Script`] of clusters from now on |
//! | `POST /_control/deny` | `{"verb": "create", "resource": "pods/portforward"}`: refused from now on |
//! | `POST /_control/token` | `{"token": "…"}`: requests need it from now on; `null` lets anyone ask |
//! | `POST /_control/cut` | `{"forget": true}`: ends every watch; what happened before can't be watched any more (410) |
//! | `POST /_control/forwards` | ends every forwarded connection |
//! | `POST /_control/restart` | `{"pause_ms": 500}`: nobody listens for so long; objects stay, watches are forgotten |
//! | `GET /_control/requests` | what has arrived so far: a list of `{"method", "path"}` |
//! | `DELETE /_control/requests` | forgets it |
//! | `GET /_control/objects/{plural}/{namespace}` | the names of all objects of a kind |
//! | `GET /_control/objects/{plural}/{namespace}/{name}` | an object |
//! | `POST /_control/objects/{plural}/{namespace}` | puts an object there, as somebody else does |
//! | `DELETE /_control/objects/{plural}/{namespace}/{name}` | removes it at once |
//! | `POST /_control/scale` | `{"namespace", "name", "group": 0, "replicas": 4}`: what the autoscaler does |

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answer::{self, Answer, text};
use super::operator::Script;
use super::shared::{KubeFault, Shared};
use super::store::Key;

pub(super) const PREFIX: &str = "/_control";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    script: Script,
    pause_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    verb: String,
    resource: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cut {
    #[serde(default)]
    forget: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restart {
    #[serde(default)]
    pause_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scale {
    namespace: String,
    name: String,
    #[serde(default)]
    group: usize,
    replicas: i64,
}

/// Does what was asked, or says with status 400 what is wrong with it.
pub(super) fn control(shared: &Arc<Shared>, request: &Parts, body: &Bytes) -> Answer {
    let path = request.uri.path().trim_start_matches(PREFIX).trim_matches('/');
    let parts: Vec<_> = path.split('/').map(|part| percent_decode_str(part).decode_utf8_lossy()).collect();
    let parts: Vec<&str> = parts.iter().map(|part| &**part).collect();
    let done = match (&request.method, parts.as_slice()) {
        (&Method::POST, [""]) => list::<KubeFault>(body).map(|faults| shared.faults().extend(faults)),
        (&Method::DELETE, [""]) => {
            shared.faults().clear();
            shared.denied().clear();
            Ok(())
        }
        (&Method::POST, ["script"]) => parse::<Told>(body).map(|told| {
            let pause = told.pause_ms.map_or(shared.plot().pause, Duration::from_millis);
            *shared.plot() = told.script.plot(pause);
        }),
        (&Method::POST, ["deny"]) => parse::<Refusal>(body).map(|refusal| {
            shared.denied().insert((refusal.verb, refusal.resource));
        }),
        (&Method::POST, ["token"]) => parse::<Token>(body).map(|token| *shared.token() = token.token),
        (&Method::POST, ["cut"]) => parse::<Cut>(body).map(|cut| shared.cut_watches(cut.forget)),
        (&Method::POST, ["forwards"]) => {
            shared.cut_forwards();
            Ok(())
        }
        (&Method::POST, ["restart"]) => parse::<Restart>(body).map(|restart| {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                // Whoever has asked for it hears that it is done.
                tokio::time::sleep(Duration::from_millis(20)).await;
                shared.restart(Duration::from_millis(restart.pause_ms));
            });
        }),
        (&Method::GET, ["requests"]) => return answer::json(200, &json!(*shared.seen())),
        (&Method::DELETE, ["requests"]) => {
            shared.seen().clear();
            Ok(())
        }
        (&Method::GET, ["objects", plural, namespace]) => {
            let store = shared.store();
            let names: Vec<&str> = store.list(plural, namespace).iter().map(|(key, _)| key.name.as_str()).collect();
            return answer::json(200, &json!(names));
        }
        (&Method::GET, ["objects", plural, namespace, name]) => {
            let key = Key::new(plural, namespace, name);
            return shared
                .store()
                .object(&key)
                .map_or_else(|| answer::not_found(&key), |object| answer::json(200, object));
        }
        (&Method::POST, ["objects", plural, namespace]) => {
            parse::<Value>(body).map(|object| shared.put(plural, namespace, object))
        }
        (&Method::DELETE, ["objects", plural, namespace, name]) => {
            shared.store().remove(&Key::new(plural, namespace, name)).map(drop).ok_or_else(|| "no such object".into())
        }
        (&Method::POST, ["scale"]) => parse::<Scale>(body).map(|scale| {
            shared.scale(&Key::new("rayclusters", &scale.namespace, &scale.name), scale.group, scale.replicas);
        }),
        _ => return answer::unserved(),
    };
    match done {
        Ok(()) => answer::json(200, &json!({})),
        Err(error) => text(400, error),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// One, or several in a list.
fn list<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, String> {
    if parse::<Value>(body)?.is_array() { parse(body) } else { parse(body).map(|one| vec![one]) }
}
