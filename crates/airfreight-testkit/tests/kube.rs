//! Goal: the API server without Kubernetes answers as a real one. Method: what a Kubernetes 1.36 with KubeRay 1.7's
//! objects was asked and answered (`kube-transcripts.jsonl`) is asked again, in the same order, and compared.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use airfreight_testkit::kube::{KubeOptions, KubeServer, Plot};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Those that a client of ours asks, and those that show the rules behind them.
const REPLAYED: &[&str] = &[
    "list-empty",
    "get-absent",
    "apply-dry-run-create",
    "get-absent-after-dry-run",
    "apply-without-field-manager",
    "apply-name-mismatch",
    "apply-strict-unknown-field",
    "apply-unknown-field-default",
    "apply-wrong-type",
    "create-wrong-type",
    "apply-missing-required",
    "apply-bad-enum",
    "apply-cel-rule",
    "create-missing-required",
    "create-bad-enum",
    "create-cel-rule",
    "patch-unsupported-media-type",
    "patch-strategic-on-custom-resource",
    "merge-patch-absent",
    "put-absent",
    "apply-create",
    "apply-same",
    "apply-changed",
    "apply-annotation-only",
    "create-already-exists",
    "autoscaler-json-patch-replicas",
    "get-after-autoscaler-patch",
    "apply-same-manifest-after-autoscaler",
    "apply-conflict-replicas-left-out",
    "apply-conflict-dry-run",
    "apply-force-replicas-left-out-dry-run",
    "apply-live-replicas-copied-no-force",
    "apply-force-after-conflict",
    "apply-force-again",
    "merge-patch-wrong-type",
    "merge-patch-force-rejected",
    "json-patch-test-failed",
    "json-patch-path-missing",
    "put-stale-resource-version",
    "put-without-resource-version",
    "put-current-resource-version",
    "apply-stale-resource-version",
    "merge-patch-stale-resource-version",
    "status-ignored-on-main-merge-patch",
    "status-ignored-on-main-apply",
    "status-get-before-any",
    "status-patch-replica-failure",
    "status-patch-head-pod-ready",
    "status-patch-provisioned-ready",
    "status-patch-spec-ignored",
    "watch-expired-resource-version",
    "watch-invalid-resource-version",
    "secret-get-absent",
    "pod-list-empty",
    "event-list-empty",
    "delete-background",
    "delete-absent",
    "apply-recreate-after-delete",
];

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
    let metadata = &body["metadata"];
    let generation = if is_dry_run { &Value::Null } else { &metadata["generation"] };
    json!([
        body["kind"],
        metadata["name"],
        metadata["namespace"],
        metadata["labels"],
        metadata["annotations"],
        generation,
        body["spec"],
        body["status"],
    ])
}

#[tokio::test]
async fn it_answers_as_a_real_server_did() {
    let plot = Plot { scenes: Vec::new(), ..Plot::default() };
    let server = KubeServer::start(KubeOptions { plot, ..KubeOptions::default() }).await.unwrap();
    let mut differences = Vec::new();
    let mut asked = 0;
    for exchange in transcripts() {
        let name = exchange["name"].as_str().unwrap();
        if !REPLAYED.contains(&name) {
            continue;
        }
        asked += 1;
        let mut request = exchange["request"].clone();
        if name == "put-current-resource-version" {
            let live = server.object("rayclusters", "demo", "demo").unwrap();
            request["body"]["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
        }
        let (status, body) = ask(&server, &request).await;
        let is_dry_run = request["path"].as_str().unwrap().contains("dryRun=All");
        let (got, wanted) = (that_matters(&body, is_dry_run), that_matters(&exchange["response"]["body"], is_dry_run));
        if json!(status) != exchange["response"]["status"] || got != wanted {
            differences
                .push(format!("{name}: {status} {got:#}\ninstead of {} {wanted:#}", exchange["response"]["status"]));
        }
    }
    assert_eq!(asked, REPLAYED.len(), "a name that is not in the transcripts");
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n\n"));
}

#[tokio::test]
async fn refusals_are_worded_as_a_real_server_words_them() {
    let server = KubeServer::start(KubeOptions::default()).await.unwrap();
    for (verb, name) in [
        ("get", "forbidden-get"),
        ("list", "forbidden-list"),
        ("watch", "forbidden-watch"),
        ("patch", "forbidden-apply"),
        ("delete", "forbidden-delete"),
    ] {
        server.deny(verb, "rayclusters");
        let exchange = transcripts().into_iter().find(|exchange| exchange["name"] == name).unwrap();
        let (status, body) = ask(&server, &exchange["request"]).await;
        assert_eq!(status, 403);
        assert_eq!(body["message"], exchange["response"]["body"]["message"]);
        assert_eq!(body["details"], exchange["response"]["body"]["details"]);
    }
}

#[tokio::test]
async fn without_kuberay_its_paths_are_not_served() {
    let server = KubeServer::start(KubeOptions { has_operator: false, ..KubeOptions::default() }).await.unwrap();
    for exchange in transcripts() {
        if matches!(exchange["name"].as_str().unwrap(), "list-without-crd" | "get-without-crd" | "apply-without-crd") {
            let (status, body) = ask(&server, &exchange["request"]).await;
            assert_eq!((status, &body), (404, &exchange["response"]["body"]));
        }
    }
}
