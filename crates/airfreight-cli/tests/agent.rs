//! `airfreight agent` as systemd or a container runs it: ready, answering, told to end.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod host;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use host::Host;
use serde_json::{Value, json};

const TOKEN: &str = "the-token-of-those-who-read";

struct Running {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    address: String,
    first: Value,
}

impl Running {
    /// Starts it, and waits for the line that says where it listens.
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let first: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        let addresses = first["addresses"].as_str().unwrap_or_else(|| panic!("{line}"));
        let address = addresses.trim_matches(['[', ']']).to_owned();
        Self { child, log, address, first }
    }

    fn ask(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        write!(stream, "{head}Authorization: Bearer {TOKEN}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Tells it to end, and returns what it said meanwhile.
    fn end(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        rest
    }
}

fn agent(host: &Host) -> Command {
    let mut command =
        host.command(&["agent", "--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "debug"]);
    command.env("AIRFREIGHT_AGENT_TOKEN", TOKEN);
    command
}

#[test]
fn it_tells_when_it_is_ready_and_ends_when_it_is_told() {
    let host = Host::empty();
    let socket = host.folder().join("notify");
    let listener = UnixDatagram::bind(&socket).unwrap();
    let running = Running::start(agent(&host).env("NOTIFY_SOCKET", &socket));
    let mut said = [0; 100];
    let count = listener.recv(&mut said).unwrap();
    assert_eq!(&said[..count], b"READY=1\n");
    assert_eq!((&running.first["level"], &running.first["message"]), (&json!("INFO"), &json!("listening")));
    // It made the store, as the first task would.
    let name = host.put(1000, &json!({ "type": "test" }));
    assert!(running.ask("/v1/ready").starts_with("HTTP/1.1 200"));
    assert!(running.ask(&format!("/v1/objects/{name}/description")).contains(r#""type":"test""#));
    assert!(running.ask("/v1/objects/x").starts_with("HTTP/1.1 400"));
    let log = running.end();
    let count = listener.recv(&mut said).unwrap();
    assert_eq!(&said[..count], b"STOPPING=1\n");
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}"));
    }
    assert!(log.contains("answered") && !log.contains(TOKEN), "{log}");
}

#[test]
fn its_token_is_the_one_that_tasks_send() {
    let host = Host::new();
    let file = host.folder().join("token");
    fs_err::write(&file, format!("{TOKEN}\n")).unwrap();
    let mut command = agent(&host);
    command.env_remove("AIRFREIGHT_AGENT_TOKEN").env("AIRFLOW__AIRFREIGHT__AGENT_TOKEN_FILE", &file);
    let running = Running::start(&mut command);
    assert!(running.ask("/v1/objects").starts_with("HTTP/1.1 200"));
    fs_err::write(&file, "another-token-for-everybody\n").unwrap();
    assert!(running.ask("/v1/objects").starts_with("HTTP/1.1 401"));
    running.end();
}

#[test]
fn what_would_leave_values_open_to_all_is_refused() {
    let host = Host::new();
    let refused = host.run(&["agent", "--listen", "0.0.0.0:0"]).failure(1);
    assert!(refused.contains("will not listen on 0.0.0.0:0 without a token"), "{refused}");
    assert!(refused.contains("hint: put a long random text"), "{refused}");
    let mut command = host.command(&["agent"]);
    let refused = host::answer(command.env("AIRFREIGHT_AGENT_TOKEN", "too-short")).failure(1);
    assert!(refused.contains("cannot use the tokens in AIRFREIGHT_AGENT_TOKEN"), "{refused}");
    assert!(!refused.contains("too-short"), "{refused}");
    host.run(&["agent", "--tls-certificate", "/a.pem"]).failure(2);
    let refused = host.run(&["agent", "--tls-certificate", "/a.pem", "--tls-key", "/a.key"]).failure(1);
    assert!(refused.contains("cannot use the certificate in `/a.pem`"), "{refused}");
}
