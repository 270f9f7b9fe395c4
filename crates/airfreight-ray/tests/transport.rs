//! Goal: requests reach a dashboard whatever stands between, carry what they must and nothing else, and never take more
//! than their share of it. Method: a fake dashboard that writes down what arrives, and fails on demand.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use airfreight_core::ErrorKind;
use airfreight_ray::{CONNECTIONS_MAX, Client, Lines, RayError, Sent, Settings};
use airfreight_testkit::dashboard::{Dashboard, Fault, JobScript, Options, Word};
use support::{fault, impatient, named, settings, start};
use tokio::task::JoinSet;

async fn headers_of(settings: Settings, dashboard: &Dashboard) -> BTreeMap<String, String> {
    dashboard.forget_traffic();
    Client::new(settings).unwrap().jobs().await.unwrap();
    dashboard.traffic().requests.remove(0).headers
}

#[tokio::test]
async fn requests_look_like_ours_and_not_like_a_browsers() {
    let (dashboard, client) = start(Options { ray_version: "2.9.3".into(), ..Options::default() }).await;
    client.submit(named("a")).await.unwrap();
    client.stop("a").await.unwrap();
    for request in dashboard.traffic().requests {
        assert!(request.headers["user-agent"].starts_with("airfreight/"), "{request:?}");
        for name in ["origin", "referer", "cookie", "authorization"] {
            assert!(!request.headers.contains_key(name), "{request:?}");
        }
    }
}

#[tokio::test]
async fn credentials_stand_where_ray_and_proxies_look_for_them() {
    let (dashboard, _) = start(Options::default()).await;
    let plain = settings(&dashboard);
    let token = Settings { token: Some("T0ken".into()), ..plain.clone() };
    let headers = headers_of(token.clone(), &dashboard).await;
    assert_eq!(headers["authorization"], "Bearer T0ken");
    assert!(!headers.contains_key("x-ray-authorization"));
    let both = Settings { basic: Some(("me".into(), "pass".into())), ..token };
    let headers = headers_of(both, &dashboard).await;
    assert_eq!(headers["authorization"], "Basic bWU6cGFzcw==");
    assert_eq!(headers["x-ray-authorization"], "Bearer T0ken");
    let address = dashboard.address().replace("http://", "http://me:pass@");
    let headers = headers_of(Settings { address: format!("{address}/"), ..plain.clone() }, &dashboard).await;
    assert_eq!(headers["authorization"], "Basic bWU6cGFzcw==");
    let more = Settings {
        headers: vec![("X-Team".into(), "a".into()), ("authorization".into(), "Bearer own".into())],
        cookies: vec![("session".into(), "1".into()), ("other".into(), "2".into())],
        ..plain
    };
    let headers = headers_of(more, &dashboard).await;
    assert_eq!((headers["x-team"].as_str(), headers["cookie"].as_str()), ("a", "session=1; other=2"));
    assert_eq!(headers["authorization"], "Bearer own");
}

#[tokio::test]
async fn headers_that_cannot_work_are_refused_without_their_values() {
    for (name, value) in [("Origin", "secret"), ("Content-Length", "secret"), ("a b", "secret"), ("x", "a\nsecret")] {
        let headers = vec![(name.into(), value.into())];
        let error = Client::new(Settings { headers, ..Settings::new("ray-head") }).unwrap_err();
        assert!(matches!(error, RayError::Setting { .. }) && error.kind() == ErrorKind::Invalid, "{error:?}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_refusal_says_what_to_change() {
    let token = Options { token: Some("T0ken".into()), ..Options::default() };
    let (dashboard, client) = start(token.clone()).await;
    let error = client.jobs().await.unwrap_err();
    assert!(matches!(error, RayError::Denied { status: 401, sent: Sent::Nothing, .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("RAY_AUTH_TOKEN"));
    assert_eq!(dashboard.traffic().requests.len(), 1, "no second attempt");

    let wrong = Settings { token: Some("wr0ngToken".into()), ..settings(&dashboard) };
    let error = Client::new(wrong).unwrap().jobs().await.unwrap_err();
    assert!(matches!(error, RayError::Denied { status: 403, sent: Sent::Token, .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("wr0ngToken"));

    let passes = Options { basic: Some("me:pass".into()), basic_passes: true, ..token.clone() };
    let both = |dashboard: &Dashboard| Settings {
        token: Some("T0ken".into()),
        basic: Some(("me".into(), "pass".into())),
        ..settings(dashboard)
    };
    let (dashboard, _) = start(passes).await;
    let error = Client::new(both(&dashboard)).unwrap().jobs().await.unwrap_err();
    assert!(matches!(error, RayError::Denied { status: 403, sent: Sent::BasicAndToken, .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("must remove that header"));
    let (dashboard, _) = start(Options { basic: Some("me:pass".into()), ..token }).await;
    Client::new(both(&dashboard)).unwrap().jobs().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_never_opens_more_than_its_share() {
    let (dashboard, _) = start(Options { call_ms: 3.0, ..Options::default() }).await;
    let script = JobScript { log_bytes_total: Some(2_000_000), ..JobScript::default() };
    dashboard.add_jobs("long", 20, &JobScript { states: vec![(0, Word::Running)], ..script });
    let mut tasks = JoinSet::new();
    for index in 0..60 {
        // Not one client: as many as there are triggers.
        let client = Client::new(settings(&dashboard)).unwrap();
        tasks.spawn(async move {
            let id = format!("long-{}", index % 20);
            client.submit(named(&format!("new-{index}"))).await.unwrap();
            if let Some(job) = client.job(&id).await.unwrap() {
                // Given up in the middle: that connection is lost, and its place must come back.
                let mut log = client.log_range(&job, 0).await.unwrap().unwrap();
                log.chunk().await.unwrap();
                let (node, name) = (job.driver_node_id().unwrap(), job.log_name().unwrap());
                let mut log = client.log_file(node, &name, Lines::All).await.unwrap();
                log.chunk().await.unwrap();
            }
            client.jobs().await.unwrap();
            client.stop(&format!("new-{index}")).await.unwrap();
        });
    }
    tasks.join_all().await;
    let traffic = dashboard.traffic();
    assert!(traffic.open_max <= CONNECTIONS_MAX as u64, "{} were open", traffic.open_max);
    assert!(traffic.requests.len() > 200, "{}", traffic.requests.len());
}

#[tokio::test]
async fn connections_are_used_again() {
    let (dashboard, client) = start(Options::default()).await;
    for index in 0..30 {
        client.submit(named(&index.to_string())).await.unwrap();
        client.jobs().await.unwrap();
    }
    assert_eq!(dashboard.traffic().connections, 1);
}

#[tokio::test]
async fn what_must_not_wait_does_not_wait_for_logs() {
    let (dashboard, client) = start(Options::default()).await;
    dashboard.add_job(JobScript { id: "a".into(), states: vec![(0, Word::Running)], ..JobScript::default() });
    dashboard.fault(Fault { path: "/logs/file".into(), stall_after_bytes: Some(1), ..Fault::default() });
    dashboard.fault(Fault { path: "^/api/jobs/$".into(), method: Some("GET".into()), hang: true, ..Fault::default() });
    let job = client.job("a").await.unwrap().unwrap();
    let mut stuck = JoinSet::new();
    let (node, name) = (Arc::new(job.driver_node_id().unwrap().to_owned()), job.log_name().unwrap());
    for _ in 0..100 {
        let (reader, node, name) = (client.clone(), Arc::clone(&node), name.clone());
        stuck.spawn(async move {
            let log = reader.log_file(&node, &name, Lines::Last(10)).await;
            log.unwrap().text().await.unwrap();
        });
        let lister = client.clone();
        stuck.spawn(async move { drop(lister.jobs().await) });
    }
    while dashboard.traffic().open < 6 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // If these waited, the test would: nothing that is stuck ever ends.
    for index in 0..20 {
        client.submit(named(&format!("b{index}"))).await.unwrap();
        client.job(&format!("b{index}")).await.unwrap().unwrap();
        client.stop(&format!("b{index}")).await.unwrap();
    }
    assert!(dashboard.traffic().open_max <= CONNECTIONS_MAX as u64);
}

#[tokio::test]
async fn who_holds_logs_without_reading_them_keeps_others_waiting_only_for_so_long() {
    let (dashboard, client) = start(Options::default()).await;
    let script = JobScript { id: "a".into(), log_bytes_total: Some(10 << 20), ..JobScript::default() };
    dashboard.add_job(JobScript { states: vec![(0, Word::Running)], ..script });
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(client.log_whole("a").await.unwrap());
    }
    let once = impatient(&dashboard, 200);
    let error = once.jobs().await.unwrap_err();
    assert!(airfreight_core::chain(&error).contains("connections got free"), "{error:?}");
    held.pop();
    once.with_patience(Duration::from_secs(20)).jobs().await.unwrap();
}

#[tokio::test]
async fn failures_that_pass_are_outlived() {
    for passing in [
        Fault { status: Some(503), ..fault("", 3) },
        Fault { status: Some(429), headers: BTreeMap::from([("retry-after".into(), "0".into())]), ..fault("", 2) },
        Fault { status: Some(500), body: "Traceback".into(), ..fault("", 2) },
        Fault { status: Some(408), ..fault("", 1) },
        Fault { refuse: true, ..fault("", 2) },
        Fault { cut_after_bytes: Some(1), ..fault("", 2) },
        Fault { corrupt: true, ..fault("", 1) },
    ] {
        let (dashboard, client) = start(Options::default()).await;
        client.submit(named("a")).await.unwrap();
        let words = format!("{passing:?}");
        dashboard.fault(passing);
        assert!(client.job("a").await.unwrap().is_some(), "{words}");
    }
}

#[tokio::test]
async fn a_silent_dashboard_is_given_up_after_the_timeout_and_asked_again() {
    let (dashboard, _) = start(Options::default()).await;
    dashboard.fault(Fault { hang: true, ..fault("", 1) });
    let quick = Settings { timeout: Duration::from_millis(200), ..settings(&dashboard) };
    Client::new(quick).unwrap().jobs().await.unwrap();
    dashboard.fault(Fault { hang: true, ..Fault::default() });
    let error = impatient(&dashboard, 200).jobs().await.unwrap_err();
    assert!(matches!(error, RayError::Unavailable { attempts: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn patience_ends_with_what_was_tried() {
    let (mut dashboard, _) = start(Options::default()).await;
    let address = dashboard.address().replace("http://", "http://me:pa55word@");
    dashboard.crash().await;
    let patience = Duration::from_millis(700);
    let client = Client::new(Settings { address, patience, ..Settings::new("") }).unwrap();
    let error = client.job("a").await.unwrap_err();
    let RayError::Unavailable { attempts, elapsed, .. } = &error else { panic!("{error:?}") };
    assert!(*attempts > 1 && *elapsed <= patience, "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().starts_with("cannot read job `a`: no answer from http://127.0.0.1:"), "{error}");
    assert!(!format!("{error:?}{client:?}").contains("pa55word"));
}

#[tokio::test]
async fn a_dashboard_that_comes_back_is_found_again() {
    let (mut dashboard, client) = start(Options::default()).await;
    client.submit(named("a")).await.unwrap();
    dashboard.crash().await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.job("a").await }
    });
    tokio::task::yield_now().await;
    dashboard.resume().await.unwrap();
    assert!(waiting.await.unwrap().unwrap().is_some());
}

#[tokio::test]
async fn what_will_not_pass_is_not_repeated() {
    for (status, body) in [(400, "ValueError: no"), (413, ""), (500, "failed with status code 400: ValueError: no")] {
        let (dashboard, client) = start(Options::default()).await;
        dashboard.fault(Fault { status: Some(status), body: body.into(), ..Fault::default() });
        let error = client.submit(named("a")).await.unwrap_err();
        assert!(matches!(error, RayError::Rejected { .. }), "{error:?}");
        assert_eq!(dashboard.traffic().requests.len(), 1);
        if !body.is_empty() {
            assert!(error.to_string().ends_with("ValueError: no"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_404_that_is_not_rays_says_nothing_about_a_job() {
    let (dashboard, client) = start(Options::default()).await;
    client.submit(named("a")).await.unwrap();
    dashboard.fault(Fault { status: Some(404), body: "404 page not found".into(), ..fault("", 2) });
    assert!(client.job("a").await.unwrap().is_some());
    dashboard.fault(Fault { status: Some(404), body: "<html><title>Nothing here</title>".into(), ..Fault::default() });
    let error = client.job("a").await.unwrap_err();
    assert!(error.to_string().ends_with("answered 404: Nothing here"), "{error}");
}

#[tokio::test]
async fn redirects_stay_with_the_cluster() {
    let (dashboard, client) = start(Options::default()).await;
    let (other, _) = start(Options::default()).await;
    let to = |location: String| Fault {
        status: Some(302),
        headers: BTreeMap::from([("location".into(), location)]),
        ..fault("^/api/version$", 1)
    };
    dashboard.fault(to("/api/../api/version?here".into()));
    client.cluster().await.unwrap();
    dashboard.fault(to(format!("{}/login?next=secret", other.address())));
    let error = client.cluster().await.unwrap_err();
    assert!(matches!(error, RayError::Redirected { .. }) && error.kind() == ErrorKind::Denied, "{error:?}");
    assert!(error.to_string().ends_with("/login"), "{error}");
    assert!(other.traffic().requests.is_empty());
}

#[tokio::test]
async fn a_cluster_says_what_it_is() {
    let (dashboard, client) = start(Options::default()).await;
    let cluster = client.cluster().await.unwrap();
    assert_eq!(cluster.ray_version, "2.60.0");
    assert_eq!(cluster.session_name, Some(dashboard.session_name()));
    assert_eq!(cluster.authentication.as_deref(), Some("disabled"));
    assert!(cluster.python_version.is_some());
    dashboard.replace_cluster();
    assert_ne!(client.cluster().await.unwrap().session_name, cluster.session_name);
    let (_old, client) = start(Options { ray_version: "2.9.3".into(), ..Options::default() }).await;
    let cluster = client.cluster().await.unwrap();
    assert_eq!((cluster.session_name, cluster.authentication), (None, None));
    let (_older, client) = start(Options { ray_version: "2.8.1".into(), ..Options::default() }).await;
    let error = client.cluster().await.unwrap_err();
    assert!(matches!(error, RayError::TooOld { .. }), "{error:?}");
}

#[tokio::test]
async fn a_web_page_is_not_taken_for_a_cluster() {
    let (dashboard, client) = start(Options::default()).await;
    dashboard.fault(Fault { status: Some(200), body: "<html>Please log in".into(), ..Fault::default() });
    let error = client.cluster().await.unwrap_err();
    assert!(matches!(error, RayError::Unreadable { .. }), "{error:?}");
    let error = client.submit(named("a")).await.unwrap_err();
    assert!(matches!(error, RayError::Unreadable { .. }), "{error:?}");
}
