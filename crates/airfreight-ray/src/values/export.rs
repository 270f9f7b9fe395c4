//! Asking the runner to lay a value out as an object's file.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::chunks::Chunks;
use super::{BucketUrls, Route, ValueKey};
use crate::client::segment;
use crate::runner::Runner;
use crate::{RayError, Result};

/// How long the runner may think before it says that it is still writing.
const WAIT_SECONDS: u32 = 10;

/// An object's file in the cluster, ready to be read.
pub(crate) struct Export {
    pub(crate) id: String,
    pub(crate) chunks: Chunks,
    /// Below the node's log directory, for the dashboard.
    pub(crate) file: Option<String>,
    pub(crate) node_id: Option<String>,
}

/// Lets the cluster write a value where it can be read by this route. The same question again is the same export.
///
/// On the runner's own port each chunk comes with its checksum; `listed` asks for all of them beforehand, which takes the
/// cluster as long as reading the value.
pub(crate) async fn export(
    runner: &Runner,
    value: &ValueKey,
    route: Route,
    urls: Option<&BucketUrls>,
    listed: bool,
    action: &str,
) -> Result<Export> {
    #[derive(Deserialize)]
    struct Answer {
        export: String,
        state: String,
        nbytes: Option<u64>,
        chunk: Option<u64>,
        crc32: Option<Vec<u32>>,
        file: Option<String>,
        node_id: Option<String>,
    }
    let body = json!({
        "owner": value.owner, "generation": value.generation, "key": value.key, "to": target(route, urls, listed),
    });
    let address = runner.client().address();
    let unreadable = |source: String| RayError::Unreadable {
        action: action.to_owned(),
        address: address.to_owned(),
        source: source.into(),
    };
    loop {
        let path = format!("/v1/exports?wait={WAIT_SECONDS}");
        let (status, answer) = runner.request(Method::POST, &path, Some(&body)).await?;
        if status >= 400 {
            return Err(RayError::from_runner(action, address, status, &answer));
        }
        let answer: Answer = serde_json::from_value(answer).map_err(|source| unreadable(source.to_string()))?;
        if answer.state != "ready" {
            continue;
        }
        let needs_list = listed || matches!(route, Route::Dashboard | Route::Bucket);
        let chunks = match (answer.nbytes, answer.chunk) {
            (Some(nbytes), Some(chunk)) if answer.crc32.is_some() || !needs_list => {
                Chunks::new(nbytes, chunk, answer.crc32)
            }
            _ => None,
        };
        let chunks = chunks.ok_or_else(|| unreadable("its chunks make no file".into()))?;
        return Ok(Export { id: answer.export, chunks, file: answer.file, node_id: answer.node_id });
    }
}

/// How large a value is, as its owner tells.
pub(crate) async fn value_bytes(runner: &Runner, value: &ValueKey, action: &str) -> Result<Option<u64>> {
    let path = format!(
        "/v1/values/{}/{}?generation={}",
        segment(&value.owner),
        segment(&value.key),
        segment(&value.generation)
    );
    let (status, answer) = runner.request(Method::GET, &path, None).await?;
    if status >= 400 {
        return Err(RayError::from_runner(action, runner.client().address(), status, &answer));
    }
    Ok(answer.get("nbytes").and_then(Value::as_u64))
}

/// Gives the cluster its room back; what is forgotten goes by itself after a while.
pub(crate) async fn forget(runner: &Runner, export: &Export) {
    let _ = runner.request(Method::DELETE, &format!("/v1/exports/{}", export.id), None).await;
}

fn target(route: Route, urls: Option<&BucketUrls>, listed: bool) -> Value {
    match (route, urls) {
        (Route::Dashboard, _) => json!({"kind": "log"}),
        (Route::Bucket, Some(urls)) => {
            let headers: serde_json::Map<String, Value> =
                urls.headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
            json!({"kind": "url", "url": urls.put, "headers": headers})
        }
        _ if listed => json!({"kind": "port", "checksums": true}),
        _ => json!({"kind": "port"}),
    }
}
