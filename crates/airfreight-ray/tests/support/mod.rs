//! What the tests of the client share.

#![allow(dead_code, reason = "no test needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::time::Duration;

use airfreight_ray::{Client, Settings, Submission};
use airfreight_testkit::dashboard::{Dashboard, Fault, Options};
use serde_json::{Map, Value};

/// A dashboard, and a client of it that gives up soon.
pub(crate) async fn start(options: Options) -> (Dashboard, Client) {
    let dashboard = Dashboard::start(options).await.unwrap();
    let client = Client::new(settings(&dashboard)).unwrap();
    (dashboard, client)
}

pub(crate) fn settings(dashboard: &Dashboard) -> Settings {
    Settings {
        timeout: Duration::from_secs(20),
        patience: Duration::from_secs(20),
        ..Settings::new(dashboard.address())
    }
}

/// A client that knows no proxy of the environment and tries once.
pub(crate) fn impatient(dashboard: &Dashboard, timeout_ms: u64) -> Client {
    let timeout = Duration::from_millis(timeout_ms);
    Client::new(Settings { timeout, patience: Duration::ZERO, ..settings(dashboard) }).unwrap()
}

/// A fault that strikes so many requests whose path begins so.
pub(crate) fn fault(path: &str, times: u32) -> Fault {
    Fault { path: path.to_owned(), times: Some(times), ..Fault::default() }
}

pub(crate) fn named(id: &str) -> Submission {
    Submission::new("true").with("submission_id", id)
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("an object") };
    map
}
