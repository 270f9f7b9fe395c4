//! Goal: in whatever order things happen and are heard of, who waits learns of the end, and nothing twice in a row.
//! Method: random histories of a cluster, its pods and events on a server whose watches are cut, forgotten and refused.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use airfreight_cluster::{Access, Clusters, Manifest, Place};
use airfreight_testkit::kube::{KubeFault, KubeOptions, KubeServer, Plot};
use proptest::prelude::*;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_mins(1);
const FOREIGN: &str = "somebody else's";

#[derive(Clone, Debug)]
enum Step {
    /// The operator says whether the head is ready.
    Head(bool),
    /// A pod of the cluster comes, or changes.
    Pod {
        name: &'static str,
        state: State,
    },
    PodGone(&'static str),
    /// A warning about one of its pods.
    Warning {
        pod: &'static str,
        text: u8,
    },
    /// A warning about, or a pod of, another cluster.
    Foreign,
    Scale(i64),
    /// Every watch ends.
    Cut {
        forget: bool,
    },
    /// The next requests are refused, or their connections closed.
    Fail {
        status: u16,
        times: u32,
    },
    Pause,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Pending,
    Unschedulable,
    Pulling,
    Running,
}

fn pod_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["demo-head", "demo-worker-a", "demo-worker-b"])
}

fn step() -> impl Strategy<Value = Step> {
    let state = prop::sample::select(vec![State::Pending, State::Unschedulable, State::Pulling, State::Running]);
    prop_oneof![
        2 => any::<bool>().prop_map(Step::Head),
        4 => (pod_name(), state).prop_map(|(name, state)| Step::Pod { name, state }),
        1 => pod_name().prop_map(Step::PodGone),
        2 => (pod_name(), 0..3u8).prop_map(|(pod, text)| Step::Warning { pod, text }),
        1 => Just(Step::Foreign),
        1 => (0..4i64).prop_map(Step::Scale),
        2 => any::<bool>().prop_map(|forget| Step::Cut { forget }),
        1 => (prop::sample::select(vec![0, 429, 503]), 1..3u32).prop_map(|(status, times)| Step::Fail { status, times }),
        3 => Just(Step::Pause),
    ]
}

fn pod(name: &str, state: State) -> Value {
    let role = if name.ends_with("head") { "head" } else { "worker" };
    let waiting = |reason: &str| json!([{"name": "ray", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason}}}]);
    let status = match state {
        State::Pending => json!({"phase": "Pending"}),
        State::Unschedulable => json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available",
        }]}),
        State::Pulling => json!({"phase": "Pending", "containerStatuses": waiting("ContainerCreating")}),
        State::Running => json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
    };
    json!({
        "metadata": {"name": name, "labels": {"ray.io/cluster": "demo", "ray.io/node-type": role}},
        "spec": {"containers": [{"name": "ray"}]}, "status": status,
    })
}

fn say(server: &KubeServer, head: bool, all: bool) {
    let Some(mut cluster) = server.object("rayclusters", "demo", "demo") else { return };
    let word = |is: bool| if is { "True" } else { "False" };
    cluster["status"] = json!({
        "observedGeneration": cluster["metadata"]["generation"],
        "conditions": [
            {"type": "HeadPodReady", "status": word(head)}, {"type": "RayClusterProvisioned", "status": word(all)},
        ],
    });
    server.put("rayclusters", "demo", cluster);
}

async fn perform(server: &KubeServer, step: &Step, number: usize) {
    match step {
        Step::Head(is_ready) => say(server, *is_ready, false),
        Step::Pod { name, state } => server.put("pods", "demo", pod(name, *state)),
        Step::PodGone(name) => server.remove("pods", "demo", name),
        Step::Warning { pod, text } => server.put(
            "events",
            "demo",
            json!({
                "metadata": {"name": format!("event-{number}")}, "type": "Warning", "reason": "Failed",
                "message": format!("trouble {text}"), "involvedObject": {"kind": "Pod", "name": pod},
            }),
        ),
        Step::Foreign => {
            server.put(
                "events",
                "demo",
                json!({
                    "metadata": {"name": format!("event-{number}")}, "type": "Warning", "reason": "Failed",
                    "message": FOREIGN, "involvedObject": {"kind": "Pod", "name": "other-head"},
                }),
            );
            let mut other = pod("other-head", State::Unschedulable);
            other["metadata"]["labels"]["ray.io/cluster"] = "other".into();
            other["status"]["conditions"][0]["message"] = FOREIGN.into();
            server.put("pods", "demo", other);
        }
        Step::Scale(replicas) => server.scale("demo", "demo", 0, *replicas),
        Step::Cut { forget } => server.cut_watches(*forget),
        Step::Fail { status, times } => {
            server.fault(KubeFault {
                path: "watch=true".into(),
                times: *times,
                status: *status,
                ..KubeFault::default()
            });
        }
        Step::Pause => tokio::time::sleep(Duration::from_millis(15)).await,
    }
}

async fn play(steps: &[Step]) -> Vec<String> {
    let plot = Plot { scenes: Vec::new(), ..Plot::default() };
    let server = KubeServer::start(KubeOptions { plot, ..KubeOptions::default() }).await.unwrap();
    let access = Access { place: Place::Text(server.kubeconfig().into()), ..Access::default() };
    let clusters = Clusters::connect(&access).await.unwrap();
    let group = json!({"rayStartParams": {}, "template": {"spec": {"containers": [{"name": "ray"}]}}});
    let mut workers = group.clone();
    (workers["groupName"], workers["replicas"]) = ("small".into(), 2.into());
    let description = json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "demo"},
        "spec": {"headGroupSpec": group, "workerGroupSpecs": [workers]},
    });
    clusters.apply(&Manifest::new(description).unwrap(), false, None, PATIENCE).await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&told);
    let waited = tokio::spawn(async move {
        clusters.wait_ready("demo", "demo", PATIENCE, move |saying| lines.lock().unwrap().push(saying.line)).await
    });
    for (number, step) in steps.iter().enumerate() {
        perform(&server, step, number).await;
    }
    assert!(!waited.is_finished(), "it was never ready");
    for name in ["demo-head", "demo-worker-a"] {
        server.put("pods", "demo", pod(name, State::Running));
    }
    say(&server, true, true);
    waited.await.unwrap().unwrap();
    std::mem::take(&mut *told.lock().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn the_end_is_heard_of_whatever_happens_before(steps in prop::collection::vec(step(), 0..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = runtime.block_on(play(&steps));
        prop_assert!(told.iter().all(|line| !line.contains(FOREIGN)), "{told:#?}");
        prop_assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:#?}");
        prop_assert!(told.iter().any(|line| line.starts_with("RayCluster demo: ")), "{told:#?}");
    }
}
