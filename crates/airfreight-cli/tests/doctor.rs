//! `airfreight doctor` over real directories, with a Python that tells it what Airflow would.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod host;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use host::Host;
use serde_json::{Value, json};

/// Runs doctor with a "Python" that prints these facts, as python/airfreight/doctor.py would.
fn doctor(host: &Host, facts: &Value) -> (Option<i32>, Value) {
    let python = host.folder().join("python");
    fs_err::write(&python, format!("#!/bin/sh\necho a plugin says hello\ncat <<'END'\n{facts}\nEND\n")).unwrap();
    fs_err::set_permissions(&python, Permissions::from_mode(0o755)).unwrap();
    let output = host.command(&["doctor", "--json", "--python"]).arg(&python).output().unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

fn facts(host: &Host) -> Value {
    json!({
        "python": "3.12.1", "executable": "/opt/airflow/bin/python", "airfreight": env!("CARGO_PKG_VERSION"),
        "airflow": "3.3.2", "provider": true, "home": "/opt/airflow", "executor": "LocalExecutor",
        "backend": { "path": "airfreight.xcom.AirfreightXCom", "ours": true, "error": null }, "problems": [],
        "settings": { "store_path": host.store_path(), "spill_path": host.folder().join("spill"),
                      "capacity_bytes": 64 << 20, "shared_store": false, "mapping": "private" },
        "key": { "source": "configuration", "fingerprints": ["0badcafe"] },
    })
}

fn check<'a>(answer: &'a Value, name: &str) -> &'a Value {
    answer["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
}

#[test]
fn a_good_set_up_passes() {
    let host = Host::new();
    host.put(10, &json!({}));
    let (code, answer) = doctor(&host, &facts(&host));
    assert_eq!(code, Some(0), "{answer:#}");
    for name in ["airfreight", "airflow", "xcom backend", "settings", "executor", "secret key", "room", "leftovers"] {
        assert_eq!(check(&answer, name)["level"], "ok", "{answer:#}");
    }
    assert!(check(&answer, "room")["found"].as_str().unwrap().starts_with("1 objects"));
}

#[test]
fn a_failure_makes_the_exit_code_1_and_says_how_to_mend_it() {
    let host = Host::new();
    let mut facts = facts(&host);
    facts["executor"] = json!("KubernetesExecutor");
    facts["problems"] =
        json!([{ "message": "[airfreight] ttl_hours = 'x' is not a number", "hint": "for example: 48" }]);
    let (code, answer) = doctor(&host, &facts);
    assert_eq!((code, &answer["level"]), (Some(1), &json!("fail")));
    assert!(check(&answer, "executor")["mend"].as_str().unwrap().contains("shared_store"));
    assert_eq!(check(&answer, "settings")["mend"], "for example: 48");
}

#[test]
fn the_store_of_the_tasks_is_checked_not_another() {
    let (host, tasks) = (Host::new(), Host::new());
    tasks.put(10, &json!({}));
    let (_, answer) = doctor(&host, &facts(&tasks));
    assert!(check(&answer, "store")["found"].as_str().unwrap().contains(tasks.store_path().to_str().unwrap()));
    assert_eq!(check(&answer, "environment")["level"], "warn");
}

#[test]
fn directories_that_others_may_open_are_failures() {
    let host = Host::new();
    fs_err::create_dir(host.folder().join("spill")).unwrap();
    fs_err::set_permissions(host.folder().join("spill"), Permissions::from_mode(0o755)).unwrap();
    let (code, answer) = doctor(&host, &facts(&host));
    assert_eq!((code, &check(&answer, "spill")["level"]), (Some(1), &json!("fail")));
    assert!(check(&answer, "spill")["mend"].as_str().unwrap().contains("chmod 700"));

    fs_err::set_permissions(host.store_path(), Permissions::from_mode(0o777)).unwrap();
    let (code, answer) = doctor(&host, &facts(&host));
    assert_eq!((code, &check(&answer, "store")["level"]), (Some(1), &json!("fail")));
}

#[test]
fn before_the_first_value_there_is_no_store_and_doctor_makes_none() {
    let host = Host::empty();
    let (code, answer) = doctor(&host, &facts(&host));
    assert_eq!((code, &check(&answer, "store")["level"]), (Some(0), &json!("ok")), "{answer:#}");
    assert!(!host.store_path().exists());
}

#[test]
fn without_airflow_the_store_is_checked_all_the_same() {
    let host = Host::new();
    let text = host.run(&["doctor"]).success();
    assert!(text.contains("there is no Python next to this program"), "{text}");
    assert!(text.contains(host.store_path().to_str().unwrap()), "{text}");

    let (code, answer) = doctor(&host, &json!("not what was asked for"));
    assert_eq!((code, &check(&answer, "airflow")["level"]), (Some(1), &json!("fail")));
    assert_eq!(check(&answer, "room")["level"], "ok");
}
