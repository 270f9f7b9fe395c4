//! Goal: what `deploy/` has for Kubernetes is what Kubernetes takes, to the last field. Method: read it into Kubernetes' own
//! types; no cluster is at hand.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::path::Path;

use airfreight_schemas::{Stranger, strangers};
use fs_err as fs;
use serde_json::{Value, json};

fn read(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file);
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn assert_known(plural: &str, spec: &Value) {
    let unknown: Vec<String> = strangers(plural, spec).unwrap().iter().map(Stranger::path).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_daemon_set_is_one() {
    let manifest = read("kubernetes/agent.yaml");
    assert_eq!((manifest["apiVersion"].as_str(), manifest["kind"].as_str()), (Some("apps/v1"), Some("DaemonSet")));
    assert_known("daemonsets", &manifest["spec"]);
    let labels = &manifest["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&manifest["spec"]["selector"]["matchLabels"], labels);
}

/// The chart puts these parts into a worker's pod as they are.
#[test]
fn the_parts_of_a_workers_pod_are_such() {
    for file in ["helm/values-celery.yaml", "helm/values-kubernetes.yaml"] {
        let workers = read(file)["workers"].clone();
        let mut containers = workers["extraContainers"].as_array().cloned().unwrap_or_default();
        containers.push(json!({
            "name": "worker", "env": workers["env"], "volumeMounts": workers["extraVolumeMounts"],
            "resources": workers["resources"],
        }));
        assert_known("pods", &json!({"containers": containers, "volumes": workers["extraVolumes"]}));
    }
}

#[test]
fn a_misspelled_field_is_found() {
    let mut manifest = read("kubernetes/agent.yaml");
    manifest["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = json!([]);
    let found = strangers("daemonsets", &manifest["spec"]).unwrap();
    assert_eq!(found[0].path(), "template.spec.containers[0].volumeMount");
}
