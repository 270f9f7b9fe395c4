//! What the client concludes from Airflow's answers. The server filters and pages as Airflow's batch routes do, over a
//! list of task instances, so that a wrong question gets a wrong answer.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod server;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use airfreight_airflow::{Airflow, AirflowError, Fate, Options, Owner, Token, Window};
use airfreight_core::ErrorKind;
use jiff::Timestamp;
use serde_json::{Value, json};
use server::{Answer, Request, Server};

/// An Airflow with one DAG `d`, which everybody may read.
#[derive(Clone, Default)]
struct Deployment {
    task_instances: Vec<Owner>,
    /// Run id → when it ended.
    ended: BTreeMap<String, Timestamp>,
    /// `[api] maximum_page_limit`, should a later Airflow apply it to the batch routes.
    page_rows_max: Option<usize>,
}

impl Deployment {
    fn answer(&self, request: &Request) -> Answer {
        let names = |key: &str| -> Option<BTreeSet<String>> {
            serde_json::from_value(request.body.get(key).cloned().unwrap_or(Value::Null)).ok()
        };
        let number = |key: &str| request.body[key].as_u64().map(|n| usize::try_from(n).unwrap());
        let limit = number("page_limit").unwrap_or(100).min(self.page_rows_max.unwrap_or(usize::MAX));
        let offset = number("page_offset").unwrap_or(0);
        let page = |rows: Vec<Value>, name: &str| {
            let total = rows.len();
            let rows: Vec<Value> = rows.into_iter().skip(offset).take(limit).collect();
            Answer::Json(200, json!({ name: rows, "total_entries": total }))
        };
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/api/v2/dags/d") => Answer::Json(200, json!({ "dag_id": "d" })),
            ("GET", "/api/v2/dags/secret") => Answer::Json(403, json!({ "detail": "Forbidden" })),
            ("POST", "/api/v2/dags/~/dagRuns/list") => {
                let since: Timestamp = request.body["end_date_gte"].as_str().unwrap().parse().unwrap();
                let until: Timestamp = request.body["end_date_lte"].as_str().unwrap().parse().unwrap();
                assert_eq!(request.body["states"], json!(["success", "failed"]));
                let rows = self.ended.iter().filter(|(_, at)| (since..=until).contains(at));
                page(rows.map(|(run, _)| json!({ "dag_run_id": run, "dag_id": "d" })).collect(), "dag_runs")
            }
            ("POST", "/api/v2/dags/~/dagRuns/~/taskInstances/list") => {
                let (dags, runs, tasks) = (names("dag_ids"), names("dag_run_ids"), names("task_ids"));
                let rows = self.task_instances.iter().filter(|t| {
                    dags.as_ref().is_none_or(|d| d.contains(&t.dag_id))
                        && runs.as_ref().is_none_or(|r| r.contains(&t.run_id))
                        && tasks.as_ref().is_none_or(|n| n.contains(&t.task_id))
                });
                let rows = rows.map(|t| {
                    json!({ "dag_id": t.dag_id, "dag_run_id": t.run_id, "task_id": t.task_id,
                            "map_index": t.map_index, "state": "success" })
                });
                page(rows.collect(), "task_instances")
            }
            _ => Answer::Json(404, json!({ "detail": "Not Found" })),
        }
    }
}

fn owner(run: usize, task: &str, map_index: i32) -> Owner {
    Owner { dag_id: "d".into(), run_id: format!("manual__{run:05}+00:00"), task_id: task.into(), map_index }
}

fn window() -> Window {
    Window { since: "2026-11-01T00:00:00Z".parse().unwrap(), ended_before: "2026-11-10T00:00:00Z".parse().unwrap() }
}

fn options() -> Options {
    Options { attempt_timeout: Duration::from_secs(5), attempts: 3, first_pause: Duration::ZERO, page_rows: 100 }
}

fn ask(server: &Server, owners: &[Owner]) -> Result<HashMap<Owner, Fate>, AirflowError> {
    let airflow = Airflow::new(&server.url(), Some(Token::new("s3cret\n")), options())?;
    airflow.fates("d", &owners.iter().cloned().collect(), window())
}

#[test]
fn tells_needed_ended_and_gone_apart() {
    let deployment = Deployment {
        task_instances: vec![owner(1, "a", -1), owner(2, "a", -1), owner(3, "m", 0), owner(3, "m", 1)],
        ended: BTreeMap::from([
            (owner(1, "", 0).run_id, "2026-11-09T00:00:00Z".parse().unwrap()),
            (owner(2, "", 0).run_id, "2026-11-10T00:00:01Z".parse().unwrap()),
        ]),
        ..Deployment::default()
    };
    let server = Server::start(move |request, _| deployment.answer(request));

    let asked = [owner(1, "a", -1), owner(2, "a", -1), owner(2, "b", -1), owner(3, "m", 1), owner(3, "m", 2)];
    let fates = ask(&server, &asked).unwrap();

    let fates: Vec<Fate> = asked.iter().map(|o| fates[o]).collect();
    assert_eq!(fates, [Fate::Ended, Fate::Needed, Fate::Gone, Fate::Needed, Fate::Gone]);
    assert!(server.requests().iter().all(|r| r.headers["authorization"] == "Bearer s3cret"));
}

#[test]
fn what_a_task_has_for_itself_ends_with_it() {
    let states = [(0, "success"), (1, "failed"), (2, "running"), (3, "up_for_retry"), (4, "removed")];
    let row = |index: i32, state: Value| {
        json!({
            "dag_id": "d", "dag_run_id": owner(1, "", 0).run_id, "task_id": "m", "map_index": index, "state": state,
        })
    };
    let mut rows: Vec<Value> = states.iter().map(|(index, state)| row(*index, json!(state))).collect();
    rows.push(row(5, Value::Null));
    let server = Server::start(move |request, _| {
        let is_dag = request.path == "/api/v2/dags/d";
        let instances = || json!({ "task_instances": rows, "total_entries": rows.len() });
        Answer::Json(200, if is_dag { json!({ "dag_id": "d" }) } else { instances() })
    });
    let asked: Vec<Owner> = (0..=6).map(|index| owner(1, "m", index)).collect();
    let airflow = Airflow::new(&server.url(), None, options()).unwrap();
    let fates = airflow.own_fates("d", &asked.iter().cloned().collect()).unwrap();
    let fates: Vec<Fate> = asked.iter().map(|owner| fates[owner]).collect();
    let over = [Fate::Ended, Fate::Ended, Fate::Needed, Fate::Needed, Fate::Ended, Fate::Needed, Fate::Gone];
    assert_eq!(fates, over);
}

#[test]
fn ten_thousand_objects_are_not_ten_thousand_requests() {
    let all: Vec<Owner> = (0..2_500).flat_map(|run| ["a", "b", "c", "d"].map(|task| owner(run, task, -1))).collect();
    let deployment = Deployment { task_instances: all[..5_000].to_vec(), ..Deployment::default() };
    let server = Server::start(move |request, _| deployment.answer(request));

    let fates = ask(&server, &all).unwrap();

    assert_eq!(fates.values().filter(|f| **f == Fate::Needed).count(), 5_000);
    assert_eq!(fates.values().filter(|f| **f == Fate::Gone).count(), 5_000);
    assert!(server.requests().len() <= 10_000 / 100 + 2, "{} requests", server.requests().len());
}

#[test]
fn many_ended_runs_take_several_pages() {
    let at: Timestamp = "2026-11-05T00:00:00Z".parse().unwrap();
    let deployment =
        Deployment { ended: (0..250).map(|run| (owner(run, "", 0).run_id, at)).collect(), ..Deployment::default() };
    let server = Server::start(move |request, _| deployment.answer(request));

    let all: Vec<Owner> = (0..250).map(|run| owner(run, "a", -1)).collect();
    assert!(ask(&server, &all).unwrap().values().all(|f| *f == Fate::Ended));
}

/// Every task of the runs comes back, not only those with objects, so that a page overflows; the halves must agree
/// with the whole.
#[test]
fn halves_a_question_whose_answer_overflows_a_page() {
    let mapped = (0..950).map(|i| owner(7, "m", i));
    let deployment = Deployment {
        task_instances: (0..60).flat_map(|run| ["a", "b", "c"].map(|t| owner(run, t, -1))).chain(mapped).collect(),
        ..Deployment::default()
    };
    let server = Server::start(move |request, _| deployment.answer(request));

    let mut asked: Vec<Owner> = (0..61).flat_map(|run| ["a", "c"].map(|t| owner(run, t, -1))).collect();
    asked.extend((940..960).map(|i| owner(7, "m", i)));
    let fates = ask(&server, &asked).unwrap();

    for owner in asked {
        let exists = owner.run_id != self::owner(60, "", 0).run_id && owner.map_index < 950;
        assert_eq!(fates[&owner], if exists { Fate::Needed } else { Fate::Gone }, "{owner:?}");
    }
}

/// A server that caps its pages can hide a mapped instance; not knowing must not look like gone.
#[test]
fn an_answer_that_stays_incomplete_is_unknown() {
    let deployment = Deployment {
        task_instances: (0..300).map(|i| owner(1, "m", i)).collect(),
        page_rows_max: Some(100),
        ..Deployment::default()
    };
    let server = Server::start(move |request, _| deployment.answer(request));

    let fates = ask(&server, &[owner(1, "m", 5), owner(1, "m", 299), owner(1, "m", 300)]).unwrap();

    assert!(fates.values().all(|f| *f == Fate::Unknown), "{fates:?}");
}

#[test]
fn a_dag_that_the_token_may_not_read_is_an_error_not_an_empty_list() {
    let server = Server::start(|request, _| Deployment::default().answer(request));
    let airflow = Airflow::new(&server.url(), Some(Token::new("t")), options()).unwrap();
    for (dag, kind) in [("secret", ErrorKind::Denied), ("elsewhere", ErrorKind::NotFound)] {
        let owners = BTreeSet::from([Owner { dag_id: dag.into(), ..owner(1, "a", -1) }]);
        let error = airflow.fates(dag, &owners, window()).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(!error.is_final(), "other DAGs can still be asked about");
    }
}

#[test]
fn passing_failures_are_tried_again() {
    let deployment = Deployment { task_instances: vec![owner(1, "a", -1)], ..Deployment::default() };
    let server = Server::start(move |request, count| match count {
        1 => Answer::Json(503, json!({})),
        2 => Answer::Raw(vec![]),
        // Cut off in the middle of the body.
        4 => Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{\"dag_id\"".to_vec()),
        5 => Answer::Raw(b"not even HTTP\r\n\r\n".to_vec()),
        _ => deployment.answer(request),
    });

    assert_eq!(ask(&server, &[owner(1, "a", -1)]).unwrap()[&owner(1, "a", -1)], Fate::Needed);
}

#[test]
fn a_server_that_stays_silent_is_unavailable_and_says_how_long_it_was_tried() {
    let server = Server::start(|_, _| Answer::Silence);
    let options = Options { attempt_timeout: Duration::from_millis(100), ..options() };
    let airflow = Airflow::new(&server.url(), Some(Token::new("s3cret")), options).unwrap();

    let error = airflow.version().unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_final());
    assert!(error.to_string().contains("3 attempts"), "{error}");
    assert!(!format!("{error:?}{airflow:?}").contains("s3cret"));
    assert!(error.hint().is_some());
}

#[test]
fn a_refused_token_ends_at_the_first_attempt() {
    let server = Server::start(|_, _| Answer::Json(401, json!({ "detail": "Invalid JWT token" })));
    let error = ask(&server, &[owner(1, "a", -1)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.is_final());
    assert_eq!(server.requests().len(), 1);
    assert!(!format!("{error:?}").contains("s3cret"));
}

#[test]
fn what_is_not_an_airflow_is_told_so() {
    for answer in ["<html>welcome</html>", "{\"dag_runs\": 3}", "{\"dag_runs\": []}"] {
        let raw = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()).into_bytes();
        let server = Server::start(move |request, _| match request.method.as_str() {
            "GET" => Answer::Json(200, json!({})),
            _ => Answer::Raw(raw.clone()),
        });
        let error = ask(&server, &[owner(1, "a", -1)]).unwrap_err();
        assert!(matches!(error, AirflowError::Unreadable { .. }), "{error:?}");
    }
}

#[test]
fn a_url_must_be_http_and_keeps_its_path() {
    for url in ["airflow.example.com", "ftp://airflow", "", "http://", "https://user:hunter2@airflow"] {
        let error = Airflow::new(url, None, options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let server = Server::start(|request, _| match request.path.as_str() {
        "/team/api/v2/version" => Answer::Json(200, json!({ "version": "3.3.2", "git_version": null })),
        _ => Answer::Json(404, json!({})),
    });
    for suffix in ["/team", "/team/", "/team/api/v2"] {
        let airflow = Airflow::new(&(server.url() + suffix), None, options()).unwrap();
        assert_eq!(airflow.version().unwrap(), "3.3.2");
    }
}
