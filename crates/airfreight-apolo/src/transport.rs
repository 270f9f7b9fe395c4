//! Requests and answers: the token, time limits, second attempts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use airfreight_http::{Connector, causes, is_tls};
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::error::Source;
use crate::settings::without_credentials;
use crate::{ApoloError, Result, Settings};

const OUR_USER_AGENT: &str = concat!("airfreight/", env!("CARGO_PKG_VERSION"));
/// An answer is some megabytes; what is longer is not from the platform.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Requests of one process to one platform at a time; logs don't count.
const REQUESTS_MAX: usize = 16;
/// Who doesn't take a connection for so long isn't there.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// What of an error's text is worth showing.
const DETAIL_CHARS_MAX: usize = 600;
/// A server that asks for more patience than this gets another request anyway.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// One request, as often as it takes.
pub(crate) struct Call {
    /// What is wanted, as in "cannot …".
    pub(crate) action: String,
    pub(crate) method: Method,
    /// After the API's URL, with its query.
    pub(crate) path: String,
    pub(crate) body: Option<Bytes>,
    /// Beside 2xx: which answers the caller wants to see.
    pub(crate) accepts: fn(u16, &str) -> bool,
}

impl Call {
    pub(crate) fn new(method: Method, path: impl Into<String>, action: impl Into<String>) -> Self {
        Self { action: action.into(), method, path: path.into(), body: None, accepts: |_, _| false }
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
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Why an attempt failed, and what that means for the next.
pub(crate) enum Failure {
    /// Another attempt may succeed.
    Passing { source: Source, pause: Option<Duration> },
    /// No other attempt would succeed.
    Lasting(ApoloError),
}

/// The connections of this process to one platform.
pub(crate) struct Transport {
    pub(crate) settings: Settings,
    /// The API's URL, without a slash at its end.
    pub(crate) base: String,
    pub(crate) connector: Connector,
    client: Client<Connector, Full<Bytes>>,
    authorization: HeaderValue,
    busy: Arc<Semaphore>,
}

impl Transport {
    pub(crate) fn new(settings: Settings) -> Result<Self> {
        let refuse = |setting, reason: String| ApoloError::Setting { setting, reason };
        let base = settings.api_url.trim().trim_end_matches('/').to_owned();
        let parsed = url::Url::parse(&base).map_err(|source| refuse("api_url", source.to_string()))?;
        let has_login = !parsed.username().is_empty() || parsed.password().is_some();
        if !matches!(parsed.scheme(), "http" | "https") || has_login || parsed.query().is_some() {
            return Err(refuse("api_url", "it must be http:// or https://, without credentials and query".into()));
        }
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", settings.token.expose_secret()))
            .map_err(|_| refuse("token", "it has characters that HTTP does not allow".into()))?;
        authorization.set_sensitive(true);
        let connector = Connector::new(settings.verify.clone(), None, settings.timeout.min(CONNECT_MAX));
        let connector = match &settings.proxy {
            None => connector,
            Some(proxy) => connector.via(proxy).ok_or_else(|| {
                let shown = without_credentials(proxy);
                refuse("proxy", format!("`{shown}` is not a URL of a proxy, such as http://proxy:3128"))
            })?,
        };
        if base.parse::<Uri>().is_ok_and(|uri| connector.needs_tls(&uri)) {
            // Files that can't be used are found out at once.
            connector.prepare_tls()?;
        }
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(REQUESTS_MAX)
            .pool_timer(TokioTimer::new())
            .build(connector.clone());
        Ok(Self { settings, base, connector, client, authorization, busy: Arc::new(Semaphore::new(REQUESTS_MAX)) })
    }

    /// The same connections, with every call tried for at most so long; with zero, once.
    pub(crate) fn with_patience(&self, patience: Duration) -> Self {
        Self {
            settings: Settings { patience, ..self.settings.clone() },
            base: self.base.clone(),
            connector: self.connector.clone(),
            client: self.client.clone(),
            authorization: self.authorization.clone(),
            busy: Arc::clone(&self.busy),
        }
    }

    /// Sends a request until it is answered with JSON of this form; `None` for an answer that the caller accepts
    /// instead.
    pub(crate) async fn ask_json<T: DeserializeOwned>(&self, call: &Call) -> Result<Option<T>> {
        let answer = self.ask(call).await?;
        if !answer.is_success() {
            return Ok(None);
        }
        self.read(call, &answer).map(Some)
    }

    pub(crate) fn read<T: DeserializeOwned>(&self, call: &Call, answer: &Answer) -> Result<T> {
        serde_json::from_slice(&answer.body).map_err(|source| ApoloError::Unreadable {
            action: call.action.clone(),
            address: self.base.clone(),
            source: source.into(),
        })
    }

    /// Sends a request until it is answered. Only for what does no harm twice.
    pub(crate) async fn ask(&self, call: &Call) -> Result<Answer> {
        self.persist(&call.action, || self.attempt(call)).await
    }

    /// Repeats what may be repeated, for as long as our patience lasts.
    pub(crate) async fn persist<T, F>(&self, action: &str, attempt: impl Fn() -> F) -> Result<T>
    where
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
                Err(Failure::Passing { source, pause }) => (source, pause),
            };
            let pause = pauses.next().unwrap_or(PAUSE_MAX).max(wanted.unwrap_or_default().min(PAUSE_MAX));
            if began.elapsed() + pause > self.settings.patience {
                return Err(ApoloError::Unavailable {
                    action: action.to_owned(),
                    address: self.base.clone(),
                    attempts,
                    elapsed: began.elapsed(),
                    source,
                });
            }
            sleep(pause).await;
        }
    }

    /// One attempt.
    pub(crate) async fn attempt(&self, call: &Call) -> Result<Answer, Failure> {
        let _place = self.busy.acquire().await.map_err(|source| passing(source.into()))?;
        let limit = self.settings.timeout;
        let whole = async {
            let url = format!("{}{}", self.base, call.path);
            let response = self.send(&call.action, call.method.clone(), &url, call.body.clone()).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(passing)?.to_bytes();
            let status = parts.status.as_u16();
            if parts.status.is_success() || (call.accepts)(status, &String::from_utf8_lossy(&body)) {
                return Ok(Answer { status, body });
            }
            Err(self.refusal(&call.action, parts.status, &parts.headers, &String::from_utf8_lossy(&body)))
        };
        timeout(limit, whole)
            .await
            .map_err(|_| passing(format!("no answer within {:.1} s", limit.as_secs_f64()).into()))?
    }

    /// A request to a URL that the platform has named, up to the beginning of its answer.
    pub(crate) async fn send(
        &self,
        action: &str,
        method: Method,
        url: &str,
        body: Option<Bytes>,
    ) -> Result<Response<Incoming>, Failure> {
        let uri: Uri = url.parse().map_err(|source| self.internal(action, &source))?;
        let mut request = Request::builder().method(method).uri(uri.clone());
        if let Some(headers) = request.headers_mut() {
            self.headers(&uri, headers);
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
            if body.is_some() {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
        }
        let request =
            request.body(Full::new(body.unwrap_or_default())).map_err(|source| self.internal(action, &source))?;
        self.client.request(request).await.map_err(|source| self.unconnected(action, source.into()))
    }

    /// What every request carries, also one that becomes a WebSocket.
    pub(crate) fn headers(&self, uri: &Uri, headers: &mut HeaderMap) {
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(OUR_USER_AGENT));
        if let Some(value) = self.connector.route(uri).proxy_authorization {
            headers.insert(PROXY_AUTHORIZATION, value);
        }
    }

    fn internal(&self, action: &str, source: &dyn std::error::Error) -> Failure {
        Failure::Lasting(ApoloError::Internal {
            what: format!("cannot {action}: the request to {} can't be written: {source}", self.base),
        })
    }

    /// What an answer that is none means.
    pub(crate) fn refusal(&self, action: &str, status: StatusCode, headers: &HeaderMap, text: &str) -> Failure {
        let detail = self.detail(text);
        let (action, address, number) = (action.to_owned(), self.base.clone(), status.as_u16());
        let is_quota = |text: &str| {
            let text = text.to_ascii_lowercase();
            text.contains("quota") || text.contains("credit")
        };
        Failure::Lasting(match number {
            402 => ApoloError::Quota { action, status: number, detail },
            400 | 403 | 409 if is_quota(&detail) => ApoloError::Quota { action, status: number, detail },
            401 | 403 | 407 => ApoloError::Denied { action, address, status: number, detail },
            408 | 425 | 429 | 500..=599 => {
                let colon = if detail.is_empty() { "" } else { ": " };
                let wanted = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
                return Failure::Passing {
                    source: format!("status {number}{colon}{detail}").into(),
                    pause: wanted.map(Duration::from_secs),
                };
            }
            _ => ApoloError::Rejected { action, address, status: number, detail },
        })
    }

    /// What of a server's words is worth showing; a server may repeat what it was sent.
    fn detail(&self, text: &str) -> String {
        let parsed: Option<serde_json::Value> = serde_json::from_str(text).ok();
        let words = match &parsed {
            Some(json) => match (json.get("error"), json.get("missing")) {
                (Some(error), _) => error.as_str().map_or_else(|| error.to_string(), str::to_owned),
                (None, Some(missing)) => format!("missing {missing}"),
                (None, None) => json.to_string(),
            },
            None if text.trim_start().starts_with('<') => "a web page".to_owned(),
            None => text.trim().to_owned(),
        };
        let secret = self.settings.token.expose_secret();
        let words = if secret.len() >= 4 { words.replace(secret, "…") } else { words };
        words.chars().take(DETAIL_CHARS_MAX).collect()
    }

    pub(crate) fn unconnected(&self, action: &str, source: Source) -> Failure {
        if is_tls(&*source) {
            return Failure::Lasting(ApoloError::Untrusted { address: self.base.clone(), source });
        }
        if causes(&*source).any(|cause| cause.to_string().contains("proxy authorization required")) {
            return Failure::Lasting(ApoloError::Denied {
                action: action.to_owned(),
                address: self.base.clone(),
                status: 407,
                detail: String::new(),
            });
        }
        passing(Chain(source).into())
    }
}

/// An error that tells its causes, too: what is on top says no more than that something failed.
#[derive(Debug)]
struct Chain(Source);

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&airfreight_core::chain(&*self.0))
    }
}

impl std::error::Error for Chain {}

pub(crate) fn passing(source: Source) -> Failure {
    Failure::Passing { source, pause: None }
}
