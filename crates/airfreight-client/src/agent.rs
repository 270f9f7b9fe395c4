//! Another host's agent: how it is reached, and what it answers.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use airfreight_core::format::{self, Checksum};
use airfreight_core::{ErrorKind, ObjectName};
use airfreight_http::{Connector, Identity, Trust, is_tls};
use airfreight_store::Window;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_RANGE, ETAG, HOST, IF_MATCH, RANGE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use crate::error::{ClientError, Source};
use crate::{Progress, Result};

/// The header with the CRC-64/NVME of a body.
const CHECKSUM_HEADER: &str = "x-airfreight-crc64";
/// Who doesn't take a connection for so long isn't there.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Between continents it takes no less.
const CONNECT_MIN: Duration = Duration::from_millis(300);
/// What the agent reads from a disk is verified as a whole before it answers for the first time.
const ANSWER_MAX: Duration = Duration::from_secs(45);
/// A further answer that doesn't begin, and any that stops, for so long is given up, and asked for again: the connection
/// may have died in silence.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// What is read in one go: it is compared and put into its place while it is in the processor's cache.
const READ_BYTES_MAX: usize = 128 << 10;
/// A longer explanation is none.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// How an agent is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
    /// What it wants to see of those who read.
    pub token: Option<SecretString>,
    /// The authorities that sign agents' certificates; by default those of the system.
    pub authorities: Option<PathBuf>,
    /// Our certificate, for agents that want to see one.
    pub identity: Option<Identity>,
    /// How long an agent that was heard of may be silent before a transfer is given up.
    pub patience: Duration,
    /// How long one that was never heard of may be silent. It may just be starting again.
    pub doubt: Duration,
}

impl Settings {
    /// For an agent that wants no token.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: None,
            authorities: None,
            identity: None,
            patience: Duration::from_secs(30),
            doubt: Duration::from_secs(5),
        }
    }
}

/// A client of one agent. Clones share its connections.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client<Connector, Empty<Bytes>>,
    /// What paths continue, without a slash at its end.
    base: String,
    headers: HeaderMap,
    settings: Settings,
}

/// Where the bytes of a block go as they come.
pub(crate) enum Place {
    /// Their place in the object.
    Window(Window),
    /// Memory, from which they are written.
    Memory(Vec<u8>),
}

/// A block of an object, as it arrived.
pub(crate) struct Block {
    pub(crate) place: Place,
    /// Whether it has the checksum that its sender computed.
    pub(crate) is_whole: bool,
    /// The length of the whole object.
    pub(crate) file_bytes: u64,
    pub(crate) e_tag: Option<HeaderValue>,
}

/// Why a block didn't come.
pub(crate) enum Trouble {
    /// It may come the next time.
    Passing(Source),
    /// It won't.
    Lasting(ClientError),
}

impl Agent {
    /// Prepares a client; nothing is asked yet. Agents are reached directly: a proxy between hosts of one network would
    /// carry every value twice.
    ///
    /// # Errors
    /// [`ClientError::Address`], [`ClientError::Token`] and [`ClientError::Certificate`] tell what can't be used.
    pub fn new(settings: Settings) -> Result<Self> {
        Self::over(settings, |connector| connector)
    }

    /// As [`Self::new`], over the network that `adapt` makes of the system's, such as a simulated one.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn over(settings: Settings, adapt: impl FnOnce(Connector) -> Connector) -> Result<Self> {
        let base = base(&settings.url)?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("airfreight/", env!("CARGO_PKG_VERSION"))));
        if let Some(token) = &settings.token {
            let text = format!("Bearer {}", token.expose_secret().trim());
            let mut value = HeaderValue::try_from(text).map_err(|_| ClientError::Token)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let trust = settings.authorities.clone().map_or(Trust::System, Trust::Bundle);
        // Who is in doubt about the agent does not want to wait longer for a connection either.
        let connect_max = CONNECT_MAX.min(settings.doubt).max(CONNECT_MIN);
        let connector = adapt(Connector::new(trust, settings.identity.clone(), connect_max).directly());
        if base.starts_with("https:") {
            connector.prepare_tls()?;
        }
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .http1_max_buf_size(READ_BYTES_MAX)
            .build(connector);
        Ok(Self { inner: Arc::new(Inner { client, base, headers, settings }) })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.inner.base
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Asks for a block and puts it into its place.
    pub(crate) async fn block(
        &self,
        name: ObjectName,
        range: Range<u64>,
        e_tag: Option<&HeaderValue>,
        mut place: Place,
        progress: &Progress,
    ) -> Result<Block, Trouble> {
        let response = self.ask(name, &range, e_tag).await?;
        let (crc64, file_bytes) = (checksum(response.headers()), total(response.headers()));
        let (Some(crc64), Some(file_bytes), StatusCode::PARTIAL_CONTENT) = (crc64, file_bytes, response.status())
        else {
            return Err(Trouble::Lasting(self.refusal(name, response).await));
        };
        let e_tag = response.headers().get(ETAG).cloned();
        let expected = usize::try_from(range.end.min(file_bytes).saturating_sub(range.start)).unwrap_or(usize::MAX);
        let (mut arrived, mut found) = (0, Checksum::new());
        let mut body = response.into_body();
        while arrived < expected {
            let frame = timeout(SILENCE_MAX, body.frame()).await.map_err(|_| passing("the answer stopped"))?;
            let Some(frame) = frame else { return Err(passing("the answer ended too early")) };
            let Ok(data) = frame.map_err(|error| Trouble::Passing(error.into()))?.into_data() else { continue };
            progress.add(data.len() as u64);
            arrived += data.len();
            if arrived > expected {
                return Err(passing("more came than was asked for"));
            }
            // While they are in the processor's cache.
            found.update(&data);
            match &mut place {
                Place::Window(window) => window.push(&data),
                Place::Memory(bytes) => bytes.extend_from_slice(&data),
            }
        }
        // Its end is read, too, so that the connection serves others.
        let _ = timeout(SILENCE_MAX, body.frame()).await;
        Ok(Block { place, is_whole: found.finish() == crc64, file_bytes, e_tag })
    }

    async fn ask(
        &self,
        name: ObjectName,
        range: &Range<u64>,
        e_tag: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, Trouble> {
        let lasting = |reason| Trouble::Lasting(ClientError::Address { address: self.inner.base.clone(), reason });
        let uri: Uri = format!("{}/v1/objects/{name}", self.inner.base).parse().map_err(|_| lasting("it is no URL"))?;
        let mut request = Request::get(uri).header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.inner.headers.clone());
            headers.extend(e_tag.map(|tag| (IF_MATCH, tag.clone())));
            headers.remove(HOST);
        }
        let request = request.body(Empty::new()).map_err(|_| lasting("it is no URL"))?;
        let is_known = e_tag.is_some();
        match timeout(if is_known { SILENCE_MAX } else { ANSWER_MAX }, self.inner.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if is_tls(&error) => {
                let address = self.inner.base.clone();
                Err(Trouble::Lasting(ClientError::Untrusted { address, source: error.into() }))
            }
            Ok(Err(error)) => Err(Trouble::Passing(error.into())),
            Err(_) => Err(passing("the agent does not answer")),
        }
        .and_then(|response| match response.status() {
            // It is ending, or has no thread to spare.
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                Err(passing("the agent is not available"))
            }
            _ => Ok(response),
        })
    }

    /// What an answer means that is no block.
    async fn refusal(&self, name: ObjectName, response: Response<Incoming>) -> ClientError {
        let address = self.inner.base.clone();
        let status = response.status();
        let limited = http_body_util::Limited::new(response.into_body(), MESSAGE_BYTES_MAX);
        let body = timeout(SILENCE_MAX, limited.collect()).await.ok().and_then(Result::ok);
        let text = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let json: Option<Value> = serde_json::from_slice(&text).ok();
        let member = |name: &str| json.as_ref().and_then(|json| json[name].as_str());
        let message = member("message").map_or_else(
            || String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned(),
            |message| message.chars().take(1000).collect(),
        );
        let is_kind = |kind: ErrorKind| member("kind") == Some(kind.as_str());
        match status {
            StatusCode::NOT_FOUND if is_kind(ErrorKind::NotFound) => ClientError::NotFound { name, address },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ClientError::Denied { address, status: status.as_u16(), message }
            }
            _ if is_kind(ErrorKind::Corrupt) => ClientError::Corrupt { name, address, message },
            _ => ClientError::Strange { address, status: status.as_u16(), message },
        }
    }
}

fn passing(reason: &str) -> Trouble {
    Trouble::Passing(reason.into())
}

fn base(url: &str) -> Result<String> {
    let refuse = |reason| ClientError::Address { address: without_login(url), reason };
    let parsed = Url::parse(url.trim()).map_err(|_| refuse("it is no URL"))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(refuse("it is no http:// or https:// URL with a host"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(refuse("it holds a login; agents want a token"));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(refuse("something follows its path"));
    }
    Ok(parsed.as_str().trim_end_matches('/').to_owned())
}

fn without_login(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}

fn checksum(headers: &HeaderMap) -> Option<u64> {
    u64::from_str_radix(headers.get(CHECKSUM_HEADER)?.to_str().ok()?, 16).ok()
}

/// The whole object's length, from `bytes 0-99/1000`.
fn total(headers: &HeaderMap) -> Option<u64> {
    let total: u64 = headers.get(CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.parse().ok()?;
    (total >= format::HEADER_BYTES).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls_with_a_host_and_nothing_secret() {
        for (good, expected) in [
            ("http://a:8733", "http://a:8733"),
            (" https://a.example/ ", "https://a.example"),
            ("http://[fd00::1]:8733", "http://[fd00::1]:8733"),
            ("https://proxy.example/airfreight/a/", "https://proxy.example/airfreight/a"),
        ] {
            assert_eq!(Agent::new(Settings::new(good)).unwrap().address(), expected);
        }
        for bad in
            ["", "a:8733", "ftp://a", "http://", "http://me:secret@a:1", "http://a/?b", "http://a/#b", "file:///a"]
        {
            let error = Agent::new(Settings::new(bad)).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
