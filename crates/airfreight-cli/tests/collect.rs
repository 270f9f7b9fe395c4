//! `airfreight store gc` against a store and an Airflow that answers over real HTTP.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod host;
#[path = "../../airfreight-airflow/tests/server/mod.rs"]
mod server;

use std::process::Command;

use host::{Host, owner};
use serde_json::{Value, json};
use server::{Answer, Request, Server};

/// Knows the DAG `d`: its run `old` ended ten days ago, `live` runs and has the task `t`.
fn airflow(request: &Request) -> Answer {
    let names = |key: &str| request.body[key].to_string();
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/api/v2/dags/d") => Answer::Json(200, json!({ "dag_id": "d" })),
        ("POST", "/api/v2/dags/~/dagRuns/list") => {
            let rows = if names("dag_ids").contains("\"d\"") { vec![json!({ "dag_run_id": "old" })] } else { vec![] };
            Answer::Json(200, json!({ "total_entries": rows.len(), "dag_runs": rows }))
        }
        ("POST", "/api/v2/dags/~/dagRuns/~/taskInstances/list") => {
            let live = names("dag_run_ids").contains("\"live\"") && names("task_ids").contains("\"t\"");
            let row = json!({ "dag_id": "d", "dag_run_id": "live", "task_id": "t", "map_index": -1 });
            let rows = if live { vec![row] } else { vec![] };
            Answer::Json(200, json!({ "total_entries": rows.len(), "task_instances": rows }))
        }
        _ => Answer::Json(404, json!({ "detail": "Not Found" })),
    }
}

/// `gc` with a retention of nothing and no grace, so that objects of this second are old enough.
fn gc(host: &Host, server: &Server) -> Command {
    let mut command = host.command(&["store", "gc", "--json", "--retention-hours", "0", "--grace-minutes", "0"]);
    command.args(["--api-url", &server.url()]).env("AIRFREIGHT_API_TOKEN", "s3cret");
    command
}

fn put(host: &Host, owner: &Value) -> String {
    host.put(1 << 20, &json!({ "type": "x", "owner": owner }))
}

#[test]
fn what_airflow_no_longer_needs_goes_and_all_else_stays() {
    let host = Host::new();
    let server = Server::start(|request, _| airflow(request));
    put(&host, &owner("d", "old", "t"));
    put(&host, &owner("d", "live", "removed_task"));
    put(&host, &owner("d", "deleted", "t"));
    let mut stays = vec![
        put(&host, &owner("d", "live", "t")),
        put(&host, &owner("elsewhere", "old", "t")),
        put(&host, &json!({ "dag_id": "d", "task_id": "t" })),
        host.put(10, &json!({})),
        // The same names in another deployment of the same user, which shares the store.
        put(&host, &{
            let mut other = owner("d", "old", "t");
            other["deployment"] = "ffffffff".into();
            other
        }),
    ];
    stays.sort();

    let rehearsal = host::answer(gc(&host, &server).arg("--dry-run")).json();
    assert_eq!(host.names().len(), 8, "a dry run removes nothing");

    let report = host::answer(&mut gc(&host, &server)).json();
    assert_eq!(host.names(), stays);
    assert_eq!(report["ended"], json!({ "objects": 1, "bytes": 1 << 20 }));
    assert_eq!(report["gone"], json!({ "objects": 2, "bytes": 2 << 20 }));
    let kept = json!({
        "needed": 1, "recent": 0, "unknown": 1, "without_owner": 2, "elsewhere": 1, "not_asked": 0
    });
    assert_eq!(report["kept"], kept);
    assert_eq!(report["doubts"][0]["dag_id"], "elsewhere");
    for part in ["ended", "gone", "kept", "doubts"] {
        assert_eq!(rehearsal[part], report[part]);
    }
    assert!(server.requests().iter().all(|request| request.headers["authorization"] == "Bearer s3cret"));
}

#[test]
fn by_default_what_was_just_written_stays() {
    let host = Host::new();
    let server = Server::start(|request, _| airflow(request));
    put(&host, &owner("d", "old", "t"));
    put(&host, &owner("d", "deleted", "t"));

    let report = host.json(&["store", "gc", "--api-url", &server.url()]);

    assert_eq!(report["kept"]["recent"], 2);
    assert_eq!(host.names().len(), 2);
}

#[test]
fn when_airflow_cannot_be_asked_nothing_goes_but_what_expired() {
    for (status, word) in [(401, "refused the token"), (403, "refused the token"), (500, "500")] {
        let host = Host::new();
        let server = Server::start(move |_, _| Answer::Json(status, json!({ "detail": "no" })));
        put(&host, &owner("d", "old", "t"));
        let expired = put(&host, &owner("d", "live", "t"));
        host.store().expire(expired.parse().unwrap(), 0.0).unwrap();

        let answer = host::answer(&mut gc(&host, &server));

        let (stdout, stderr) = answer.everything();
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((&report["expired"], &report["kept"]["unknown"]), (&json!(1), &json!(1)), "{stdout}");
        assert_eq!(host.names().len(), 1);
        assert!((stdout.clone() + &stderr).contains(word), "{stdout}{stderr}");
        assert!(!(stdout + &stderr).contains("s3cret"));
        if status < 500 {
            assert!(answer.failure(1).contains("hint: "));
        } else {
            // One DAG's failure is noted; the others were asked.
            answer.success();
        }
    }
}

#[test]
fn the_token_can_come_from_a_file() {
    let host = Host::new();
    let server = Server::start(|request, _| airflow(request));
    put(&host, &owner("d", "live", "t"));
    let file = host.folder().join("token");
    fs_err::write(&file, "from-a-file\n").unwrap();

    host.json(&["store", "gc", "--api-url", &server.url(), "--token-file", file.to_str().unwrap()]);
    assert!(server.requests().iter().all(|request| request.headers["authorization"] == "Bearer from-a-file"));

    let error = host.run(&["store", "gc", "--api-url", &server.url(), "--token-file", "/nonexistent"]).failure(1);
    assert!(error.contains("/nonexistent"), "{error}");
}

#[test]
fn without_an_api_url_only_expiry_counts() {
    let host = Host::new();
    let stays = put(&host, &owner("d", "old", "t"));
    let expired = put(&host, &owner("d", "live", "t"));
    host.store().expire(expired.parse().unwrap(), 0.0).unwrap();

    assert_eq!(host.json(&["store", "gc", "--dry-run"])["expired"], 1);
    assert_eq!(host.names().len(), 2);
    let text = host.run(&["store", "gc"]).success();
    assert!(text.contains("Airflow was not asked"), "{text}");
    assert_eq!(host.names(), [stays]);
}
