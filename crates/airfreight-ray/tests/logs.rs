//! Goal: a log arrives byte for byte on every way that a Ray offers, or an error says how far it came. Method: a fake
//! dashboard that is each of these Rays, and cuts and stalls.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::time::Duration;

use airfreight_core::ErrorKind;
use airfreight_ray::{Client, Job, Lines, LogStream, RayError, Result, Settings};
use airfreight_testkit::dashboard::{Dashboard, Fault, JobScript, Options, Server, Word};
use support::{fault, impatient, settings, start};

async fn with_log(options: Options, log: &str) -> (Dashboard, Client, Job) {
    let (dashboard, client) = start(options).await;
    dashboard.add_job(JobScript {
        id: "a".into(),
        states: vec![(0, Word::Running), (0, Word::Succeeded)],
        log: log.into(),
        ..JobScript::default()
    });
    let job = client.job("a").await.unwrap().unwrap();
    (dashboard, client, job)
}

async fn file(client: &Client, job: &Job, lines: Lines) -> Result<LogStream> {
    client.log_file(job.driver_node_id().unwrap(), &job.log_name().unwrap(), lines).await
}

#[tokio::test]
async fn a_log_is_the_same_on_every_way_and_version() {
    let line = "1 ä \u{1f600} \u{1e} \\ \" \t|\n";
    let long = line.repeat(20_000);
    for ray_version in ["2.9.3", "2.22.0", "2.40.0", "2.47.1", "2.60.0"] {
        let options = Options { ray_version: ray_version.into(), ..Options::default() };
        let (_dashboard, client, job) = with_log(options, &long).await;
        let whole = client.log_whole("a").await.unwrap().text().await.unwrap();
        assert!(whole.ends_with(&long), "{ray_version}");
        let text = file(&client, &job, Lines::All).await.unwrap().text().await.unwrap();
        assert!(text == whole, "{ray_version}");
        let range = client.log_range(&job, 0).await.unwrap().unwrap();
        assert_eq!(range.total_bytes(), Some(whole.len() as u64), "{ray_version}");
        assert!(range.text().await.unwrap() == whole, "{ray_version}");
        let last = file(&client, &job, Lines::Last(2)).await.unwrap().text().await.unwrap();
        assert_eq!(last, line.repeat(2), "{ray_version}");
        let none = file(&client, &job, Lines::Last(0)).await.unwrap().text().await.unwrap();
        assert_eq!(none, "", "{ray_version}");
    }
}

#[tokio::test]
async fn a_log_may_begin_with_the_digits_that_old_versions_add() {
    for ray_version in ["2.9.3", "2.40.0", "2.60.0"] {
        let options = Options { ray_version: ray_version.into(), ..Options::default() };
        let (dashboard, client, job) = with_log(options, "").await;
        dashboard.add_file("digits.txt", "101\n0\n1\n");
        let node = job.driver_node_id().unwrap();
        let text = client.log_file(node, "digits.txt", Lines::All).await.unwrap().text().await.unwrap();
        assert_eq!(text, "101\n0\n1\n", "{ray_version}");
        let text = client.log_file(node, "digits.txt", Lines::Last(1)).await.unwrap().text().await.unwrap();
        assert_eq!(text, "1\n", "{ray_version}");
    }
}

#[tokio::test]
async fn a_missing_file_or_node_is_not_found() {
    for ray_version in ["2.9.3", "2.40.0", "2.60.0"] {
        let options = Options { ray_version: ray_version.into(), ..Options::default() };
        let (_dashboard, client, job) = with_log(options, "").await;
        let node = job.driver_node_id().unwrap();
        for (node, name) in [(node, "nothing here&lines=1"), ("0000", "job-driver-a.log")] {
            let error = client.log_file(node, name, Lines::All).await.unwrap_err();
            assert!(matches!(error, RayError::NotFound { .. }), "{ray_version}: {error:?}");
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
        assert!(matches!(client.log_whole("nobody").await.unwrap_err(), RayError::NotFound { .. }));
    }
}

#[tokio::test]
async fn names_are_encoded() {
    let (dashboard, client, job) = with_log(Options::default(), "").await;
    dashboard.add_file("a folder/ü &?=#%.txt", "found");
    let log = client.log_file(job.driver_node_id().unwrap(), "a folder/ü &?=#%.txt", Lines::All).await;
    assert_eq!(log.unwrap().text().await.unwrap(), "found");
}

#[tokio::test]
async fn a_range_says_when_there_is_nothing_more() {
    let (_dashboard, client, job) = with_log(Options::default(), "abc\n").await;
    let whole = client.log_range(&job, 0).await.unwrap().unwrap().text().await.unwrap();
    let bytes = whole.len() as u64;
    for (offset, expected) in [(bytes - 4, "abc\n"), (bytes - 1, "\n"), (bytes, ""), (bytes + 10, "")] {
        let range = client.log_range(&job, offset).await.unwrap().unwrap();
        assert_eq!(range.total_bytes(), Some(bytes), "from {offset}");
        assert_eq!(range.text().await.unwrap(), expected, "from {offset}");
    }
}

#[tokio::test]
async fn an_agent_gets_the_token_and_nothing_that_is_meant_for_a_proxy() {
    let options = Options { token: Some("T0ken".into()), basic: Some("me:pass".into()), ..Options::default() };
    let (dashboard, _) = start(options).await;
    let client = Client::new(Settings {
        token: Some("T0ken".into()),
        basic: Some(("me".into(), "pass".into())),
        headers: vec![("x-proxy".into(), "secret".into())],
        cookies: vec![("session".into(), "secret".into())],
        ..settings(&dashboard)
    })
    .unwrap();
    let script = JobScript { id: "a".into(), states: vec![(0, Word::Running)], ..JobScript::default() };
    dashboard.add_job(script);
    let job = client.job("a").await.unwrap().unwrap();
    client.log_range(&job, 0).await.unwrap().unwrap().text().await.unwrap();
    let requests = dashboard.traffic().requests;
    let request = requests.iter().find(|request| request.server == Server::Agent).unwrap();
    assert_eq!(request.headers["authorization"], "Bearer T0ken");
    assert_eq!(request.headers["range"], "bytes=0-");
    assert!(!format!("{:?}", request.headers).contains("secret"), "{request:?}");
}

#[tokio::test]
async fn an_agent_out_of_reach_is_remembered() {
    let options = Options { agent_reachable: false, ..Options::default() };
    let (_dashboard, client, job) = with_log(options, "abc").await;
    for _ in 0..3 {
        assert!(client.log_range(&job, 0).await.unwrap().is_none());
    }
    // Another server where the agent should be: also no agent.
    let (dashboard, client, job) = with_log(Options::default(), "abc").await;
    dashboard.fault(Fault { server: Some(Server::Agent), status: Some(403), ..fault("", 1) });
    for _ in 0..3 {
        assert!(client.log_range(&job, 0).await.unwrap().is_none());
    }
    let asked = dashboard.traffic().requests.iter().filter(|request| request.server == Server::Agent).count();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn a_cut_says_how_far_it_came() {
    let (dashboard, client, job) = with_log(Options::default(), &"0123456789\n".repeat(10_000)).await;
    dashboard.fault(Fault { cut_after_bytes: Some(50_000), ..fault("/logs/file", 1) });
    let mut log = file(&client, &job, Lines::All).await.unwrap();
    let mut received = 0;
    let error = loop {
        match log.chunk().await {
            Ok(Some(bytes)) => received += bytes.len() as u64,
            Ok(None) => panic!("a cut is not an end"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, RayError::Cut { bytes, .. } if bytes == received && bytes <= 50_000), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(log.chunk().await.unwrap().is_none(), "an error is the end");
    dashboard.fault(Fault { cut_after_bytes: Some(50_000), ..fault("/api/jobs/a/logs", 1) });
    assert!(matches!(client.log_whole("a").await.unwrap().text().await.unwrap_err(), RayError::Cut { .. }));
}

#[tokio::test]
async fn a_log_that_stops_arriving_is_given_up() {
    let (dashboard, _, job) = with_log(Options::default(), &"0123456789\n".repeat(10_000)).await;
    let client = impatient(&dashboard, 300);
    dashboard.fault(Fault { stall_after_bytes: Some(1_000), ..fault("/logs/file", 1) });
    let error = file(&client, &job, Lines::All).await.unwrap().text().await.unwrap_err();
    assert!(matches!(error, RayError::Cut { .. }), "{error:?}");
    // A slow one is not: the limit is for each silence.
    dashboard.fault(Fault { delay_ms: 100, ..fault("/logs/file", 1) });
    file(&client, &job, Lines::All).await.unwrap().text().await.unwrap();
}

#[tokio::test]
async fn a_long_log_passes_through_without_being_held() {
    const BYTES: u64 = 100 << 20;
    let (dashboard, _) = start(Options::default()).await;
    dashboard.add_job(JobScript {
        id: "a".into(),
        states: vec![(0, Word::Running)],
        log_bytes_total: Some(BYTES),
        ..JobScript::default()
    });
    let client = Client::new(Settings { timeout: Duration::from_mins(1), ..settings(&dashboard) }).unwrap();
    let job = client.job("a").await.unwrap().unwrap();
    for mut log in [
        file(&client, &job, Lines::All).await.unwrap(),
        client.log_range(&job, 0).await.unwrap().unwrap(),
        client.log_whole("a").await.unwrap(),
    ] {
        let (mut received, mut largest) = (0, 0);
        while let Some(bytes) = log.chunk().await.unwrap() {
            received += bytes.len() as u64;
            largest = largest.max(bytes.len());
        }
        assert!(received >= BYTES, "{received}");
        assert!(largest <= 1 << 20, "{largest}");
    }
}
