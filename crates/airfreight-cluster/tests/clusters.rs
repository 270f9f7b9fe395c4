//! Goal: clusters become what their descriptions say, whoever else has a hand in them, and one learns why they don't.
//! Method: an API server without Kubernetes over real HTTP, with an operator that follows a script.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use airfreight_cluster::{Access, Attempt, ClusterError, Clusters, Kind, Manifest, Outcome, Place};
use airfreight_core::ErrorKind;
use airfreight_testkit::kube::{KubeFault, KubeOptions, KubeServer, Plot, Scene};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PATIENCE: Duration = Duration::from_secs(30);

fn description(maximum: i64) -> Value {
    json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "demo"},
        "spec": {
            "rayVersion": "2.60.0",
            "enableInTreeAutoscaling": true,
            "headGroupSpec": {"rayStartParams": {}, "template": {"spec": {"containers": [{"name": "ray-head"}]}}},
            "workerGroupSpecs": [{
                "groupName": "workers", "replicas": 1, "minReplicas": 0, "maxReplicas": maximum,
                "rayStartParams": {}, "template": {"spec": {"containers": [{"name": "ray-worker"}]}},
            }],
        },
    })
}

fn manifest(maximum: i64) -> Manifest {
    Manifest::new(description(maximum)).unwrap()
}

fn plot(scenes: Vec<Scene>) -> KubeOptions {
    KubeOptions { plot: Plot { scenes, ..Plot::default() }, ..KubeOptions::default() }
}

async fn reach(server: &KubeServer) -> Clusters {
    let place = Place::Text(server.kubeconfig().into());
    let access = Access { place, patience: Duration::from_secs(3), ..Access::default() };
    Clusters::connect(&access).await.unwrap()
}

/// Applies and waits; answers what was told, and the end.
async fn started(server: &KubeServer, patience: Duration) -> (Vec<String>, Result<(), ClusterError>) {
    let clusters = reach(server).await;
    clusters.apply(&manifest(5), false, None, PATIENCE).await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&told);
    let end =
        clusters.wait_ready("demo", "demo", patience, move |saying| lines.lock().unwrap().push(saying.line)).await;
    let told = told.lock().unwrap().clone();
    (told, end.map(drop))
}

fn replicas(server: &KubeServer) -> i64 {
    server.object("rayclusters", "demo", "demo").unwrap()["spec"]["workerGroupSpecs"][0]["replicas"].as_i64().unwrap()
}

#[tokio::test]
async fn a_cluster_is_created_becomes_ready_and_is_removed() {
    let server = KubeServer::start(KubeOptions::default()).await.unwrap();
    let clusters = reach(&server).await;
    let (known, outcome) = clusters.apply(&manifest(5), false, Some("0123456789abcdef"), PATIENCE).await.unwrap();
    assert_eq!(
        (outcome, known.namespace.as_str(), known.owner.as_deref()),
        (Outcome::Created, "demo", Some("0123456789abcdef"))
    );
    assert!(known.is_ours());
    let ready = clusters.wait_ready("demo", "demo", PATIENCE, |_| {}).await.unwrap();
    assert_eq!(ready.uid, known.uid);
    let listed = clusters.list("demo", Some("0123456789abcdef")).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(clusters.list("demo", Some("other")).await.unwrap().is_empty());
    assert!(clusters.delete("demo", "demo", Some(&known.uid)).await.unwrap());
    clusters.wait_gone("demo", "demo", Some(&known.uid), PATIENCE).await.unwrap();
    assert!(server.names("pods", "demo").is_empty());
    assert!(!clusters.delete("demo", "demo", None).await.unwrap());
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_and_what_has_keeps_the_autoscalers_work() {
    // Without an operator, whose writing in between would be a reason to send it again.
    let server = KubeServer::start(plot(Vec::new())).await.unwrap();
    let clusters = reach(&server).await;
    clusters.apply(&manifest(5), true, None, PATIENCE).await.unwrap();
    server.scale("demo", "demo", 0, 4);
    let (_, same) = clusters.apply(&manifest(5), true, None, PATIENCE).await.unwrap();
    assert_eq!((same, replicas(&server)), (Outcome::Unchanged, 4));
    let (_, kept) = clusters.apply(&manifest(8), false, None, PATIENCE).await.unwrap();
    assert_eq!(kept, Outcome::Kept);
    let (known, updated) = clusters.apply(&manifest(8), true, None, PATIENCE).await.unwrap();
    assert_eq!((updated, replicas(&server)), (Outcome::Updated, 4));
    assert_eq!(known.object["spec"]["workerGroupSpecs"][0]["maxReplicas"], 8);
    let (_, clamped) = clusters.apply(&manifest(2), true, None, PATIENCE).await.unwrap();
    assert_eq!((clamped, replicas(&server)), (Outcome::Updated, 2));
    assert_eq!(server.seen().iter().filter(|seen| seen.method == "PATCH").count(), 3);
}

#[tokio::test]
async fn a_cluster_that_is_ending_is_waited_for_and_made_anew() {
    let server = KubeServer::start(KubeOptions::default()).await.unwrap();
    let clusters = reach(&server).await;
    let (old, _) = clusters.apply(&manifest(5), false, None, PATIENCE).await.unwrap();
    let mut held = server.object("rayclusters", "demo", "demo").unwrap();
    held["metadata"]["finalizers"] = json!(["test/held"]);
    server.put("rayclusters", "demo", held);
    clusters.delete("demo", "demo", None).await.unwrap();
    let brief = clusters.apply(&manifest(5), false, None, Duration::from_millis(300)).await;
    assert!(matches!(brief, Err(ClusterError::NotGone { .. })), "{brief:?}");
    let again = tokio::spawn({
        let clusters = clusters.clone();
        async move { clusters.apply(&manifest(5), false, None, PATIENCE).await }
    });
    let mut freed = server.object("rayclusters", "demo", "demo").unwrap();
    freed["metadata"]["finalizers"] = json!([]);
    server.put("rayclusters", "demo", freed);
    clusters.delete("demo", "demo", None).await.unwrap();
    let (new, outcome) = again.await.unwrap().unwrap();
    assert_eq!(outcome, Outcome::Created);
    assert_ne!(new.uid, old.uid);
    assert!(!clusters.delete("demo", "demo", Some(&old.uid)).await.unwrap(), "the new one is another");
}

#[tokio::test]
async fn waiting_says_why_a_line_for_each_change() {
    let scenes = vec![
        Scene::Pods,
        Scene::Unschedulable("0/1 nodes are available: 1 Insufficient cpu.".into()),
        Scene::Waiting("ImagePullBackOff".into(), "Back-off pulling image \"x\"".into()),
        Scene::HeadReady,
    ];
    let server = KubeServer::start(plot(scenes)).await.unwrap();
    let (told, end) = started(&server, PATIENCE).await;
    end.unwrap();
    let has = |words: &str| told.iter().any(|line| line.contains(words));
    assert!(has("pod demo-head-abcde (head) waits for a node: 0/1 nodes"), "{told:#?}");
    assert!(has("cannot pull its image"), "{told:#?}");
    let mut once = told.clone();
    once.dedup();
    assert_eq!(once, told);
}

#[tokio::test]
async fn a_crash_ends_the_wait_with_the_last_lines_of_the_log() {
    let scenes = vec![Scene::Pods, Scene::Crashing("ray start\nNo module named ray\n".into())];
    let server = KubeServer::start(plot(scenes)).await.unwrap();
    let (_, end) = started(&server, PATIENCE).await;
    let error = end.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("container `ray-head` has crashed 3 times (exit code 1)"), "{said}");
    assert!(said.ends_with("No module named ray"), "{said}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_quota_ends_the_wait() {
    let scenes = vec![Scene::ReplicaFailure("pods \"demo-head\" is forbidden: exceeded quota".into())];
    let server = KubeServer::start(plot(scenes)).await.unwrap();
    let (_, end) = started(&server, PATIENCE).await;
    let said = end.unwrap_err().to_string();
    assert!(said.ends_with("exceeded quota"), "{said}");
}

#[tokio::test]
async fn patience_ends_with_what_was_waited_for() {
    let server = KubeServer::start(plot(vec![Scene::Pods, Scene::Unschedulable("no room".into())])).await.unwrap();
    let clusters = reach(&server).await;
    clusters.apply(&manifest(5), false, None, PATIENCE).await.unwrap();
    let conditions = || server.object("pods", "demo", "demo-head-abcde").map(|pod| pod["status"]["conditions"].clone());
    while conditions().is_none_or(|conditions| conditions.is_null()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let end = clusters.wait_ready("demo", "demo", Duration::from_secs(3), |_| {}).await;
    let said = end.unwrap_err().to_string();
    assert!(said.contains("is not ready after 3 s") && said.contains("waits for a node: no room"), "{said}");
}

#[tokio::test]
async fn watches_survive_cuts_and_forgetful_servers() {
    let scenes =
        vec![Scene::Pods, Scene::Unschedulable("a".into()), Scene::Unschedulable("b".into()), Scene::HeadReady];
    let options = KubeOptions { plot: Plot { scenes, pause: Duration::from_millis(150) }, ..KubeOptions::default() };
    let server = Arc::new(KubeServer::start(options).await.unwrap());
    let cutting = tokio::spawn({
        let server = Arc::clone(&server);
        async move {
            for round in 0.. {
                tokio::time::sleep(Duration::from_millis(40)).await;
                server.cut_watches(round % 2 == 1);
            }
        }
    });
    let (_, end) = started(&server, PATIENCE).await;
    cutting.abort();
    end.unwrap();
}

#[tokio::test]
async fn failures_that_pass_are_waited_out() {
    let server = KubeServer::start(KubeOptions::default()).await.unwrap();
    for status in [503, 429, 0] {
        server.fault(KubeFault { path: "rayclusters".into(), times: 1, status, ..KubeFault::default() });
    }
    let (_, end) = started(&server, PATIENCE).await;
    end.unwrap();
    server.fault(KubeFault { path: "rayclusters".into(), times: u32::MAX, status: 503, ..KubeFault::default() });
    let error = reach(&server).await.get("demo", "demo").await.unwrap_err();
    assert!(matches!(error, ClusterError::Unavailable { attempts: 2.., .. }), "{error:?}");
}

#[tokio::test]
async fn without_the_right_to_see_pods_one_can_still_wait() {
    let plot = Plot { pause: Duration::from_millis(300), ..Plot::default() };
    let server = KubeServer::start(KubeOptions { plot, ..KubeOptions::default() }).await.unwrap();
    server.deny("list", "pods");
    server.deny("list", "events");
    let (told, end) = started(&server, PATIENCE).await;
    end.unwrap();
    assert!(told.iter().any(|line| line.contains("cannot list resource \"pods\"")), "{told:#?}");
}

#[tokio::test]
async fn refusals_name_the_missing_right() {
    let server = KubeServer::start(KubeOptions::default()).await.unwrap();
    server.deny("patch", "rayclusters");
    let error = reach(&server).await.apply(&manifest(5), false, None, PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("cannot patch resource \"rayclusters\" in API group \"ray.io\""), "{error}");
}

#[tokio::test]
async fn a_wrong_field_is_named_and_not_tried_again() {
    let server = KubeServer::start(KubeOptions::default()).await.unwrap();
    let mut wrong = description(5);
    wrong["spec"]["rayVersionX"] = json!("1");
    let clusters = reach(&server).await;
    let error = clusters.apply(&Manifest::new(wrong).unwrap(), false, None, PATIENCE).await.unwrap_err();
    assert!(error.to_string().ends_with(".spec.rayVersionX: field not declared in schema"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(server.seen().iter().filter(|seen| seen.method == "PATCH").count(), 1);
}

#[tokio::test]
async fn without_the_operator_nobody_would_act() {
    let server = KubeServer::start(KubeOptions { has_operator: false, ..KubeOptions::default() }).await.unwrap();
    let clusters = reach(&server).await;
    assert!(!clusters.has_operator().await.unwrap());
    let error = clusters.apply(&manifest(5), false, None, PATIENCE).await.unwrap_err();
    assert!(matches!(error, ClusterError::NoOperator { .. }), "{error:?}");
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_never_shown() {
    let options = KubeOptions { token: Some("right-token".into()), ..KubeOptions::default() };
    let server = KubeServer::start(options).await.unwrap();
    assert!(reach(&server).await.has_operator().await.unwrap());
    let wrong = server.kubeconfig().replace("right-token", "wrong-token");
    let access = Access { place: Place::Text(wrong.into()), ..Access::default() };
    assert!(!format!("{access:?}").contains("wrong-token"));
    let error = Clusters::connect(&access).await.unwrap().get("demo", "demo").await.unwrap_err();
    assert!(matches!(error, ClusterError::Denied { status: 401, .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("wrong-token"));
}

#[tokio::test]
async fn the_head_is_reached_through_the_api_server() {
    let dashboard = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = dashboard.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in dashboard.incoming() {
            let mut stream = stream.unwrap();
            let mut line = [0; 5];
            // The trial connection says nothing.
            if stream.read_exact(&mut line).is_ok() {
                stream.write_all(&line).unwrap();
            }
        }
    });
    let server = KubeServer::start(KubeOptions { dashboard: Some(address), ..KubeOptions::default() }).await.unwrap();
    let (_, end) = started(&server, PATIENCE).await;
    end.unwrap();
    let clusters = reach(&server).await;
    assert!(clusters.open_way("demo", "demo", Duration::from_millis(300)).await.unwrap().is_none());
    let forward = clusters.forward("demo", "demo", 8265, 0).await.unwrap();
    for words in [b"hello", b"again"] {
        let mut stream = tokio::net::TcpStream::connect(forward.address()).await.unwrap();
        stream.write_all(words).await.unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, words);
    }
    let address = forward.address();
    drop(forward);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.deny("create", "pods/portforward");
    let error = clusters.forward("demo", "demo", 8265, 0).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn who_has_made_a_cluster_stands_on_it_and_stays() {
    let server = KubeServer::start(KubeOptions::default()).await.unwrap();
    let clusters = reach(&server).await;
    let attempt = |try_number| Attempt {
        dag_id: "d".into(),
        run_id: "manual__2026-11-21T03:41:27+00:00".into(),
        task_id: "t".into(),
        map_index: -1,
        try_number,
        deployment: "0f1e2d3c".into(),
    };
    let (known, _) = clusters.apply(&manifest(5).made_by(attempt(1)), false, Some("o"), PATIENCE).await.unwrap();
    assert_eq!(known.attempt(), Some(attempt(1)));
    assert_eq!(known.object["metadata"]["labels"]["airfreight/run"], "manual__2026-11-21T03_41_27_00_00");
    let (known, same) = clusters.apply(&manifest(5).made_by(attempt(2)), true, Some("o"), PATIENCE).await.unwrap();
    assert_eq!((same, known.attempt()), (Outcome::Unchanged, Some(attempt(1))));
    let (known, updated) = clusters.apply(&manifest(8), true, Some("o"), PATIENCE).await.unwrap();
    assert_eq!((updated, known.attempt(), known.owner.as_deref()), (Outcome::Updated, Some(attempt(1)), Some("o")));
    for other in [None, Some("other")] {
        let refused = clusters.apply(&manifest(8), true, other, PATIENCE).await.unwrap_err();
        assert!(matches!(refused, ClusterError::Owned { .. }), "{refused}");
        assert_eq!(refused.kind(), ErrorKind::Conflict);
    }
    let ready = clusters.wait_ready("demo", "demo", PATIENCE, |_| {}).await.unwrap();
    assert!(ready.is_ready() && !ready.standing().is_problem);
    let pods = clusters.pods("demo", "demo").await.unwrap();
    assert_eq!((pods[0].role.as_str(), pods[0].line.as_str()), ("head", "is ready"));
}

#[tokio::test]
async fn what_the_schema_refuses_is_named_by_its_place() {
    let server = Arc::new(KubeServer::start(KubeOptions::default()).await.unwrap());
    let clusters = reach(&server).await;
    let cases = [
        ("/spec/headGroupSpec/template/spec/containers/0/imagePullPolice", json!("Always")),
        ("/spec/workerGroupSpecs/0/maxReplica", json!(3)),
        ("/spec/workerGroupSpecs/0/maxReplicas", json!("three")),
        ("/spec/headGroupSpec/template/spec/containers", json!({})),
        ("/spec/headGroupSpec/template", Value::Null),
    ];
    for (place, value) in cases {
        let mut wrong = description(5);
        let (parent, field) = place.rsplit_once('/').unwrap();
        wrong.pointer_mut(parent).unwrap()[field] = value;
        let manifest = Manifest::new(wrong).unwrap();
        let refused = clusters.apply(&manifest, false, None, PATIENCE).await.unwrap_err();
        let named = place[1..].replace("/0", "[0]").replace('/', ".");
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        assert!(refused.to_string().contains(&named), "{named}: {refused}");
        assert!(server.object("rayclusters", "demo", "demo").is_none());
    }
}

#[tokio::test]
async fn a_job_is_followed_to_its_end() {
    let server = Arc::new(KubeServer::start(KubeOptions::default()).await.unwrap());
    let clusters = reach(&server).await;
    let description = json!({
        "apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "job"},
        "spec": {"entrypoint": "python x.py", "rayClusterSpec": description(1)["spec"]},
    });
    let manifest = Manifest::of(Kind::Job, description).unwrap();
    let (_, outcome) = clusters.apply(&manifest, false, None, PATIENCE).await.unwrap();
    assert_eq!(outcome, Outcome::Created);
    let told = Arc::new(Mutex::new(Vec::new()));
    let following = tokio::spawn({
        let (clusters, told) = (clusters.clone(), Arc::clone(&told));
        async move { clusters.wait_job("demo", "job", PATIENCE, move |saying| told.lock().unwrap().push(saying.line)).await }
    });
    for (deployment, job, reason) in [("Running", "RUNNING", ""), ("Failed", "FAILED", "AppFailed")] {
        let mut object = server.object("rayjobs", "demo", "job").unwrap();
        object["status"] = json!({"jobDeploymentStatus": deployment, "jobStatus": job, "reason": reason});
        server.put("rayjobs", "demo", object);
        while deployment == "Running" && !told.lock().unwrap().iter().any(|line| line == "RayJob job runs") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let end = following.await.unwrap().unwrap();
    assert_eq!((end.is_success, end.status.as_deref(), end.why.as_deref()), (false, Some("FAILED"), Some("AppFailed")));
    assert!(clusters.suspend(Kind::Job, "demo", "job", true).await.unwrap());
    assert_eq!(server.object("rayjobs", "demo", "job").unwrap()["spec"]["suspend"], true);
    assert!(clusters.delete_of(Kind::Job, "demo", "job", None).await.unwrap());
    let error = clusters.wait_job("demo", "job", PATIENCE, |_| {}).await.unwrap_err();
    assert!(matches!(error, ClusterError::Missing { kind: "RayJob", .. }), "{error:?}");
}

#[tokio::test]
async fn a_changed_description_is_waited_for() {
    let server = KubeServer::start(KubeOptions::default()).await.unwrap();
    let (_, end) = started(&server, PATIENCE).await;
    end.unwrap();
    let clusters = reach(&server).await;
    clusters.apply(&manifest(8), true, None, PATIENCE).await.unwrap();
    let ready = clusters.wait_ready("demo", "demo", PATIENCE, |_| {}).await.unwrap();
    assert_eq!(ready.object["status"]["observedGeneration"], 2);
}

#[tokio::test]
async fn a_server_that_restarts_is_waited_for() {
    let plot = Plot { pause: Duration::from_millis(200), ..Plot::default() };
    let server = KubeServer::start(KubeOptions { plot, ..KubeOptions::default() }).await.unwrap();
    let clusters = reach(&server).await;
    clusters.apply(&manifest(5), false, None, PATIENCE).await.unwrap();
    server.restart(Duration::from_millis(300));
    clusters.wait_ready("demo", "demo", PATIENCE, |_| {}).await.unwrap();
}

#[tokio::test]
async fn a_forward_finds_a_head_that_was_replaced() {
    let dashboard = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = dashboard.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in dashboard.incoming() {
            let _ = stream.unwrap().write_all(b"hello");
        }
    });
    let server = KubeServer::start(KubeOptions { dashboard: Some(address), ..KubeOptions::default() }).await.unwrap();
    let (_, end) = started(&server, PATIENCE).await;
    end.unwrap();
    let forward = reach(&server).await.forward("demo", "demo", 8265, 0).await.unwrap();
    let greeting = || async {
        let mut stream = tokio::net::TcpStream::connect(forward.address()).await.unwrap();
        let mut words = Vec::new();
        let _ = stream.read_to_end(&mut words).await;
        words
    };
    assert_eq!(greeting().await, b"hello");
    server.remove("pods", "demo", "demo-head-abcde");
    while server.object("pods", "demo", "demo-head-abcdf").is_none_or(|pod| pod["status"]["phase"] != "Running") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(greeting().await, b"hello");
    server.restart(Duration::ZERO);
    // One that connects while nobody answers sees its connection close, as with any server that restarts.
    while greeting().await != b"hello" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_load_balancer_is_a_way() {
    let server = KubeServer::start(KubeOptions::default()).await.unwrap();
    let (_, end) = started(&server, PATIENCE).await;
    end.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut service = server.object("services", "demo", "demo-head-svc").unwrap();
    service["spec"]["ports"] = json!([{"name": "dashboard", "port": port}, {"name": "client", "port": 10001}]);
    service["status"]["loadBalancer"] = json!({"ingress": [{"ip": "127.0.0.1"}]});
    server.put("services", "demo", service);
    let way = reach(&server).await.open_way("demo", "demo", Duration::from_secs(1)).await.unwrap().unwrap();
    assert_eq!((way.kind.as_str(), way.dashboard()), ("load_balancer", Some(&*format!("http://127.0.0.1:{port}"))));
    assert_eq!(way.urls["client"], "http://127.0.0.1:10001");
}

#[tokio::test]
async fn the_token_of_a_cluster_comes_from_its_secret() {
    let server = KubeServer::start(KubeOptions::default()).await.unwrap();
    let mut description = description(5);
    description["spec"]["authOptions"] = json!({"mode": "token"});
    let clusters = reach(&server).await;
    let manifest = Manifest::new(description).unwrap();
    let (known, _) = clusters.apply(&manifest, false, None, PATIENCE).await.unwrap();
    assert!(clusters.token(&known).await.unwrap().is_none());
    let secret = json!({"metadata": {"name": "demo"}, "data": {"auth_token": "ZXhhbXBsZS1vbmx5"}});
    server.put("secrets", "demo", secret);
    let token = clusters.token(&known).await.unwrap().unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&token), "example-only");
}
