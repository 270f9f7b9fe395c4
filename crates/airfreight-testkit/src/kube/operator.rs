//! An operator that does with `RayCluster`s what a script says. The sequences follow KubeRay 1.7's source.

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::{Value, json};

use super::shared::Shared;
use super::store::Key;
use super::{system, workloads};

/// The annotation by which a cluster asks for a script of its own.
const SCRIPT: &str = "test/script";

/// What becomes of clusters, by a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Script {
    /// They start without trouble.
    Healthy,
    /// They wait for a node first, and then start.
    Recovers,
    /// The head's image can't be pulled.
    ImagePull,
    /// No node has room for the head.
    Unschedulable,
    /// The namespace's quota forbids the head's pod.
    Quota,
    /// The head's container crashes again and again.
    CrashLoop,
    /// The head's pod is there and never gets ready.
    NeverReady,
    /// The operator doesn't look at them.
    Unseen,
}

impl Script {
    fn scenes(self) -> Vec<Scene> {
        let no_room = || {
            Scene::Unschedulable(
                "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption \
                 victims found for incoming pod."
                    .into(),
            )
        };
        let image = "rayproject/ray:no-such-tag";
        match self {
            Self::Healthy => vec![Scene::Pods, Scene::HeadReady, Scene::Provisioned],
            Self::Recovers => vec![Scene::Pods, no_room(), Scene::HeadReady, Scene::Provisioned],
            Self::ImagePull => vec![
                Scene::Pods,
                Scene::Waiting(
                    "ErrImagePull".into(),
                    format!("failed to resolve reference \"docker.io/{image}\": not found"),
                ),
                Scene::Waiting("ImagePullBackOff".into(), format!("Back-off pulling image \"{image}\"")),
            ],
            Self::Unschedulable => vec![Scene::Pods, no_room()],
            Self::Quota => vec![Scene::ReplicaFailure(
                "pods \"head\" is forbidden: exceeded quota: compute, requested: cpu=4, used: cpu=30, limited: cpu=32"
                    .into(),
            )],
            Self::CrashLoop => vec![
                Scene::Pods,
                Scene::Crashing(
                    "Traceback (most recent call last):\nModuleNotFoundError: No module named 'ray'\n".into(),
                ),
            ],
            Self::NeverReady => vec![Scene::Pods],
            Self::Unseen => Vec::new(),
        }
    }

    /// What becomes of them, with that much time between two scenes.
    #[must_use]
    pub fn plot(self, pause: Duration) -> Plot {
        Plot { scenes: self.scenes(), pause }
    }
}

/// What becomes of a cluster, scene after scene.
#[derive(Clone, Debug)]
pub struct Plot {
    /// In this order.
    pub scenes: Vec<Scene>,
    /// Between two of them.
    pub pause: Duration,
}

impl Default for Plot {
    /// A cluster that starts without trouble.
    fn default() -> Self {
        Script::Healthy.plot(Duration::from_millis(20))
    }
}

/// What happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Pods and the head's service are created.
    Pods,
    /// The head's pod runs and is ready.
    HeadReady,
    /// All pods are ready for the first time.
    Provisioned,
    /// A pod waits for a node, with this message.
    Unschedulable(String),
    /// The head's container waits, with reason and message.
    Waiting(String, String),
    /// The head's container crashes again and again, and leaves this log.
    Crashing(String),
    /// No pod can be created, with this message.
    ReplicaFailure(String),
}

/// Looks after the clusters of a server until it is aborted.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut changed = shared.changed();
    let mut known: Vec<String> = Vec::new();
    loop {
        let clusters = shared.store().all("rayclusters");
        // Without a plot somebody else writes what an operator would.
        let is_at_work = !shared.plot().scenes.is_empty();
        for (key, object) in clusters {
            let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            if !known.contains(&uid) {
                known.push(uid.clone());
                tokio::spawn(play(Arc::clone(&shared), key, uid));
            } else if is_at_work && !object["status"].is_null() {
                tend(&shared, &key, &uid, &object);
            }
        }
        workloads::look(&shared, &mut known);
        system::look(&shared, &mut known);
        shared.collect_garbage();
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Looks at a cluster again: its description may be another one by now, and its head's pod may be gone.
fn tend(shared: &Shared, key: &Key, uid: &str, object: &Value) {
    let (seen, generation) = (&object["status"]["observedGeneration"], &object["metadata"]["generation"]);
    if seen.as_i64() < generation.as_i64() {
        shared.merge_status(key, &json!({"observedGeneration": generation, "desiredWorkerReplicas": workers(object)}));
    }
    let conditions = object["status"]["conditions"].as_array();
    let had_head = conditions.into_iter().flatten().any(|one| one["type"] == "HeadPodReady" && one["status"] == "True");
    let head = object["status"]["head"]["podName"].as_str().unwrap_or_default();
    if had_head && shared.store().object(&Key::new("pods", &key.namespace, head)).is_none() {
        let last = head.chars().last().map_or('a', |last| if last == 'z' { 'a' } else { char::from(last as u8 + 1) });
        let next = format!("{}-head-abcd{last}", key.name);
        pods(shared, key, uid, &next);
        head_is_ready(shared, key, &next);
    }
}

/// How many workers a cluster wants.
fn workers(object: &Value) -> i64 {
    let groups = object["spec"]["workerGroupSpecs"].as_array().into_iter().flatten();
    groups.map(|group| group["replicas"].as_i64().unwrap_or(0)).sum()
}

fn head_is_ready(shared: &Shared, key: &Key, head: &str) {
    shared.merge_status(
        &Key::new("pods", &key.namespace, head),
        &json!({
            "phase": "Running", "podIP": "10.1.0.5", "hostIP": "127.0.0.1", "containerStatuses": null,
            "conditions": [{"type": "Ready", "status": "True"}],
        }),
    );
    let conditions = [("HeadPodReady", "True", ""), ("RayClusterProvisioned", "False", "")];
    status(shared, key, head, &conditions, 0);
}

async fn play(shared: Arc<Shared>, key: Key, uid: String) {
    let mut plot = shared.plot().clone();
    let asked = shared
        .store()
        .object(&key)
        .and_then(|object| object["metadata"]["annotations"][SCRIPT].as_str().map(str::to_owned));
    if let Some(script) = asked.and_then(|name| Script::from_str(&name, true).ok()) {
        plot.scenes = script.scenes();
    }
    for scene in plot.scenes {
        tokio::time::sleep(plot.pause).await;
        let is_there = shared.store().object(&key).is_some_and(|object| object["metadata"]["uid"] == uid.as_str());
        if !is_there {
            return;
        }
        perform(&shared, &key, &uid, &scene);
    }
}

fn perform(shared: &Shared, key: &Key, uid: &str, scene: &Scene) {
    let (namespace, head) = (key.namespace.clone(), format!("{}-head-abcde", key.name));
    let pod = |status: Value| shared.merge_status(&Key::new("pods", &namespace, &head), &status);
    let waiting = |reason: &str, message: &str, more: Value| {
        let mut container = json!({
            "name": "ray-head", "ready": false, "restartCount": 0, "image": "x", "imageID": "", "lastState": {},
            "state": {"waiting": {"reason": reason, "message": message}},
        });
        if let (Some(container), Some(more)) = (container.as_object_mut(), more.as_object()) {
            container.extend(more.clone());
        }
        json!({"phase": "Pending", "conditions": null, "containerStatuses": [container]})
    };
    match scene {
        Scene::Pods => pods(shared, key, uid, &head),
        Scene::HeadReady => head_is_ready(shared, key, &head),
        Scene::Provisioned => {
            let wanted = shared.store().object(key).map_or(0, workers);
            let conditions = [("HeadPodReady", "True", ""), ("RayClusterProvisioned", "True", "")];
            status(shared, key, &head, &conditions, wanted);
        }
        Scene::Unschedulable(message) => pod(json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        }]})),
        Scene::Waiting(reason, message) => pod(waiting(reason, message, json!({}))),
        Scene::Crashing(log) => {
            shared.logs().insert(head.clone(), log.clone());
            let last = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
            pod(waiting("CrashLoopBackOff", "back-off 10s", json!({"restartCount": 3, "lastState": last})));
        }
        Scene::ReplicaFailure(message) => {
            let conditions =
                [("HeadPodReady", "False", "Head Pod not found"), ("ReplicaFailure", "True", message.as_str())];
            status(shared, key, &head, &conditions, 0);
        }
    }
}

fn status(shared: &Shared, key: &Key, head: &str, conditions: &[(&str, &str, &str)], ready: i64) {
    let Some(object) = shared.store().object(key).cloned() else { return };
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(kind, status, message)| {
            json!({
                "type": kind, "status": status, "reason": "Told", "message": message,
                "lastTransitionTime": "2026-01-01T00:00:01Z",
            })
        })
        .collect();
    shared.merge_status(
        key,
        &json!({
            "observedGeneration": object["metadata"]["generation"],
            "desiredWorkerReplicas": workers(&object),
            "readyWorkerReplicas": ready,
            "head": {"podName": head, "serviceName": format!("{}-head-svc", key.name)},
            "conditions": conditions,
        }),
    );
}

fn pods(shared: &Shared, key: &Key, uid: &str, head: &str) {
    let owners = json!([{"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": key.name, "uid": uid}]);
    let labels = |role: &str| json!({"ray.io/cluster": key.name, "ray.io/node-type": role});
    shared.put(
        "pods",
        &key.namespace,
        json!({
            "metadata": {"name": head, "labels": labels("head"), "ownerReferences": owners},
            "spec": {"containers": [{"name": "ray-head"}]}, "status": {"phase": "Pending"},
        }),
    );
    let balancer = shared.options.load_balancer;
    let ports = json!([
        {"name": "gcs-server", "port": 6379},
        {"name": "dashboard", "port": balancer.map_or(8265, |address| address.port())},
        {"name": "client", "port": 10001},
    ]);
    let (kind, given) = match balancer {
        Some(address) => ("LoadBalancer", json!({"ingress": [{"ip": address.ip()}]})),
        None => ("ClusterIP", json!({})),
    };
    shared.put(
        "services",
        &key.namespace,
        json!({
            "metadata": {"name": format!("{}-head-svc", key.name), "ownerReferences": owners},
            "spec": {"type": kind, "clusterIP": "None", "ports": ports}, "status": {"loadBalancer": given},
        }),
    );
    let conditions = [("HeadPodReady", "False", "Head Pod not found"), ("RayClusterProvisioned", "False", "")];
    status(shared, key, head, &conditions, 0);
}
