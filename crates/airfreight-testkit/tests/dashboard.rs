//! The dashboard without Ray: it answers as a real one did, follows scripts, and breaks when told to.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::time::Duration;

use airfreight_testkit::dashboard::{Dashboard, Fault, JobScript, Options, Word};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

struct Reply {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

/// One connection.
struct Connection(SendRequest<Full<bytes::Bytes>>);

impl Connection {
    async fn to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<bytes::Bytes>,
    ) -> hyper::Result<Reply> {
        let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
        if !headers.iter().any(|(name, _)| *name == "user-agent") {
            request = request.header("user-agent", "test");
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        let answer = self.0.send_request(request.body(Full::new(body.into())).unwrap()).await?;
        let (head, body) = answer.into_parts();
        let text = String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned();
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, text })
    }
}

async fn ask(port: u16, method: &str, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    Connection::to(port).await.send(method, path, &[], body).await.unwrap()
}

async fn get(port: u16, path: &str) -> Reply {
    ask(port, "GET", path, &Value::Null).await
}

async fn wait_for(dashboard: &Dashboard, id: &str, status: &str) -> Value {
    loop {
        let job = get(dashboard.port(), &format!("/api/jobs/{id}")).await.json();
        if job["status"] == status {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_job_goes_the_way_of_ray() {
    let dashboard = Dashboard::start(Options::default()).await.unwrap();
    let port = dashboard.port();
    dashboard.script_submissions(JobScript { log: "five\n".into(), exit_code: Some(3), ..fails() });
    let body = json!({"entrypoint": "python x.py", "submission_id": "a", "metadata": {"k": "v"}, "job_id": null});
    let reply = ask(port, "POST", "/api/jobs/", &body).await;
    assert_eq!((reply.status, reply.json()), (200, json!({"job_id": "a", "submission_id": "a"})));

    let again = ask(port, "POST", "/api/jobs/", &body).await;
    assert_eq!(again.status, 500, "not 409");
    assert!(again.text.contains("status code 400"));
    assert!(again.text.contains("Job with submission_id a already exists. Please use a different submission_id."));

    let job = wait_for(&dashboard, "a", "FAILED").await;
    assert_eq!(job["driver_exit_code"], 3);
    assert_eq!(job["error_type"], "JOB_ENTRYPOINT_COMMAND_ERROR");
    assert_eq!(job["metadata"], json!({"k": "v"}));
    assert!(job["message"].as_str().unwrap().ends_with("Running entrypoint for job a: python x.py\nfive\n"));
    assert!(job["end_time"].as_u64() >= job["start_time"].as_u64());

    let node = job["driver_node_id"].as_str().unwrap();
    let file = |lines: i32| format!("/api/v0/logs/file?node_id={node}&filename=job-driver-a.log&lines={lines}");
    assert_eq!(get(port, &file(1)).await.text, "five\n");
    let whole = get(port, &file(-1)).await.text;
    assert_eq!(whole.lines().count(), 3);
    assert_eq!(get(port, "/api/jobs/a/logs").await.json(), json!({"logs": whole}));

    let agent = dashboard.agent_port();
    assert_eq!(job["driver_agent_http_address"], format!("http://127.0.0.1:{agent}"));
    let mut connection = Connection::to(agent).await;
    let begin = whole.len() - 3;
    let range = connection.send("GET", "/logs/job-driver-a.log", &[("range", &format!("bytes={begin}-"))], "").await;
    let range = range.unwrap();
    assert_eq!((range.status, range.text.as_str()), (206, "ve\n"));
    assert_eq!(range.headers["content-range"], format!("bytes {begin}-{}/{}", whole.len() - 1, whole.len()));
    let beyond = format!("bytes={}-", whole.len());
    let beyond = connection.send("GET", "/logs/job-driver-a.log", &[("range", &beyond)], "").await.unwrap();
    assert_eq!(beyond.status, 416);

    assert_eq!(ask(port, "POST", "/api/jobs/a/stop", &Value::Null).await.json(), json!({"stopped": false}));
    assert_eq!(ask(port, "DELETE", "/api/jobs/a", &Value::Null).await.json(), json!({"deleted": true}));
    assert_eq!(get(port, "/api/jobs/a").await.status, 404);
    assert_eq!(get(port, &file(1)).await.text, "five\n", "the log stays");
    assert_eq!(dashboard.submission("a"), None);
}

fn fails() -> JobScript {
    JobScript { states: vec![(0, Word::Pending), (10, Word::Running), (30, Word::Failed)], ..JobScript::default() }
}

#[tokio::test]
async fn what_ray_does_not_take_is_refused_in_its_words() {
    let dashboard = Dashboard::start(Options::default()).await.unwrap();
    let port = dashboard.port();
    for (body, status, words) in [
        (json!({"entrypoint": "x", "foo": 1}), 400, "got an unexpected keyword argument 'foo'"),
        (json!({"submission_id": "x"}), 400, "missing 1 required positional argument: 'entrypoint'"),
        (json!({"entrypoint": 5}), 400, "TypeError: entrypoint must be a string"),
        (json!("text"), 500, "Server got itself in trouble"),
        (json!({"entrypoint": "x", "submission_id": "a/b"}), 500, "a/b"),
    ] {
        let reply = ask(port, "POST", "/api/jobs/", &body).await;
        assert_eq!(reply.status, status, "{body}");
        assert!(reply.text.contains(words), "{}", reply.text);
    }
    // The poisoned job stays for ever.
    assert_eq!(get(port, "/api/jobs/a%2Fb").await.json()["status"], "PENDING");
    assert_eq!(ask(port, "POST", "/api/jobs/a%2Fb/stop", &Value::Null).await.status, 500);
    assert_eq!(ask(port, "DELETE", "/api/jobs/a%2Fb", &Value::Null).await.status, 500);

    assert_eq!(get(port, "/api/jobs").await.status, 404, "without its slash");
    assert_eq!(get(port, "/api/jobs/nope").await.text, "Job nope does not exist");
    let browser = [("user-agent", "Mozilla/5.0")];
    let browser = Connection::to(port).await.send("POST", "/api/jobs/", &browser, r#"{"entrypoint":"x"}"#).await;
    assert_eq!(browser.unwrap().status, 405);
    let missing = get(port, "/api/v0/logs/file?node_id=abcd&filename=x.log&lines=2").await;
    assert_eq!((missing.status, missing.text.as_str()), (500, "Agent for node id: abcd doesn't exist."));

    // What waits for resources can't be cancelled.
    dashboard.add_job(JobScript { id: "wait".into(), states: vec![(0, Word::Pending)], ..JobScript::default() });
    assert_eq!(ask(port, "POST", "/api/jobs/wait/stop", &Value::Null).await.json(), json!({"stopped": true}));
    assert_eq!(get(port, "/api/jobs/wait").await.json()["status"], "PENDING");
    let deleted = ask(port, "DELETE", "/api/jobs/wait", &Value::Null).await;
    assert!(deleted.status == 500 && deleted.text.contains("it is in a non-terminal state PENDING"));
    dashboard.set_status("wait", Word::Running);
    ask(port, "POST", "/api/jobs/wait/stop", &Value::Null).await;
    assert_eq!(get(port, "/api/jobs/wait").await.json()["status"], "STOPPED");
}

#[tokio::test]
async fn old_rays_have_their_ways() {
    let old = Dashboard::start(Options { ray_version: "2.9.3".into(), ..Options::default() }).await.unwrap();
    let port = old.port();
    assert_eq!(get(port, "/api/version").await.json().get("session_name"), None);
    assert_eq!(get(port, "/api/authentication_mode").await.status, 404);
    let anonymous = Connection::to(port).await.send("GET", "/api/version", &[("user-agent", "")], "").await;
    assert_eq!(anonymous.unwrap().status, 500, "without a user agent");
    let selector = json!({"entrypoint": "x", "entrypoint_label_selector": {"a": "b"}});
    assert_eq!(ask(port, "POST", "/api/jobs/", &selector).await.status, 400);

    old.add_job(JobScript {
        id: "a".into(),
        log: "x".repeat(70_000),
        states: vec![(0, Word::Running)],
        ..JobScript::default()
    });
    let node = get(port, "/api/jobs/a").await.json()["driver_node_id"].as_str().unwrap().to_owned();
    let log = get(port, &format!("/api/v0/logs/file?node_id={node}&filename=job-driver-a.log&lines=-1")).await;
    assert!(log.text.starts_with("12026-11-21"));
    assert_eq!(&log.text[65_536..=65_538], "x1x", "each piece has its prefix");
    let missing = get(port, &format!("/api/v0/logs/file?node_id={node}&filename=nope&lines=-1")).await;
    assert_eq!(missing.status, 200);
    assert!(missing.text.starts_with("0Closing HTTP stream due to internal server error."));

    let middle = Dashboard::start(Options { ray_version: "2.43.0".into(), ..Options::default() }).await.unwrap();
    middle.add_file("x.log", "text\n");
    let file = |rest: &str| format!("/api/v0/logs/file?node_id={node}&lines=-1&filename={rest}");
    assert_eq!(get(middle.port(), &file("x.log")).await.text, "1text\n");
    assert_eq!(get(middle.port(), &file("x.log&format=text")).await.text, "text\n");
    let missing = get(middle.port(), &file("nope&format=text")).await;
    assert!(missing.status == 200 && missing.text.starts_with("[get_logs] Fetch log error: "));
}

#[tokio::test]
async fn who_may_ask() {
    let options = Options { token: Some("abc".into()), ..Options::default() };
    let status = async |options: &Options, headers: &[(&str, &str)]| {
        let dashboard = Dashboard::start(options.clone()).await.unwrap();
        Connection::to(dashboard.port()).await.send("GET", "/api/version", headers, "").await.unwrap().status
    };
    assert_eq!(status(&options, &[]).await, 401);
    assert_eq!(status(&options, &[("authorization", "Bearer x")]).await, 403);
    assert_eq!(status(&options, &[("authorization", "abc")]).await, 403);
    assert_eq!(status(&options, &[("authorization", "Bearer abc")]).await, 200);
    assert_eq!(status(&options, &[("x-ray-authorization", "Bearer abc")]).await, 200);
    let both = [("authorization", "Basic bWU6aXQ="), ("x-ray-authorization", "Bearer abc")];
    assert_eq!(status(&options, &both).await, 403, "the first header decides");

    let proxied = Options { basic: Some("me:it".into()), ..options };
    assert_eq!(status(&proxied, &both[1..]).await, 401, "the proxy wants its login");
    assert_eq!(status(&proxied, &both).await, 200);
    assert_eq!(status(&Options { basic_passes: true, ..proxied }, &both).await, 403);
}

#[tokio::test]
async fn packages_are_kept_until_they_are_too_large() {
    let dashboard = Dashboard::start(Options::default()).await.unwrap();
    let port = dashboard.port();
    let path = "/api/packages/gcs/_ray_pkg_1.zip";
    let missing = get(port, path).await;
    assert_eq!((missing.status, missing.text.as_str()), (404, "Package gcs://_ray_pkg_1.zip does not exist"));
    let job = json!({"entrypoint": "x", "submission_id": "x", "runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"}});
    ask(port, "POST", "/api/jobs/", &job).await;
    assert_eq!(wait_for(&dashboard, "x", "FAILED").await["error_type"], "RUNTIME_ENV_SETUP_FAILURE");

    let zip = vec![7; 100 * 1024 * 1024];
    let put = Connection::to(port).await.send("PUT", path, &[], zip.clone()).await.unwrap();
    assert_eq!((put.status, put.text.as_str()), (200, ""));
    assert_eq!(get(port, path).await.status, 200);
    let package = &dashboard.packages()[0];
    assert_eq!((package.content.len(), package.pins, package.uploads), (zip.len(), 1, 1));

    let more = Connection::to(port).await.send("PUT", path, &[], [zip, vec![7]].concat()).await;
    // A client that sends on may see its connection close instead.
    assert!(more.is_err() || more.unwrap().status == 413);
    dashboard.forget_package("_ray_pkg_1.zip");
    assert_eq!(get(port, path).await.status, 404);
}

#[tokio::test]
async fn faults_come_on_demand() {
    let dashboard = Dashboard::start(Options::default()).await.unwrap();
    let port = dashboard.port();
    let mut connection = Connection::to(port).await;
    let fault = |fault: Fault| dashboard.fault(Fault { path: "^/api/version$".into(), times: Some(1), ..fault });

    fault(Fault { status: Some(503), body: "no".into(), ..Fault::default() });
    let reply = connection.send("GET", "/api/version", &[], "").await.unwrap();
    assert_eq!((reply.status, reply.text.as_str()), (503, "no"));
    assert_eq!(connection.send("GET", "/api/version", &[], "").await.unwrap().status, 200, "once");

    fault(Fault { corrupt: true, ..Fault::default() });
    let reply = connection.send("GET", "/api/version", &[], "").await.unwrap();
    assert!(serde_json::from_str::<Value>(&reply.text).is_err());

    fault(Fault { cut_after_bytes: Some(10), ..Fault::default() });
    assert!(connection.send("GET", "/api/version", &[], "").await.is_err());

    fault(Fault { refuse: true, ..Fault::default() });
    assert!(Connection::to(port).await.send("GET", "/api/version", &[], "").await.is_err());

    for silence in [
        Fault { hang: true, ..Fault::default() },
        Fault { stall_after_bytes: Some(10), ..Fault::default() },
        Fault { delay_ms: 60_000, ..Fault::default() },
    ] {
        fault(silence);
        let mut connection = Connection::to(port).await;
        let request = connection.send("GET", "/api/version", &[], "");
        assert!(tokio::time::timeout(Duration::from_millis(200), request).await.is_err());
    }

    // The answer to a submission gets lost.
    dashboard.fault(Fault { method: Some("POST".into()), refuse: true, carried_out: true, ..Fault::default() });
    let body = json!({"entrypoint": "x", "submission_id": "x"}).to_string();
    assert!(Connection::to(port).await.send("POST", "/api/jobs/", &[], body).await.is_err());
    assert_eq!(dashboard.job_ids(), ["x"]);
    dashboard.mend();
    assert_eq!(ask(port, "POST", "/api/jobs/x/stop", &Value::Null).await.status, 200);
}

#[tokio::test]
async fn a_head_that_crashes_is_gone_and_comes_back() {
    let mut dashboard = Dashboard::start(Options::default()).await.unwrap();
    let port = dashboard.port();
    dashboard.add_job(JobScript { id: "x".into(), ..JobScript::default() });
    let session = get(port, "/api/version").await.json()["session_name"].clone();
    let mut connection = Connection::to(port).await;
    connection.send("GET", "/api/version", &[], "").await.unwrap();
    dashboard.crash().await;
    assert!(connection.send("GET", "/api/version", &[], "").await.is_err());
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    dashboard.resume().await.unwrap();
    assert_eq!(get(port, "/api/jobs/x").await.status, 200);
    dashboard.replace_cluster();
    assert_eq!(get(port, "/api/jobs/x").await.status, 404);
    assert_ne!(get(port, "/api/version").await.json()["session_name"], session);
}

#[tokio::test]
async fn a_thousand_jobs_run_and_their_logs_grow() {
    let dashboard = Dashboard::start(Options::default()).await.unwrap();
    let port = dashboard.port();
    let control = |path: &'static str, body: Value| async move { ask(port, "POST", path, &body).await };
    let script = json!({"states": [[0, "RUNNING"]], "log_lines_per_second": 1000.0, "record_bytes": 900});
    let many = json!({"count": 1000, "prefix": "load-", "script": script});
    assert_eq!(control("/_control/jobs", many).await.status, 200);

    let list = get(port, "/api/jobs/").await;
    assert!((830_000..=990_000).contains(&list.text.len()), "{} bytes", list.text.len());
    let jobs = list.json();
    assert_eq!(jobs.as_array().unwrap().len(), 1000);
    assert!(jobs.as_array().unwrap().iter().all(|job| job["status"] == "RUNNING"));
    let mut before = 0;
    for _ in 0..3 {
        let log = get(port, "/api/jobs/load-7/logs").await.json()["logs"].as_str().unwrap().len();
        assert!(log > before, "{log} after {before}");
        before = log;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(control("/_control/jobs/load-7", json!({"status": "SUCCEEDED"})).await.status, 200);
    let log = get(port, "/api/jobs/load-7/logs").await.text;
    assert_eq!(log, get(port, "/api/jobs/load-7/logs").await.text, "it ends with its job");

    let traffic = get(port, "/_control/requests").await.json();
    assert_eq!(traffic["requests"].as_array().unwrap().len(), 6, "without control");
    assert_eq!(traffic["requests"][0]["path"], "/api/jobs/");
    assert_eq!(traffic["requests"][0]["headers"]["user-agent"], "test");
    assert_eq!(traffic["connections"], 6);
    assert!(control("/_control", json!({"path": "("})).await.status == 400);
    assert!(control("/_control", json!({"pth": ""})).await.status == 400, "no misspelt fault passes");
}
