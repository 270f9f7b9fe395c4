//! What the operator does with a `RayJob` or `RayService` that asks for it by an annotation. The sequences follow KubeRay
//! 1.7's source; without the annotation, somebody else writes what an operator would.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::shared::Shared;
use super::store::Key;

/// The annotation: `succeeds`, `fails`, `runs` or `refused` for a job, `serves` for a service.
const WORK: &str = "test/work";
/// The annotation of a cluster that says what becomes of it; a job's or service's goes to its cluster.
const SCRIPT: &str = "test/script";
const PLURALS: [&str; 2] = ["rayjobs", "rayservices"];

/// Begins to play all that asks for it and isn't `known` yet.
pub(super) fn look(shared: &Arc<Shared>, known: &mut Vec<String>) {
    for plural in PLURALS {
        let all = shared.store().all(plural);
        for (key, object) in all {
            let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let Some(work) = object["metadata"]["annotations"][WORK].as_str() else { continue };
            if !known.contains(&uid) {
                known.push(uid.clone());
                tokio::spawn(play(Play { shared: Arc::clone(shared), key, uid, work: work.to_owned() }));
            }
        }
    }
}

struct Play {
    shared: Arc<Shared>,
    key: Key,
    uid: String,
    work: String,
}

async fn play(play: Play) {
    // Again after each time that it was suspended.
    while play.run().await == Some(Turn::Suspended) {
        play.status(&json!({"jobDeploymentStatus": "Suspended", "jobStatus": "", "rayClusterName": "", "jobId": ""}));
        while play.object().is_some_and(|object| object["spec"]["suspend"] == true) {
            tokio::time::sleep(play.pause()).await;
        }
        play.status(&json!({"jobDeploymentStatus": ""}));
    }
}

#[derive(PartialEq)]
enum Turn {
    Over,
    Suspended,
}

impl Play {
    /// `None`: the object has gone.
    async fn run(&self) -> Option<Turn> {
        let object = self.object()?;
        if self.work == "refused" {
            self.status(&json!({
                "jobDeploymentStatus": "ValidationFailed", "reason": "ValidationFailed",
                "message": "The RayJob spec is invalid: backoffLimit must be a positive integer",
            }));
            return Some(Turn::Over);
        }
        let cluster = format!("{}-x7k2p", self.key.name);
        let is_job = self.key.plural == "rayjobs";
        let spec = object["spec"][if is_job { "rayClusterSpec" } else { "rayClusterConfig" }].clone();
        let owner = json!([{
            "apiVersion": "ray.io/v1", "kind": if is_job { "RayJob" } else { "RayService" }, "name": self.key.name,
            "uid": self.uid,
        }]);
        let mut metadata = json!({"name": cluster, "ownerReferences": owner});
        if let Some(script) = object["metadata"]["annotations"].get(SCRIPT) {
            metadata["annotations"] = json!({SCRIPT: script});
        }
        if is_job {
            self.status(&json!({
                "jobDeploymentStatus": "Initializing", "rayClusterName": cluster,
                "jobId": format!("{}-q9d4t", self.key.name),
            }));
        }
        self.shared.put("rayclusters", &self.key.namespace, json!({"metadata": metadata, "spec": spec}));
        loop {
            tokio::time::sleep(self.pause()).await;
            if self.object()?["spec"]["suspend"] == true {
                return Some(self.suspended(&cluster));
            }
            let found = self.shared.store().object(&Key::new("rayclusters", &self.key.namespace, &cluster)).cloned();
            let conditions = found.as_ref().and_then(|found| found["status"]["conditions"].as_array().cloned());
            let is_ready = |one: &Value| one["type"] == "HeadPodReady" && one["status"] == "True";
            if conditions.is_some_and(|conditions| conditions.iter().any(is_ready)) {
                break;
            }
        }
        if !is_job {
            return self.serve().await;
        }
        for (deployment, job) in [("Waiting", ""), ("Running", "PENDING"), ("Running", "RUNNING")] {
            self.status(&json!({"jobDeploymentStatus": deployment, "jobStatus": job}));
            tokio::time::sleep(self.pause()).await;
        }
        if self.work == "runs" {
            while self.object()?["spec"]["suspend"] != true {
                tokio::time::sleep(self.pause()).await;
            }
            return Some(self.suspended(&cluster));
        }
        self.object()?;
        self.status(&if self.work == "fails" {
            json!({
                "jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed",
                "message": "Job entrypoint command failed with exit code 3",
            })
        } else {
            json!({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"})
        });
        Some(Turn::Over)
    }

    async fn serve(&self) -> Option<Turn> {
        let application = |status: &str| json!({"applicationStatuses": {"default": {"status": status, "message": ""}}});
        self.status(&json!({"pendingServiceStatus": application("DEPLOYING")}));
        tokio::time::sleep(self.pause()).await;
        let object = self.object()?;
        let is_ready = self.work == "serves";
        self.status(&json!({
            "observedGeneration": object["metadata"]["generation"],
            "activeServiceStatus": application(if is_ready { "RUNNING" } else { "DEPLOY_FAILED" }),
            "pendingServiceStatus": null,
            "conditions": [{
                "type": "Ready", "status": if is_ready { "True" } else { "False" }, "reason": "Told", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:01Z",
            }],
        }));
        Some(Turn::Over)
    }

    fn suspended(&self, cluster: &str) -> Turn {
        self.shared.store().remove(&Key::new("rayclusters", &self.key.namespace, cluster));
        Turn::Suspended
    }

    fn object(&self) -> Option<Value> {
        let object = self.shared.store().object(&self.key).cloned();
        object.filter(|object| object["metadata"]["uid"] == self.uid.as_str())
    }

    fn status(&self, status: &Value) {
        self.shared.merge_status(&self.key, status);
    }

    fn pause(&self) -> Duration {
        self.shared.plot().pause
    }
}
