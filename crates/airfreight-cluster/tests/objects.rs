//! Goal: what is installed comes up in an order that works or not at all, and nobody else's objects are touched.
//! Method: an API server without Kubernetes over real HTTP, with manifests of KubeRay's shape.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use airfreight_cluster::{Access, ClusterError, Clusters, Manifest, Objects, Operator, Place};
use airfreight_core::ErrorKind;
use airfreight_testkit::kube::{KubeOptions, KubeServer};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);
const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// The last first: the order is ours to find.
fn kuberay(annotations: &Value) -> String {
    let definition = |plural: &str| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.ray.io")}, "spec": {"group": "ray.io"},
        })
    };
    let named = json!({"name": "kuberay-operator"});
    let account = json!({"kind": "ServiceAccount", "name": "kuberay-operator"});
    let documents = [
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "kuberay-operator", "namespace": "system", "annotations": annotations},
            "spec": {"replicas": 1, "template": {"spec": {"containers": [{"image": "kuberay/operator"}]}}},
        }),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": {"ports": [{"port": 8080}]}}),
        json!({"apiVersion": RBAC, "kind": "ClusterRoleBinding", "metadata": named, "subjects": [account]}),
        json!({"apiVersion": RBAC, "kind": "ClusterRole", "metadata": named, "rules": [{"verbs": ["get"]}]}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named}),
        definition("rayclusters"),
        definition("rayjobs"),
    ];
    documents.map(|document| document.to_string()).join("\n---\n")
}

fn operator(annotations: &Value) -> Objects {
    let images = BTreeMap::from([("kuberay/operator".to_owned(), "quay.io/kuberay/operator:v1.7.0".to_owned())]);
    Objects::read([kuberay(annotations).as_str()]).unwrap().in_namespace("ray").with_images(&images)
}

fn plugin() -> Objects {
    let text = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "gpu", "namespace": "kube-system"},
        "spec": {"template": {"spec": {"containers": [{"image": "nvidia/k8s-device-plugin"}]}}},
    });
    Objects::read([text.to_string().as_str()]).unwrap()
}

fn cluster() -> Manifest {
    Manifest::new(json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "demo"},
        "spec": {"headGroupSpec": {"rayStartParams": {}, "template": {"spec": {"containers": [{"name": "ray"}]}}}},
    }))
    .unwrap()
}

async fn bare() -> (KubeServer, Clusters) {
    let server = KubeServer::start(KubeOptions { has_operator: false, ..KubeOptions::default() }).await.unwrap();
    let place = Place::Text(server.kubeconfig().into());
    let access = Access { place, patience: Duration::from_secs(3), ..Access::default() };
    let clusters = Clusters::connect(&access).await.unwrap();
    (server, clusters)
}

#[tokio::test]
async fn an_operator_is_installed_and_then_found() {
    let (server, clusters) = bare().await;
    assert_eq!(clusters.operator().await.unwrap(), None);
    let refused = clusters.apply(&cluster(), false, None, PATIENCE).await.unwrap_err();
    assert!(refused.hint().unwrap().contains("kuberay_version"));

    let applied = clusters.apply_objects(&operator(&json!({})), true, PATIENCE).await.unwrap();
    let order: Vec<&str> = applied.iter().map(|each| each.what.split(' ').next().unwrap()).collect();
    assert_eq!(
        order,
        [
            "CustomResourceDefinition",
            "CustomResourceDefinition",
            "ClusterRole",
            "ServiceAccount",
            "Service",
            "ClusterRoleBinding",
            "Deployment",
        ]
    );
    assert_eq!(
        clusters.operator().await.unwrap().unwrap(),
        Operator {
            serves: vec!["rayclusters".into(), "rayjobs".into()],
            namespace: Some("ray".into()),
            version: Some("1.7.0".into()),
            is_available: Some(true),
        }
    );
    let binding = server.object("clusterrolebindings", "", "kuberay-operator").unwrap();
    assert_eq!(binding["subjects"][0]["namespace"], "ray");
    assert_eq!(server.object("clusterroles", "", "kuberay-operator").unwrap()["rules"][0]["verbs"][0], "get");

    clusters.apply(&cluster(), false, None, PATIENCE).await.unwrap();
    clusters.wait_ready("demo", "demo", PATIENCE, |_| {}).await.unwrap();
}

#[tokio::test]
async fn every_missing_right_is_named_before_anything_is_written() {
    let (server, clusters) = bare().await;
    server.deny("create", "clusterroles");
    server.deny("patch", "deployments");
    let refused = clusters.apply_objects(&operator(&json!({})), true, PATIENCE).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    let said = refused.to_string();
    assert!(said.contains("create clusterroles.rbac.authorization.k8s.io"), "{said}");
    assert!(said.contains("patch deployments.apps in namespace ray"), "{said}");
    assert!(!said.contains("rayclusters"), "{said}");
    assert!(server.seen().iter().all(|seen| seen.method != "PATCH"));
}

#[tokio::test]
async fn an_operator_that_does_not_come_up_is_said() {
    let (_server, clusters) = bare().await;
    let stuck = operator(&json!({"test/stuck": "yes"}));
    let late = clusters.apply_objects(&stuck, true, Duration::from_millis(400)).await.unwrap_err();
    assert!(matches!(late, ClusterError::Late { .. }), "{late}");
    assert!(late.to_string().contains("Deployment `kuberay-operator`"), "{late}");
    assert!(late.to_string().contains("no pod of it is available"), "{late}");
}

#[tokio::test]
async fn what_is_there_stays_and_only_what_is_ours_is_deleted() {
    let (server, clusters) = bare().await;
    let theirs = json!({"metadata": {"name": "gpu"}, "spec": {"theirs": true}});
    server.put("daemonsets", "kube-system", theirs);
    // Who may not write needn't.
    server.deny("create", "daemonsets");
    let applied = clusters.apply_objects(&plugin(), false, PATIENCE).await.unwrap();
    assert!(applied[0].is_kept);
    assert_eq!(server.object("daemonsets", "kube-system", "gpu").unwrap()["spec"]["theirs"], true);
    assert!(clusters.delete_objects(&plugin()).await.unwrap().is_empty());

    server.remove("daemonsets", "kube-system", "gpu");
    assert_eq!(clusters.apply_objects(&plugin(), false, PATIENCE).await.unwrap_err().kind(), ErrorKind::Denied);
    server.allow();
    assert!(!clusters.apply_objects(&plugin(), false, PATIENCE).await.unwrap()[0].is_kept);
    assert!(clusters.read_objects(&plugin()).await.unwrap()[0].is_some());
    assert_eq!(clusters.delete_objects(&plugin()).await.unwrap(), ["DaemonSet `gpu`"]);
    assert_eq!(clusters.read_objects(&plugin()).await.unwrap(), [None]);
    assert!(clusters.delete_objects(&plugin()).await.unwrap().is_empty());
}

#[tokio::test]
async fn definitions_of_kinds_are_never_deleted() {
    let (server, clusters) = bare().await;
    let objects = operator(&json!({}));
    clusters.apply_objects(&objects, true, PATIENCE).await.unwrap();
    let deleted = clusters.delete_objects(&objects).await.unwrap();
    assert_eq!(deleted.first().map(String::as_str), Some("Deployment `kuberay-operator`"));
    assert_eq!(deleted.len(), 5);
    assert_eq!(server.names("customresourcedefinitions", "").len(), 2);
    // The kinds are there, and nobody of the usual name acts on them.
    let left = clusters.operator().await.unwrap().unwrap();
    assert_eq!((left.version, left.is_available), (None, None));
}

#[tokio::test]
async fn an_api_server_that_fails_for_a_while_is_asked_again() {
    let (server, clusters) = bare().await;
    server.fault(airfreight_testkit::kube::KubeFault {
        path: "clusterroles".into(),
        times: 2,
        status: 503,
        ..Default::default()
    });
    server.restart(Duration::from_millis(100));
    assert_eq!(clusters.apply_objects(&operator(&json!({})), true, PATIENCE).await.unwrap().len(), 7);
}
