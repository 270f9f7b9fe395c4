//! Requests and answers: credentials, time limits, second attempts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use airfreight_http::{causes, is_tls};
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION, PROXY_AUTHORIZATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use crate::address::{Address, without_credentials};
use crate::credentials::Credentials;
use crate::error::Source;
use crate::pool::{Lane, Lease, Places, Pool};
use crate::{RayError, Result, Settings};

/// An answer is a few megabytes; what is longer is not from Ray.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Failures that may or may not pass are given so many attempts.
const DOUBTFUL_ATTEMPTS_MAX: u32 = 4;
/// What of an error's text is worth showing.
const DETAIL_CHARS_MAX: usize = 600;
/// A server that asks for more patience than this gets another request anyway.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// One request, as often as it takes.
pub(crate) struct Call {
    /// What is wanted, as in "cannot …".
    pub(crate) action: String,
    pub(crate) method: Method,
    /// After the address, with its query.
    pub(crate) path: String,
    pub(crate) body: Option<(Bytes, &'static str)>,
    pub(crate) lane: Lane,
    /// Beside 2xx: which answers the caller wants to see.
    pub(crate) accepts: fn(u16, &str) -> bool,
}

impl Call {
    pub(crate) fn new(method: Method, path: impl Into<String>, lane: Lane, action: impl Into<String>) -> Self {
        Self { action: action.into(), method, path: path.into(), body: None, lane, accepts: |_, _| false }
    }

    pub(crate) fn get(path: impl Into<String>, lane: Lane, action: impl Into<String>) -> Self {
        Self::new(Method::GET, path, lane, action)
    }

    pub(crate) fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Some((Bytes::from(body.to_string()), "application/json"));
        self
    }

    pub(crate) fn accepting(mut self, accepts: fn(u16, &str) -> bool) -> Self {
        self.accepts = accepts;
        self
    }
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// An answer that is still arriving.
pub(crate) struct Body {
    incoming: Incoming,
    lease: Option<Lease>,
    silence_max: Duration,
}

impl Body {
    /// The next bytes; `None` at the end, after which the connection serves others.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Source> {
        loop {
            let frame = timeout(self.silence_max, self.incoming.frame())
                .await
                .map_err(|_| silence("the answer stopped", self.silence_max))?;
            let Some(frame) = frame else {
                if let Some(lease) = self.lease.take() {
                    lease.give_back().await;
                }
                return Ok(None);
            };
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
    }

    pub(crate) async fn collect(mut self) -> Result<Bytes, Source> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if all.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(format!("the answer has more than {ANSWER_BYTES_MAX} bytes").into());
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

/// Why an attempt failed, and what that means for the next.
enum Failure {
    /// Another attempt may succeed.
    Passing { source: Source, pause: Option<Duration> },
    /// A connection that had been idle was closed just now: another attempt should succeed.
    Stale { source: Source },
    /// A few more attempts may succeed; if not, this is the error.
    Doubtful(RayError),
    /// No other attempt would succeed.
    Lasting(RayError),
}

/// A cluster as requests see it.
pub(crate) struct Transport {
    pub(crate) address: Address,
    pub(crate) pool: Arc<Pool>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) settings: Settings,
}

impl Transport {
    pub(crate) fn new(mut settings: Settings) -> Result<Self> {
        settings.timeout = settings.timeout.max(Duration::from_millis(1));
        let address = Address::parse(&settings.address)?;
        let credentials = Arc::new(Credentials::new(&settings, &address)?);
        let pool = Pool::shared(&settings, &address)?;
        Ok(Self { address, pool, credentials, settings })
    }

    pub(crate) fn with_patience(&self, patience: Duration) -> Self {
        Self {
            address: self.address.clone(),
            pool: Arc::clone(&self.pool),
            credentials: Arc::clone(&self.credentials),
            settings: Settings { patience, ..self.settings.clone() },
        }
    }

    /// Sends a request until it is answered, and reads the whole answer.
    pub(crate) async fn ask(&self, call: &Call) -> Result<Answer> {
        self.persist(call, || async move {
            let limit = self.limit(call);
            let (parts, body) = self.send(call, limit).await?.into_parts();
            let status = parts.status.as_u16();
            let body = timeout(limit, body.collect())
                .await
                .map_err(|_| passing(silence("the answer is incomplete", limit)))?
                .map_err(passing)?;
            let answer = Answer { status, body };
            if parts.status.is_success() || (call.accepts)(status, &answer.text()) {
                return Ok(answer);
            }
            Err(self.refusal(call, parts.status, &parts.headers, &answer.text()))
        })
        .await
    }

    /// Sends a request until it is answered with JSON of this form.
    pub(crate) async fn ask_json<T: DeserializeOwned>(&self, call: &Call) -> Result<Option<T>> {
        let answer = self.ask(call).await?;
        if !(200..300).contains(&answer.status) {
            return Ok(None);
        }
        if let Ok(value) = serde_json::from_slice(&answer.body) {
            return Ok(Some(value));
        }
        // Perhaps it was damaged on its way: one more attempt. What is asked for here does no harm twice.
        let again = self.ask(call).await?;
        serde_json::from_slice(&again.body).map(Some).map_err(|source| RayError::Unreadable {
            action: call.action.clone(),
            address: self.address.base.clone(),
            source: source.into(),
        })
    }

    /// Sends a request until its answer begins. `None` if the status is one that the caller accepts instead.
    pub(crate) async fn open(&self, call: &Call) -> Result<Option<Body>> {
        self.persist(call, || async move {
            let (parts, body) = self.send(call, self.settings.timeout).await?.into_parts();
            if parts.status.is_success() {
                return Ok(Some(body));
            }
            let text = timeout(self.settings.timeout, body.collect())
                .await
                .map_err(|_| passing(silence("the answer is incomplete", self.settings.timeout)))?
                .map_err(passing)?;
            let text = String::from_utf8_lossy(&text).into_owned();
            if (call.accepts)(parts.status.as_u16(), &text) {
                return Ok(None);
            }
            Err(self.refusal(call, parts.status, &parts.headers, &text))
        })
        .await
    }

    /// Repeats what may be repeated.
    async fn persist<T, F>(&self, call: &Call, attempt: impl Fn() -> F) -> Result<T>
    where
        // Not `AsyncFn`: its futures could not be spawned ("`Send` is not general enough").
        F: Future<Output = Result<T, Failure>>,
    {
        let began = Instant::now();
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(10))
            .without_max_times()
            .with_jitter()
            .build();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (source, wanted) = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Doubtful(error)) if attempts >= DOUBTFUL_ATTEMPTS_MAX => return Err(error),
                Err(Failure::Doubtful(error)) => (Source::from(error), None),
                // Every idle connection may be stale: as many attempts at once as there can be of them.
                Err(Failure::Stale { .. }) if attempts <= u32::try_from(crate::CONNECTIONS_MAX).unwrap_or(0) => {
                    continue;
                }
                Err(Failure::Stale { source }) => (source, None),
                Err(Failure::Passing { source, pause }) => (source, pause),
            };
            let pause = pauses.next().unwrap_or(PAUSE_MAX).max(wanted.unwrap_or_default().min(PAUSE_MAX));
            if began.elapsed() + pause > self.settings.patience {
                return Err(match source.downcast::<RayError>() {
                    // It was an answer, though a bad one.
                    Ok(error) => *error,
                    Err(source) => RayError::Unavailable {
                        action: call.action.clone(),
                        address: self.address.base.clone(),
                        attempts,
                        elapsed: began.elapsed(),
                        source,
                    },
                });
            }
            sleep(pause).await;
        }
    }

    /// A package may take longer than a question.
    fn limit(&self, call: &Call) -> Duration {
        let bytes = call.body.as_ref().map_or(0, |(body, _)| body.len() as u64);
        self.settings.timeout + Duration::from_secs(bytes / (256 << 10))
    }

    /// One attempt, and the redirects that stay with this cluster. The limit is for each answer to begin; how long one
    /// waits for one's turn depends on the others in this process and not on the cluster.
    async fn send(&self, call: &Call, limit: Duration) -> Result<Response<Body>, Failure> {
        let mut path = format!("{}{}", self.address.prefix, call.path);
        for _ in 0..5 {
            let places = self.places(call.lane).await.map_err(passing)?;
            let response = timeout(limit, self.exchange(call, &path, places))
                .await
                .map_err(|_| passing(silence("no answer", limit)))??;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            path = self.redirected(call, &path, response.status(), response.headers()).map_err(Failure::Lasting)?;
        }
        Err(Failure::Lasting(self.rejected(call, StatusCode::LOOP_DETECTED, "it redirects in a circle")))
    }

    /// The right to be busy with a connection. Who holds an answer and doesn't read it may keep others waiting, but not
    /// for ever.
    pub(crate) async fn places(&self, lane: Lane) -> Result<Places, Source> {
        let limit = self.settings.patience.max(self.settings.timeout);
        timeout(limit, self.pool.places(lane))
            .await
            .map_err(|_| silence("none of this process's connections got free", limit))?
    }

    async fn exchange(&self, call: &Call, path: &str, places: Places) -> Result<Response<Body>, Failure> {
        let lease = self.pool.dashboard(places).await.map_err(|source| self.unconnected(call, source))?;
        let request = self.request(call, path, &lease).map_err(Failure::Lasting)?;
        exchange(lease, request, self.settings.timeout).await.map_err(|failure| self.unread(call, failure))
    }

    fn request(&self, call: &Call, path: &str, lease: &Lease) -> Result<Request<Full<Bytes>>> {
        let target =
            if lease.route.absolute { format!("{}{path}", origin_text(lease.origin())) } else { path.to_owned() };
        let (body, content) = call.body.clone().map_or((Bytes::new(), None), |(body, kind)| (body, Some(kind)));
        let mut request = Request::builder().method(call.method.clone()).uri(target);
        if let Some(headers) = request.headers_mut() {
            *headers = self.credentials.headers().clone();
            if !headers.contains_key(HOST) {
                headers.insert(HOST, host(lease.origin()));
            }
            if let Some(content) = content {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
            } else if call.method != Method::GET {
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            if let Some(value) = &lease.route.proxy_authorization {
                headers.insert(PROXY_AUTHORIZATION, value.clone());
            }
        }
        request.body(Full::new(body)).map_err(|source| RayError::Internal {
            what: format!("cannot {}: the request can't be written: {source}", call.action),
        })
    }

    /// Where a redirect leads, if that is the same origin; no other gets our credentials.
    fn redirected(&self, call: &Call, path: &str, status: StatusCode, headers: &HeaderMap) -> Result<String> {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let origin = origin_text(&self.address.origin);
        let target = url::Url::parse(&format!("{origin}{path}")).and_then(|base| base.join(location));
        let keeps_method = matches!(status.as_u16(), 307 | 308) || call.method == Method::GET;
        match target {
            Ok(target) if target.origin().ascii_serialization() == own_origin(&origin) && keeps_method => {
                Ok(target[url::Position::BeforePath..url::Position::AfterQuery].to_owned())
            }
            Ok(mut target) => {
                target.set_query(None);
                target.set_fragment(None);
                Err(RayError::Redirected {
                    action: call.action.clone(),
                    address: self.address.base.clone(),
                    target: without_credentials(target.as_str()),
                })
            }
            Err(_) => Err(self.rejected(call, status, "it redirects to nowhere")),
        }
    }

    fn refusal(&self, call: &Call, status: StatusCode, headers: &HeaderMap, text: &str) -> Failure {
        let error = self.rejected(call, status, text);
        match status.as_u16() {
            401 | 403 | 407 => Failure::Lasting(RayError::Denied {
                action: call.action.clone(),
                address: self.address.base.clone(),
                status: status.as_u16(),
                detail: self.detail(text),
                sent: self.credentials.sent(),
            }),
            500 if text.contains("No available agent") => passing(self.words(status, text)),
            // The head says so about an answer of its agent's.
            500 if text.contains("status code 4") || text.contains("non-terminal state") => Failure::Lasting(error),
            // A proxy may know nothing of a head that restarts.
            404 | 500 | 501 => Failure::Doubtful(error),
            408 | 429 | 502..=599 => Failure::Passing { source: self.words(status, text), pause: retry_after(headers) },
            _ => Failure::Lasting(error),
        }
    }

    /// The error for an answer that is none.
    pub(crate) fn rejected(&self, call: &Call, status: StatusCode, text: &str) -> RayError {
        RayError::Rejected {
            action: call.action.clone(),
            address: self.address.base.clone(),
            status: status.as_u16(),
            detail: self.detail(text),
        }
    }

    /// An answer as the cause of a failure.
    fn words(&self, status: StatusCode, text: &str) -> Source {
        let detail = self.detail(text);
        let colon = if detail.is_empty() { "" } else { ": " };
        format!("status {}{colon}{detail}", status.as_u16()).into()
    }

    /// What of a server's words is worth showing: the last line of a traceback, the title of a page.
    fn detail(&self, text: &str) -> String {
        let text = text.trim();
        let words = if text.starts_with('<') {
            let lower = text.to_ascii_lowercase();
            match (lower.find("<title>"), lower.find("</title>")) {
                (Some(from), Some(to)) if from + 7 <= to => text[from + 7..to].trim(),
                _ => "a web page",
            }
        } else {
            text.lines().map(str::trim).rfind(|line| line.contains(char::is_alphanumeric)).unwrap_or_default()
        };
        self.credentials.redact(words).chars().take(DETAIL_CHARS_MAX).collect()
    }

    fn unconnected(&self, call: &Call, source: Source) -> Failure {
        if is_tls(&*source) {
            return Failure::Lasting(RayError::Untrusted { address: self.address.base.clone(), source });
        }
        if causes(&*source).any(|cause| cause.to_string().contains("proxy authorization required")) {
            return Failure::Lasting(RayError::Denied {
                action: call.action.clone(),
                address: self.address.base.clone(),
                status: 407,
                detail: String::new(),
                sent: self.credentials.sent(),
            });
        }
        passing(source)
    }

    fn unread(&self, call: &Call, (used, source): (bool, hyper::Error)) -> Failure {
        // From TLS 1.3 on, a server refuses our certificate only after we believe to be connected.
        if is_tls(&source) {
            return self.unconnected(call, source.into());
        }
        if source.is_parse() {
            return Failure::Doubtful(RayError::Unreadable {
                action: call.action.clone(),
                address: self.address.base.clone(),
                source: source.into(),
            });
        }
        if used { Failure::Stale { source: source.into() } } else { passing(source.into()) }
    }
}

/// One request and the beginning of its answer. On failure: whether the connection had been used before.
pub(crate) async fn exchange(
    mut lease: Lease,
    request: Request<Full<Bytes>>,
    silence_max: Duration,
) -> Result<Response<Body>, (bool, hyper::Error)> {
    let used = lease.used;
    let response = lease.sender.send_request(request).await.map_err(|source| (used, source))?;
    Ok(response.map(|incoming| Body { incoming, lease: Some(lease), silence_max }))
}

/// The `Host` header for an origin.
pub(crate) fn host(origin: &Uri) -> HeaderValue {
    let authority = origin.authority().map_or("", http::uri::Authority::as_str);
    HeaderValue::from_str(authority).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn origin_text(origin: &Uri) -> String {
    let authority = origin.authority().map_or("", http::uri::Authority::as_str);
    format!("{}://{authority}", origin.scheme_str().unwrap_or("http"))
}

fn own_origin(origin: &str) -> String {
    url::Url::parse(origin).map_or_else(|_| origin.to_owned(), |url| url.origin().ascii_serialization())
}

fn passing(source: Source) -> Failure {
    Failure::Passing { source, pause: None }
}

fn silence(what: &str, limit: Duration) -> Source {
    format!("{what} within {:.1} s", limit.as_secs_f64()).into()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
