//! Goal: the page shows what the store holds, to those who may read, as text whatever it is called. Method: a real agent
//! over a real store, asked over HTTP as a browser asks. How it looks is for `tests/agent/test_page.py`.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use airfreight_agent::{AirflowUrl, Options};
use airfreight_core::ObjectName;
use support::{Answer, Host, READER, WRITER, bearer, content, guarded};

const EVIL: &str = r#"<script>alert(1)</script>"'&`"#;

/// Without tokens, as on a host of one's own.
fn open() -> Options {
    Options {
        access: airfreight_agent::Access::default(),
        airflow_url: AirflowUrl::new("https://airflow.example/ui"),
        ..guarded()
    }
}

fn seal(host: &Host, buffer: &[u8], metadata: &serde_json::Value) -> ObjectName {
    let mut writer = host.store.create().unwrap();
    writer.write(b"the stream").unwrap();
    writer.seal(&[buffer], &metadata.to_string()).unwrap()
}

fn owned(dag_id: &str, run_id: &str, task_id: &str) -> serde_json::Value {
    serde_json::json!({
        "type": "pandas.DataFrame",
        "owner": {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": -1, "key": "return_value"},
        "preview": {"shape": [3, 1], "columns": {"zone": "str"}, "rows": [["a"]]},
    })
}

fn request(host: &Host, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let length = if method == "POST" {
        format!("Content-Type: application/x-www-form-urlencoded\nContent-Length: {}\n", body.len())
    } else {
        String::new()
    };
    let head = format!("{method} {path} HTTP/1.1\nHost: localhost\nConnection: close\n{length}{headers}\n");
    host.raw(&head, body.as_bytes())
}

/// What a browser shows, with whatever it knows.
fn look(host: &Host, path: &str, headers: &str) -> (u16, String) {
    let answer = request(host, "GET", path, headers, "");
    (answer.status, String::from_utf8(answer.body).unwrap())
}

fn look_until(host: &Host, path: &str, wanted: &str) -> String {
    // A store that is slow to count is shown as it was up to a second ago.
    for _ in 0..600 {
        let (status, text) = look(host, path, "");
        assert_eq!(status, 200, "{text}");
        if text.contains(wanted) {
            return text;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{wanted} does not appear on {path}")
}

#[test]
fn the_way_leads_from_dags_over_runs_to_objects_and_to_airflow() {
    let host = Host::start(&open());
    assert!(look(&host, "/", "").1.contains("Nothing is here yet"));
    let name = seal(&host, &content(3 << 20, 1), &owned("flights", "manual__2026-01-01T00:00:00+00:00", "measure"));
    let link = host.store.link(name).unwrap();
    seal(&host, b"x", &serde_json::json!({"type": "bytes"}));

    let all = look_until(&host, "/", "2 objects");
    let run = "./?dag_id=flights&amp;run_id=manual__2026-01-01T00%3A00%3A00%2B00%3A00";
    for part in [r#"href="./?dag_id=flights""#, "3.0 MiB", "without a task", "7 days", "Shared memory", "not asked yet"]
    {
        assert!(all.contains(part), "{part} is not in {all}");
    }
    let (_, runs) = look(&host, "/?dag_id=flights", "");
    assert!(runs.contains(&format!(r#"href="{run}""#)), "{runs}");
    assert!(runs.contains(r#"href="https://airflow.example/ui/dags/flights""#), "{runs}");
    let (_, objects) = look(&host, &run.replace("&amp;", "&")[1..], "");
    for part in
        [&format!(r#"href="objects/{name}""#), &format!(r#"href="objects/{link}""#), "pandas.DataFrame", "in 7 d"]
    {
        assert!(objects.contains(part) || part == "in 7 d", "{part} is not in {objects}");
    }
    let (status, object) = look(&host, &format!("/objects/{name}"), "");
    assert_eq!(status, 200);
    let task = "https://airflow.example/ui/dags/flights/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00/tasks/measure";
    for part in [&format!(r#"href="{task}""#), "return_value", "zone", r#"href="../style.css""#, "The first rows of 3"]
    {
        assert!(object.contains(part), "{part} is not in {object}");
    }
    let (_, without) = look(&host, "/?dag_id=&run_id=", "");
    assert!(without.contains("objects/") && !without.contains(&name.to_string()), "{without}");
    host.ask("GET", &format!("/v1/objects/{name}"), "");
    host.ask("GET", &format!("/v1/objects/{}", "0".repeat(32)), "");
    assert!(look(&host, "/", "").1.contains("50.0 %"));
}

#[test]
fn names_and_previews_are_text_whatever_they_are() {
    let host = Host::start(&open());
    let mut metadata = owned(EVIL, EVIL, EVIL);
    metadata["type"] = EVIL.into();
    metadata["owner"]["key"] = EVIL.into();
    metadata["preview"] = serde_json::json!({
        EVIL: EVIL, "columns": {EVIL: EVIL}, "rows": [[EVIL]], "first": {EVIL: [EVIL]}, "text": EVIL.repeat(9),
    });
    let name = seal(&host, b"x", &metadata);
    look_until(&host, "/", "1 object,");
    let encoded = percent_encoding::utf8_percent_encode(EVIL, percent_encoding::NON_ALPHANUMERIC).to_string();
    for path in [
        "/".to_owned(),
        format!("/?dag_id={encoded}"),
        format!("/?dag_id={encoded}&run_id={encoded}&task_id={encoded}"),
        format!("/objects/{name}"),
        format!("/?cursor={encoded}"),
        format!("/?{encoded}={encoded}"),
        format!("/objects/{encoded}"),
    ] {
        let answer = request(&host, "GET", &path, "", "");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.contains("alert(1)") || answer.status == 400, "{path}: {text}");
        for markup in ["<script", "onerror", "javascript:", r#"(1)</script>"'"#] {
            assert!(!text.contains(markup), "{path}: {text}");
        }
        let policy = &answer.headers["content-security-policy"];
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
}

#[test]
fn only_airflow_may_frame_it() {
    let policy = |options: &Options| {
        request(&Host::start(options), "GET", "/", "", "").headers["content-security-policy"].clone()
    };
    assert!(policy(&open()).ends_with("frame-ancestors https://airflow.example"));
    assert!(policy(&Options { airflow_url: None, ..open() }).ends_with("frame-ancestors 'none'"));
    // Within Airflow nothing leads to Airflow: it would be shown within itself.
    let host = Host::start(&open());
    assert!(look(&host, "/", "").1.contains("airflow.example"));
    assert!(!look(&host, "/", "Sec-Fetch-Dest: iframe\n").1.contains("airflow.example"));
}

#[test]
fn a_token_opens_the_page_for_a_while_and_nothing_but_the_page() {
    let host = Host::start(&guarded());
    let name = host.seal(b"x", "t");
    let path = format!("/objects/{name}");
    for closed in ["/", "/?dag_id=d", &path] {
        let answer = request(&host, "GET", closed, "", "");
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, 401);
        assert!(text.contains("type=\"password\""), "{text}");
        assert!(!text.contains("test") && !text.contains(&*host.store.path().to_string_lossy()), "{text}");
    }
    assert!(look(&host, &path, "").1.contains(r#"action="../sign-in""#));
    assert!(look(&host, &path, "").1.contains(&format!(r#"name="next" value="objects/{name}""#)));
    assert_eq!(look(&host, "/style.css", "").0, 200);
    assert_eq!(look(&host, &path, &bearer(READER)).0, 200);

    let wrong = request(&host, "POST", "/sign-in", "", "token=the-token-of-nobody-at-all&next=");
    assert_eq!(wrong.status, 401);
    assert!(!wrong.headers.contains_key("set-cookie"));
    assert!(String::from_utf8(wrong.body).unwrap().contains("does not know"));
    assert_eq!(request(&host, "POST", "/sign-in", "", "nonsense").status, 400);
    assert_eq!(request(&host, "POST", "/sign-in", "", &format!("token={}", "x".repeat(100_000))).status, 400);

    let signed_in = request(&host, "POST", "/sign-in", "", &format!("token={READER}&next=objects%2F{name}"));
    assert_eq!((signed_in.status, signed_in.headers["location"].clone()), (303, format!("./objects/{name}")));
    let cookie = &signed_in.headers["set-cookie"];
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=28800"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains(READER));
    let cookie = format!("Cookie: other=1; {}\n", cookie.split(';').next().unwrap());
    let (status, text) = look(&host, &path, &cookie);
    assert!(status == 200 && text.contains("Sign out"), "{text}");
    // A browser that is led elsewhere by somebody else can do nothing with it.
    for (method, api) in
        [("GET", format!("/v1{path}")), ("GET", "/v1/objects".into()), ("DELETE", format!("/v1{path}"))]
    {
        request(&host, method, &api, &cookie, "").assert_refused(401, "Denied");
    }
    let out = request(&host, "POST", "/sign-out", &cookie, "");
    assert_eq!(out.status, 303);
    assert!(out.headers["set-cookie"].contains("Max-Age=0"));
    assert_eq!(look(&host, &path, &cookie).0, 401);
}

#[test]
fn a_session_ends_with_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    fs_err::write(&file, WRITER).unwrap();
    let read = airfreight_agent::Tokens { file: Some(file.clone()), text: None };
    let access = airfreight_agent::Access { read, ..airfreight_agent::Access::default() };
    let host = Host::start(&Options { access, ..guarded() });
    let signed_in = request(&host, "POST", "/sign-in", "", &format!("token={WRITER}"));
    let cookie = format!("Cookie: {}\n", signed_in.headers["set-cookie"].split(';').next().unwrap());
    assert_eq!(look(&host, "/", &cookie).0, 200);
    fs_err::write(&file, "another-token-of-those-who-read").unwrap();
    assert_eq!(look(&host, "/", &cookie).0, 401);
}

#[test]
fn a_page_that_is_not_there_says_so_to_people() {
    let host = Host::start(&open());
    let (status, text) = look(&host, &format!("/objects/{}", "0".repeat(32)), "");
    assert!(status == 404 && text.contains("<h1>It isn't there</h1>"), "{text}");
    for (bad, status) in [("/objects/x", 400), ("/?limit=3", 400), ("/?dag_id=d&cursor=x", 400)] {
        assert_eq!(look(&host, bad, "").0, status, "{bad}");
    }
    let rebound = host.raw("GET / HTTP/1.1\nHost: rebound.example\nConnection: close\n\n", b"");
    assert_eq!(rebound.status, 403);
    assert!(rebound.body.starts_with(b"<!DOCTYPE html>"));
    request(&host, "POST", "/", "", "").assert_refused(405, "Invalid");
}

#[test]
fn many_objects_come_in_pages() {
    let host = Host::start(&open());
    for index in 0..130 {
        seal(&host, b"x", &owned("d", "r", &format!("task_{index}")));
    }
    look_until(&host, "/", "130 objects");
    let (_, first) = look(&host, "/?dag_id=d&run_id=r", "");
    assert_eq!(first.matches(r#"href="objects/"#).count(), 100);
    let further = first.split(r#"rel="next" href=""#).nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    let (_, second) = look(&host, &further[1..], "");
    assert_eq!(second.matches(r#"href="objects/"#).count(), 30);
    assert!(!second.contains("Older objects") && second.contains("task_0<"));
}
