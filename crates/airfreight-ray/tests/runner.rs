//! A runner on a dashboard that fails in every way: found or started once, asked by port or mailbox, and heard to the
//! end whatever is cut, refused or killed meanwhile.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::time::{Duration, SystemTime};

use airfreight_core::ErrorKind;
use airfreight_ray::{
    CallId, Client, Event, Follow, RayError, Runner, RunnerOptions, Settings, Transport, Watch, runner_id, runner_of,
};
use airfreight_testkit::dashboard::{Dashboard, Fault, JobScript, Options, RunnerScript, Server, Word};
use serde_json::{Map, Value, json};
use support::settings;

const PACKAGE: &[u8] = b"PK: the cluster's side";
const OWNER: &str = "airfreight-owner-0";

fn runner(dashboard: &Dashboard, transport: Transport) -> Runner {
    runner_with(dashboard, transport, settings(dashboard))
}

/// A handle as another process would have it.
fn runner_with(_: &Dashboard, transport: Transport, settings: Settings) -> Runner {
    let client = Client::new(settings).unwrap();
    Runner::new(&client, PACKAGE, RunnerOptions { transport, ..RunnerOptions::default() })
}

async fn dashboard() -> Dashboard {
    Dashboard::start(Options::default()).await.unwrap()
}

/// A call whose fate is in its metadata.
fn call(id: &str, metadata: &Value) -> Map<String, Value> {
    support::object(json!({
        "id": id, "nonce": "n", "name": "dag.task", "owner": {"name": OWNER}, "metadata": metadata, "options": {},
    }))
}

/// A call of which nobody knows the end yet.
fn endless(id: &str) -> Map<String, Value> {
    call(id, &json!({"log": "one\ntwo\n"}))
}

fn quick(id: &str) -> Map<String, Value> {
    call(id, &json!({"after_ms": "1", "log": "one\n"}))
}

fn status(state: &Map<String, Value>) -> &str {
    state["status"].as_str().unwrap()
}

#[derive(Debug, Default, PartialEq)]
struct Seen {
    lines: Vec<String>,
    statuses: Vec<&'static str>,
    repeats: usize,
}

/// Everything that a watch says, up to its end.
async fn to_the_end(watch: &Watch) -> (Seen, Event) {
    let mut seen = Seen::default();
    loop {
        match watch.next().await.unwrap() {
            Event::Lines { lines, .. } => seen.lines.extend(lines),
            Event::Status { job } => seen.statuses.push(job.status().as_str()),
            Event::Repeats { .. } => seen.repeats += 1,
            end if end.is_last() => return (seen, end),
            _ => {}
        }
    }
}

/// Waits for the first word of a watch: from then on, the feed is on.
async fn begun(watch: &Watch) {
    let Event::Status { .. } = watch.next().await.unwrap() else { panic!("a status comes first") };
}

#[tokio::test]
async fn the_first_call_starts_a_runner_and_the_next_finds_it() {
    let dashboard = dashboard().await;
    let first = runner(&dashboard, Transport::Auto);
    assert!(!first.is_running().await.unwrap());
    let state = first.call(quick("a")).await.unwrap();
    assert_eq!((status(&state), &state["record"]), ("SUCCEEDED", &json!({"result": {"json": "a"}})));
    assert_eq!(first.transport(), Some("port"));
    let submitted = dashboard.submission(first.id()).unwrap();
    assert_eq!(submitted["runtime_env"]["env_vars"]["AIRFREIGHT_RUNNER_ID"], first.id());
    assert_eq!(first.id(), runner_id(PACKAGE));

    dashboard.forget_traffic();
    let second = runner(&dashboard, Transport::Auto);
    assert_eq!(status(&second.call(quick("b")).await.unwrap()), "SUCCEEDED");
    let asked: Vec<(Server, String)> = dashboard
        .traffic()
        .requests
        .into_iter()
        .map(|request| (request.server, request.path.split(['?', '_']).next().unwrap().to_owned()))
        .collect();
    let job = format!("/api/jobs/{}", second.id());
    let wanted = [(Server::Dashboard, job.as_str()), (Server::Dashboard, "/api/v0/logs/file")];
    let wanted = wanted.into_iter().chain([(Server::Runner, "/v1/ping"), (Server::Runner, "/v1/calls")]);
    assert_eq!(asked, wanted.map(|(server, path)| (server, path.to_owned())).collect::<Vec<_>>());
    assert_eq!(dashboard.runner_lives(), 1);
}

#[tokio::test]
async fn many_at_once_start_one_runner() {
    let dashboard = dashboard().await;
    dashboard.fault(Fault { method: Some("POST".into()), delay_ms: 30, ..support::fault("^/api/jobs/$", 3) });
    let calls: Vec<_> = (0..8)
        .map(|number| {
            let runner = runner(&dashboard, Transport::Auto);
            tokio::spawn(async move { runner.call(quick(&format!("c{number}"))).await.unwrap() })
        })
        .collect();
    for call in calls {
        assert_eq!(status(&call.await.unwrap()), "SUCCEEDED");
    }
    assert_eq!(dashboard.runner_lives(), 1);
}

#[tokio::test]
async fn an_ended_runner_is_started_again() {
    let dashboard = dashboard().await;
    let id = runner_id(PACKAGE);
    dashboard.add_job(JobScript { id: id.clone(), states: vec![(0, Word::Stopped)], ..JobScript::default() });
    let runner = runner(&dashboard, Transport::Auto);
    assert_eq!(status(&runner.call(quick("a")).await.unwrap()), "SUCCEEDED");
    assert_eq!(runner.end().await.unwrap(), Some(format!("{id}-b")));
    assert_eq!(status(&runner.call(quick("b")).await.unwrap()), "SUCCEEDED");
    assert_eq!(dashboard.runner_lives(), 2);
}

#[tokio::test]
async fn a_runner_that_never_gets_ready_is_an_error_that_says_why() {
    let dashboard = dashboard().await;
    dashboard.script_runner(RunnerScript { fails: true, ..RunnerScript::default() });
    let error = runner(&dashboard, Transport::Auto).ready(None).await.unwrap_err();
    assert!(matches!(error, RayError::NoRunner { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("ended as FAILED"), "{error}");
    assert!(error.hint().is_some());

    dashboard.script_runner(RunnerScript { start_ms: 3_600_000, ..RunnerScript::default() });
    let error = runner(&dashboard, Transport::Auto).ready(Some(Duration::from_millis(300))).await.unwrap_err();
    assert!(error.to_string().contains("is not ready after"), "{error}");
}

#[tokio::test]
async fn where_the_port_is_of_no_use_the_mailbox_is_taken() {
    let silent = Fault { server: Some(Server::Runner), hang: true, ..Fault::default() };
    let closed = RunnerScript { listens: false, ..RunnerScript::default() };
    let false_one = RunnerScript { proves: false, ..RunnerScript::default() };
    for (script, fault) in [(closed, None), (false_one, None), (RunnerScript::default(), Some(silent))] {
        let dashboard = dashboard().await;
        dashboard.script_runner(script.clone());
        if let Some(fault) = fault {
            dashboard.fault(fault);
        }
        let runner = runner(&dashboard, Transport::Auto);
        assert_eq!(status(&runner.call(quick("a")).await.unwrap()), "SUCCEEDED");
        assert_eq!(runner.transport(), Some("mailbox"));
        assert_eq!(runner.state(&CallId::new(OWNER, "b")).await.unwrap(), None);
        let tokens = dashboard.traffic().requests;
        let to_port = tokens.iter().filter(|request| request.server == Server::Runner);
        assert!(to_port.clone().all(|request| !request.headers.contains_key("authorization")), "{to_port:?}");
    }
}

#[tokio::test]
async fn a_port_that_begins_to_answer_is_taken_and_one_that_stops_is_left() {
    let dashboard = dashboard().await;
    dashboard.fault(Fault { server: Some(Server::Runner), refuse: true, ..Fault::default() });
    let runner = runner(&dashboard, Transport::Auto);
    assert_eq!(status(&runner.call(quick("a")).await.unwrap()), "SUCCEEDED");
    assert_eq!(runner.transport(), Some("mailbox"));
    dashboard.mend();
    let mut number = 0;
    while runner.transport() == Some("mailbox") {
        number += 1;
        runner.call(quick(&format!("b{number}"))).await.unwrap();
    }
    dashboard.fault(Fault { server: Some(Server::Runner), refuse: true, ..Fault::default() });
    assert_eq!(status(&runner.call(quick("c")).await.unwrap()), "SUCCEEDED");
    assert_eq!(runner.transport(), Some("mailbox"));
    assert_eq!(dashboard.runner_lives(), 1, "it was there all the time");
}

#[tokio::test]
async fn a_lost_answer_is_no_second_call() {
    for fault in [
        Fault { carried_out: true, refuse: true, ..support::fault("^/v1/calls", 1) },
        Fault { cut_after_bytes: Some(10), ..support::fault("^/v1/calls", 1) },
        Fault { carried_out: true, status: Some(503), body: "{}".into(), ..support::fault("^/v1/calls", 1) },
        Fault { carried_out: true, refuse: true, ..support::fault("^/api/packages/gcs/afin", 1) },
        Fault { status: Some(502), ..support::fault("^/api/v0/logs/file", 1) },
    ] {
        let dashboard = dashboard().await;
        let transport = if fault.path.contains("/v1/") { Transport::Auto } else { Transport::Mailbox };
        let runner = runner(&dashboard, transport);
        runner.ready(None).await.unwrap();
        dashboard.fault(fault.clone());
        let state = runner.call(quick("a")).await.unwrap();
        assert_eq!((status(&state), state["version"].as_i64()), ("SUCCEEDED", Some(2)), "{fault:?}");
    }
}

#[tokio::test]
async fn another_call_of_the_same_id_is_a_conflict_and_a_wrong_one_is_refused() {
    let dashboard = dashboard().await;
    for transport in [Transport::Auto, Transport::Mailbox] {
        let runner = runner(&dashboard, transport);
        runner.call(quick("a")).await.unwrap();
        runner.call(quick("a")).await.unwrap();
        let mut other = quick("a");
        other.insert("nonce".to_owned(), "m".into());
        let error = runner.call(other).await.unwrap_err();
        assert!(matches!(error, RayError::Conflict { .. }), "{error}");
        let error = runner.call(Map::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn a_killed_runner_is_found_again_and_results_are_delivered() {
    for transport in [Transport::Auto, Transport::Mailbox] {
        let dashboard = dashboard().await;
        let runner = runner(&dashboard, transport);
        runner.call(endless("a")).await.unwrap();
        runner.call(endless("b")).await.unwrap();
        let watches = ["a", "b"].map(|id| runner.watch(OWNER, Follow::new(id)));
        for watch in &watches {
            begun(watch).await;
        }
        dashboard.kill_runner();
        // Ends while nobody tells of it.
        dashboard.end_call("a", "SUCCEEDED");
        dashboard.revive_runner(runner.id());
        let (seen, end) = to_the_end(&watches[0]).await;
        assert_eq!(seen.lines, ["one", "two"]);
        let Event::Ended { job, log_error: None } = end else { panic!("{end:?}") };
        assert_eq!(job.details()["record"], json!({"result": {"json": "a"}}));
        dashboard.end_call("b", "FAILED");
        let (_, end) = to_the_end(&watches[1]).await;
        assert!(matches!(&end, Event::Ended { job, .. } if job.status().as_str() == "FAILED"), "{end:?}");
        assert_eq!(status(&runner.call(quick("c")).await.unwrap()), "SUCCEEDED");
        assert_eq!(dashboard.runner_lives(), 2);
    }
}

#[tokio::test]
async fn who_knows_an_earlier_life_only_finds_the_next() {
    for transport in [Transport::Auto, Transport::Mailbox] {
        let dashboard = dashboard().await;
        let runner = runner(&dashboard, transport);
        runner.call(quick("a")).await.unwrap();
        dashboard.kill_runner();
        dashboard.revive_runner(runner.id());
        while dashboard.runner_lives() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(status(&runner.call(quick("b")).await.unwrap()), "SUCCEEDED");
    }
}

#[tokio::test]
async fn a_call_that_is_posted_to_a_dying_runner_is_posted_once() {
    for transport in [Transport::Auto, Transport::Mailbox] {
        let dashboard = dashboard().await;
        let runner = runner(&dashboard, transport);
        runner.ready(None).await.unwrap();
        dashboard.kill_runner();
        let calling = tokio::spawn({
            let runner = runner.clone();
            async move { runner.call(quick("a")).await.unwrap() }
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        dashboard.revive_runner(runner.id());
        assert_eq!(status(&calling.await.unwrap()), "SUCCEEDED");
    }
}

#[tokio::test]
async fn a_watch_says_all_there_is_to_say() {
    for transport in [Transport::Auto, Transport::Mailbox] {
        let dashboard = dashboard().await;
        let runner = runner(&dashboard, transport);
        runner.call(endless("a")).await.unwrap();
        let watch = runner.watch(OWNER, Follow::new("a"));
        begun(&watch).await;
        dashboard.end_call("a", "SUCCEEDED");
        let (seen, end) = to_the_end(&watch).await;
        assert_eq!((seen.lines, seen.repeats), (vec!["one".to_owned(), "two".to_owned()], 0));
        let Event::Ended { job, log_error: None } = end else { panic!("{end:?}") };
        assert_eq!((job.submission_id(), status(job.details())), (Some("a"), "SUCCEEDED"));
        assert!(!job.details().contains_key("tail"), "the lines have been handed out");
        // The end of a call that is over is told to whoever comes later, and from where he had got to.
        let late = runner.watch(OWNER, Follow { cursor: Some(watch.cursor()), ..Follow::new("a") });
        let (seen, _) = to_the_end(&late).await;
        assert!(seen.lines.is_empty(), "{seen:?}");
    }
}

#[tokio::test]
async fn a_long_log_is_read_while_it_grows_and_to_its_end() {
    let dashboard = dashboard().await;
    let runner = runner(&dashboard, Transport::Auto);
    let log = (0..2000).fold(String::new(), |log, line| format!("{log}line {line} of a log\n"));
    runner.call(call("a", &json!({"log": log, "tail": "no"}))).await.unwrap();
    let watch = runner.watch(OWNER, Follow::new("a"));
    let mut lines = Vec::new();
    while lines.len() < 2000 {
        if let Event::Lines { lines: more, .. } = watch.next().await.unwrap() {
            lines.extend(more);
        }
    }
    dashboard.end_call("a", "SUCCEEDED");
    let (seen, end) = to_the_end(&watch).await;
    assert_eq!(lines.into_iter().chain(seen.lines).collect::<Vec<_>>().join("\n") + "\n", log);
    assert!(matches!(end, Event::Ended { log_error: None, .. }), "{end:?}");
}

#[tokio::test]
async fn one_feed_tells_of_many_calls() {
    for transport in [Transport::Auto, Transport::Mailbox] {
        let dashboard = dashboard().await;
        let runner = runner(&dashboard, transport);
        let ids: Vec<String> = (0..40).map(|number| format!("c{number}")).collect();
        for id in &ids {
            runner.request(http::Method::POST, "/v1/calls", Some(&Value::Object(endless(id)))).await.unwrap();
        }
        let watches: Vec<Watch> =
            ids.iter().map(|id| runner.watch(OWNER, Follow { logs: false, ..Follow::new(id) })).collect();
        for watch in &watches {
            begun(watch).await;
        }
        dashboard.forget_traffic();
        for id in &ids {
            dashboard.end_call(id, "SUCCEEDED");
        }
        for watch in &watches {
            let (_, end) = to_the_end(watch).await;
            assert!(matches!(end, Event::Ended { .. }), "{end:?}");
        }
        let traffic = dashboard.traffic();
        if transport == Transport::Auto {
            // What came of each, and a few questions for all.
            let of_all = traffic.requests.iter().filter(|request| !request.path.starts_with("/v1/calls/")).count();
            assert!(of_all < ids.len() / 2, "{of_all} requests");
        }
    }
}

#[tokio::test]
async fn a_call_that_nobody_knows_is_gone() {
    let dashboard = dashboard().await;
    let runner = runner(&dashboard, Transport::Auto);
    let session = Some(dashboard.session_name());
    let watch = runner.watch(OWNER, Follow { session: session.clone(), ..Follow::new("never") });
    let (_, end) = to_the_end(&watch).await;
    assert!(matches!(end, Event::Gone { replaced: false }), "{end:?}");

    runner.call(endless("a")).await.unwrap();
    let watch = runner.watch(OWNER, Follow { session, ..Follow::new("a") });
    begun(&watch).await;
    dashboard.kill_runner();
    dashboard.replace_cluster();
    let (_, end) = to_the_end(&watch).await;
    assert!(matches!(end, Event::Gone { replaced: true }), "{end:?}");
}

#[tokio::test]
async fn a_deadline_is_told_and_a_call_can_be_cancelled() {
    let dashboard = dashboard().await;
    let runner = runner(&dashboard, Transport::Auto);
    runner.call(endless("a")).await.unwrap();
    let watch = runner.watch(OWNER, Follow { deadline: Some(SystemTime::now()), ..Follow::new("a") });
    while !matches!(watch.next().await.unwrap(), Event::Deadline) {}
    let call = CallId::new(OWNER, "a");
    assert!(runner.cancel(&call).await.unwrap());
    let (_, end) = to_the_end(&watch).await;
    assert!(matches!(&end, Event::Ended { job, .. } if job.status().as_str() == "STOPPED"), "{end:?}");
    assert!(!runner.cancel(&call).await.unwrap(), "it was over");
    assert!(!runner.cancel(&CallId::new(OWNER, "b")).await.unwrap(), "nobody knows it");
}

#[tokio::test]
async fn a_dashboard_that_is_away_is_waited_for() {
    let mut dashboard = dashboard().await;
    let runner = runner(&dashboard, Transport::Mailbox);
    runner.call(endless("a")).await.unwrap();
    let watch = runner.watch(OWNER, Follow::new("a"));
    begun(&watch).await;
    dashboard.crash().await;
    let calling = tokio::spawn({
        let runner = runner.clone();
        async move { runner.call(quick("b")).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    dashboard.end_call("a", "SUCCEEDED");
    dashboard.resume().await.unwrap();
    assert_eq!(status(&calling.await.unwrap()), "SUCCEEDED");
    let (seen, end) = to_the_end(&watch).await;
    assert!(matches!(end, Event::Ended { .. }), "{end:?}");
    assert_eq!(seen.lines.last().map(String::as_str), Some("two"));
}

#[tokio::test]
async fn over_the_port_a_dashboard_is_not_needed() {
    let mut dashboard = dashboard().await;
    let runner = runner(&dashboard, Transport::Auto);
    runner.call(quick("a")).await.unwrap();
    dashboard.crash().await;
    let state = runner.call(quick("b")).await.unwrap();
    assert_eq!(status(&state), "SUCCEEDED");
}

#[tokio::test]
async fn patience_ends_with_an_error_that_says_what_was_tried() {
    let dashboard = dashboard().await;
    dashboard.script_runner(RunnerScript { reads_mail: false, listens: false, ..RunnerScript::default() });
    let patient = Settings { patience: Duration::from_millis(300), ..settings(&dashboard) };
    let runner = runner_with(&dashboard, Transport::Port, patient);
    let error = runner.call(quick("a")).await.unwrap_err();
    assert!(matches!(error, RayError::Unavailable { .. }), "{error}");
    assert!(airfreight_core::chain(&error).contains("the runner's port can't be reached"), "{error}");
}

#[tokio::test]
async fn sixteen_submit_while_slow_calls_wait() {
    let dashboard = dashboard().await;
    let runner = runner(&dashboard, Transport::Auto);
    let slow: Vec<_> = (0..16)
        .map(|number| {
            let runner = runner.clone();
            tokio::spawn(async move { runner.call(endless(&format!("slow{number}"))).await.unwrap() })
        })
        .collect();
    dashboard.forget_traffic();
    for number in 0..50 {
        assert_eq!(status(&runner.call(quick(&format!("q{number}"))).await.unwrap()), "SUCCEEDED");
    }
    for call in slow {
        assert_eq!(status(&call.await.unwrap()), "RUNNING");
    }
    assert!(dashboard.traffic().open_max <= 16, "eight to the dashboard and eight to the port at most");
}

#[tokio::test]
async fn owners_and_values_are_listed_and_dropped() {
    let dashboard = dashboard().await;
    for transport in [Transport::Auto, Transport::Mailbox] {
        let runner = runner(&dashboard, transport);
        assert_eq!(runner.owners().await.unwrap()[0]["name"], OWNER);
        assert!(runner.drop_owner(OWNER).await.unwrap());
        assert!(runner.calls(OWNER).await.unwrap().is_empty());
        assert_eq!(runner.value(OWNER, "k", "g").await.unwrap()["state"], "gone");
        assert!(!runner.drop_value(OWNER, "k").await.unwrap());
    }
}

#[tokio::test]
async fn the_jobs_of_a_runner_take_turns_with_two_ids() {
    let dashboard = dashboard().await;
    let ids = [runner_id(PACKAGE), format!("{}-b", runner_id(PACKAGE))];
    for turn in [0, 1, 0, 1] {
        let runner = runner(&dashboard, Transport::Auto);
        assert_eq!(status(&runner.call(quick("a")).await.unwrap()), "SUCCEEDED");
        assert_eq!(runner.job_id(), ids[turn]);
        assert_eq!(runner_of(&runner.job_id()), runner.id());
        assert_eq!(runner.end().await.unwrap(), Some(ids[turn].clone()));
    }
    assert_eq!(dashboard.runner_lives(), 4);
}
