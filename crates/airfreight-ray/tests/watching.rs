//! Watches over a dashboard that fails in every way.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::time::{Duration, SystemTime};

use airfreight_core::ErrorKind;
use airfreight_ray::{Client, Cursor, Event, Follow, RayError, Settings, Watch, Watcher};
use airfreight_testkit::dashboard::{Dashboard, Fault, JobScript, Options, Server, Word};
use support::settings;

/// What came of a watch.
#[derive(Debug, Default)]
struct Seen {
    lines: Vec<String>,
    names: Vec<&'static str>,
    log_error: Option<String>,
}

impl Seen {
    fn take(&mut self, event: Event) {
        if self.names.last() != Some(&"lines") || event.name() != "lines" {
            self.names.push(event.name());
        }
        match event {
            Event::Lines { lines, .. } => self.lines.extend(lines),
            Event::Ended { log_error, .. } => self.log_error = log_error,
            _ => {}
        }
    }

    /// Takes events until this many lines have come.
    async fn lines(&mut self, watch: &Watch, count: usize) {
        while self.lines.len() < count {
            self.take(watch.next().await.unwrap());
        }
    }

    async fn end(&mut self, watch: &Watch) {
        loop {
            let event = watch.next().await.unwrap();
            let last = event.is_last();
            self.take(event);
            if last {
                return;
            }
        }
    }
}

fn numbered(count: usize) -> String {
    (0..count).fold(String::new(), |log, line| log + &format!("line {line} of a log\n"))
}

/// A dashboard on which one job runs until it is told to end; its agent is not reachable unless wanted.
async fn one_job(agent_reachable: bool, log: &str) -> (Dashboard, Watcher) {
    let dashboard = Dashboard::start(Options { agent_reachable, ..Options::default() }).await.unwrap();
    dashboard.add_job(JobScript {
        id: "job".to_owned(),
        states: vec![(0, Word::Running)],
        log: log.to_owned(),
        ..JobScript::default()
    });
    let watcher = watcher(settings(&dashboard));
    (dashboard, watcher)
}

fn watcher(settings: Settings) -> Watcher {
    let patience = settings.patience;
    Watcher::new(&Client::new(settings).unwrap(), patience)
}

/// The lines of the log as they are on the cluster, without the two of Ray's.
async fn truth(dashboard: &Dashboard) -> Vec<String> {
    let client = Client::new(settings(dashboard)).unwrap();
    client.log_text("job").await.unwrap().lines().map(str::to_owned).collect()
}

async fn end(dashboard: &Dashboard, watch: &Watch, seen: &mut Seen) {
    dashboard.set_status("job", Word::Succeeded);
    seen.end(watch).await;
    assert_eq!(seen.log_error, None);
    assert_eq!(seen.lines, truth(dashboard).await);
}

#[tokio::test]
async fn a_job_is_followed_to_its_end_by_either_way() {
    for agent_reachable in [true, false] {
        let (dashboard, watcher) = one_job(agent_reachable, "one\n").await;
        let watch = watcher.watch(Follow::new("job"));
        let mut seen = Seen::default();
        seen.lines(&watch, 3).await;
        dashboard.append("job", "  two\n\x1eairfreight nonce {}\nthr");
        seen.lines(&watch, 4).await;
        dashboard.append("job", "ee\n10%\r100%\nand no more");
        dashboard.set_status("job", Word::Succeeded);
        seen.end(&watch).await;
        assert_eq!(seen.lines[2..], ["one", "  two", "three", "100%", "and no more"]);
        assert_eq!((seen.names.first(), seen.names.last()), (Some(&"status"), Some(&"ended")));
        let by_range = dashboard.traffic().requests.iter().any(|request| request.server == Server::Agent);
        assert_eq!(by_range, agent_reachable);
        assert!(watch.cursor().is_exact());
    }
}

#[tokio::test]
async fn a_log_that_is_cut_and_corrupted_and_delayed_comes_once() {
    for agent_reachable in [true, false] {
        let text = numbered(3000);
        let (dashboard, watcher) = one_job(agent_reachable, &text).await;
        for cut in [70, 1000, 20_000, 33_333] {
            let path = "log".to_owned();
            dashboard.fault(Fault { path, times: Some(1), cut_after_bytes: Some(cut), ..Fault::default() });
        }
        let path = "/api/jobs/".to_owned();
        dashboard.fault(Fault { path: path.clone(), times: Some(1), corrupt: true, ..Fault::default() });
        dashboard.fault(Fault { path: path.clone(), times: Some(2), status: Some(502), ..Fault::default() });
        dashboard.fault(Fault { path, times: Some(1), refuse: true, after: 2, ..Fault::default() });
        let watch = watcher.watch(Follow::new("job"));
        let mut seen = Seen::default();
        seen.lines(&watch, 3000).await;
        end(&dashboard, &watch, &mut seen).await;
        assert!(!seen.names.contains(&"repeats"), "{:?}", seen.names);
    }
}

#[tokio::test]
async fn a_log_of_equal_lines_that_outgrows_every_window_comes_once() {
    let (dashboard, watcher) = one_job(false, &"same\n".repeat(30_000)).await;
    let watch = watcher.watch(Follow::new("job"));
    let mut seen = Seen::default();
    seen.lines(&watch, 30_002).await;
    dashboard.append("job", &"same\n".repeat(20_000));
    dashboard.append("job", "sa");
    end(&dashboard, &watch, &mut seen).await;
    assert!(!seen.names.contains(&"repeats"), "{:?}", seen.names);
}

#[tokio::test]
async fn another_watch_goes_on_where_the_first_was_closed() {
    for agent_reachable in [true, false] {
        let (dashboard, first) = one_job(agent_reachable, "one\ntwo\n").await;
        let watch = first.watch(Follow::new("job"));
        let mut seen = Seen::default();
        seen.lines(&watch, 4).await;
        let cursor = watch.close().to_string();
        assert!(cursor.len() < 1024);
        dashboard.append("job", "three\n");
        let second = watcher(settings(&dashboard));
        let watch = second.watch(Follow { cursor: Some(cursor.parse().unwrap()), ..Follow::new("job") });
        end(&dashboard, &watch, &mut seen).await;
        assert!(!seen.names.contains(&"repeats"), "{:?}", seen.names);
    }
}

#[tokio::test]
async fn what_may_come_again_is_marked() {
    let (dashboard, watcher) = one_job(false, "one\ntwo\n").await;
    let watch = watcher.watch(Follow::new("job"));
    let mut seen = Seen::default();
    seen.lines(&watch, 4).await;
    // As if its process had been killed: the cursor that was saved is from before.
    let cursor = watch.cursor();
    assert!(!cursor.is_exact());
    dashboard.append("job", "three\n");
    seen.lines(&watch, 5).await;
    let watch = watcher.watch(Follow { cursor: Some(cursor), ..Follow::new("job") });
    let mut again = Seen::default();
    again.lines(&watch, 1).await;
    assert_eq!(
        (again.names.as_slice(), again.lines),
        (["status", "repeats", "lines"].as_slice(), vec!["three".to_owned()])
    );
}

#[tokio::test]
async fn a_cursor_of_another_log_starts_again_and_says_so() {
    let (dashboard, watcher) = one_job(false, "one\ntwo\n").await;
    let cursor: Cursor = "1-20-20-0123456789abcdef-1700000000000-exact".parse().unwrap();
    let watch = watcher.watch(Follow { cursor: Some(cursor), ..Follow::new("job") });
    let mut seen = Seen::default();
    end(&dashboard, &watch, &mut seen).await;
    assert!(seen.names.contains(&"repeats"), "{:?}", seen.names);
}

#[tokio::test]
async fn a_slow_reader_holds_nobody_up_and_loses_nothing() {
    let text = numbered(60_000);
    let (dashboard, watcher) = one_job(false, &text).await;
    for id in ["a", "b", "c", "d", "e", "f"] {
        dashboard.add_job(JobScript { id: id.to_owned(), log: text.clone(), ..JobScript::default() });
    }
    let idle: Vec<Watch> = ["a", "b", "c", "d", "e", "f"].map(|id| watcher.watch(Follow::new(id))).into();
    let watch = watcher.watch(Follow::new("job"));
    let mut seen = Seen::default();
    end(&dashboard, &watch, &mut seen).await;
    for watch in idle {
        let mut seen = Seen::default();
        seen.end(&watch).await;
        assert_eq!((seen.lines.len(), seen.log_error), (60_002, None));
    }
    assert!(dashboard.traffic().open_max <= 8);
}

#[tokio::test]
async fn where_the_state_api_is_missing_the_jobs_api_has_the_log() {
    let (dashboard, watcher) = one_job(false, "one\n").await;
    dashboard.fault(Fault { path: "/api/v0/".to_owned(), status: Some(404), ..Fault::default() });
    let watch = watcher.watch(Follow::new("job"));
    let mut seen = Seen::default();
    seen.lines(&watch, 3).await;
    dashboard.append("job", "two\nthree");
    dashboard.set_status("job", Word::Failed);
    seen.end(&watch).await;
    assert_eq!(
        (seen.log_error, &seen.lines[2..]),
        (None, ["one".to_owned(), "two".to_owned(), "three".to_owned()].as_slice())
    );
}

#[tokio::test]
async fn a_replaced_cluster_is_told_from_a_lost_job() {
    let (dashboard, watcher) = one_job(true, "one\n").await;
    let session = Some(dashboard.session_name());
    let both = [watcher.watch(Follow { session, ..Follow::new("job") }), watcher.watch(Follow::new("nobody"))];
    let Event::Gone { replaced: false } = both[1].next().await.unwrap() else { panic!("there is no such job") };
    let mut seen = Seen::default();
    seen.lines(&both[0], 3).await;
    dashboard.replace_cluster();
    let event = loop {
        let event = both[0].next().await.unwrap();
        if event.is_last() {
            break event;
        }
    };
    assert!(matches!(event, Event::Gone { replaced: true }), "{event:?}");
    assert!(matches!(both[0].next().await, Ok(Event::Gone { replaced: true })), "the last event stays");
}

#[tokio::test]
async fn a_dashboard_that_hangs_is_mentioned_and_given_up_in_time() {
    let (dashboard, _) = one_job(true, "").await;
    let watcher = watcher(Settings { patience: Duration::from_secs(2), ..settings(&dashboard) });
    let watch = watcher.watch(Follow::new("job"));
    watch.next().await.unwrap();
    dashboard.fault(Fault { hang: true, ..Fault::default() });
    let mut mentioned = false;
    let error = loop {
        match watch.next().await {
            Ok(Event::Unreachable { .. }) => mentioned = true,
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(mentioned);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(watch.next().await.is_err(), "the error stays");
}

#[tokio::test]
async fn a_deadline_comes_while_the_dashboard_hangs() {
    let (dashboard, watcher) = one_job(true, "").await;
    dashboard.fault(Fault { hang: true, ..Fault::default() });
    let deadline = Some(SystemTime::now() + Duration::from_millis(300));
    let watch = watcher.watch(Follow { deadline, ..Follow::new("job") });
    assert!(matches!(watch.next().await, Ok(Event::Deadline)));
}

#[tokio::test]
async fn refused_credentials_end_a_watch() {
    let options = Options { token: Some("right".to_owned()), ..Options::default() };
    let dashboard = Dashboard::start(options).await.unwrap();
    let watcher = watcher(Settings { token: Some("wrong".into()), ..settings(&dashboard) });
    let error = watcher.watch(Follow::new("job")).next().await.unwrap_err();
    assert!(matches!(*error, RayError::Denied { status: 403, .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_is_asked_for_a_watch_that_was_dropped() {
    let (dashboard, watcher) = one_job(true, "").await;
    let watch = watcher.watch(Follow::new("job"));
    watch.next().await.unwrap();
    drop(watch);
    // What was under way may still arrive; whoever asks on does so within a second.
    loop {
        dashboard.forget_traffic();
        tokio::time::sleep(Duration::from_secs(1)).await;
        if dashboard.traffic().requests.is_empty() {
            return;
        }
    }
}

#[tokio::test]
async fn a_job_that_never_began_has_no_log_and_that_is_no_error() {
    let dashboard = Dashboard::start(Options::default()).await.unwrap();
    let states = vec![(0, Word::Pending), (200, Word::Failed)];
    dashboard.add_job(JobScript { id: "job".to_owned(), states, ..JobScript::default() });
    let mut seen = Seen::default();
    seen.end(&watcher(settings(&dashboard)).watch(Follow::new("job"))).await;
    assert_eq!(seen.log_error, None);
}
