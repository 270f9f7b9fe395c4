//! Why a cluster isn't ready, from what Kubernetes says of it and its pods; without IO.

use std::time::Duration;

use serde_json::Value;

/// How a cluster or a pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    /// In a few words, for people; the same words as long as nothing changes.
    pub(crate) line: String,
    pub(crate) outlook: Outlook,
}

/// What comes of waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Nothing more to wait for.
    Ready,
    /// It may become ready.
    Waits,
    /// Something is wrong that may pass.
    Troubled,
    /// It won't become ready as things are, if this lasts so long.
    Hopeless {
        lasting: Duration,
        /// The container whose log says why.
        container: Option<String>,
    },
}

impl Reason {
    /// Whether something is wrong.
    pub(crate) fn is_problem(&self) -> bool {
        matches!(self.outlook, Outlook::Troubled | Outlook::Hopeless { .. })
    }

    fn ready(line: impl Into<String>) -> Self {
        Self { line: line.into(), outlook: Outlook::Ready }
    }

    fn waits(line: impl Into<String>) -> Self {
        Self { line: line.into(), outlook: Outlook::Waits }
    }

    fn troubled(line: impl Into<String>) -> Self {
        Self { line: line.into(), outlook: Outlook::Troubled }
    }

    fn hopeless(line: impl Into<String>, seconds: u64) -> Self {
        let lasting = Duration::from_secs(seconds);
        Self { line: line.into(), outlook: Outlook::Hopeless { lasting, container: None } }
    }
}

/// How a cluster stands by its conditions, or, where the operator is too old for them, by its state.
///
/// An autoscaled cluster is ready with its head: workers come when there is work.
pub(crate) fn of_cluster(object: &Value) -> Reason {
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    if metadata["deletionTimestamp"].is_string() {
        return Reason::hopeless("it is being deleted", 0);
    }
    if spec["suspend"] == true {
        return Reason::hopeless("it is suspended: `spec.suspend` is true", 0);
    }
    let is_seen = match (status["observedGeneration"].as_i64(), metadata["generation"].as_i64()) {
        (Some(observed), Some(generation)) => observed >= generation,
        _ => !status.is_null(),
    };
    if !is_seen {
        return Reason::waits("the KubeRay operator has not looked at it yet");
    }
    if let Some(failure) = condition(status, "ReplicaFailure", "True") {
        return Reason::hopeless(format!("the operator can't create its pods: {}", words(failure)), 0);
    }
    if !status["conditions"].is_array() {
        return match status["state"].as_str() {
            Some("ready") => Reason::ready("it is ready"),
            Some("failed") => {
                Reason::hopeless(format!("the operator says: {}", status["reason"].as_str().unwrap_or("failed")), 0)
            }
            _ => Reason::waits("its pods are starting"),
        };
    }
    let is_head_ready = condition(status, "HeadPodReady", "True").is_some();
    let is_whole = condition(status, "RayClusterProvisioned", "True").is_some();
    let is_autoscaled = spec["enableInTreeAutoscaling"] == true;
    match (is_head_ready, is_whole || is_autoscaled) {
        (true, true) => Reason::ready("it is ready"),
        (true, false) => {
            let count = |field: &str| status[field].as_i64().unwrap_or(0);
            let (ready, desired) = (count("readyWorkerReplicas"), count("desiredWorkerReplicas"));
            Reason::waits(format!("its head is ready, {ready} of {desired} workers are"))
        }
        (false, _) => Reason::waits("its head is starting"),
    }
}

/// How a pod stands.
pub(crate) fn of_pod(pod: &Value) -> Reason {
    let (metadata, status) = (&pod["metadata"], &pod["status"]);
    if metadata["deletionTimestamp"].is_string() {
        return Reason::waits("is being removed");
    }
    if let Some(scheduled) = condition(status, "PodScheduled", "False") {
        return Reason::troubled(format!("waits for a node: {}", words(scheduled)));
    }
    let containers =
        ["initContainerStatuses", "containerStatuses"].into_iter().filter_map(|list| status[list].as_array());
    for container in containers.flatten() {
        if let Some(reason) = of_container(container) {
            return reason;
        }
    }
    match status["phase"].as_str() {
        Some("Running") if condition(status, "Ready", "True").is_some() => Reason::ready("is ready"),
        Some("Running") => Reason::waits("runs, and is not ready yet"),
        Some("Failed") => Reason::troubled(format!("has failed: {}", words(status))),
        Some("Succeeded") => Reason::troubled("has ended"),
        _ => Reason::waits("is being prepared"),
    }
}

/// What is wrong with a container, if something is.
fn of_container(container: &Value) -> Option<Reason> {
    let waiting = &container["state"]["waiting"];
    let reason = waiting["reason"].as_str()?;
    let name = container["name"].as_str().unwrap_or_default();
    let message = waiting["message"].as_str().unwrap_or(reason);
    Some(match reason {
        "ContainerCreating" | "PodInitializing" => return None,
        // A registry may be down for a moment, and a secret may be on its way.
        "ErrImagePull" | "ImagePullBackOff" => Reason::hopeless(format!("cannot pull its image: {message}"), 60),
        "CreateContainerConfigError" | "CreateContainerError" => {
            Reason::hopeless(format!("cannot create container `{name}`: {message}"), 30)
        }
        "InvalidImageName" | "ErrImageNeverPull" => Reason::hopeless(format!("cannot use its image: {message}"), 0),
        "CrashLoopBackOff" => {
            let last = &container["lastState"]["terminated"];
            let restarts = container["restartCount"].as_i64().unwrap_or(0);
            let how = match (last["reason"].as_str(), last["exitCode"].as_i64()) {
                (Some("OOMKilled"), _) => "out of memory".to_owned(),
                (_, Some(code)) => format!("exit code {code}"),
                _ => "it is not said how".to_owned(),
            };
            Reason {
                line: format!("container `{name}` has crashed {} times ({how})", restarts.max(1)),
                outlook: Outlook::Hopeless { lasting: Duration::ZERO, container: Some(name.to_owned()) },
            }
        }
        _ => Reason::troubled(format!("container `{name}` waits: {message}")),
    })
}

/// A condition, if it is of this status.
fn condition<'a>(status: &'a Value, kind: &str, wanted: &str) -> Option<&'a Value> {
    let conditions = status["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind && condition["status"] == wanted)
}

/// The message, else the reason.
fn words(said: &Value) -> &str {
    let text = |field: &str| said[field].as_str().filter(|text| !text.is_empty());
    text("message").or(text("reason")).unwrap_or("Kubernetes gives no reason")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(autoscaled: bool, status: &Value) -> Reason {
        of_cluster(&json!({
            "metadata": {"generation": 2},
            "spec": {"enableInTreeAutoscaling": autoscaled},
            "status": status,
        }))
    }

    fn conditions(pairs: &[(&str, &str)]) -> Value {
        let list: Vec<Value> = pairs.iter().map(|(kind, status)| json!({"type": kind, "status": status})).collect();
        json!({"observedGeneration": 2, "desiredWorkerReplicas": 2, "readyWorkerReplicas": 1, "conditions": list})
    }

    #[test]
    fn a_cluster_is_ready_by_its_conditions() {
        let provisioned = conditions(&[("HeadPodReady", "True"), ("RayClusterProvisioned", "True")]);
        let head = conditions(&[("HeadPodReady", "True"), ("RayClusterProvisioned", "False")]);
        assert_eq!(cluster(false, &provisioned).outlook, Outlook::Ready);
        assert_eq!(cluster(true, &head).outlook, Outlook::Ready);
        assert_eq!(cluster(false, &head), Reason::waits("its head is ready, 1 of 2 workers are"));
        // Provisioned stays when the head dies.
        let dead = conditions(&[("HeadPodReady", "False"), ("RayClusterProvisioned", "True")]);
        assert_eq!(cluster(false, &dead), Reason::waits("its head is starting"));
    }

    #[test]
    fn what_the_operator_said_of_an_older_description_counts_for_nothing() {
        let mut old = conditions(&[("HeadPodReady", "True"), ("RayClusterProvisioned", "True")]);
        old["observedGeneration"] = json!(1);
        assert_eq!(cluster(false, &old).outlook, Outlook::Waits);
        assert_eq!(cluster(false, &Value::Null).outlook, Outlook::Waits);
    }

    #[test]
    fn an_operator_without_conditions_has_a_state() {
        assert_eq!(cluster(false, &json!({"observedGeneration": 2, "state": "ready"})).outlook, Outlook::Ready);
        assert_eq!(cluster(false, &json!({"observedGeneration": 2, "state": ""})).outlook, Outlook::Waits);
    }

    #[test]
    fn pods_that_cannot_be_created_end_the_wait() {
        let quota = json!({"observedGeneration": 2, "conditions": [{
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreateHeadPod",
            "message": "pods \"demo-head\" is forbidden: exceeded quota",
        }]});
        let reason = cluster(true, &quota);
        assert!(reason.line.ends_with("exceeded quota"), "{}", reason.line);
        assert!(matches!(reason.outlook, Outlook::Hopeless { .. }));
    }

    #[test]
    fn a_pod_says_what_it_waits_for() {
        let pod = |status: Value| of_pod(&json!({"metadata": {}, "status": status}));
        let waiting = |reason: &str, message: &str| {
            json!({"phase": "Pending", "containerStatuses": [{
                "name": "ray-head", "restartCount": 3, "lastState": {"terminated": {"exitCode": 1}},
                "state": {"waiting": {"reason": reason, "message": message}},
            }]})
        };
        let unschedulable = json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "1 Insufficient cpu.",
        }]});
        assert_eq!(pod(unschedulable), Reason::troubled("waits for a node: 1 Insufficient cpu."));
        assert_eq!(pod(waiting("ContainerCreating", "")), Reason::waits("is being prepared"));
        assert_eq!(pod(json!({"phase": "Pending"})), Reason::waits("is being prepared"));
        let image = pod(waiting("ImagePullBackOff", "Back-off pulling image \"x\""));
        assert_eq!(image, Reason::hopeless("cannot pull its image: Back-off pulling image \"x\"", 60));
        let crash = pod(waiting("CrashLoopBackOff", "back-off 5m0s"));
        assert_eq!(crash.line, "container `ray-head` has crashed 3 times (exit code 1)");
        assert!(matches!(crash.outlook, Outlook::Hopeless { container: Some(_), .. }));
        let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(pod(ready).outlook, Outlook::Ready);
        assert_eq!(pod(json!({"phase": "Running"})).outlook, Outlook::Waits);
    }
}
