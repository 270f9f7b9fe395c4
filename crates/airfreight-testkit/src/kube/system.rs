//! What Kubernetes' own controllers do: definitions of kinds come to be served, deployments to run.

use std::sync::Arc;

use serde_json::{Value, json};

use super::shared::Shared;
use super::store::Key;

/// The annotation of a deployment whose pods never come up.
const STUCK: &str = "test/stuck";
const PLURALS: [&str; 2] = ["customresourcedefinitions", "deployments"];

/// Begins to see to all that isn't `known` yet.
pub(super) fn look(shared: &Arc<Shared>, known: &mut Vec<String>) {
    for plural in PLURALS {
        let all = shared.store().all(plural);
        for (key, object) in all {
            let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let is_stuck = !object["metadata"]["annotations"][STUCK].is_null();
            if !is_stuck && !known.contains(&uid) {
                known.push(uid);
                tokio::spawn(see_to(Arc::clone(shared), key, object));
            }
        }
    }
}

async fn see_to(shared: Arc<Shared>, key: Key, object: Value) {
    let pause = shared.plot().pause;
    tokio::time::sleep(pause).await;
    let status = match key.plural.as_str() {
        "deployments" => json!({
            "observedGeneration": object["metadata"]["generation"],
            "availableReplicas": object["spec"]["replicas"].as_i64().unwrap_or(1),
        }),
        _ => json!({"conditions": [{"type": "Established", "status": "True"}]}),
    };
    shared.merge_status(&key, &status);
}
