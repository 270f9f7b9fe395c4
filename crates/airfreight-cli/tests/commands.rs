//! The binary as a user runs it: a process of its own, over a real store.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod host;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use airfreight_store::Access;
use host::Host;
use serde_json::{Value, json};

#[test]
fn ls_lists_what_tasks_stored_and_show_tells_of_one() {
    let host = Host::new();
    let small = host.put(1_000, &json!({ "type": "builtins.dict", "owner": host::owner("d", "r1", "t") }));
    let large = host.put(
        3 << 20,
        &json!({ "type": "pandas.DataFrame", "codec": "pickle5", "preview": { "shape": [336_776, 19] },
                 "owner": { "dag_id": "flights", "run_id": "r2", "task_id": "join", "map_index": 3,
                            "try_number": 2, "key": "return_value" } }),
    );

    let text = host.run(&["store", "ls", "--sort", "size"]).success();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("NAME"), "{text}");
    assert!(lines[1].starts_with(&large) && lines[2].starts_with(&small), "{text}");
    assert!(lines[1].contains("3.0 MiB") && lines[1].contains("pandas.DataFrame"), "{text}");
    assert!(lines[1].ends_with("flights / r2 / join [3]"), "{text}");

    let listing = host.json(&["store", "ls", "--dag", "flights"]);
    assert_eq!(listing["objects"].as_array().unwrap().len(), 1);
    assert_eq!(listing["objects"][0]["nbytes"], 3 << 20);

    let text = host.run(&["store", "show", &large[..8]]).success();
    for expected in ["pandas.DataFrame", "3.0 MiB", "flights", "336776", "return_value", "by nobody"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    let shown = host.json(&["store", "show", &large]);
    assert_eq!((&shown["name"], &shown["metadata"]["codec"]), (&json!(large), &json!("pickle5")));
}

#[test]
fn stat_counts_and_knows_what_readers_hold() {
    let host = Host::new();
    let name = host.put(2 << 20, &json!({}));
    let object = host.store().get(name.parse().unwrap(), Access::ReadOnly).unwrap();

    let stat = host.json(&["store", "stat"]);
    assert_eq!((&stat["objects"], &stat["pinned"], &stat["spilled_objects"]), (&json!(1), &json!(1), &json!(0)));
    assert!(stat["used_bytes"].as_u64().unwrap() >= 2 << 20);
    assert_eq!(stat["capacity_bytes"], 64 << 20);

    drop(object);
    assert!(host.run(&["store", "stat"]).success().contains("1, 0 held by readers"));
}

#[test]
fn rm_removes_all_or_nothing() {
    let host = Host::new();
    let names = [host.put(10, &json!({})), host.put(10, &json!({})), host.put(10, &json!({}))];

    let error = host.run(&["store", "rm", &names[0], "ffff"]).failure(1);
    assert!(error.contains("no object's name begins with `ffff`") && error.contains("hint: "), "{error}");
    assert_eq!(host.names().len(), 3);

    let removed = host.json(&["store", "rm", &names[0], &names[1]]);
    assert_eq!(removed["removed"], json!([names[0], names[1]]));
    assert_eq!(host.names(), [names[2].clone()]);
}

#[test]
fn a_damaged_object_does_not_hide_the_others() {
    let host = Host::new();
    let (whole, damaged) = (host.put(10, &json!({})), host.put(10, &json!({})));
    let path = host.store_path().join("objects").join(&damaged);
    fs_err::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let mut bytes = fs_err::read(&path).unwrap();
    bytes[20] ^= 1;
    fs_err::write(&path, bytes).unwrap();
    fs_err::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();

    let listing = host.json(&["store", "ls"]);
    assert_eq!(listing["objects"][0]["name"], whole.as_str());
    assert_eq!(listing["damaged"][0]["name"], damaged.as_str());
    let error = host.run(&["store", "show", &damaged]).failure(1);
    assert!(error.contains("is damaged") && error.contains("because: ") && error.contains("hint: "), "{error}");
}

#[test]
fn without_a_store_there_is_nothing_to_list_and_nothing_is_made() {
    let host = Host::empty();
    assert!(host.run(&["store", "ls"]).success().contains("no objects"));
    assert_eq!(host.json(&["store", "ls"]), json!({ "objects": [] }));
    host.run(&["store", "gc"]).success();
    let error = host.run(&["store", "stat"]).failure(1);
    assert!(error.contains("there is no store at") && error.contains("hint: "), "{error}");
    assert!(!host.store_path().exists());
}

#[test]
fn settings_come_from_flag_environment_and_airflow_cfg_in_this_order() {
    let host = Host::new();
    host.put(10, &json!({}));
    let home = host.folder().join("home");
    fs_err::create_dir(&home).unwrap();
    let cfg = format!(
        "[core]\nexecutor = LocalExecutor\n\n[airfreight]\n# where\nstore_path = {}\ncapacity_bytes = 48 MiB\n",
        host.store_path().display()
    );
    fs_err::write(home.join("airflow.cfg"), cfg).unwrap();
    let stat = |environment: &[(&str, &str)], arguments: &[&str]| -> Value {
        let mut command = host.bare();
        command.env("AIRFLOW_HOME", &home).envs(environment.iter().copied());
        host::answer(command.args(["store", "stat", "--json"]).args(arguments)).json()
    };

    assert_eq!(stat(&[], &[])["capacity_bytes"], 48 << 20);
    let airflow = [("AIRFLOW__AIRFREIGHT__CAPACITY_BYTES", "50MB")];
    assert_eq!(stat(&airflow, &[])["capacity_bytes"], 50_000_000);
    let both = [airflow[0], ("AIRFREIGHT_CAPACITY_BYTES", "1234567")];
    assert_eq!(stat(&both, &[])["capacity_bytes"], 1_234_567);

    let elsewhere = Host::new();
    let path = elsewhere.store_path();
    let stat = stat(&[("AIRFREIGHT_STORE_PATH", "/nonexistent")], &["--store", path.to_str().unwrap()]);
    assert_eq!(stat["path"], path.to_str().unwrap());
}

#[test]
fn a_setting_that_makes_no_sense_is_named_with_its_origin() {
    let host = Host::new();
    for (name, value) in [("CAPACITY_BYTES", "lots"), ("TTL_HOURS", "-1"), ("SPILL_PATH", "relative/path")] {
        let variable = format!("AIRFREIGHT_{name}");
        let error = host::answer(host.command(&["store", "stat"]).env(&variable, value)).failure(1);
        assert!(error.contains(&variable) && error.contains(value), "{error}");
    }
}

#[test]
fn an_open_directory_is_refused_with_the_command_that_mends_it() {
    let host = Host::new();
    fs_err::set_permissions(host.store_path(), Permissions::from_mode(0o755)).unwrap();
    let error = host.run(&["store", "ls"]).failure(1);
    assert!(error.contains("not private") && error.contains("hint: ") && error.contains("chmod 700"), "{error}");
}

#[test]
fn wrong_usage_exits_with_2_and_help_with_0() {
    let host = Host::new();
    host.run(&["store", "rm"]).failure(2);
    host.run(&["store", "gc", "--retention-hours", "soon"]).failure(2);
    host.run(&["store", "gc", "--api-token", "s3cret"]).failure(2);
    let help = host.run(&["--help"]).success();
    for word in ["store", "ray", "doctor", "--json", "AIRFREIGHT_<NAME>", "Exit codes"] {
        assert!(help.contains(word), "{word} in {help}");
    }
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_failure() {
    use std::process::Stdio;
    let host = Host::new();
    for _ in 0..300 {
        host.put(10, &json!({ "type": "x".repeat(300) }));
    }
    let mut child = host.command(&["store", "ls"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}
