//! Goal: an agent keeps room before tasks need it, keeps DAGs within their limits, collects garbage, and tells of all of it.
//! Method: a real agent over a real store; for Airflow a socket that answers what Airflow would, since a real one is asked
//! in `tests/cli/test_collect.py` and `tests/agent/test_airflow_hosts.py`.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use airfreight_agent::{Access, Ask, LifeOptions, Options};
use airfreight_core::ObjectName;
use airfreight_store::TierKind;
use support::{Host, guarded};

const MIB: usize = 1 << 20;

fn options(life: LifeOptions) -> Options {
    Options { access: Access::default(), life, ..guarded() }
}

fn seal(host: &Host, dag_id: &str, mib: usize) -> ObjectName {
    let owner = format!(r#"{{"dag_id": "{dag_id}", "run_id": "r", "task_id": "t"}}"#);
    let name = host.store.create().unwrap().seal(&[&vec![7; mib * MIB]], &format!(r#"{{"owner": {owner}}}"#)).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    name
}

fn tier(host: &Host, name: ObjectName) -> Option<TierKind> {
    host.store.describe(name).ok().map(|description| description.kind)
}

fn metrics(host: &Host) -> String {
    String::from_utf8(host.ask("GET", "/metrics", "").body).unwrap()
}

fn page(host: &Host) -> String {
    String::from_utf8(host.raw("GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n", &[]).body).unwrap()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_mins(1), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn room_is_made_before_it_is_needed() {
    let host = Host::with_capacity(&options(LifeOptions { keep_free: 0.5, ..LifeOptions::default() }), 16 << 20);
    let names: Vec<_> = (0..10).map(|_| seal(&host, "d", 1)).collect();
    host.store.note_copy(names[0]).unwrap();
    until("half of it is free", || {
        let usage = host.store.usage();
        usage.used_bytes - usage.warm_bytes <= 8 << 20
    });
    // The first has a copy elsewhere; of the others the oldest are on the spill disk, and none is lost.
    assert_eq!(tier(&host, names[0]), None);
    assert_eq!(tier(&host, names[1]), Some(TierKind::Spill));
    assert_eq!(tier(&host, names[9]), Some(TierKind::Memory));
    until("it is counted", || {
        let text = metrics(&host);
        text.contains(r#"airfreight_moved_objects_total{to="bucket"} 1"#)
            && text.contains(r#"airfreight_moved_bytes_total{to="spill"}"#)
    });
    assert!(page(&host).contains("50 % is kept free"));
}

#[test]
fn a_dag_stays_within_its_limit_and_others_are_left_alone() {
    let dag_limits = BTreeMap::from([("greedy".to_owned(), 3 << 20), ("*".to_owned(), 100 << 20)]);
    let host = Host::start(&options(LifeOptions { dag_limits, ..LifeOptions::default() }));
    let modest = seal(&host, "modest", 2);
    let greedy: Vec<_> = (0..5).map(|_| seal(&host, "greedy", 1)).collect();
    until("it is within its limit", || {
        greedy.iter().filter(|name| tier(&host, **name) == Some(TierKind::Memory)).count() <= 2
    });
    assert_eq!(tier(&host, greedy[0]), Some(TierKind::Spill));
    assert_eq!(tier(&host, greedy[4]), Some(TierKind::Memory));
    assert_eq!(tier(&host, modest), Some(TierKind::Memory));
    until("it is told", || metrics(&host).contains(r#"airfreight_dag_limit_bytes{dag_id="greedy"} 3145728"#));
    let text = page(&host);
    assert!(text.contains("greedy") && text.contains("3.0 MiB"), "{text}");
}

#[test]
fn garbage_is_collected_and_an_airflow_that_does_not_answer_costs_nothing() {
    let life =
        |airflow| LifeOptions { collect_every: Some(Duration::from_millis(10)), airflow, ..LifeOptions::default() };
    let host = Host::start(&options(life(Some(Ask::new(|| Err("the token's file is gone".into()))))));
    let (kept, lapsed) = (seal(&host, "d", 1), seal(&host, "d", 1));
    host.store.expire(lapsed, 0.0).unwrap();
    until("what expired is gone", || !host.store.contains(lapsed));
    until("the failure is told", || {
        page(&host).contains("the token&#39;s file is gone") || page(&host).contains("the token's file is gone")
    });
    assert!(host.store.contains(kept));
    until("both are counted", || {
        let text = metrics(&host);
        text.contains(r#"airfreight_removed_objects_total{why="expired"}"#)
            && text.contains(r#"airfreight_collections_total{outcome="failed"}"#)
            && !text.contains(r#"outcome="done""#)
    });

    let host = Host::start(&options(life(None)));
    seal(&host, "d", 1);
    until("it is told when", || {
        page(&host).contains("Garbage was collected") && !metrics(&host).contains("collected_timestamp_seconds 0\n")
    });
}
