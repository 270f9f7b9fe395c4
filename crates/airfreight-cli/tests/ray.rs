//! `airfreight ray …` against a dashboard that follows scripts. A real Ray, and Ctrl-C at a terminal: tests/cli.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod host;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use airfreight_testkit::dashboard::{Dashboard, Fault, JobScript, Options, Word};
use host::{Answer, Host, answer};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// The binary, told where the dashboard is.
fn ray(host: &Host, dashboard: &Dashboard, arguments: &[&str]) -> Command {
    let mut command = host.bare();
    command.env("RAY_ADDRESS", dashboard.address()).arg("ray").args(arguments).current_dir(host.folder());
    command
}

fn run(dashboard: &Dashboard, arguments: &[&str]) -> Answer {
    answer(&mut ray(&Host::empty(), dashboard, arguments))
}

fn json(dashboard: &Dashboard, arguments: &[&str]) -> Value {
    answer(ray(&Host::empty(), dashboard, arguments).arg("--json")).json()
}

async fn dashboard() -> Dashboard {
    Dashboard::start(Options::default()).await.unwrap()
}

/// A job with an end after a moment.
fn ends(word: Word) -> JobScript {
    JobScript { states: vec![(0, Word::Pending), (20, Word::Running), (80, word)], ..JobScript::default() }
}

/// A job without an end.
fn runs() -> JobScript {
    JobScript { states: vec![(0, Word::Running)], log: "at work\n".into(), ..JobScript::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_shows_the_log_and_ends_as_the_job_does() {
    let dashboard = dashboard().await;
    let log = "\x1b[32mgreen\x1b[0m\n  indented\n\x1eairfreight 1 {}\n";
    dashboard.script_submissions(JobScript {
        log: log.into(),
        log_end: "the end".into(),
        exit_code: Some(3),
        ..ends(Word::Failed)
    });
    let answer = run(&dashboard, &["submit", "--submission-id", "x", "--", "python", "-c", "a b"]);
    let (out, err) = answer.everything();
    assert!(out.ends_with("job x: python -c 'a b'\n\x1b[32mgreen\x1b[0m\n  indented\nthe end\n"), "{out}");
    assert!(err.starts_with(&format!("submitted job x: {}/#/jobs/x\n", dashboard.address())), "{err}");
    assert!(err.contains("\njob x failed with exit code 3 after "), "{err}");
    answer.failure(3);

    dashboard.script_submissions(JobScript { log: "five\n".into(), ..ends(Word::Succeeded) });
    let out = run(&dashboard, &["submit", "--json", "--", "true"]).success();
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[2], json!({"line": "five"}));
    assert_eq!(lines[3]["job"]["status"], "SUCCEEDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_has_its_exit_code() {
    let dashboard = dashboard().await;
    let submit = |script: JobScript| {
        dashboard.script_submissions(script);
        run(&dashboard, &["submit", "--", "x"])
    };
    submit(ends(Word::Stopped)).failure(143);
    submit(JobScript { exit_code: Some(-9), ..ends(Word::Failed) }).failure(137);
    let broken = JobScript {
        error_type: Some("RUNTIME_ENV_SETUP_FAILURE".into()),
        message: Some("no such package: nopandas".into()),
        ..ends(Word::Failed)
    };
    let error = submit(broken).failure(1);
    assert!(error.ends_with("\n  because: no such package: nopandas\n"), "{error}");

    // How it ends can't be known.
    dashboard.fault(Fault { path: "^/api/jobs/$".into(), status: Some(400), body: "no".into(), ..Fault::default() });
    let error = submit(runs()).failure(125);
    assert!(error.contains("error: cannot submit job") && error.contains("answered 400: no"), "{error}");
    dashboard.mend();
    let mut nowhere = Host::empty().bare();
    nowhere.args(["ray", "submit", "--address", "http://127.0.0.1:9", "--patience", "0.1", "--", "x"]);
    let error = answer(&mut nowhere).failure(125);
    assert!(error.contains("no answer from http://127.0.0.1:9") && error.contains("hint: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_what_the_command_line_says() {
    let dashboard = dashboard().await;
    let host = Host::empty();
    let folder = host.folder().join("work");
    fs_err::create_dir(&folder).unwrap();
    fs_err::write(folder.join("train.py"), "print(5)").unwrap();
    fs_err::write(host.folder().join("env.yaml"), "pip: [a, b]\nworking_dir: elsewhere\n").unwrap();
    let arguments = [
        "submit",
        "--no-wait",
        "--submission-id=x",
        "--runtime-env=env.yaml",
        "--working-dir=work",
        r#"--metadata-json={"team": "a"}"#,
        "--entrypoint-num-cpus=0.5",
        "--entrypoint-num-gpus=1",
        "--entrypoint-memory=1000",
        r#"--entrypoint-resources={"tpu": 2}"#,
        r#"--entrypoint-label-selector={"zone": "b"}"#,
        "--",
        "python train.py | tee log",
    ];
    assert_eq!(answer(&mut ray(&host, &dashboard, &arguments)).success(), "x\n");
    let mut submitted = dashboard.submission("x").unwrap();
    let package = submitted["runtime_env"]["working_dir"].take();
    let nonce = submitted["metadata"].as_object_mut().unwrap().remove("airfreight_nonce");
    assert!(nonce.is_some());
    assert_eq!(
        submitted,
        json!({
            "submission_id": "x",
            "entrypoint": "python train.py | tee log",
            "runtime_env": {"pip": ["a", "b"], "working_dir": null},
            "metadata": {"team": "a"},
            "entrypoint_num_cpus": 0.5,
            "entrypoint_num_gpus": 1,
            "entrypoint_memory": 1000,
            "entrypoint_resources": {"tpu": 2},
            "entrypoint_label_selector": {"zone": "b"},
        })
    );
    let packages = dashboard.packages();
    assert_eq!(package, format!("gcs://{}", packages[0].name));

    // What the cluster has is not uploaded again.
    let again = ["submit", "--no-wait", "--json", "--working-dir=work", "--", "true"];
    let answer = answer(&mut ray(&host, &dashboard, &again)).json();
    assert_eq!(answer["url"], format!("{}/#/jobs/{}", dashboard.address(), answer["submission_id"].as_str().unwrap()));
    assert_eq!((dashboard.packages().len(), dashboard.packages()[0].uploads), (1, 1));

    for (wrong, words) in [
        (vec!["submit"], "required"),
        (vec!["submit", "--metadata-json", "{\"a\": 1}", "--", "x"], "the value of `a` is not a text"),
        (vec!["submit", "--runtime-env-json", "[]", "--", "x"], "not a JSON object"),
        (vec!["submit", "--entrypoint-num-cpus=-1", "--", "x"], "not a number of 0 or more"),
        (vec!["list", "--status", "DONE"], "not one of PENDING, RUNNING"),
    ] {
        let error = run(&dashboard, &wrong).failure(2);
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_found_where_ray_has_it_and_goes_to_none_else() {
    let options = Options { token: Some("geheim".into()), ..Options::default() };
    let dashboard = Dashboard::start(options).await.unwrap();
    let host = Host::empty();
    let list = || ray(&host, &dashboard, &["list", "--json"]);
    let error = answer(&mut list()).failure(1);
    assert!(error.contains("refused the credentials (401") && error.contains("put it into RAY_AUTH_TOKEN"), "{error}");
    let error = answer(list().env("RAY_AUTH_TOKEN", "falsch")).failure(1);
    assert!(error.contains("(403") && !error.contains("falsch"), "{error}");
    assert_eq!(answer(list().env("RAY_AUTH_TOKEN", "geheim")).json(), json!([]));

    let file = host.folder().join(".ray").join("auth_token");
    fs_err::create_dir(file.parent().unwrap()).unwrap();
    fs_err::write(&file, "geheim\n").unwrap();
    assert_eq!(answer(&mut list()).json(), json!([]));
    assert_eq!(answer(list().env_remove("HOME").env("RAY_AUTH_TOKEN_PATH", &file)).json(), json!([]));
    let header = r#"{"Authorization": "Bearer geheim"}"#;
    assert_eq!(answer(list().env("HOME", "/nowhere").env("RAY_JOB_HEADERS", header)).json(), json!([]));
    let error = answer(list().env("RAY_JOB_HEADERS", "geheim")).failure(1);
    assert!(error.contains("cannot use the variable RAY_JOB_HEADERS") && !error.contains("geheim"), "{error}");

    let open = self::dashboard().await;
    answer(&mut ray(&host, &open, &["list"])).success();
    let requests = open.traffic().requests;
    assert!(requests.iter().all(|request| !request.headers.contains_key("authorization")));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_shown_stopped_and_deleted() {
    let dashboard = dashboard().await;
    dashboard.add_job(JobScript { id: "old".into(), log: "one\ntwo\n".into(), ..ends(Word::Failed) });
    dashboard.add_job(JobScript { id: "new".into(), entrypoint: "x".repeat(100), stop_ms: 100, ..runs() });
    dashboard.add_job(JobScript { id: "wait".into(), states: vec![(0, Word::Pending)], ..runs() });
    while json(&dashboard, &["status", "old"])["status"] != "FAILED" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let table = run(&dashboard, &["list"]).success();
    assert!(table.starts_with("JOB ") && table.contains(&format!("{}…\n", "x".repeat(60))), "{table}");
    assert_eq!(table.lines().count(), 4);
    let running = json(&dashboard, &["list", "--status", "running"]);
    assert_eq!(running.as_array().unwrap().len(), 1);
    assert_eq!(running[0]["submission_id"], "new");
    let shown = run(&dashboard, &["status", "old"]).success();
    for words in ["FAILED", "exit code   1", "JOB_ENTRYPOINT_COMMAND_ERROR", "/#/jobs/old"] {
        assert!(shown.contains(words), "{words} in {shown}");
    }

    let begin = "2026-11-21 08:13:04,781\tINFO job_manager.py:581 -- Runtime env is setting up.\n\
                 Running entrypoint for job old: python script.py\n";
    assert_eq!(run(&dashboard, &["logs", "old"]).success(), format!("{begin}one\ntwo\n"));
    assert_eq!(run(&dashboard, &["logs", "old", "--tail", "1"]).success(), "two\n");
    assert_eq!(run(&dashboard, &["logs", "old", "-n1", "--json"]).success(), "{\"line\":\"two\"}\n");
    assert_eq!(run(&dashboard, &["logs", "old", "--follow"]).success(), format!("{begin}one\ntwo\n"));
    assert_eq!(run(&dashboard, &["logs", "wait"]).success(), "");

    let error = run(&dashboard, &["delete", "new"]).failure(1);
    assert!(error.contains("it is in a non-terminal state RUNNING"), "{error}");
    assert_eq!(run(&dashboard, &["stop", "new"]).success(), "job new is over: STOPPED\n");
    assert_eq!(run(&dashboard, &["stop", "new"]).success(), "job new was over already: STOPPED\n");
    assert!(run(&dashboard, &["stop", "wait"]).everything().0.contains("waits for resources"));
    let waiting = json!([{"submission_id": "wait", "status": "PENDING"}]);
    assert_eq!(json(&dashboard, &["stop", "wait", "--no-wait"]), waiting);

    assert_eq!(json(&dashboard, &["delete", "old", "new"]), json!({"deleted": ["old", "new"]}));
    for command in ["status", "logs", "logs -f", "stop", "delete"] {
        let arguments: Vec<_> = command.split(' ').chain(["old"]).collect();
        let error = run(&dashboard, &arguments).failure(1);
        assert!(error.contains("there is no job `old` on http://127.0.0.1:"), "{error}");
    }
}

/// A submission that waits for its job.
struct Waiting {
    child: Child,
    host: Host,
}

impl Waiting {
    fn submit(dashboard: &Dashboard) -> Self {
        let host = Host::empty();
        let mut command = ray(&host, dashboard, &["submit", "--submission-id", "x", "--", "work"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut this = Self { child, host };
        let mut log = BufReader::new(this.child.stdout.take().unwrap()).lines();
        log.find(|line| line.as_ref().unwrap() == "at work").unwrap().unwrap();
        this
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn ends(mut self) -> (i32, String) {
        let mut error = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        let code = self.child.wait().unwrap().code().unwrap();
        drop(self.host);
        (code, error)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_the_command_ends_the_job_unless_it_is_to_be_left() {
    for signal in [Signal::TERM, Signal::INT] {
        let dashboard = dashboard().await;
        dashboard.script_submissions(runs());
        let waiting = Waiting::submit(&dashboard);
        waiting.signal(signal);
        let (code, error) = waiting.ends();
        assert!(
            error.contains("stopping job x; once more to leave it as it is\n") && error.contains("job x was stopped"),
            "{error}"
        );
        assert_eq!(code, 143);
        assert_eq!(json(&dashboard, &["status", "x"])["status"], "STOPPED");
    }
    let dashboard = dashboard().await;
    dashboard.script_submissions(runs());
    let waiting = Waiting::submit(&dashboard);
    waiting.signal(Signal::QUIT);
    let (code, error) = waiting.ends();
    assert!(error.contains("left job `x` as it was") && error.contains("logs --follow x"), "{error}");
    assert_eq!(code, 125);
    assert_eq!(json(&dashboard, &["status", "x"])["status"], "RUNNING");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_the_log_and_the_job_still_counts() {
    let dashboard = dashboard().await;
    dashboard.script_submissions(runs());
    // Its standard output is closed by now.
    let waiting = Waiting::submit(&dashboard);
    dashboard.append("x", &"nobody hears it\n".repeat(10_000));
    dashboard.set_status("x", Word::Succeeded);
    let (code, error) = waiting.ends();
    assert_eq!(code, 0, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_replaced_meanwhile_is_named() {
    let dashboard = dashboard().await;
    dashboard.script_submissions(runs());
    let waiting = Waiting::submit(&dashboard);
    dashboard.replace_cluster();
    let (code, error) = waiting.ends();
    assert!(error.contains("job `x` is gone before its end was known: the cluster is another one now"), "{error}");
    assert_eq!(code, 125);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_whose_answer_is_lost_is_one_job() {
    let dashboard = dashboard().await;
    dashboard.script_submissions(ends(Word::Succeeded));
    dashboard.fault(Fault {
        method: Some("POST".into()),
        refuse: true,
        carried_out: true,
        times: Some(1),
        ..Fault::default()
    });
    run(&dashboard, &["submit", "--", "x"]).success();
    assert_eq!(dashboard.job_ids().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_shown_and_ended_and_what_runs_have_there_is_dropped() {
    let dashboard = dashboard().await;
    let (_, err) = run(&dashboard, &["runner", "owners"]).everything();
    assert!(err.contains("there is no runner on the cluster"), "{err}");

    let client = airfreight_ray::Client::new(airfreight_ray::Settings::new(dashboard.address())).unwrap();
    let runner = airfreight_ray::Runner::new(&client, &b"PK"[..], airfreight_ray::RunnerOptions::default());
    runner.ready(None).await.unwrap();
    let shown = json(&dashboard, &["runner", "status"]);
    assert_eq!((shown[0]["runner"].as_str(), shown[0]["transport"].as_str()), (Some(runner.id()), Some("port")));
    let out = run(&dashboard, &["runner", "owners"]).success();
    assert!(out.contains("airfreight-owner-0"), "{out}");
    assert_eq!(json(&dashboard, &["runner", "drop", "--all"]), json!({"dropped": ["airfreight-owner-0"]}));
    let out = run(&dashboard, &["runner", "stop"]).success();
    assert!(out.contains("is over"), "{out}");
    assert_eq!(json(&dashboard, &["runner", "status"]), json!([]));
}
