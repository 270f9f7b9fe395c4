//! Goal: the API server without Kubernetes answers as a real one. Method: what a Kubernetes 1.36 with KubeRay 1.7's
//! objects was asked and answered (`kube-transcripts.jsonl`) is asked again, in the same order, and compared.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use airfreight_testkit::kube::{KubeOptions, KubeServer, Plot};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What is not asked again, with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("just-after-crd-create-version-404", TIMING),
    ("just-after-crd-create-list-404", TIMING),
    ("just-after-crd-create-watch-404", TIMING),
    ("discovery-groups-without-crd", "a real server has groups that nobody here asks for"),
    ("crd-get-metadata-only", "nobody here asks for metadata alone"),
    ("list-metadata-only", "nobody here asks for metadata alone"),
    ("apply-strict-duplicate-key", "what we send has no key twice"),
    ("merge-patch-strict-unknown-field", "worded with the whole patch"),
    ("watch-from-resource-version", WATCHED),
    ("watch-field-selector-one-object", WATCHED),
    ("watch-label-selector-object-leaves", WATCHED),
    ("watch-bookmarks-before-timeout", WATCHED),
    ("watch-after-compaction-recent-version", WATCHED),
    ("watch-streaming-list-initial-events", ETCD),
    ("watch-no-resource-version-cache-behind", ETCD),
    ("list-continue-after-compaction-still-cached", ETCD),
    ("list-continue-expired", ETCD),
    ("list-exact-expired", ETCD),
    ("list-exact-after-compaction-still-cached", ETCD),
    ("unauthorized-bad-token", REFUSED),
    ("forbidden-get", REFUSED),
    ("forbidden-list", REFUSED),
    ("forbidden-list-all-namespaces", REFUSED),
    ("forbidden-watch", REFUSED),
    ("forbidden-apply", REFUSED),
    ("forbidden-secret-get", REFUSED),
    ("forbidden-apply-create-with-patch-only", REFUSED),
    ("forbidden-delete", REFUSED),
    ("forbidden-status-patch", REFUSED),
    ("self-subject-access-review-denied", REFUSED),
    ("anonymous-no-token", "here everybody is `nobody`"),
    ("service-proxy-no-endpoint-slice", "nobody here goes through services' proxies"),
    ("service-proxy-endpoint-not-ready", "nobody here goes through services' proxies"),
    ("service-proxy-absent-service", "nobody here goes through services' proxies"),
];
const TIMING: &str = "a race with the server, which lasts 0.8 s there; the installation's tests wait for its end";
const WATCHED: &str = "something was done by hand while it was watched; the tests of clusters do that";
const ETCD: &str = "depends on the database below the server";
const REFUSED: &str = "in the test of refusals";

/// Whose words hold numbers of the recorded server's own.
const REWORDED: &[&str] =
    &["list-continue-garbage", "list-future-resource-version", "delete-precondition-stale-resource-version"];

fn transcripts() -> Vec<Value> {
    let text = include_str!("kube-transcripts.jsonl");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn ask(server: &KubeServer, request: &Value) -> (u16, Value) {
    let body = match &request["body"] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let head = format!(
        "{} {} HTTP/1.1\r\nHost: fake\r\nConnection: close\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        text(&request["method"]),
        text(&request["path"]),
        text(&request["headers"]["content-type"]),
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
        // One event a chunk.
        json!(
            body.lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok().filter(Value::is_object))
                .collect::<Vec<_>>()
        )
    } else {
        serde_json::from_str(body).unwrap_or_else(|_| body.into())
    };
    (status, body)
}

/// What must be equal: not uids, times and versions, which every server makes for itself.
fn that_matters(body: &Value, is_dry_run: bool) -> Value {
    if body.is_string() {
        return body.clone();
    }
    if let Value::Array(events) = body {
        let of = |event: &Value| json!([event["type"], event["object"]["code"], event["object"]["reason"]]);
        return events.iter().map(of).collect();
    }
    if body["kind"] == "Status" {
        return json!([body["status"], body["reason"], body["message"], body["code"]]);
    }
    if let Value::Array(items) = &body["items"] {
        return json!([body["kind"], items.len()]);
    }
    if let Value::Array(resources) = &body["resources"] {
        return resources
            .iter()
            .map(|each| json!([each["name"], each["kind"], each["namespaced"], each["verbs"]]))
            .collect();
    }
    if let Value::Array(versions) = &body["versions"] {
        return json!([body["kind"], body["name"], versions]);
    }
    if body["kind"] == "SelfSubjectAccessReview" {
        return json!([body["kind"], body["status"]["allowed"]]);
    }
    let metadata = &body["metadata"];
    let generation = if is_dry_run { &Value::Null } else { &metadata["generation"] };
    json!([
        body["kind"],
        metadata["name"],
        metadata["namespace"],
        metadata["labels"],
        metadata["annotations"],
        generation,
        told(&body["spec"]),
        told(&body["status"]),
    ])
}

/// Without what stands for nothing, which a real server writes into pods.
fn told(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(field, value)| (field.clone(), told(value)))
            .filter(|(field, value)| !(value.is_null() || field == "lastState" && *value == json!({})))
            .collect(),
        Value::Array(values) => values.iter().map(told).collect(),
        other => other.clone(),
    }
}

/// What was made by hand before an exchange, and not recorded.
async fn prepare(server: &KubeServer, name: &str, recorded: &[Value]) {
    let items = |name: &str| {
        let exchange = recorded.iter().find(|exchange| exchange["name"] == name).unwrap();
        exchange["response"]["body"]["items"].as_array().unwrap().clone()
    };
    let put = |plural: &str, objects: Vec<Value>| {
        for mut object in objects {
            object["metadata"]["finalizers"].take();
            server.put(plural, "demo", object);
        }
    };
    match name {
        "just-after-crd-create-list-200" => {
            define(server, &["rayclusters"]).await;
        }
        "discovery-group-with-crd" => define(server, &["rayjobs", "rayservices", "raycronjobs"]).await,
        "list-label-selector" => {
            put("rayclusters", items("list-label-selector"));
            put("rayclusters", items("list-all-namespaces"));
        }
        "namespace-delete" => {
            let labels = json!({"kubernetes.io/metadata.name": "ending"});
            let namespace =
                json!({"metadata": {"name": "ending", "labels": labels}, "spec": {"finalizers": ["kubernetes"]}});
            server.put("namespaces", "", namespace);
        }
        "secret-get" => {
            let exchange = recorded.iter().find(|exchange| exchange["name"] == name).unwrap();
            put("secrets", vec![exchange["response"]["body"].clone()]);
        }
        "pod-list-status-fields-absent" => put("pods", items(name)),
        "event-list-for-cluster" => put("events", items(name)),
        "delete-foreground" => {
            let exchange = recorded.iter().find(|exchange| exchange["name"] == name).unwrap();
            let mut object = exchange["response"]["body"].clone();
            object["metadata"].as_object_mut().unwrap().retain(|field, _| !field.starts_with("deletion"));
            object["metadata"]["generation"] = 1.into();
            put("rayclusters", vec![object]);
        }
        _ => {}
    }
}

async fn define(server: &KubeServer, plurals: &[&str]) {
    for plural in plurals {
        let definition = json!({"metadata": {"name": format!("{plural}.ray.io")}, "spec": {}});
        server.put("customresourcedefinitions", "", definition);
        let path = json!({"method": "GET", "path": format!("/apis/ray.io/v1/namespaces/demo/{plural}")});
        while ask(server, &path).await.0 == 404 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn it_answers_as_a_real_server_did() {
    let plot = Plot { scenes: Vec::new(), ..Plot::default() };
    let options = KubeOptions { plot, has_operator: false, namespaces: Some(Vec::new()), ..KubeOptions::default() };
    let server = KubeServer::start(options).await.unwrap();
    let recorded = transcripts();
    let (mut differences, mut continued) = (Vec::new(), String::new());
    for exchange in &recorded {
        let name = exchange["name"].as_str().unwrap();
        if LEFT_OUT.iter().any(|(left, _)| *left == name) {
            continue;
        }
        prepare(&server, name, &recorded).await;
        let mut request = exchange["request"].clone();
        if name == "put-current-resource-version" {
            let live = server.object("rayclusters", "demo", "demo").unwrap();
            request["body"]["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
        }
        if name == "list-limit-continue" {
            let path = format!("/apis/ray.io/v1/namespaces/demo/rayclusters?limit=2&continue={continued}");
            request["path"] = path.into();
        }
        let (status, body) = ask(&server, &request).await;
        if name == "list-limit-2" {
            body["metadata"]["continue"].as_str().unwrap().clone_into(&mut continued);
            assert_eq!(body["metadata"]["remainingItemCount"], 2);
        }
        let is_dry_run = request["path"].as_str().unwrap().contains("dryRun=All");
        let (mut got, mut wanted) =
            (that_matters(&body, is_dry_run), that_matters(&exchange["response"]["body"], is_dry_run));
        if let (Some(mine), Some(real)) = (message_of(&mut got), message_of(&mut wanted)) {
            // Every server makes its own uids.
            *mine = match (uid_of(mine), uid_of(real)) {
                _ if REWORDED.contains(&name) => real.clone(),
                (Some(mine_uid), Some(real_uid)) => mine.replace(&mine_uid, &real_uid),
                _ => mine.clone(),
            };
        }
        if json!(status) != exchange["response"]["status"] || got != wanted {
            differences
                .push(format!("{name}: {status} {got:#}\ninstead of {} {wanted:#}", exchange["response"]["status"]));
        }
    }
    for (left, _) in LEFT_OUT {
        assert!(recorded.iter().any(|exchange| exchange["name"] == *left), "no `{left}` in the transcripts");
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n\n"));
}

/// The words of a refusal.
fn message_of(matters: &mut Value) -> Option<&mut String> {
    match matters.get_mut(2) {
        Some(Value::String(message)) => Some(message),
        _ => None,
    }
}

/// The uid in a record, in a message about a precondition.
fn uid_of(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("UID in record (")?;
    Some(rest.split(')').next()?.to_owned())
}

#[tokio::test]
async fn refusals_are_worded_as_a_real_server_words_them() {
    let server = KubeServer::start(KubeOptions::default()).await.unwrap();
    server.put("rayclusters", "demo", json!({"metadata": {"name": "demo"}, "spec": {}}));
    for (verb, resource, name) in [
        ("get", "rayclusters", "forbidden-get"),
        ("list", "rayclusters", "forbidden-list"),
        ("list", "rayclusters", "forbidden-list-all-namespaces"),
        ("watch", "rayclusters", "forbidden-watch"),
        ("create", "rayclusters", "forbidden-apply-create-with-patch-only"),
        ("patch", "rayclusters", "forbidden-apply"),
        ("patch", "rayclusters", "self-subject-access-review-denied"),
        ("delete", "rayclusters", "forbidden-delete"),
        ("patch", "rayclusters/status", "forbidden-status-patch"),
        ("get", "secrets", "forbidden-secret-get"),
    ] {
        server.deny(verb, resource);
        let exchange = transcripts().into_iter().find(|exchange| exchange["name"] == name).unwrap();
        let (status, body) = ask(&server, &exchange["request"]).await;
        assert_eq!(json!(status), exchange["response"]["status"], "{name}");
        for field in ["message", "details", "status"] {
            assert_eq!(body[field], exchange["response"]["body"][field], "{name}");
        }
    }
    server.set_token("secret");
    let exchange = transcripts().into_iter().find(|exchange| exchange["name"] == "unauthorized-bad-token").unwrap();
    let (status, body) = ask(&server, &exchange["request"]).await;
    assert_eq!((status, &body["message"]), (401, &exchange["response"]["body"]["message"]));
}
