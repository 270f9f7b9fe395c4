//! Goal: what the fake dashboard is trusted for also holds of a real Ray. Method: `tests/ray/test_real_client.py` runs
//! this with `AIRFREIGHT_TEST_RAY` set to the dashboard of a cluster of one node on this machine.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::time::{Duration, Instant};

use airfreight_ray::{Client, Job, JobStatus, Lines, RayError, Settings, Stopped, Submission};
use serde_json::{Map, Value, json};

fn client() -> Client {
    let mut settings = Settings::new(std::env::var("AIRFREIGHT_TEST_RAY").expect("the address of a Ray"));
    settings.token = std::env::var("AIRFREIGHT_TEST_RAY_TOKEN").ok().map(Into::into);
    settings.patience = Duration::from_secs(30);
    Client::new(settings).unwrap()
}

async fn ended(client: &Client, id: &str) -> Job {
    loop {
        let job = client.job(id).await.unwrap().unwrap();
        if job.status().is_terminal() {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("an object") };
    map
}

#[tokio::test]
#[ignore = "needs a Ray (tests/ray/test_real_client.py starts one)"]
async fn a_job_runs_and_its_log_is_the_same_on_every_way() {
    let client = client();
    let cluster = client.cluster().await.unwrap();
    assert!(cluster.session_name.is_some() && cluster.python_version.is_some(), "{cluster:?}");
    let submission = Submission::new(r#"python -c "print('\u00e4 1'); print(chr(0x1f600)); print('3' * 200000)""#);
    let submitted = client.submit(submission).await.unwrap();
    assert!(submitted.created);
    let id = &submitted.submission_id;
    let job = ended(&client, id).await;
    assert_eq!(job.status(), JobStatus::Succeeded, "{job:?}");
    let (node, name) = (job.driver_node_id().unwrap(), job.log_name().unwrap());
    let file = client.log_file(node, &name, Lines::All).await.unwrap().text().await.unwrap();
    let whole = client.log_whole(id).await.unwrap().text().await.unwrap();
    let range = client.log_range(&job, 0).await.unwrap().expect("the agent is on this machine");
    assert_eq!(range.total_bytes(), Some(file.len() as u64));
    let range = range.text().await.unwrap();
    assert!(file.contains("ä 1\n😀\n3333"), "{}", &file[..300]);
    assert_eq!(file, whole);
    assert_eq!(file, range);
    let end = client.log_range(&job, file.len() as u64 - 5).await.unwrap().unwrap().text().await.unwrap();
    assert_eq!(end, "3333\n");
    let beyond = client.log_range(&job, file.len() as u64).await.unwrap().unwrap();
    assert_eq!(beyond.total_bytes(), Some(file.len() as u64));
    assert_eq!(beyond.text().await.unwrap(), "");
    let last = client.log_file(node, &name, Lines::Last(2)).await.unwrap().text().await.unwrap();
    assert_eq!(last.lines().count(), 2);
    for (node, name) in [(node, "nothing.log"), ("0".repeat(56).as_str(), name.as_str())] {
        match client.log_file(node, name, Lines::All).await {
            Err(error) => assert!(matches!(error, RayError::NotFound { .. }), "{error:?}"),
            // A busy agent may forget to refuse.
            Ok(nothing) => assert_eq!(nothing.text().await.unwrap(), ""),
        }
    }
    assert!(client.delete(id).await.unwrap());
    assert!(!client.delete(id).await.unwrap());
    assert_eq!(client.job(id).await.unwrap(), None);
}

#[tokio::test]
#[ignore = "needs a Ray (tests/ray/test_real_client.py starts one)"]
async fn an_id_is_taken_once() {
    let client = client();
    let first = client.submit(Submission::new("true")).await.unwrap().submission_id;
    let error = client.submit(Submission::new("true").with("submission_id", first.clone())).await.unwrap_err();
    assert!(matches!(error, RayError::Conflict { .. }), "{error:?}");
    ended(&client, &first).await;
}

#[tokio::test]
#[ignore = "needs a Ray (tests/ray/test_real_client.py starts one)"]
async fn jobs_are_stopped_as_far_as_ray_can() {
    let client = client();
    let running = client.submit(Submission::new("sleep 1000")).await.unwrap().submission_id;
    let job = client.stop_and_wait(&running, Duration::from_secs(30)).await.unwrap();
    assert_eq!(job.status(), JobStatus::Stopped);
    // What looked after the job in Ray is there a moment longer than the job.
    let began = Instant::now();
    while client.stop(&running).await.unwrap() != Stopped::WasOver {
        assert!(began.elapsed() < Duration::from_secs(30), "it is still being stopped");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let waiting = Submission::new("true").with("entrypoint_num_gpus", 64);
    let waiting = client.submit(waiting).await.unwrap().submission_id;
    assert_eq!(client.stop(&waiting).await.unwrap(), Stopped::StillPending);
    let job = client.stop_and_wait(&waiting, Duration::from_secs(2)).await.unwrap();
    println!("{job:?}");
    let error = client.delete(&waiting).await;
    println!("{error:?}");
    assert!(matches!(client.stop("nobody").await, Err(RayError::NotFound { .. })));
}

#[tokio::test]
#[ignore = "needs a Ray (tests/ray/test_real_client.py starts one)"]
async fn packages_arrive_as_they_were() {
    let client = client();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, text) in [
        (
            "main.py",
            "import helper, single, json, os\nprint('got', helper.x, single.y, os.path.exists('skipped.bin'))\n",
        ),
        ("run.sh", "#!/bin/sh\necho executable\n"),
        ("skipped.bin", "x"),
        (".rayignore", "*.bin\n"),
        ("lib/helper/__init__.py", "x = 1\n"),
        ("single.py", "y = 2\n"),
    ] {
        fs_err::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs_err::write(at(name), text).unwrap();
    }
    fs_err::set_permissions(at("run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let env = json!({"working_dir": ".", "py_modules": ["lib/helper", "single.py"], "excludes": ["lib"]});
    let env = client.resolve_runtime_env(object(env), Some(folder.path())).await;
    // The module itself is excluded nowhere: patterns count from the directory that is packed.
    let env = env.unwrap();
    let again = client.resolve_runtime_env(object(json!({"working_dir": "."})), Some(folder.path())).await.unwrap();
    assert_ne!(env["working_dir"], again["working_dir"]);
    let submission = Submission::new("./run.sh && python main.py").with("runtime_env", Value::Object(env));
    let id = client.submit(submission).await.unwrap().submission_id;
    let job = ended(&client, &id).await;
    let log = client.log_whole(&id).await.unwrap().text().await.unwrap();
    assert_eq!(job.status(), JobStatus::Succeeded, "{log}");
    assert!(log.contains("executable\n") && log.contains("got 1 2 False\n"), "{log}");
}

#[tokio::test]
#[ignore = "needs a Ray (tests/ray/test_real_client.py starts one)"]
async fn failures_carry_what_ray_says() {
    let client = client();
    let id = client.submit(Submission::new("echo to the log; exit 3")).await.unwrap().submission_id;
    let job = ended(&client, &id).await;
    assert_eq!(job.status(), JobStatus::Failed);
    assert_eq!(job.exit_code(), Some(3));
    assert_eq!(job.error_type(), Some("JOB_ENTRYPOINT_COMMAND_ERROR"));
    assert!(job.message().unwrap().contains("to the log"));
    let error = client
        .submit(Submission::new("true").with("entrypoint_label_selector", json!({"a b": "!!"})))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Invalid label key name"), "{error}");
}
