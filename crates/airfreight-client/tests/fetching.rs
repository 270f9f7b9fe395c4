//! Goal: an object of another host arrives whole, once, or not at all with words that say why. Method: real agents and
//! stores, and between them a wire that cuts, stops and damages what passes.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use airfreight_client::{Agent, ClientError, Fetched, Progress, Settings};
use airfreight_core::{ErrorKind, ObjectName};
use airfreight_store::{Options, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use support::{Host, MIB, TOKEN, host};

async fn serve(host: &Host) -> SocketAddr {
    let agent = host.agent(vec!["127.0.0.1:0".into()]).await;
    let address = agent.addresses()[0];
    tokio::spawn(agent.run(std::future::pending()));
    address
}

fn settings(address: SocketAddr) -> Settings {
    Settings {
        token: Some(TOKEN.to_owned().into()),
        patience: Duration::from_secs(20),
        doubt: Duration::from_millis(300),
        ..Settings::new(format!("http://{address}"))
    }
}

fn agent(address: SocketAddr) -> Agent {
    Agent::new(settings(address)).unwrap()
}

async fn fetch(agent: &Agent, host: &Host, name: ObjectName) -> Result<Fetched, ClientError> {
    agent.fetch(&host.store, name, &Progress::default()).await
}

/// What a wire does to the answers that pass.
#[derive(Default)]
struct Wire {
    /// Connections are cut after so many bytes, ...
    cut_after: AtomicU64,
    /// ... so often.
    cuts: AtomicUsize,
    /// So many bytes from here on are flipped, one in each connection.
    flips: AtomicUsize,
    connections: AtomicUsize,
    answered_bytes: AtomicU64,
}

fn take(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

async fn wire(to: SocketAddr) -> (Arc<Wire>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (wire, address) = (Arc::new(Wire::default()), listener.local_addr().unwrap());
    let made = Arc::clone(&wire);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let wire = Arc::clone(&wire);
            tokio::spawn(async move { wire.carry(near, to).await });
        }
    });
    (made, address)
}

impl Wire {
    async fn carry(&self, near: TcpStream, to: SocketAddr) -> Option<()> {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let far = TcpStream::connect(to).await.ok()?;
        let ((mut near_read, mut near_write), (mut far_read, mut far_write)) = (near.into_split(), far.into_split());
        let asking = tokio::spawn(async move { tokio::io::copy(&mut near_read, &mut far_write).await });
        let (mut passed, mut bytes) = (0, vec![0; 64 << 10]);
        loop {
            let count = far_read.read(&mut bytes).await.ok()?;
            if count == 0 {
                break;
            }
            passed += count as u64;
            self.answered_bytes.fetch_add(count as u64, Ordering::SeqCst);
            // Behind the head of the answer.
            if passed > 100_000 && take(&self.flips) {
                bytes[count / 2] ^= 1;
            }
            let limit = self.cut_after.load(Ordering::SeqCst);
            if limit > 0 && passed > limit && take(&self.cuts) {
                break;
            }
            near_write.write_all(&bytes[..count]).await.ok()?;
        }
        asking.abort();
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_all_sizes_arrive_as_they_were() {
    let (a, b) = (host(256 << 20), host(256 << 20));
    let agent = agent(serve(&a).await);
    for bytes in [0, 1, 5000, 100_000, 4 * MIB - 200, 4 * MIB, 33 * MIB + 7] {
        let name = a.seal(bytes);
        let progress = Progress::default();
        let file = a.file(name);
        let file_bytes = file.len() as u64;
        assert_eq!(agent.fetch(&b.store, name, &progress).await.unwrap(), Fetched::Moved { file_bytes });
        assert_eq!(progress.get(), (file_bytes, file_bytes));
        assert!(b.file(name) == file, "{bytes}");
        assert_eq!(fetch(&agent, &b, name).await.unwrap(), Fetched::Here);
    }
    let link = a.store.link(a.seal(9)).unwrap();
    fetch(&agent, &b, link).await.unwrap();
    assert!(b.file(link) == a.file(link));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_who_ask_at_once_get_one_transfer() {
    let (a, b) = (host(256 << 20), host(256 << 20));
    let (wire, address) = wire(serve(&a).await).await;
    let name = a.seal(40 * MIB);
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            // As in ten processes: each has a client and an open store of its own.
            let (agent, path) = (agent(address), b.store.path().to_owned());
            tokio::spawn(async move {
                let store = Store::open(&Options { path: Some(path), ..Options::default() }).unwrap();
                agent.fetch(&store, name, &Progress::default()).await.unwrap()
            })
        })
        .collect();
    let mut moved = 0;
    for task in tasks {
        moved += usize::from(task.await.unwrap() != Fetched::Here);
    }
    assert_eq!(moved, 1);
    let length = a.file(name).len() as u64;
    assert!(wire.answered_bytes.load(Ordering::SeqCst) < length + length / 10, "it travelled more than once");
    assert!(b.file(name) == a.file(name));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_goes_on_and_what_is_damaged_comes_again() {
    let (a, b) = (host(256 << 20), host(256 << 20));
    let (wire, address) = wire(serve(&a).await).await;
    let name = a.seal(60 * MIB);
    wire.cut_after.store(9_000_000, Ordering::SeqCst);
    // With more of them, what is left may fit into the connections that there are.
    wire.cuts.store(3, Ordering::SeqCst);
    wire.flips.store(2, Ordering::SeqCst);
    fetch(&agent(address), &b, name).await.unwrap();
    assert!(b.file(name) == a.file(name));
    assert_eq!((wire.cuts.load(Ordering::SeqCst), wire.flips.load(Ordering::SeqCst)), (0, 0));
    let more = wire.answered_bytes.load(Ordering::SeqCst) - 60 * MIB as u64;
    assert!(more < 40 * MIB as u64, "{more} bytes came again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_damaged_is_refused_and_nothing_of_it_is_kept() {
    let (a, b) = (host(256 << 20), host(256 << 20));
    let (wire, address) = wire(serve(&a).await).await;
    let name = a.seal(9 * MIB);
    wire.flips.store(usize::MAX, Ordering::SeqCst);
    let error = fetch(&agent(address), &b, name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(&address.to_string()));
    b.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_is_told_soon_and_who_leaves_in_the_middle_too() {
    let (a, b) = (host(256 << 20), host(256 << 20));
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let name = a.seal(60 * MIB);
    let error = fetch(&agent(free), &b, name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(&free.to_string()) && error.hint().is_some());
    let unknown = Settings { doubt: Duration::ZERO, ..Settings::new("http://no-such-host.invalid:1") };
    let error = fetch(&Agent::new(unknown).unwrap(), &b, name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");

    let (wire, address) = wire(serve(&a).await).await;
    wire.cut_after.store(1_000_000, Ordering::SeqCst);
    wire.cuts.store(usize::MAX, Ordering::SeqCst);
    let impatient = Settings { patience: Duration::from_millis(500), ..settings(address) };
    let error = fetch(&Agent::new(impatient).unwrap(), &b, name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    b.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_for_somebody_that_finds_nobody_do_not_wait_in_turn() {
    let b = host(64 << 20);
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let name: ObjectName = "0123456789abcdef0123456789abcdef".parse().unwrap();
    let doubtful = Agent::new(Settings { doubt: Duration::from_secs(1), ..settings(free) }).unwrap();
    let all = futures_util::future::join_all((0..8).map(|_| fetch(&doubtful, &b, name))).await;
    let attempts = all.into_iter().map(|one| match one {
        Err(ClientError::Unavailable { attempts, .. }) => attempts,
        other => panic!("{other:?}"),
    });
    let mut attempts: Vec<_> = attempts.collect();
    attempts.sort_unstable();
    assert!(attempts[6] <= 4, "more than one had the whole time to doubt: {attempts:?}");
    b.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_turn_of_one_that_was_aborted_goes_to_the_next() {
    let (a, b) = (host(256 << 20), host(256 << 20));
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = a.seal(9 * MIB);
    let first = {
        let (agent, store) = (agent(silent.local_addr().unwrap()), b.store.clone());
        tokio::spawn(async move { agent.fetch(&store, name, &Progress::default()).await })
    };
    let _held = silent.accept().await.unwrap();
    assert!(b.store.take_turn(name).unwrap().is_none());
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    fetch(&agent(serve(&a).await), &b, name).await.unwrap();
    assert!(b.file(name) == a.file(name));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_keep_their_meaning() {
    let (a, b, small) = (host(256 << 20), host(256 << 20), host(2 << 20));
    let address = serve(&a).await;
    let name = a.seal(9 * MIB);
    let missing: ObjectName = "0123456789abcdef0123456789abcdef".parse().unwrap();
    assert_eq!(fetch(&agent(address), &b, missing).await.unwrap_err().kind(), ErrorKind::NotFound);
    let stranger =
        Agent::new(Settings { token: Some("another-token-than-its".to_owned().into()), ..settings(address) });
    let error = fetch(&stranger.unwrap(), &b, name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(!format!("{error:?} {error}").contains("another-token"), "{error:?}");
    let error = fetch(&agent(address), &small, name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    small.assert_empty();
    let tls = Agent::new(Settings { url: format!("https://{address}"), ..settings(address) }).unwrap();
    let error = fetch(&tls, &b, name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");

    // Somebody else listens there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
        }
    });
    let error = fetch(&agent(other), &b, name).await.unwrap_err();
    assert!(matches!(error, ClientError::Strange { status: 200, .. }), "{error:?}");
    b.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_is_not_asked_for_again_and_again() {
    use std::os::unix::fs::PermissionsExt as _;
    let (a, b) = (host(64 << 20), host(64 << 20));
    let (wire, address) = wire(serve(&a).await).await;
    let name = a.seal(MIB);
    let path = a.store.path().join("objects").join(name.to_string());
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    fs_err::OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    let error = fetch(&agent(address), &b, name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_eq!(wire.connections.load(Ordering::SeqCst), 1);
}
