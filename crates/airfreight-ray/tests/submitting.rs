//! Goal: a job is submitted once or not at all, whatever is lost on the way, and is stopped as far as Ray can stop it.
//! Method: a fake dashboard that carries requests out and loses the answers.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::time::Duration;

use airfreight_core::ErrorKind;
use airfreight_ray::{JobStatus, RayError, Stopped, Submission};
use airfreight_testkit::dashboard::{Fault, JobScript, Options, Word};
use serde_json::json;
use support::{fault, impatient, named, start};

#[tokio::test]
async fn what_is_posted_is_what_was_asked_for_and_a_nonce() {
    let (dashboard, client) = start(Options::default()).await;
    let submission = json!({
        "entrypoint": "python a.py", "submission_id": "a", "runtime_env": null, "metadata": {"dag_id": "d"},
        "entrypoint_num_cpus": 0.5, "entrypoint_label_selector": {"zone": "a"},
    });
    let submitted = client.submit(Submission::from_body(support::object(submission)).unwrap()).await.unwrap();
    assert_eq!((submitted.submission_id.as_str(), submitted.created), ("a", true));
    let mut posted = dashboard.submission("a").unwrap();
    let nonce = posted["metadata"].as_object_mut().unwrap().remove("airfreight_nonce").unwrap();
    assert_eq!(nonce.as_str().unwrap().len(), 32);
    let expected = json!({
        "entrypoint": "python a.py", "submission_id": "a", "metadata": {"dag_id": "d"},
        "entrypoint_num_cpus": 0.5, "entrypoint_label_selector": {"zone": "a"},
    });
    assert_eq!(posted, expected);
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_job() {
    for lost in [
        Fault { refuse: true, carried_out: true, ..fault("^/api/jobs/$", 1) },
        Fault { status: Some(502), carried_out: true, ..fault("^/api/jobs/$", 1) },
        Fault { cut_after_bytes: Some(3), ..fault("^/api/jobs/$", 1) },
    ] {
        let (dashboard, client) = start(Options::default()).await;
        let words = format!("{lost:?}");
        dashboard.fault(lost);
        let submitted = client.submit(named("a")).await.unwrap();
        assert!(!submitted.created, "{words}");
        assert_eq!(dashboard.job_ids(), ["a"], "{words}");
    }
}

#[tokio::test]
async fn of_two_who_want_an_id_one_gets_it() {
    let (dashboard, client) = start(Options { call_ms: 5.0, ..Options::default() }).await;
    let (first, second) = tokio::join!(client.submit(named("a")), client.submit(named("a")));
    let (won, lost) = if first.is_ok() { (first, second) } else { (second, first) };
    assert!(won.unwrap().created);
    let error = lost.unwrap_err();
    assert!(matches!(&error, RayError::Conflict { submission_id, .. } if submission_id == "a"), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(dashboard.job_ids(), ["a"]);
}

#[tokio::test]
async fn a_cluster_without_an_agent_yet_is_waited_for() {
    let (dashboard, client) = start(Options::default()).await;
    let body = "RuntimeError: No available agent to submit job, please try again later.".into();
    // More often than a failure that may not pass is borne.
    dashboard.fault(Fault { status: Some(500), body, ..fault("^/api/jobs/$", 5) });
    assert!(client.submit(named("a")).await.unwrap().created);
}

#[tokio::test]
async fn what_cannot_work_is_never_posted() {
    let (dashboard, client) = start(Options { ray_version: "2.53.0".into(), ..Options::default() }).await;
    for id in ["a/b", "..", "ä"] {
        let error = client.submit(named(id)).await.unwrap_err();
        assert!(matches!(error, RayError::Submission { .. }) && error.kind() == ErrorKind::Invalid, "{error:?}");
    }
    let labels = Submission::new("true").with("entrypoint_label_selector", json!({"zone": "a"}));
    let error = client.submit(labels).await.unwrap_err();
    assert!(error.to_string().contains("runs") || error.to_string().contains("Ray 2.53.0"), "{error}");
    assert!(matches!(error, RayError::Unsupported { since: "2.54", .. }), "{error:?}");
    let large = Submission::new("true").with("metadata", json!({"a": "x".repeat(101 << 20)}));
    assert!(matches!(client.submit(large).await.unwrap_err(), RayError::Submission { .. }));
    assert!(dashboard.traffic().requests.iter().all(|request| request.method == "GET"));
}

#[tokio::test]
async fn a_failure_keeps_what_ray_says() {
    let (dashboard, client) = start(Options::default()).await;
    dashboard.add_job(JobScript {
        id: "a".into(),
        states: vec![(0, Word::Failed)],
        exit_code: Some(3),
        error_type: Some("RUNTIME_ENV_SETUP_FAILURE".into()),
        message: Some("no such package".into()),
        ..JobScript::default()
    });
    let job = client.job("a").await.unwrap().unwrap();
    assert_eq!(job.status(), JobStatus::Failed);
    assert_eq!(job.message(), Some("no such package"));
    assert_eq!(job.error_type(), Some("RUNTIME_ENV_SETUP_FAILURE"));
    assert_eq!(job.exit_code(), Some(3));
    assert!(job.start_ms().is_some() && job.end_ms() >= job.start_ms());
    assert_eq!(client.jobs().await.unwrap(), [job]);
    assert_eq!(client.job("b").await.unwrap(), None);
}

#[tokio::test]
async fn stopping_says_what_came_of_it() {
    let (dashboard, client) = start(Options::default()).await;
    let script = |id: &str, states| JobScript { id: id.into(), states, ..JobScript::default() };
    dashboard.add_job(script("running", vec![(0, Word::Running)]));
    dashboard.add_job(script("over", vec![(0, Word::Succeeded)]));
    dashboard.add_job(script("pending", vec![(0, Word::Pending)]));
    assert_eq!(client.stop("running").await.unwrap(), Stopped::Stopping);
    assert_eq!(client.stop("over").await.unwrap(), Stopped::WasOver);
    assert_eq!(client.stop("pending").await.unwrap(), Stopped::StillPending);
    let error = client.stop("nobody").await.unwrap_err();
    assert!(matches!(error, RayError::NotFound { .. }) && error.kind() == ErrorKind::NotFound, "{error:?}");
}

#[tokio::test]
async fn a_pending_job_is_stopped_once_it_runs() {
    let (dashboard, client) = start(Options::default()).await;
    dashboard.add_job(JobScript { id: "a".into(), states: vec![(0, Word::Pending)], ..JobScript::default() });
    let job = client.stop_and_wait("a", Duration::ZERO).await.unwrap();
    assert_eq!(job.status(), JobStatus::Pending, "the limit is kept");
    let stopping = tokio::spawn({
        let client = client.clone();
        async move { client.stop_and_wait("a", Duration::from_mins(1)).await }
    });
    while dashboard.traffic().requests.iter().filter(|request| request.path.ends_with("/stop")).count() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    dashboard.set_status("a", Word::Running);
    assert_eq!(stopping.await.unwrap().unwrap().status(), JobStatus::Stopped);
}

#[tokio::test]
async fn records_are_deleted_when_the_job_is_over() {
    let (dashboard, client) = start(Options::default()).await;
    dashboard.add_job(JobScript { id: "a".into(), states: vec![(0, Word::Running)], ..JobScript::default() });
    let error = client.delete("a").await.unwrap_err();
    assert!(error.to_string().contains("non-terminal state"), "{error}");
    dashboard.set_status("a", Word::Succeeded);
    assert!(client.delete("a").await.unwrap());
    assert!(!client.delete("a").await.unwrap());
}

#[tokio::test]
async fn one_attempt_is_one_request() {
    let (dashboard, client) = start(Options::default()).await;
    dashboard.fault(Fault { status: Some(503), ..Fault::default() });
    let once = client.with_patience(Duration::ZERO);
    assert!(matches!(once.job("a").await.unwrap_err(), RayError::Unavailable { attempts: 1, .. }));
    assert!(impatient(&dashboard, 1000).submit(named("a")).await.is_err());
    assert_eq!(dashboard.traffic().requests.len(), 2);
}
