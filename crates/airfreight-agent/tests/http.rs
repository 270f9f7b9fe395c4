//! Goal: an agent gives, takes and deletes objects exactly, and refuses the rest in words. Method: a real agent on a
//! free port over a real store, and a client that sends what it is told, byte by byte.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use airfreight_agent::{Agent, Options};
use airfreight_core::ErrorKind;
use airfreight_store::{Access, TierKind};
use support::{Answer, Host, READER, WRITER, bearer, content, crc64, guarded};

const MIB: usize = 1 << 20;

#[test]
fn an_object_comes_whole_in_parts_or_not_at_all() {
    let host = Host::start(&guarded());
    let name = host.seal(&content(3 * MIB, 1), "t");
    let file = host.file(name);
    let path = format!("/v1/objects/{name}");

    let whole = host.ask("GET", &path, "");
    assert_eq!((whole.status, &whole.body), (200, &file));
    assert_eq!(whole.headers["accept-ranges"], "bytes");
    assert_eq!(whole.headers["etag"], format!("\"{name}\""));
    let head = host.ask("HEAD", &path, "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], file.len().to_string());

    let part = host.ask("GET", &path, "Range: bytes=1000000-1999999\n");
    assert_eq!((part.status, &part.body[..]), (206, &file[1_000_000..2_000_000]));
    assert_eq!(part.headers["content-range"], format!("bytes 1000000-1999999/{}", file.len()));
    assert_eq!(crc64(&part.body).trim(), format!("x-airfreight-crc64: {}", part.headers["x-airfreight-crc64"]));
    let end = host.ask("GET", &path, "Range: bytes=-7\n");
    assert_eq!((end.status, &end.body[..]), (206, &file[file.len() - 7..]));

    let beyond = host.ask("GET", &path, &format!("Range: bytes={}-\n", file.len()));
    beyond.assert_refused(416, "Invalid");
    assert_eq!(beyond.headers["content-range"], format!("bytes */{}", file.len()));
    host.ask("GET", &path, "If-Match: \"another\"\n").assert_refused(412, "Conflict");
    let known = host.ask("GET", &path, &format!("If-None-Match: \"{name}\"\n"));
    assert_eq!((known.status, known.body.len()), (304, 0));
    let other = host.ask("GET", &path, "Range: bytes=0-9\nIf-Range: \"another\"\n");
    assert_eq!((other.status, other.body.len()), (200, file.len()));
}

#[test]
fn what_was_asked_for_in_parts_is_let_go_of_soon_afterwards() {
    let host = Host::start(&guarded());
    let name = host.seal(&content(5 * MIB, 1), "t");
    let file = host.file(name);
    let is_mapped = || fs_err::read_to_string("/proc/self/maps").unwrap().contains(&name.to_string());
    let path = format!("/v1/objects/{name}");
    for start in [0, 4 * MIB] {
        let part = host.ask("GET", &path, &format!("Range: bytes={start}-{}\n", start + MIB - 1));
        assert!(part.body == file[start..][..MIB]);
    }
    assert!(is_mapped());
    assert!(host.store.delete(name).unwrap());
    host.ask("GET", &path, "").assert_refused(404, "NotFound");
    let began = Instant::now();
    while is_mapped() {
        assert!(began.elapsed() < Duration::from_secs(20), "it is still mapped");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_further_name_leads_to_the_same_bytes() {
    let host = Host::start(&guarded());
    let name = host.seal(&content(MIB, 1), "t");
    let link = host.store.link(name).unwrap();
    let file = host.file(name);
    host.store.delete(name).unwrap();
    host.ask("GET", &format!("/v1/objects/{name}"), "").assert_refused(404, "NotFound");
    let found = host.ask("GET", &format!("/v1/objects/{link}"), "");
    assert_eq!((found.status, found.headers["etag"].clone()), (200, format!("\"{name}\"")));
    assert!(found.body == file);
}

#[test]
fn what_is_no_name_leads_nowhere() {
    let host = Host::start(&guarded());
    let name = host.seal(b"x", "t").to_string();
    fs_err::write(host.folder.path().join("secret"), "secret").unwrap();
    for bad in [
        "..%2f..%2fsecret",
        "%2e%2e%2fsecret",
        "..",
        "%00",
        "%ff",
        "x",
        &name[1..],
        &name.to_uppercase(),
        &format!("{name}-1"),
        &format!("{name}%2f"),
        &format!(".%2f{name}"),
        &"a".repeat(5000),
    ] {
        for method in ["GET", "HEAD", "DELETE"] {
            let answer = host.ask(method, &format!("/v1/objects/{bad}"), "");
            assert!(matches!(answer.status, 400 | 404), "{method} {bad}: {answer:?}");
            assert!(!String::from_utf8_lossy(&answer.body).contains("secret\n"));
        }
        let answer = host.send("PUT", &format!("/v1/objects/{bad}"), "", b"some bytes");
        assert!(matches!(answer.status, 400 | 404 | 405), "PUT {bad}: {answer:?}");
    }
    for outside in ["/v1/objects/../../secret", "/../secret", "//", "/v1/objects/a/b", "/v1", "/secret", "/metrics/x"] {
        host.ask("GET", outside, "").assert_refused(404, "NotFound");
    }
    assert_eq!(host.store.names().unwrap().len(), 1);
}

#[test]
fn who_may_what() {
    let host = Host::start(&guarded());
    let name = host.seal(b"x", "t");
    let path = format!("/v1/objects/{name}");
    let reader = bearer(READER);
    let nobody = host.raw(&format!("GET {path} HTTP/1.1\nHost: localhost\nConnection: close\n\n"), b"");
    nobody.assert_refused(401, "Denied");
    assert_eq!(nobody.headers["www-authenticate"], "Bearer");
    for wrong in ["Authorization: Bearer the-token-of-those-who-reaD\n", "Authorization: Basic eDp5\n"] {
        host.ask("GET", &path, wrong).assert_refused(401, "Denied");
        host.ask("GET", "/metrics", wrong).assert_refused(401, "Denied");
        host.ask("GET", "/v1/objects", wrong).assert_refused(401, "Denied");
        host.ask("GET", "/nothing", wrong).assert_refused(401, "Denied");
        for open in ["/v1/health", "/v1/ready"] {
            assert_eq!(host.ask("GET", open, wrong).status, 200);
        }
    }
    assert_eq!(host.ask("GET", &path, &reader).status, 200);
    host.ask("DELETE", &path, &reader).assert_refused(403, "Denied");
    host.send("PUT", &path, &reader, b"x").assert_refused(403, "Denied");
    assert_eq!(host.ask("DELETE", &path, &bearer(WRITER)).status, 204);
    host.ask("DELETE", &path, &bearer(WRITER)).assert_refused(404, "NotFound");

    let open = Host::start(&Options { access: airfreight_agent::Access::default(), ..guarded() });
    let path = format!("/v1/objects/{}", open.seal(b"x", "t"));
    let ask = |head: &str| open.raw(&format!("{head}\nConnection: close\n\n"), b"");
    assert_eq!(ask(&format!("GET {path} HTTP/1.1\nHost: localhost")).status, 200);
    ask(&format!("GET {path} HTTP/1.1\nHost: rebound.example")).assert_refused(403, "Denied");
    ask(&format!("DELETE {path} HTTP/1.1\nHost: localhost")).assert_refused(401, "Denied");
}

#[test]
fn others_are_not_let_in_without_a_token() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let host = Host::start(&guarded());
    let bind = |listen: &str, access| {
        let options = Options { listen: vec![listen.into()], access, ..Options::default() };
        runtime.block_on(Agent::bind(host.store.clone(), &options)).map(drop)
    };
    for everywhere in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
        let error = bind(everywhere, airfreight_agent::Access::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{everywhere}: {error}");
        assert!(error.to_string().contains("without a token") && error.hint().is_some());
    }
    bind("0.0.0.0:0", guarded().access).unwrap();
    bind("localhost:0", airfreight_agent::Access::default()).unwrap();
    let error = bind(&host.address.to_string(), guarded().access).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[test]
fn an_upload_is_verified_before_anyone_sees_it_and_may_come_again() {
    let (from, to) = (Host::start(&guarded()), Host::start(&guarded()));
    let name = from.seal(&content(9 * MIB + 5, 4), "t");
    let file = from.file(name);
    let path = format!("/v1/objects/{name}");
    let empty = |scene: &str| {
        let stat = to.store.stat().unwrap();
        assert_eq!((stat.objects, stat.unfinished), (0, 0), "{scene}");
    };
    to.send("PUT", &path, &crc64(&file[1..]), &file).assert_refused(422, "Corrupt");
    empty("another checksum");
    to.send("PUT", &path, "", &file).assert_refused(422, "Corrupt");
    empty("no checksum, neither with it nor in it");
    to.send("PUT", &path, "x-airfreight-crc64: nonsense\n", &file).assert_refused(400, "Invalid");
    let mut bad = file.clone();
    bad[40] ^= 1;
    to.send("PUT", &path, &crc64(&bad), &bad).assert_refused(422, "Corrupt");
    empty("a damaged header");
    let other = format!("/v1/objects/{}", "0".repeat(32));
    to.send("PUT", &other, &crc64(&file), &file).assert_refused(422, "Corrupt");
    empty("under another object's name");
    let head = format!("PUT {path} HTTP/1.1\nHost: localhost\n{}", bearer(WRITER));
    to.raw(&format!("{head}Connection: close\nTransfer-Encoding: chunked\n\n"), b"0\r\n\r\n")
        .assert_refused(411, "Invalid");
    to.send("PUT", &path, "", b"x").assert_refused(422, "Corrupt");

    // Cut short: the connection ends before the body does.
    let mut stream = to.connect();
    stream.write_all(format!("{head}Content-Length: {}\n\n", file.len()).replace('\n', "\r\n").as_bytes()).unwrap();
    stream.write_all(&file[..5 * MIB]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = Answer::read(stream);
    assert!(matches!(answer.status, 0 | 400), "{answer:?}");
    empty("cut short");

    let sent = to.send("PUT", &path, &crc64(&file), &file);
    assert_eq!((sent.status, sent.json()["name"].as_str()), (201, Some(name.to_string().as_str())));
    assert!(to.file(name) == file);
    // Replayed, also by someone who sends something else: what is there stays.
    assert_eq!(to.send("PUT", &path, &crc64(&file), &file).status, 200);
    assert_eq!(to.send("PUT", &path, "", &content(MIB, 9)).status, 200);
    assert!(to.file(name) == file);
    let expecting = format!("{head}Connection: close\nExpect: 100-continue\nContent-Length: {}\n\n", file.len());
    assert_eq!(to.raw(&expecting, b"").status, 200);
}

#[test]
fn what_has_no_room_is_refused_before_it_is_sent() {
    let host = Host::with_capacity(&guarded(), 4 << 20);
    let head = "PUT /v1/objects/0123456789abcdef0123456789abcdef HTTP/1.1\nHost: localhost\nConnection: close\n";
    for length in ["1000000000000", "9223372036854775807"] {
        let head = format!("{head}{}Expect: 100-continue\nContent-Length: {length}\n\n", bearer(WRITER));
        host.raw(&head, b"").assert_refused(507, "Full");
    }
    assert_eq!(host.store.stat().unwrap().unfinished, 0);
}

#[test]
fn a_spilled_object_is_read_as_well_and_verified_once() {
    let host = Host::with_capacity(&guarded(), 8 << 20);
    let first = host.seal(&content(5 * MIB, 1), "t");
    host.seal(&content(5 * MIB, 2), "t");
    assert_eq!(host.store.describe(first).unwrap().kind, TierKind::Spill);
    let file = host.file(first);
    for (start, end) in [(0, 99), (MIB, 2 * MIB), (5 * MIB, 5 * MIB + 9)] {
        let part = host.ask("GET", &format!("/v1/objects/{first}"), &format!("Range: bytes={start}-{end}\n"));
        assert!(part.status == 206 && part.body == file[start..=end], "{start}");
    }
    host.store.delete(first).unwrap();
    host.ask("GET", &format!("/v1/objects/{first}"), "").assert_refused(404, "NotFound");
}

#[test]
fn a_listing_has_filters_and_pages() {
    let host = Host::start(&guarded());
    let mut names: Vec<String> = (0..25).map(|n| host.seal(b"x", &format!("t{}", n % 2)).to_string()).collect();
    names.reverse();
    let list = |query: &str| host.ask("GET", &format!("/v1/objects{query}"), "").json();
    let names_in = |page: &serde_json::Value| -> Vec<String> {
        page["objects"].as_array().unwrap().iter().map(|o| o["name"].as_str().unwrap().to_owned()).collect()
    };
    // A store that is slow to count is shown as it was up to a second ago.
    let all = until(|| Some(list("")).filter(|all| names_in(all).len() == 25));
    assert_eq!((names_in(&all), all["cursor"].is_null()), (names.clone(), true));
    let one = &all["objects"][0];
    assert_eq!((one["type"].as_str(), one["owner"]["dag_id"].as_str()), (Some("test"), Some("d")));
    assert_eq!(
        (one["nbytes"].as_u64(), one["pinned"].as_bool(), one["tier"].as_str()),
        (Some(11), Some(false), Some("memory"))
    );
    assert!(one.get("preview").is_none());
    let described = host.ask("GET", &format!("/v1/objects/{}/description", names[0]), "").json();
    assert_eq!(described["preview"]["x"], 1);

    let (mut paged, mut cursor) = (Vec::new(), String::new());
    for pages in 1.. {
        let page = list(&format!("?limit=10{cursor}"));
        paged.extend(names_in(&page));
        let Some(next) = page["cursor"].as_str() else {
            assert_eq!(pages, 3);
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, names);
    assert_eq!(names_in(&list("?task_id=t1&dag_id=d&run_id=r&tier=memory")).len(), 12);
    assert!(names_in(&list("?task_id=t2")).is_empty() && names_in(&list("?tier=spill")).is_empty());
    for bad in
        ["?limit=0", "?limit=1001", "?limit=x", "?tier=x", "?cursor=x", "?cursor=1.x", "?sort=x", "?limit=1&limit=2"]
    {
        host.ask("GET", &format!("/v1/objects{bad}"), "").assert_refused(400, "Invalid");
    }
    // It keeps up with what tasks do.
    host.store.delete(names[3].parse().unwrap()).unwrap();
    let new = host.seal(b"y", "t9").to_string();
    let found = until(|| Some(names_in(&list(""))).filter(|found| found[0] == new));
    assert_eq!(found.len(), 25);
    assert!(!found.contains(&names[3]));
}

#[test]
fn a_damaged_object_harms_nobody_else() {
    use std::os::unix::fs::PermissionsExt as _;
    let host = Host::start(&guarded());
    let (good, bad) = (host.seal(&content(MIB, 1), "t"), host.seal(&content(MIB, 2), "t"));
    let path = host.store.path().join("objects").join(bad.to_string());
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(1000).unwrap();
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    host.ask("GET", &format!("/v1/objects/{bad}"), "").assert_refused(500, "Corrupt");
    let page = host.ask("GET", "/v1/objects", "").json();
    assert_eq!(page["objects"].as_array().unwrap().len(), 1);
    assert_eq!(page["objects"][0]["name"], good.to_string());
    let metrics = String::from_utf8(host.ask("GET", "/metrics", "").body).unwrap();
    assert!(metrics.contains("airfreight_store_damaged_objects 1"), "{metrics}");
}

#[test]
fn metrics_tell_of_the_store_and_of_transfers() {
    let host = Host::start(&guarded());
    let name = host.seal(&content(MIB, 1), "t");
    let file = host.ask("GET", &format!("/v1/objects/{name}"), "").body;
    host.ask("BREW", "/v1/objects", "");
    host.ask("GET", "/v1/objects/x", "");
    let answer = host.ask("GET", "/metrics", "");
    assert!(answer.headers["content-type"].starts_with("application/openmetrics-text"));
    let text = String::from_utf8(answer.body).unwrap();
    for line in [
        format!("airfreight_sent_bytes_total {}", file.len()),
        "airfreight_store_objects{tier=\"memory\"} 1".into(),
        format!("airfreight_store_bytes{{state=\"used\"}} {}", host.store.usage().used_bytes),
        "airfreight_store_limit_bytes{tier=\"memory\"} 268435456".into(),
        "airfreight_transfer_seconds_count{direction=\"sent\"} 1".into(),
        "airfreight_agent_requests_total{method=\"GET\",route=\"/v1/objects/{name}\",status=\"400\"} 1".into(),
        "airfreight_agent_requests_total{method=\"other\",route=\"/v1/objects\",status=\"405\"} 1".into(),
        "# EOF".into(),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    assert!(!text.contains(WRITER));
}

#[test]
fn oversized_heads_end_and_the_agent_goes_on() {
    let host = Host::start(&guarded());
    let huge = "x".repeat(200_000);
    let many = "X-Many: y\n".repeat(200);
    for (scene, head) in [
        ("a long header", format!("GET /v1/health HTTP/1.1\nHost: localhost\nX-Long: {huge}\n\n")),
        ("many headers", format!("GET /v1/health HTTP/1.1\nHost: localhost\n{many}\n")),
        ("a long path", format!("GET /{huge} HTTP/1.1\nHost: localhost\n\n")),
        ("nonsense", "\u{1}\u{2}\u{3} nonsense\n\n".into()),
        ("two lengths", "PUT /v1/objects/x HTTP/1.1\nHost: localhost\nContent-Length: 1\nContent-Length: 2\n\n".into()),
        ("a negative length", "PUT /v1/objects/x HTTP/1.1\nHost: localhost\nContent-Length: -1\n\n".into()),
        (
            "both kinds of body",
            "PUT /v1/objects/x HTTP/1.1\nHost: localhost\nContent-Length: 3\nTransfer-Encoding: gzip\n\n".into(),
        ),
    ] {
        let answer = host.raw(&head, b"");
        assert!(matches!(answer.status, 0 | 400 | 401 | 414 | 431), "{scene}: {answer:?}");
        assert_eq!(host.ask("GET", "/v1/health", "").status, 200, "{scene}");
    }
}

/// The time that a slow client gets is cut short by closing its end; that the agent's clock ends it by itself is shown
/// with a paused clock in `patient`.
#[test]
fn slow_clients_hold_nobody_up() {
    let host = Host::start(&guarded());
    let name = host.seal(&content(64 * MIB, 1), "t");
    let mut slow = Vec::new();
    for _ in 0..100 {
        // Half a head, and an answer that nobody reads.
        let mut half = host.connect();
        half.write_all(b"GET /v1/hea").unwrap();
        let mut unread = host.connect();
        let token = bearer(WRITER).replace('\n', "\r\n");
        write!(unread, "GET /v1/objects/{name} HTTP/1.1\r\nHost: localhost\r\n{token}\r\n").unwrap();
        slow.push((half, unread));
    }
    assert_eq!(host.ask("GET", "/v1/health", "").status, 200);
    let part = host.ask("GET", &format!("/v1/objects/{name}"), "Range: bytes=0-99\n");
    assert_eq!((part.status, part.body.len()), (206, 100));
    drop(slow);
    let idle = until(|| {
        let text = String::from_utf8(host.ask("GET", "/metrics", "").body).unwrap();
        text.contains("airfreight_agent_connections 1\n").then_some(text)
    });
    assert!(idle.contains("airfreight_store_objects"));
    assert!(host.store.delete(name).unwrap());
    assert!(!host.store.describe(host.seal(b"x", "t")).unwrap().pinned);
}

#[test]
fn five_hundred_readers_of_a_hundred_objects_all_get_theirs() {
    let host = Host::start(&guarded());
    let objects: Vec<_> = (0..100).map(|n| host.seal(&content(100_000, n), "t")).collect();
    let files: Vec<_> = objects.iter().map(|name| host.file(*name)).collect();
    std::thread::scope(|scope| {
        for reader in 0..500 {
            let (host, objects, files) = (&host, &objects, &files);
            scope.spawn(move || {
                let answer = host.ask("GET", &format!("/v1/objects/{}", objects[reader % 100]), "");
                assert!(answer.status == 200 && answer.body == files[reader % 100], "{reader}: {}", answer.status);
            });
        }
    });
}

#[test]
fn who_is_being_answered_when_the_agent_ends_gets_the_rest() {
    let host = Host::start(&guarded());
    let name = host.seal(&content(48 * MIB, 1), "t");
    let mut reading = host.connect();
    let token = bearer(WRITER).replace('\n', "\r\n");
    write!(reading, "GET /v1/objects/{name} HTTP/1.1\r\nHost: localhost\r\n{token}\r\n").unwrap();
    let mut first = [0; 1000];
    reading.read_exact(&mut first).unwrap();
    let file = host.file(name);
    let Host { end, running, runtime, address, .. } = host;
    end.send(()).unwrap();
    until(|| std::net::TcpStream::connect(address).is_err().then_some(()));
    let mut rest = Vec::new();
    reading.read_to_end(&mut rest).unwrap();
    let answer = Answer::parse(&[&first[..], &rest].concat());
    assert!(answer.status == 200 && answer.body == file);
    runtime.block_on(running).unwrap();
}

#[test]
fn an_object_that_goes_while_it_is_sent_still_comes_whole() {
    let host = Host::start(&guarded());
    let name = host.seal(&content(48 * MIB, 1), "t");
    let file = host.file(name);
    let mut reading = host.connect();
    let token = bearer(WRITER).replace('\n', "\r\n");
    let head = format!("GET /v1/objects/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}\r\n");
    reading.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 1000];
    reading.read_exact(&mut first).unwrap();
    assert_eq!(host.ask("DELETE", &format!("/v1/objects/{name}"), "").status, 204);
    // Whatever is written next takes other pages.
    let next = host.seal(&content(48 * MIB, 7), "t");
    let mut rest = Vec::new();
    reading.read_to_end(&mut rest).unwrap();
    assert!(Answer::parse(&[&first[..], &rest].concat()).body == file);
    assert!(host.store.get(next, Access::ReadOnly).unwrap().buffer(0).unwrap() == content(48 * MIB, 7));
}

fn until<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = condition() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it has not become true within half a minute");
}
