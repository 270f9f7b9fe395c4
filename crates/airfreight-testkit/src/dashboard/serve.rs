//! Connections, and the way of each request past records, faults, limits and authentication.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONNECTION, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use super::answer::{Answer, text};
use super::body::Faulty;
use super::control::{self, control};
use super::fault::{Fault, Faults, Server};
use super::files::LogFormat;
use super::requests::{Arrived, Requests};
use super::state::State;
use super::{Options, api, files, runner};

/// What Ray's web server takes at most, packages included.
const BODY_BYTES_MAX: usize = 100 * 1024 * 1024;
/// Nobody listens there: port 9 is "discard".
const UNREACHABLE: &str = "http://127.0.0.1:9";
/// Anyone may ask these.
const PUBLIC: [&str; 4] = ["/", "/api/authentication_mode", "/api/gcs_healthz", "/api/local_raylet_healthz"];

/// What all connections share.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) dashboard: SocketAddr,
    pub(super) agent: SocketAddr,
    minor: u32,
    state: Mutex<State>,
    faults: Mutex<Faults>,
    requests: Mutex<Requests>,
    in_flight: Semaphore,
    hang_up: Notify,
    /// Closes the connections to the runner's port.
    runner_hang_up: Notify,
    /// A call of the runner's has changed, or the runner itself.
    pub(super) runner_changed: Notify,
}

/// A panic while one of these was held has failed the test already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(options: Options, dashboard: SocketAddr, agent: SocketAddr) -> Self {
        let minor = options.ray_version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(u32::MAX);
        Self {
            in_flight: Semaphore::new(options.in_flight_max),
            options,
            dashboard,
            agent,
            minor,
            state: Mutex::new(State::new()),
            faults: Mutex::default(),
            requests: Mutex::default(),
            hang_up: Notify::new(),
            runner_hang_up: Notify::new(),
            runner_changed: Notify::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(super) fn requests(&self) -> MutexGuard<'_, Requests> {
        lock(&self.requests)
    }

    /// Whether this pretends to be Ray `2.{minor}` or later.
    pub(super) fn is_at_least(&self, minor: u32) -> bool {
        self.minor >= minor
    }

    /// How this Ray sends log files when asked for this `format`.
    pub(super) fn log_format(&self, asked: &str) -> LogFormat {
        match self.minor {
            47.. => LogFormat::Plain,
            40.. if asked == "text" => LogFormat::Text,
            _ => LogFormat::Marked,
        }
    }

    /// Where jobs say that the agent of their node is.
    pub(super) fn agent_address(&self) -> String {
        if self.options.agent_reachable { format!("http://{}", self.agent) } else { UNREACHABLE.into() }
    }

    /// Closes every connection.
    pub(super) fn hang_up(&self) {
        self.hang_up.notify_waiters();
    }

    /// Closes every connection to the runner's port.
    pub(super) fn hang_up_runner(&self) {
        self.runner_hang_up.notify_waiters();
    }
}

/// Serves connections until it is aborted.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener, server: Server) {
    // Out of descriptors, or the client is gone already: the next one may fare better.
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(Arc::clone(&shared), stream, server))),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, server: Server) {
    let hang_up = if server == Server::Runner { &shared.runner_hang_up } else { &shared.hang_up }.notified();
    // Small answers must not wait for an acknowledgement of the last one.
    let _ = stream.set_nodelay(true);
    let number = Number(AtomicU64::new(0), Arc::clone(&shared));
    let handler = service_fn(|request| serve(&shared, &number, server, request));
    let mut connection =
        pin!(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), handler));
    tokio::select! {
        // Errors are the client's going away, and faults.
        _ = &mut connection => {}
        () = hang_up => {}
    }
}

/// A connection's number, from its first request that isn't control; it counts as open until this is dropped.
struct Number(AtomicU64, Arc<Shared>);

impl Number {
    fn get(&self) -> u64 {
        if self.0.load(Ordering::Relaxed) == 0 {
            self.0.store(self.1.requests().opened(), Ordering::Relaxed);
        }
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        if *self.0.get_mut() != 0 {
            self.1.requests().closed();
        }
    }
}

/// The connection closes without an answer.
#[derive(Debug, thiserror::Error)]
#[error("refused on demand")]
struct Refused;

async fn serve(
    shared: &Arc<Shared>,
    number: &Number,
    server: Server,
    request: Request<Incoming>,
) -> Result<Answer, Refused> {
    let (parts, body) = request.into_parts();
    if server == Server::Dashboard && parts.uri.path().starts_with(control::PREFIX) {
        let body = body.collect().await.map_err(|_| Refused)?.to_bytes();
        return Ok(control(shared, &parts, &body));
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let connection = number.get();
    let index = shared.requests().arrived(Arrived {
        server,
        method: parts.method.to_string(),
        path: path.to_owned(),
        headers: headers(&parts.headers),
        body: None,
        connection,
        open: 0,
    });
    let fault = shared.faults().strike(server, parts.method.as_str(), path).unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
    if !fault.carried_out
        && let Some(answer) = instead(&fault).await?
    {
        return Ok(answer);
    }
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Ok(too_large()),
        Err(_) => return Err(Refused),
    };
    shared.requests().body(index, &body);
    let answer = carry_out(shared, server, &parts, &body).await;
    if let Some(answer) = instead(&fault).await? {
        return Ok(answer);
    }
    let (mut head, body) = answer.into_parts();
    add_headers(&mut head.headers, &fault);
    Ok(Answer::from_parts(head, Faulty::of(body, &fault)))
}

/// What the fault puts in the place of an answer; never returns if that is silence.
async fn instead(fault: &Fault) -> Result<Option<Answer>, Refused> {
    if fault.hang {
        std::future::pending::<()>().await;
    }
    if fault.refuse {
        return Err(Refused);
    }
    let Some(status) = fault.status else { return Ok(None) };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    let mut answer = text(status, fault.body.clone());
    add_headers(answer.headers_mut(), fault);
    Ok(Some(answer))
}

fn add_headers(headers: &mut HeaderMap, fault: &Fault) {
    for (name, value) in &fault.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
}

async fn carry_out(shared: &Arc<Shared>, server: Server, request: &Parts, body: &Bytes) -> Answer {
    if server == Server::Runner {
        return runner::from_port(shared, request, body).await;
    }
    let _in_flight = shared.in_flight.acquire().await;
    let jobs = u32::try_from(shared.state().jobs.len()).unwrap_or(u32::MAX);
    let is_list = request.uri.path() == "/api/jobs/" && request.method == hyper::Method::GET;
    let ms = if is_list { shared.options.list_ms_per_job * f64::from(jobs) } else { shared.options.call_ms };
    tokio::time::sleep(Duration::from_secs_f64(ms / 1000.0)).await;
    if let Some(refusal) = authenticate(&shared.options, server, request) {
        return refusal;
    }
    match server {
        Server::Dashboard => api::answer(shared, request, body),
        Server::Agent | Server::Runner => files::from_agent(shared, request),
    }
}

/// The refusal for a request without the right credentials.
fn authenticate(options: &Options, server: Server, request: &Parts) -> Option<Answer> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let mut authorization = header(AUTHORIZATION.as_str());
    // Only the way to the dashboard leads through the proxy.
    if let Some(basic) = options.basic.as_ref().filter(|_| server == Server::Dashboard) {
        let wanted = format!("Basic {}", BASE64_STANDARD.encode(basic));
        if authorization != Some(wanted.as_str()) {
            return Some(text(StatusCode::UNAUTHORIZED, "401 Authorization Required (proxy)"));
        }
        if !options.basic_passes {
            authorization = None;
        }
    }
    let token = options.token.as_ref().filter(|_| !PUBLIC.contains(&request.uri.path()))?;
    // The first that is there decides.
    match authorization.or_else(|| header("x-ray-authorization")) {
        None => Some(text(StatusCode::UNAUTHORIZED, "Unauthorized: Missing authentication token")),
        Some(given) if given.strip_prefix("Bearer ") == Some(token) => None,
        Some(_) => Some(text(StatusCode::FORBIDDEN, "Forbidden: Invalid authentication token")),
    }
}

fn too_large() -> Answer {
    let mut answer =
        text(StatusCode::PAYLOAD_TOO_LARGE, format!("Maximum request body size {BODY_BYTES_MAX} exceeded"));
    // The rest of the body is still on its way.
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn headers(headers: &HeaderMap) -> std::collections::BTreeMap<String, String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}
