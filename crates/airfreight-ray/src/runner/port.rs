//! The runner's own port: a connection that stays open, and nothing between it and us.

use std::io;
use std::sync::Arc;
use std::time::Duration;

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
use crate::transport::{Body, causes, exchange, host};

/// A port that can be reached answers at once; what a firewall swallows is not waited for.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// How long a runner may keep silent beyond what it was asked to wait. After that the mailbox is tried.
const SILENCE_MAX: Duration = Duration::from_secs(5);

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

    /// One request, over a connection that others have used before if there is one.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Reply, Source> {
        self.send(request, true).await
    }

    async fn send(&self, request: &Request, with_token: bool) -> Result<Reply, Source> {
        let limit = SILENCE_MAX + request.wait();
        let mut stale = 0;
        loop {
            let places = self.pool.places(request.lane).await?;
            let connecting = timeout(CONNECT_PATIENCE, self.pool.direct(&self.origin, places));
            let lease = connecting.await.map_err(|_| Source::from("cannot connect within a second"))??;
            let message = self.message(request, with_token)?;
            let answered = timeout(limit, async {
                let answer = exchange(lease, message, limit).await.map_err(|(used, source)| (used, source.into()))?;
                let (parts, body) = answer.into_parts();
                // An answer that has begun was not lost to a connection that had been idle.
                let body = Body::collect(body).await.map_err(|source| (false, source))?;
                Ok::<_, (bool, Source)>((parts.status.as_u16(), body))
            });
            match answered.await {
                Ok(Ok((status, body))) => return Reply::read(status, &body),
                // It had been idle, and was closed just now.
                Ok(Err((true, _))) if stale < LIMITS.sockets => stale += 1,
                Ok(Err((_, source))) => return Err(source),
                Err(_) => return Err(format!("no answer within {:.0} s", limit.as_secs_f64()).into()),
            }
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
