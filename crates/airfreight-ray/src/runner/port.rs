//! The runner's own port: a connection that stays open, and nothing between it and us.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use airfreight_http::causes;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Uri};
use http_body_util::Full;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use tokio::time::timeout;

use super::beacon::Beacon;
use super::request::{Reply, Request};
use crate::credentials::OUR_USER_AGENT;
use crate::error::Source;
use crate::pool::{Lane, Limits, Pool};
use crate::submission::random_hex;
use crate::transport::{Body, exchange, host};

/// A port that can be reached answers at once; what a firewall swallows is not waited for.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// Whoever is silent for so long, beyond what it was asked to wait, is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(5);
/// A runner that is there may be waiting for an owner, which the cluster is starting.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// One of them the feed of events keeps, three are for values, and one is always free for what must not wait.
pub(crate) const LIMITS: Limits = Limits { sockets: 8, ordinary: 7, bulk: 4 };

/// A runner's port, after it has proved to be that runner's.
pub(crate) struct Port {
    pub(crate) origin: Uri,
    pub(crate) authorization: HeaderValue,
    /// This process's connections to it.
    pub(crate) pool: Arc<Pool>,
}

/// Why a port is of no use.
pub(crate) struct Unusable {
    pub(crate) source: Source,
    /// Nobody listens there, or somebody else.
    pub(crate) is_not_there: bool,
}

impl Port {
    /// Connects to a runner on this host and lets it prove that it is the one of the beacon, before it sees the token.
    pub(crate) async fn open(beacon: &Beacon, host_name: &str, pool: &Arc<Pool>) -> Result<Self, Unusable> {
        #[derive(Deserialize)]
        struct Ping {
            generation: String,
            proof: String,
        }
        let fail = |source: Source| {
            let refused = |cause: &(dyn std::error::Error + 'static)| {
                cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            };
            let is_not_there = causes(&*source).any(refused);
            Unusable { source, is_not_there }
        };
        let Some(port) = beacon.port.filter(|port| *port != 0) else { return Err(fail("it has no port".into())) };
        let host_name = if host_name.contains(':') && !host_name.starts_with('[') {
            format!("[{host_name}]")
        } else {
            host_name.to_owned()
        };
        let origin: Uri = format!("http://{host_name}:{port}").parse().map_err(|source| fail(Source::from(source)))?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", beacon.token.expose_secret()))
            .map_err(|source| fail(source.into()))?;
        authorization.set_sensitive(true);
        let nonce = random_hex().map_err(|source| fail(source.into()))?;
        let this = Self { origin, authorization, pool: Arc::clone(pool) };
        let ping = Request::get(format!("/v1/ping?nonce={nonce}"), "ping").in_lane(Lane::Urgent);
        let reply = timeout(CONNECT_PATIENCE, this.send(&ping, false))
            .await
            .map_err(|_| fail(format!("no answer within {:.0} s", CONNECT_PATIENCE.as_secs_f64()).into()))?
            .map_err(fail)?;
        let is_proved = serde_json::from_value::<Ping>(reply.body)
            .is_ok_and(|ping| ping.generation == beacon.generation && beacon.is_proved_by(&nonce, &ping.proof));
        if !is_proved {
            let source = format!("what listens on {} is not this runner", this.origin).into();
            return Err(Unusable { source, is_not_there: true });
        }
        Ok(this)
    }

    /// One request, over a connection that others have used before if there is one. Given up when the runner is not
    /// there any more.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Reply, Source> {
        let began = Instant::now();
        let mut asking = pin!(self.send(request, true));
        let mut silence = request.wait() + SILENCE;
        loop {
            if let Ok(answered) = timeout(silence, &mut asking).await {
                return answered;
            }
            let ping = Request::get(format!("/v1/ping?nonce={}", random_hex()?), "ping").in_lane(Lane::Urgent);
            let is_there = timeout(SILENCE, self.send(&ping, false)).await.is_ok_and(|answer| answer.is_ok());
            if !is_there || began.elapsed() > request.wait() + SILENCE_MAX {
                return Err(format!("no answer within {:.0} s", began.elapsed().as_secs_f64()).into());
            }
            silence = SILENCE;
        }
    }

    async fn send(&self, request: &Request, with_token: bool) -> Result<Reply, Source> {
        let limit = SILENCE_MAX + request.wait();
        let mut stale = 0;
        loop {
            let places = self.pool.places(request.lane).await?;
            let connecting = timeout(CONNECT_PATIENCE, self.pool.direct(&self.origin, places));
            let lease = connecting.await.map_err(|_| Source::from("cannot connect within a second"))??;
            let message = self.message(request, with_token)?;
            let answer = match exchange(lease, message, limit).await {
                Ok(answer) => answer,
                // It had been idle, and was closed just now.
                Err((true, _)) if stale < LIMITS.sockets => {
                    stale += 1;
                    continue;
                }
                Err((_, source)) => return Err(source.into()),
            };
            let (parts, body) = answer.into_parts();
            return Reply::read(parts.status.as_u16(), &Body::collect(body).await?);
        }
    }

    fn message(&self, request: &Request, with_token: bool) -> Result<http::Request<Full<Bytes>>, Source> {
        let mut message = http::Request::builder()
            .method(request.method.clone())
            .uri(&request.path)
            .body(Full::new(request.bytes()))?;
        let headers = message.headers_mut();
        headers.insert(HOST, host(&self.origin));
        headers.insert(USER_AGENT, HeaderValue::from_static(OUR_USER_AGENT));
        if request.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        } else if request.method != Method::GET {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if with_token {
            headers.insert(AUTHORIZATION, self.authorization.clone());
        }
        Ok(message)
    }
}
