//! HTTP: one agent, a token, time limits, retries.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ExponentialBuilder};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::tls::{RootCerts, TlsConfig};

use crate::AirflowError;

/// A bearer token. It is never shown: not by `Debug`, not in an error.
#[derive(Clone, Debug)]
pub struct Token(SecretString);

impl Token {
    /// Takes a token; white space around it (a file's last newline) does not belong to it.
    #[must_use]
    pub fn new(token: impl AsRef<str>) -> Self {
        Self(SecretString::from(token.as_ref().trim()))
    }
}

/// Time limits and persistence.
#[derive(Clone, Debug)]
pub struct Options {
    /// For one attempt, from connecting to the last byte.
    pub attempt_timeout: Duration,
    /// How often a request is tried before [`AirflowError::Unavailable`].
    pub attempts: usize,
    /// The pause before the second attempt; it doubles each time, with jitter.
    pub first_pause: Duration,
    /// How many rows to ask for at once.
    pub page_rows: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_secs(30),
            attempts: 4,
            first_pause: Duration::from_millis(500),
            page_rows: 500,
        }
    }
}

/// One Airflow deployment's API server. Keeps its connections; nothing is opened before the first question.
pub struct Airflow {
    agent: ureq::Agent,
    base: String,
    token: Option<Token>,
    pub(crate) options: Options,
}

impl fmt::Debug for Airflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Airflow").field("base", &self.base).finish_non_exhaustive()
    }
}

/// An answer is a few megabytes; what is longer is not from Airflow.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// What stays as it is in a path segment (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Airflow {
    /// Prepares to talk to the API server at `url` (with its path prefix, if it is served under one).
    ///
    /// Certificates are checked against the system's trust store, so a company's own authority works; proxies come
    /// from the usual environment variables.
    ///
    /// # Errors
    /// - [`AirflowError::Url`]: neither http nor https.
    pub fn new(url: &str, token: Option<Token>, options: Options) -> Result<Self, AirflowError> {
        let base = url.trim().trim_end_matches('/').trim_end_matches("/api/v2").to_owned();
        let usable = base
            .parse::<ureq::http::Uri>()
            .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        if !usable || base.contains('@') {
            return Err(AirflowError::Url { url: without_credentials(&base) });
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(options.attempt_timeout.min(Duration::from_secs(10))))
            .timeout_global(Some(options.attempt_timeout))
            .user_agent(concat!("airfreight/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build()
            .new_agent();
        Ok(Self { agent, base, token, options })
    }

    /// The base URL, as it is used.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Airflow's version; needs no token.
    ///
    /// # Errors
    /// - [`AirflowError::Unavailable`], [`AirflowError::Rejected`], [`AirflowError::Unreadable`].
    pub fn version(&self) -> Result<String, AirflowError> {
        #[derive(serde::Deserialize)]
        struct Version {
            version: String,
        }
        Ok(self.get::<Version>(&["version"])?.version)
    }

    /// Whether the token is taken.
    ///
    /// # Errors
    /// - [`AirflowError::Denied`]: it is not.
    /// - [`AirflowError::Unavailable`], [`AirflowError::Rejected`], [`AirflowError::Unreadable`].
    pub fn check_token(&self) -> Result<(), AirflowError> {
        self.ask::<Value>("/dags?limit=1", None).map(drop)
    }

    /// `GET /api/v2/<segments>`, each segment encoded.
    pub(crate) fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T, AirflowError> {
        let path: String =
            segments.iter().flat_map(|s| ["/".to_owned(), utf8_percent_encode(s, SEGMENT).to_string()]).collect();
        self.ask(&path, None)
    }

    /// `POST /api/v2<path>`: Airflow's way to read with a long filter, so it can be repeated like a `GET`.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, AirflowError> {
        self.ask(path, Some(body))
    }

    fn ask<T: DeserializeOwned>(&self, path: &str, body: Option<&Value>) -> Result<T, AirflowError> {
        let url = format!("{}/api/v2{path}", self.base);
        let began = Instant::now();
        let mut attempts = 0;
        let schedule = ExponentialBuilder::default()
            .with_min_delay(self.options.first_pause)
            .with_max_delay(Duration::from_secs(10))
            .with_max_times(self.options.attempts.saturating_sub(1))
            .with_jitter();
        let attempt = || {
            attempts += 1;
            self.attempt(&url, body)
        };
        let answer = attempt.retry(schedule).when(|failure: &Failure| matches!(failure, Failure::Passing(_))).call();
        match answer {
            Ok(text) => {
                serde_json::from_str(&text).map_err(|source| AirflowError::Unreadable { url, source: source.into() })
            }
            Err(Failure::Passing(source)) => {
                Err(AirflowError::Unavailable { url, attempts, elapsed: began.elapsed(), source })
            }
            Err(Failure::Lasting(error)) => Err(error),
        }
    }

    fn attempt(&self, url: &str, body: Option<&Value>) -> Result<String, Failure> {
        let authorization = self.token.as_ref().map(|t| format!("Bearer {}", t.0.expose_secret()));
        let sent = if let Some(body) = body {
            let mut request = self.agent.post(url);
            if let Some(value) = &authorization {
                request = request.header("Authorization", value);
            }
            request.send_json(body)
        } else {
            let mut request = self.agent.get(url);
            if let Some(value) = &authorization {
                request = request.header("Authorization", value);
            }
            request.call()
        };
        let mut answer = sent.map_err(passing)?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().map_err(passing);
        match status {
            200..=299 => text,
            401 | 403 => Err(Failure::Lasting(AirflowError::Denied { url: url.to_owned(), status })),
            429 | 502..=504 => Err(Failure::Passing(format!("status {status}").into())),
            _ => Err(Failure::Lasting(AirflowError::Rejected {
                url: url.to_owned(),
                status,
                detail: text.ok().and_then(|t| detail(&t)),
            })),
        }
    }
}

enum Failure {
    /// Another attempt may succeed.
    Passing(Box<dyn Error + Send + Sync>),
    Lasting(AirflowError),
}

fn passing(error: ureq::Error) -> Failure {
    Failure::Passing(error.into())
}

/// Airflow's own words: `{"detail": "…"}`, or what FastAPI says of a body that it does not take.
fn detail(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let detail = value.get("detail")?;
    let words = detail.as_str().map_or_else(|| detail.to_string(), ToOwned::to_owned);
    Some(words.chars().take(200).collect())
}

fn without_credentials(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://…@{}", &url[..scheme], &url[at + 1..]),
        _ => url.to_owned(),
    }
}
