//! Requests through the dashboard alone: a package as the letter, a file as the answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::beacon::{Beacon, unwrapped};
use super::request::{Reply, Request};
use super::start;
use crate::error::Source;
use crate::pool::Lane;
use crate::transport::Call;
use crate::{Client, RayError, Result};

/// The runner needs at least so long.
const FIRST_PAUSE: Duration = Duration::from_millis(3);
/// Whoever has waited long can wait a bit longer.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How often it is looked whether the runner is still the same.
const LIFE_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked whether its job still runs, in looks at the other.
const JOB_EVERY: u32 = 3;
/// How long a runner may keep silent beyond what it was asked to wait: it may be waiting for an owner, which the cluster
/// is starting.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// How many of the last events are looked at first.
const EVENTS_WINDOW: u32 = 64;

/// What came of a letter.
pub(crate) enum Posted {
    Answered(Reply),
    /// No answer so far.
    Silent,
    /// The runner has begun another life, which may not have seen the letter.
    Replaced,
}

/// Sends a request and waits for the file with its answer.
pub(crate) async fn ask(
    client: &Client,
    runner: &str,
    beacon: &Beacon,
    message: &str,
    request: &Request,
) -> Result<Posted> {
    let letter = json!({
        "token": beacon.token.expose_secret(),
        "method": request.method.as_str(),
        "path": request.path,
        "body": request.body,
    });
    let mut put = Call::new(
        Method::PUT,
        format!("/api/packages/gcs/afin_{runner}_{message}"),
        if request.lane == Lane::Bulk { Lane::Ordinary } else { request.lane },
        request.action.clone(),
    );
    put.body = Some((Bytes::from(letter.to_string()), "application/octet-stream"));
    client.transport.ask(&put).await?;
    let name = format!("{}/{message}.json", beacon.folder());
    let began = Instant::now();
    let (mut looked, mut looks) = (began, 0);
    let mut pause = FIRST_PAUSE;
    loop {
        sleep(pause).await;
        if let Some(file) = file(client, &beacon.node_id, &name, None, &request.action).await? {
            return match answer(&file) {
                Ok(reply) => Ok(Posted::Answered(reply)),
                Err(source) => Err(RayError::Unreadable {
                    action: request.action.clone(),
                    address: client.address().to_owned(),
                    source,
                }),
            };
        }
        if began.elapsed() > request.wait() + SILENCE_MAX {
            return Ok(Posted::Silent);
        }
        if looked.elapsed() > LIFE_EVERY {
            looked = Instant::now();
            if find(client, runner, &beacon.node_id).await?.is_none_or(|found| !found.is_same_life(beacon)) {
                return Ok(Posted::Replaced);
            }
            looks += 1;
            if looks % JOB_EVERY == 0 && start::running(client, runner).await?.is_none() {
                return Ok(Posted::Silent);
            }
        }
        pause = (began.elapsed() / 8).clamp(Duration::from_millis(2), PAUSE_MAX);
    }
}

fn answer(file: &[u8]) -> Result<Reply, Source> {
    #[derive(Deserialize)]
    struct Answer {
        status: u16,
        #[serde(default)]
        body: Value,
    }
    let Answer { status, body } = serde_json::from_slice(file)?;
    Ok(Reply { status, body })
}

/// The runner's file on a node, if it is there.
pub(crate) async fn find(client: &Client, runner: &str, node_id: &str) -> Result<Option<Beacon>> {
    const ACTION: &str = "find the runner";
    let Some(file) = file(client, node_id, &format!("airfreight/{runner}.json"), None, ACTION).await? else {
        return Ok(None);
    };
    match Beacon::read(&file) {
        Ok(beacon) => {
            client.believe_version(&beacon.ray);
            Ok(Some(beacon))
        }
        Err(source) => {
            Err(RayError::Unreadable { action: ACTION.to_owned(), address: client.address().to_owned(), source })
        }
    }
}

/// Events with their numbers, in order.
pub(crate) struct Outbox {
    pub(crate) epoch: String,
    pub(crate) seq: u64,
    /// Between what was known and these there were others.
    pub(crate) lost: bool,
    pub(crate) events: Vec<Map<String, Value>>,
}

/// What has happened since `known`, from the runner's file of events.
pub(crate) async fn events(client: &Client, beacon: &Beacon, known: Option<(&str, u64)>) -> Result<Outbox> {
    let name = format!("{}/events.jsonl", beacon.folder());
    let mut lines = Some(EVENTS_WINDOW);
    loop {
        let file = file(client, &beacon.node_id, &name, lines, "read the runner's events").await?.unwrap_or_default();
        let whole = lines.is_none();
        let outbox = sift(&file, beacon, known, whole);
        if !outbox.lost || whole {
            return Ok(outbox);
        }
        lines = None;
    }
}

/// Picks from the last lines of the file what is new.
fn sift(file: &[u8], beacon: &Beacon, known: Option<(&str, u64)>, whole: bool) -> Outbox {
    let since = known.filter(|(epoch, _)| *epoch == beacon.epoch).map(|(_, seq)| seq);
    let mut outbox = Outbox {
        epoch: beacon.epoch.clone(),
        seq: since.unwrap_or(0),
        lost: known.is_some() && since.is_none(),
        events: Vec::new(),
    };
    let mut first = None;
    // The last line may still be written, the first may be cut off.
    for line in file.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        let Ok(event) = serde_json::from_slice::<Map<String, Value>>(line) else { continue };
        let Some(seq) = event.get("seq").and_then(Value::as_u64) else { continue };
        if event.get("epoch").and_then(Value::as_str).is_some_and(|epoch| epoch != beacon.epoch) {
            continue;
        }
        first = first.or(Some(seq));
        if seq > outbox.seq {
            outbox.seq = seq;
            outbox.events.push(event);
        }
    }
    match since {
        // Nobody knows yet what he wants to hear of: he asks for that by itself.
        None => outbox.events.clear(),
        Some(since) => {
            let is_whole = whole && first.is_none_or(|first| first <= 1);
            outbox.lost = first.is_some_and(|first| first > since + 1) && !is_whole;
        }
    }
    outbox
}

/// A file of JSON below the session's log directory; `None` if there is none.
async fn file(client: &Client, node_id: &str, name: &str, lines: Option<u32>, action: &str) -> Result<Option<Bytes>> {
    let Some(file) = client.small_file(node_id, name, lines, action).await? else { return Ok(None) };
    unwrapped(file).map_err(|source| RayError::Unreadable {
        action: action.to_owned(),
        address: client.address().to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beacon() -> Beacon {
        let file = br#"{"protocol": 1, "generation": "g", "epoch": "e", "node_id": "n", "node_ip": "i", "token": "t"}"#;
        Beacon::read(&Bytes::from_static(file)).unwrap()
    }

    fn lines(numbers: std::ops::RangeInclusive<u64>, epoch: &str) -> String {
        use std::fmt::Write as _;
        numbers.fold(String::new(), |mut text, seq| {
            writeln!(text, r#"{{"seq": {seq}, "epoch": "{epoch}", "id": "c{seq}"}}"#).unwrap();
            text
        })
    }

    fn sifted(file: &str, known: Option<(&str, u64)>, whole: bool) -> (u64, bool, usize) {
        let outbox = sift(file.as_bytes(), &beacon(), known, whole);
        (outbox.seq, outbox.lost, outbox.events.len())
    }

    #[test]
    fn new_events_are_told_once() {
        let file = lines(1..=5, "e");
        assert_eq!(sifted(&file, Some(("e", 3)), false), (5, false, 2));
        assert_eq!(sifted(&file, Some(("e", 5)), false), (5, false, 0));
        assert_eq!(sifted("", Some(("e", 5)), false), (5, false, 0));
        assert_eq!(sifted(&file, None, false), (5, false, 0), "who knows nothing begins at the end");
    }

    #[test]
    fn a_gap_and_another_epoch_are_losses() {
        assert_eq!(sifted(&lines(9..=12, "e"), Some(("e", 3)), false), (12, true, 4));
        assert_eq!(sifted(&lines(9..=12, "e"), Some(("e", 8)), false), (12, false, 4));
        assert_eq!(sifted(&lines(1..=2, "e"), Some(("before", 7)), false), (2, true, 0));
        let mixed = lines(1..=9, "before") + &lines(1..=2, "e");
        assert_eq!(sifted(&mixed, Some(("e", 1)), false), (2, false, 1), "events of a life before are not ours");
    }

    #[test]
    fn a_line_that_is_not_whole_is_left_for_later() {
        let file = lines(1..=3, "e");
        let cut = &file[..file.len() - 4];
        assert_eq!(sifted(cut, Some(("e", 1)), false), (2, false, 1));
        assert_eq!(sifted(&file[5..], Some(("e", 1)), false), (3, false, 2));
    }
}
