//! Ranges of a file over HTTP: from the runner's own port, or from a bucket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, HOST, RANGE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use serde_json::Value;
use tokio::time::timeout;

use crate::credentials::OUR_USER_AGENT;
use crate::error::Source;
use crate::pool::{Lane, Lease};
use crate::runner::{Port, Runner};
use crate::transport::{Body, exchange, host};
use crate::values::BucketUrls;
use crate::{Client, RayError, Result, Settings};

/// The checksum of a chunk, as eight hexadecimal digits.
pub(crate) const CRC32: HeaderName = HeaderName::from_static("x-airfreight-crc32");
/// How long a port may take for a connection; what a firewall swallows is not waited for.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing may come.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// One answer that is not what was asked for.
pub(crate) enum Trouble {
    /// Cut, silent, or not reachable: another attempt may succeed.
    Passing(Source),
    /// The file isn't there any more: it has to be laid out anew.
    Gone(Source),
    /// No other attempt would succeed.
    Lasting(RayError),
}

impl From<Source> for Trouble {
    fn from(source: Source) -> Self {
        Self::Passing(source)
    }
}

/// A place with a file.
pub(crate) enum Place {
    /// A path on the runner's port, which may be another one after the runner began anew.
    Port { runner: Runner, path: String },
    /// A presigned URL. Nothing else may be sent there, least of all a cluster's credentials.
    Url { bucket: Client, target: String },
}

impl Place {
    /// Prepares to read from a presigned URL.
    pub(crate) fn url(urls: &BucketUrls, runner: &Runner) -> Result<Self> {
        let parsed = url::Url::parse(&urls.get)
            .map_err(|source| RayError::Setting { setting: "presigned URL", reason: source.to_string() })?;
        let target = parsed[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
        let origin = parsed[..url::Position::BeforePath].to_owned();
        let mut settings = Settings::new(origin);
        settings.timeout = runner.client().transport.settings.timeout;
        settings.verify = urls.verify.clone();
        settings.proxy.clone_from(&urls.proxy);
        Ok(Self::Url { bucket: Client::new(settings)?, target })
    }

    /// Opens the bytes `start..end`; with them comes their checksum, where the place knows one.
    pub(crate) async fn open(&self, start: u64, end: u64) -> Result<(Body, Option<u32>), Trouble> {
        let range = header(&format!("bytes={start}-{}", end - 1))?;
        let response = match self {
            Self::Port { runner, path } => {
                let port = port(runner).await?;
                let answer = ask(&port, &Method::GET, path, &[(RANGE, range)], Bytes::new()).await;
                match answer {
                    Err(source) => {
                        runner.doubt(&port).await;
                        return Err(source.into());
                    }
                    Ok(response) => response,
                }
            }
            Self::Url { bucket, target } => {
                let transport = &bucket.transport;
                let places = transport.places(Lane::Bulk).await?;
                let lease = transport.pool.dashboard(places).await?;
                let headers = [(RANGE, range)];
                let full =
                    if lease.route.absolute { format!("{}{target}", transport.address.base) } else { target.clone() };
                let mut request = request(&lease, &Method::GET, &full, &headers, Bytes::new())?;
                if let Some(value) = &lease.route.proxy_authorization {
                    request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, value.clone());
                }
                answer(lease, request).await?
            }
        };
        let (parts, body) = response.into_parts();
        if parts.status.as_u16() == 206 && begins_at(&parts.headers, start) {
            let mark = parts.headers.get(CRC32).and_then(|mark| mark.to_str().ok());
            return Ok((body, mark.and_then(|mark| u32::from_str_radix(mark, 16).ok())));
        }
        Err(self.refused(parts.status.as_u16(), body).await)
    }

    async fn refused(&self, status: u16, body: Body) -> Trouble {
        let text = timeout(SILENCE_MAX, body.collect()).await.ok().and_then(Result::ok).unwrap_or_default();
        let words: String = String::from_utf8_lossy(&text).chars().take(300).collect();
        let source: Source = format!("status {status}: {words}").into();
        let action = "read a value's bytes";
        match (self, status) {
            (_, 404 | 410) => Trouble::Gone(source),
            (_, 408 | 429 | 500..=599) => Trouble::Passing(source),
            (Self::Port { runner, .. }, 401) => {
                // It has begun another life, with another token; who asks next finds out.
                look_again(runner).await.map_or_else(Trouble::Lasting, |()| Trouble::Passing(source))
            }
            (Self::Port { runner, .. }, _) => {
                let body: Value = serde_json::from_slice(&text).unwrap_or_default();
                Trouble::Lasting(RayError::from_runner(action, runner.client().address(), status, &body))
            }
            (Self::Url { bucket, .. }, _) => Trouble::Lasting(RayError::Rejected {
                action: action.to_owned(),
                address: bucket.address().to_owned(),
                status,
                detail: String::new(),
            }),
        }
    }
}

/// The runner's port now.
pub(crate) async fn port(runner: &Runner) -> Result<Arc<Port>, Trouble> {
    match runner.port().await {
        Ok(Some(port)) => return Ok(port),
        Ok(None) => {}
        Err(error) => return Err(Trouble::Lasting(error)),
    }
    // Perhaps it has begun another life, with another port: whoever asks by another way finds out.
    look_again(runner).await.map_err(Trouble::Lasting)?;
    match runner.port().await {
        Ok(port) => port.ok_or_else(|| Trouble::Passing("the runner's port can't be reached".into())),
        Err(error) => Err(Trouble::Lasting(error)),
    }
}

/// Asks for nothing, so that a runner that was replaced is found.
async fn look_again(runner: &Runner) -> Result<()> {
    runner.request(Method::GET, "/v1/events", None).await.map(drop)
}

/// One request over the port. A connection that had been idle may have been closed just then: that doesn't count.
pub(crate) async fn ask(
    port: &Arc<Port>,
    method: &Method,
    path: &str,
    headers: &[(HeaderName, HeaderValue)],
    body: Bytes,
) -> Result<Response<Body>, Source> {
    let mut stale = 0;
    loop {
        // Others of this process may have long ways to go.
        let places = port.pool.places(Lane::Bulk).await?;
        let connecting = timeout(CONNECT_PATIENCE, port.pool.direct(&port.origin, places));
        let lease = connecting.await.map_err(|_| "it can't be connected to")??;
        let used = lease.used;
        let mut request = request(&lease, method, path, headers, body.clone())?;
        request.headers_mut().insert(AUTHORIZATION, port.authorization.clone());
        match answer(lease, request).await {
            Err(_) if used && stale < crate::CONNECTIONS_MAX => stale += 1,
            other => return other,
        }
    }
}

async fn answer(lease: Lease, request: Request<Full<Bytes>>) -> Result<Response<Body>, Source> {
    let answered = timeout(SILENCE_MAX, exchange(lease, request, SILENCE_MAX)).await;
    let response = answered.map_err(|_| format!("no answer within {:.0} s", SILENCE_MAX.as_secs_f64()))?;
    response.map_err(|(_, source)| source.into())
}

fn request(
    lease: &Lease,
    method: &Method,
    path: &str,
    headers: &[(HeaderName, HeaderValue)],
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Source> {
    let length = body.len();
    let mut request = Request::builder().method(method.clone()).uri(path).body(Full::new(body))?;
    let all = request.headers_mut();
    all.insert(HOST, host(lease.origin()));
    all.insert(USER_AGENT, HeaderValue::from_static(OUR_USER_AGENT));
    if *method != Method::GET {
        all.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    all.extend(headers.iter().cloned());
    Ok(request)
}

fn header(text: &str) -> Result<HeaderValue, Source> {
    HeaderValue::from_str(text).map_err(Source::from)
}

fn begins_at(headers: &HeaderMap, start: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
    range.strip_prefix("bytes ").and_then(|range| range.split('-').next()?.trim().parse().ok()) == Some(start)
}
