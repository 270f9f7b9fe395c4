//! Goal: whatever a network does, and for however long, an object arrives whole or there are words that say why.
//!
//! Method: real agents and stores on a simulated network, where hours pass in moments: other continents, links that
//! stop and go on, hosts that fall silent, and schedules of all these drawn by chance.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use airfreight_client::{Agent, ClientError, Fetched, Progress, Settings};
use airfreight_core::{ErrorKind, ObjectName};
use http::Uri;
use tokio::time::{Instant, sleep, timeout};
use turmoil::net::{TcpListener, TcpStream};
use turmoil::{Builder, Sim};

use support::{Host, MIB, TOKEN, host};

const PORT: u16 = 8733;
const PATIENCE: Duration = Duration::from_secs(30);
/// A transfer that takes longer than this on the simulated clock hangs.
const HANGS: Duration = Duration::from_hours(1);

type Ended = turmoil::Result;

/// The network, with a host `maker` whose agent serves what its store holds.
fn network(builder: &mut Builder, maker: &Rc<Host>) -> Sim<'static> {
    let mut network = builder.simulation_duration(2 * HANGS).tcp_capacity(100_000).build();
    let maker = Rc::clone(maker);
    network.host("maker", move || {
        let maker = Rc::clone(&maker);
        async move {
            let agent = Arc::new(maker.agent(Vec::new()).await);
            let listener = TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), PORT)).await?;
            loop {
                let (stream, peer) = listener.accept().await?;
                let agent = Arc::clone(&agent);
                tokio::task::spawn_local(async move { agent.answer(stream, peer).await });
            }
        }
    });
    network
}

fn client() -> Agent {
    let settings = Settings {
        token: Some(TOKEN.to_owned().into()),
        patience: PATIENCE,
        ..Settings::new(format!("http://maker:{PORT}"))
    };
    let dial = |target: Uri| async move { TcpStream::connect((target.host().unwrap_or_default(), PORT)).await };
    Agent::over(settings, |connector| connector.over(dial)).unwrap()
}

/// Fetches the object; that it is the same is compared once the network has ended.
async fn fetch(reader: &Host, name: ObjectName, progress: &Progress) -> Result<Fetched, ClientError> {
    timeout(HANGS, client().fetch(&reader.store, name, progress)).await.expect("it hangs")
}

/// Until a part of the object is there.
async fn begun(progress: &Progress) {
    while progress.get().0 <= 5 * MIB as u64 {
        sleep(Duration::from_millis(1)).await;
    }
}

fn assert_moved(fetched: &Result<Fetched, ClientError>) {
    assert!(matches!(fetched, Ok(Fetched::Moved { .. })), "{fetched:?}");
}

fn assert_arrived(maker: &Host, reader: &Host, name: ObjectName) {
    assert!(maker.file(name) == reader.file(name));
}

#[test]
fn a_value_comes_from_another_continent() {
    let (maker, reader) = (Rc::new(host(1 << 30)), Rc::new(host(1 << 30)));
    let name = maker.seal(24 * MIB);
    let latency = Duration::from_millis(150);
    let mut network = network(Builder::new().min_message_latency(latency).max_message_latency(2 * latency), &maker);
    let here = Rc::clone(&reader);
    network.client("reader", async move {
        let began = Instant::now();
        assert_moved(&fetch(&here, name, &Progress::default()).await);
        assert!(began.elapsed() > 4 * latency, "the clock is the network's");
        Ended::Ok(())
    });
    network.run().unwrap();
    assert_arrived(&maker, &reader, name);
}

/// A transfer during which the link does `stop`, and after half of the patience `go_on`.
fn interrupted(stop: fn(&'static str, &'static str), go_on: fn(&'static str, &'static str)) {
    let (maker, reader) = (Rc::new(host(1 << 30)), Rc::new(host(1 << 30)));
    let name = maker.seal(24 * MIB);
    let mut network = network(&mut Builder::new(), &maker);
    let here = Rc::clone(&reader);
    network.client("reader", async move {
        let (began, progress) = (Instant::now(), Progress::default());
        let trouble = async {
            begun(&progress).await;
            stop("reader", "maker");
            sleep(PATIENCE / 2).await;
            go_on("reader", "maker");
        };
        let (fetched, ()) = tokio::join!(fetch(&here, name, &progress), trouble);
        assert_moved(&fetched);
        assert!(began.elapsed() > PATIENCE / 2);
        Ended::Ok(())
    });
    network.run().unwrap();
    assert_arrived(&maker, &reader, name);
}

#[test]
fn a_link_that_stops_for_a_while_is_waited_for() {
    interrupted(turmoil::hold, turmoil::release);
}

#[test]
fn connections_that_died_in_silence_are_replaced() {
    interrupted(turmoil::partition, turmoil::repair);
}

#[test]
fn a_host_that_falls_silent_is_given_up_in_time_and_nothing_of_it_stays() {
    let (maker, reader) = (Rc::new(host(1 << 30)), Rc::new(host(1 << 30)));
    let name = maker.seal(24 * MIB);
    let mut network = network(&mut Builder::new(), &maker);
    let here = Rc::clone(&reader);
    network.client("reader", async move {
        let progress = Progress::default();
        let transfer = async {
            let began = Instant::now();
            let error = fetch(&here, name, &progress).await.unwrap_err();
            (error, began.elapsed())
        };
        let trouble = async {
            begun(&progress).await;
            turmoil::partition("reader", "maker");
        };
        let ((error, took), ()) = tokio::join!(transfer, trouble);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(took < 3 * PATIENCE, "{took:?}");
        here.assert_empty();
        // Who asks once it is there again gets it.
        turmoil::repair("reader", "maker");
        assert_moved(&fetch(&here, name, &Progress::default()).await);
        Ended::Ok(())
    });
    network.run().unwrap();
    assert_arrived(&maker, &reader, name);
}

#[test]
fn an_agent_that_restarts_again_and_again_gives_it_in_the_end() {
    let (maker, reader) = (Rc::new(host(1 << 30)), Rc::new(host(1 << 30)));
    let name = maker.seal(24 * MIB);
    let mut network = network(&mut Builder::new(), &maker);
    let (here, is_over) = (Rc::clone(&reader), Rc::new(Cell::new(false)));
    let over = Rc::clone(&is_over);
    network.client("reader", async move {
        assert_moved(&fetch(&here, name, &Progress::default()).await);
        over.set(true);
        Ended::Ok(())
    });
    for _ in 0..5 {
        for _ in 0..30 {
            network.step().unwrap();
        }
        if !is_over.get() {
            network.bounce("maker");
        }
    }
    network.run().unwrap();
    assert_arrived(&maker, &reader, name);
}

#[test]
fn in_any_weather_it_arrives_whole_or_is_refused_in_words() {
    let mut arrived = 0;
    for seed in 0..24 {
        let (maker, reader) = (Rc::new(host(1 << 30)), Rc::new(host(1 << 30)));
        let name = maker.seal(12 * MIB);
        let mut network = network(
            Builder::new()
                .rng_seed(seed)
                .enable_random_order()
                .max_message_latency(Duration::from_millis(80))
                .fail_rate(0.002)
                .repair_rate(0.02),
            &maker,
        );
        let (here, whole) = (Rc::clone(&reader), Rc::new(Cell::new(false)));
        let is_whole = Rc::clone(&whole);
        network.client("reader", async move {
            match fetch(&here, name, &Progress::default()).await {
                Ok(_) => is_whole.set(true),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "seed {seed}: {error}");
                    here.assert_empty();
                }
            }
            Ended::Ok(())
        });
        network.run().unwrap();
        if whole.get() {
            assert_arrived(&maker, &reader, name);
            arrived += 1;
        }
    }
    assert!(arrived > 0, "the weather was never fair");
}
