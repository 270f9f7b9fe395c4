//! `airfreight cluster …` against an API server without Kubernetes, with an operator that follows a script.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod host;
#[path = "../../airfreight-airflow/tests/server/mod.rs"]
mod server;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use airfreight_cluster::{Access, Attempt, Clusters, Manifest, Place};
use airfreight_testkit::kube::{KubeOptions, KubeServer, Plot, Scene};
use host::{Answer, DEPLOYMENT, Host, answer};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use server::{Request, Server};

const YAML: &str = "\
apiVersion: ray.io/v1
kind: RayCluster
metadata: {name: demo}
spec:
  rayVersion: '2.60.0'
  headGroupSpec:
    rayStartParams: {}
    template: {spec: {containers: [{name: ray-head, image: 'rayproject/ray:2.60.0'}]}}
";

/// An API server, and a host whose user has its kubeconfig where kubectl looks for it.
struct Set {
    host: Host,
    kube: KubeServer,
}

impl Set {
    async fn start(options: KubeOptions) -> Self {
        let set = Self { host: Host::empty(), kube: KubeServer::start(options).await.unwrap() };
        fs_err::create_dir(set.host.folder().join(".kube")).unwrap();
        fs_err::write(set.host.folder().join(".kube/config"), set.kube.kubeconfig()).unwrap();
        fs_err::write(set.host.folder().join("demo.yaml"), YAML).unwrap();
        set
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.bare();
        command.env("AIRFREIGHT_DEPLOYMENT", DEPLOYMENT).arg("cluster").args(arguments);
        command.current_dir(self.host.folder());
        command
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        answer(&mut self.command(arguments))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        answer(self.command(arguments).arg("--json")).json()
    }

    /// As a task makes a cluster for itself.
    async fn make(&self, name: &str, dag_id: &str, task_id: &str, deployment: &str) {
        let access = Access { place: Place::Text(self.kube.kubeconfig().into()), ..Access::default() };
        let description: Value = json!({
            "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": name},
            "spec": {"headGroupSpec": {"rayStartParams": {}, "template": {"spec": {"containers": [{"name": "ray"}]}}}},
        });
        let attempt = Attempt {
            dag_id: dag_id.into(),
            run_id: "run".into(),
            task_id: task_id.into(),
            map_index: -1,
            try_number: 1,
            deployment: deployment.into(),
        };
        let manifest = Manifest::new(description).unwrap().made_by(attempt);
        let clusters = Clusters::connect(&access).await.unwrap();
        clusters.apply(&manifest, false, Some("0123456789abcdef"), Duration::from_secs(9)).await.unwrap();
    }

    fn names(&self) -> Vec<String> {
        self.kube.names("rayclusters", "demo")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_made_looked_at_and_deleted() {
    let set = Set::start(KubeOptions::default()).await;
    let made = set.run(&["apply", "demo.yaml"]);
    let (_, told) = made.everything();
    made.success();
    assert!(told.starts_with("RayCluster demo in namespace demo: created\n"), "{told}");
    assert!(told.contains("RayCluster demo: it is ready\n"), "{told}");

    let status = set.json(&["status", "demo"]);
    assert_eq!((&status["is_ready"], &status["pods"][0]["status"]), (&json!(true), &json!("is ready")));
    assert_eq!(status["ways"][0]["urls"]["dashboard"], "http://demo-head-svc.demo.svc:8265");
    let text = set.run(&["status", "demo"]).success();
    assert!(text.contains("head") && text.contains("demo-head-abcde is ready"), "{text}");
    let all = set.run(&["status"]).success();
    assert!(all.starts_with("NAME") && all.contains("it is ready"), "{all}");

    let mut command = set.command(&["apply", "-", "--no-wait", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(YAML.replace("2.60.0", "2.61.0").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&outcome["outcome"], &outcome["is_ready"]), (&json!("updated"), &json!(false)));
    let kept = set.json(&["apply", "demo.yaml", "--keep"]);
    assert_eq!((&kept["outcome"], &kept["is_ready"]), (&json!("kept"), &json!(true)));

    assert_eq!(set.run(&["delete", "demo"]).success(), "RayCluster demo is gone\n");
    assert!(set.names().is_empty());
    let error = set.run(&["delete", "demo"]).failure(1);
    assert!(error.starts_with("error: there is no RayCluster `demo` in namespace demo\nhint: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_cluster_from_starting_is_told() {
    let scenes = vec![Scene::Pods, Scene::Crashing("No module named ray\n".into())];
    let set = Set::start(KubeOptions { plot: Plot { scenes, ..Plot::default() }, ..KubeOptions::default() }).await;
    let error = set.run(&["apply", "demo.yaml"]).failure(1);
    assert!(error.contains("pod demo-head-abcde (head) container `ray-head` has crashed 3 times"), "{error}");
    assert!(error.contains("its log ends with:\nNo module named ray\nhint: "), "{error}");

    fs_err::write(set.host.folder().join("wrong.yaml"), "a: [").unwrap();
    let error = set.run(&["apply", "wrong.yaml"]).failure(1);
    assert!(error.starts_with("error: cannot use the description in `wrong.yaml`: "), "{error}");
    let error = set.run(&["apply", "absent.yaml"]).failure(1);
    assert!(error.starts_with("error: cannot read the description of the cluster\n  because: "), "{error}");
    let error = set.run(&["status", "--kubeconfig", "absent"]).failure(1);
    assert!(
        error.contains("cannot use the kubeconfig `absent`") && error.contains("hint: give --kubeconfig"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_leads_to_the_head_until_a_signal() {
    let dashboard = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = dashboard.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in dashboard.incoming() {
            let _ = stream.unwrap().write_all(b"hello\n");
        }
    });
    let set = Set::start(KubeOptions { dashboard: Some(target), ..KubeOptions::default() }).await;
    set.run(&["apply", "demo.yaml"]).success();
    let mut command = set.command(&["forward", "demo", "--local-port", "0", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    let stream = std::net::TcpStream::connect(said["address"].as_str().unwrap()).unwrap();
    let mut words = String::new();
    BufReader::new(stream).read_line(&mut words).unwrap();
    assert_eq!(words, "hello\n");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Knows the DAG `d`, in whose run `run` the task `over` has failed and `retries` waits for its retry.
fn airflow(request: &Request) -> server::Answer {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/api/v2/dags/d") => server::Answer::Json(200, json!({ "dag_id": "d" })),
        ("POST", "/api/v2/dags/~/dagRuns/~/taskInstances/list") => {
            let asked = request.body["task_ids"].to_string();
            let row = |task: &str, state: &str| {
                json!({
                    "dag_id": "d", "dag_run_id": "run", "task_id": task, "map_index": -1, "state": state,
                })
            };
            let rows: Vec<Value> = [("over", "failed"), ("retries", "up_for_retry")]
                .iter()
                .filter(|(task, _)| asked.contains(&format!("\"{task}\"")))
                .map(|(task, state)| row(task, state))
                .collect();
            server::Answer::Json(200, json!({ "total_entries": rows.len(), "task_instances": rows }))
        }
        _ => server::Answer::Json(404, json!({ "detail": "Not Found" })),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_whose_tasks_are_over_go_and_all_others_stay() {
    let set = Set::start(KubeOptions::default()).await;
    let server = Server::start(|request, _| airflow(request));
    set.make("over", "d", "over", DEPLOYMENT).await;
    set.make("gone", "d", "deleted", DEPLOYMENT).await;
    set.make("retries", "d", "retries", DEPLOYMENT).await;
    set.make("hidden", "elsewhere", "over", DEPLOYMENT).await;
    set.make("foreign", "d", "over", "ffffffff").await;
    set.run(&["apply", "demo.yaml", "--no-wait"]).success();
    let url = server.url();
    let gc = |more: &[&str]| {
        let mut command = set.command(&["gc", "--json", "--api-url", &url]);
        answer(command.args(more).env("AIRFREIGHT_API_TOKEN", "s3cret"))
    };

    assert_eq!(gc(&[]).json()["kept"]["recent"], 2, "a moment ago they were made");
    let rehearsal = gc(&["--grace-minutes", "0", "--dry-run"]).json();
    assert_eq!(set.names().len(), 6);
    let report = gc(&["--grace-minutes", "0"]).json();
    assert_eq!(rehearsal["deleted"], report["deleted"]);
    assert_eq!(report["deleted"][0]["task"], "d.deleted run try 1");
    assert_eq!(report["deleted"][0]["why"], "its task is gone");
    assert_eq!(report["deleted"][1]["why"], "its task is over");
    assert_eq!(
        report["kept"],
        json!({
            "needed": 1, "recent": 0, "unknown": 1, "shared": 1, "elsewhere": 1, "ending": 0, "not_asked": 0,
        })
    );
    assert_eq!(report["doubts"][0]["dag_id"], "elsewhere");
    assert_eq!(set.names(), ["demo", "foreign", "hidden", "retries"]);

    let text = set.run(&["gc"]).success();
    assert!(text.contains("Airflow was not asked") && text.contains("not of one task"), "{text}");
    assert_eq!(set.json(&["gc", "--older-than", "1"])["kept"]["recent"], 3);
    assert_eq!(set.json(&["gc", "--older-than", "0"])["deleted"].as_array().unwrap().len(), 3);
    assert_eq!(set.names(), ["demo"], "what was not made for one task is nobody's to collect");
    let error = set.run(&["gc", "--older-than", "0", "--api-url", &url]).failure(2);
    assert!(error.contains("cannot be used with"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_nobody_waits_for_go_too() {
    let set = Set::start(KubeOptions::default()).await;
    let job = |name: &str, annotations: Value| {
        json!({
            "metadata": {
                "name": name, "annotations": annotations,
                "labels": {"app.kubernetes.io/managed-by": "airfreight", "airfreight/owner": "0123456789abcdef"},
            },
            "spec": {"rayClusterSpec": {"headGroupSpec": {}}},
        })
    };
    let attempt = json!({
        "dag_id": "d", "run_id": "run", "task_id": "over", "map_index": -1, "try_number": 1, "deployment": DEPLOYMENT,
    });
    set.kube.put("rayjobs", "demo", job("left", json!({"airfreight/attempt": attempt.to_string()})));
    // Its operator may leave it.
    set.kube.put("rayjobs", "demo", job("wished", json!({})));
    let server = Server::start(|request, _| airflow(request));
    let url = server.url();
    let gc = || {
        let mut command = set.command(&["gc", "--json", "--grace-minutes", "0", "--api-url", &url]);
        answer(command.env("AIRFREIGHT_API_TOKEN", "s3cret"))
    };
    let report = gc().json();
    assert_eq!(report["deleted"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!((&report["deleted"][0]["kind"], &report["deleted"][0]["name"]), (&json!("RayJob"), &json!("left")));
    assert!(set.kube.object("rayjobs", "demo", "wished").is_some());
    // Who may see clusters alone collects those.
    set.kube.deny("list", "rayjobs");
    let report = gc().json();
    assert!(report["jobs_denied"].as_str().unwrap().contains("rayjobs"), "{report}");
}
