//! From a URL to a byte stream: name, proxy, TCP, TLS.

use std::error::Error;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tower_service::Service;

use crate::TlsError;
use crate::tls::{Identity, Trust, config};

type Failure = Box<dyn Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

trait Bytestream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytestream for T {}

/// A connection's bytes, whatever carries them.
type Bytes = TokioIo<Box<dyn Bytestream>>;

type Dial = dyn Fn(Uri) -> Connecting<Bytes> + Send + Sync;

/// How requests find their way. Clones share what has been read of certificates.
#[derive(Clone)]
pub struct Connector {
    tcp: Tcp,
    proxies: Arc<Matcher>,
    security: Arc<Security>,
}

struct Security {
    trust: Trust,
    identity: Option<Identity>,
    /// Read when first needed: certificates of the system are many.
    ready: OnceLock<TlsConnector>,
}

/// What a request must know of the way it takes.
#[derive(Clone, Default)]
pub struct Route {
    /// The request line names the whole URL, because a proxy reads it.
    pub absolute: bool,
    /// What that proxy wants as `Proxy-Authorization`.
    pub proxy_authorization: Option<HeaderValue>,
}

impl Connector {
    /// Gives up on who doesn't take a connection for `patience`. Uses the proxies that the environment names
    /// (`HTTPS_PROXY`, `NO_PROXY`, …).
    #[must_use]
    pub fn new(trust: Trust, identity: Option<Identity>, patience: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_mins(1)));
        tcp.set_connect_timeout(Some(patience));
        Self {
            tcp: Tcp::System(tcp),
            proxies: Arc::new(Matcher::from_env()),
            security: Arc::new(Security { trust, identity, ready: OnceLock::new() }),
        }
    }

    /// Uses this proxy for everything, whatever the environment says; `None` when it is no proxy's URL.
    #[must_use]
    pub fn via(self, proxy: &str) -> Option<Self> {
        let proxies = Matcher::builder().all(proxy.trim()).build();
        proxies.intercept(&Uri::from_static("https://anywhere"))?;
        Some(Self { proxies: Arc::new(proxies), ..self })
    }

    /// Reaches hosts by `dial` instead of the system's TCP: over another network, such as a simulated one.
    #[must_use]
    pub fn over<S, F>(self, dial: impl Fn(Uri) -> F + Send + Sync + 'static) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
    {
        let dial = move |target| -> Connecting<Bytes> {
            let dialling = dial(target);
            Box::pin(async move {
                let bytes: Box<dyn Bytestream> = Box::new(dialling.await?);
                Ok(TokioIo::new(bytes))
            })
        };
        Self { tcp: Tcp::Given(Arc::new(dial)), ..self }
    }

    /// Uses no proxy.
    #[must_use]
    pub fn directly(&self) -> Self {
        Self { proxies: Arc::new(Matcher::builder().build()), ..self.clone() }
    }

    /// Whether connections to this URL pass TLS on their way, and so need certificates.
    #[must_use]
    pub fn needs_tls(&self, target: &Uri) -> bool {
        is_secure(target) || self.proxies.intercept(target).is_some_and(|proxy| is_secure(proxy.uri()))
    }

    /// Reads the certificates now and not with the first connection that needs them.
    ///
    /// # Errors
    /// Those of [`config`].
    pub fn prepare_tls(&self) -> Result<(), TlsError> {
        self.security.tls().map(drop)
    }

    /// What a request to this URL must know.
    #[must_use]
    pub fn route(&self, target: &Uri) -> Route {
        match self.proxies.intercept(target) {
            Some(proxy) if is_read_by(&proxy, target) => {
                Route { absolute: true, proxy_authorization: proxy.basic_auth().cloned() }
            }
            _ => Route::default(),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Failure;
    type Future = Connecting<Stream>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.tcp.poll_ready(cx)
    }

    fn call(&mut self, target: Uri) -> Connecting<Stream> {
        let proxy = self.proxies.intercept(&target);
        let proxied = proxy.as_ref().is_some_and(|proxy| is_read_by(proxy, &target));
        let mut first = Secured { tcp: self.tcp.clone(), security: Arc::clone(&self.security) };
        let security = Arc::clone(&self.security);
        Box::pin(async move {
            let Some(proxy) = proxy else { return Ok(Stream { bytes: first.call(target).await?, proxied }) };
            if proxied {
                return Ok(Stream { bytes: first.call(proxy.uri().clone()).await?, proxied });
            }
            let through = match proxy.uri().scheme_str() {
                Some("http" | "https") => {
                    let mut tunnel = Tunnel::new(proxy.uri().clone(), first);
                    if let Some(authorization) = proxy.basic_auth() {
                        tunnel = tunnel.with_auth(authorization.clone());
                    }
                    tunnel.call(with_port(&target)).await?
                }
                Some("socks5" | "socks5h") => {
                    let mut socks = SocksV5::new(proxy.uri().clone(), first);
                    if let Some((login, password)) = proxy.raw_auth() {
                        socks = socks.with_auth(login.to_owned(), password.to_owned());
                    }
                    socks.call(with_port(&target)).await?
                }
                other => {
                    let scheme = other.unwrap_or_default();
                    return Err(format!("a proxy of the kind `{scheme}` is not supported").into());
                }
            };
            Ok(Stream { bytes: security.secure(&target, through).await?, proxied })
        })
    }
}

impl Security {
    fn tls(&self) -> Result<TlsConnector, TlsError> {
        if let Some(ready) = self.ready.get() {
            return Ok(ready.clone());
        }
        let made = TlsConnector::from(Arc::new(config(&self.trust, self.identity.as_ref())?));
        Ok(self.ready.get_or_init(|| made).clone())
    }

    /// Speaks TLS over a stream to `https://…`.
    async fn secure(&self, target: &Uri, bytes: Bytes) -> Result<Bytes, Failure> {
        if !is_secure(target) {
            return Ok(bytes);
        }
        let host = target.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let secured = self.tls()?.connect(ServerName::try_from(host)?, bytes.into_inner()).await?;
        Ok(TokioIo::new(Box::new(secured)))
    }
}

fn is_secure(target: &Uri) -> bool {
    target.scheme_str() == Some("https")
}

/// Whether this proxy reads the requests themselves; else it only passes bytes on.
fn is_read_by(proxy: &Intercept, target: &Uri) -> bool {
    !is_secure(target) && matches!(proxy.uri().scheme_str(), Some("http" | "https"))
}

/// Proxies are asked for `host:port`.
fn with_port(target: &Uri) -> Uri {
    let port = target.port_u16().unwrap_or(if is_secure(target) { 443 } else { 80 });
    let host = target.host().unwrap_or_default();
    format!("{}://{host}:{port}", target.scheme_str().unwrap_or("http")).parse().unwrap_or_else(|_| target.clone())
}

#[derive(Clone)]
enum Tcp {
    System(HttpConnector),
    Given(Arc<Dial>),
}

impl Service<Uri> for Tcp {
    type Response = Bytes;
    type Error = Failure;
    type Future = Connecting<Bytes>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self {
            Self::System(tcp) => tcp.poll_ready(cx).map_err(Into::into),
            Self::Given(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, target: Uri) -> Connecting<Bytes> {
        let connecting = match self {
            Self::System(tcp) => tcp.call(target),
            Self::Given(dial) => return dial(target),
        };
        Box::pin(async move {
            let bytes: Box<dyn Bytestream> = Box::new(connecting.await?.into_inner());
            Ok(TokioIo::new(bytes))
        })
    }
}

/// TCP, and TLS where the URL says so: to the target, or to a proxy.
#[derive(Clone)]
struct Secured {
    tcp: Tcp,
    security: Arc<Security>,
}

impl Service<Uri> for Secured {
    type Response = Bytes;
    type Error = Failure;
    type Future = Connecting<Bytes>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.tcp.poll_ready(cx)
    }

    fn call(&mut self, target: Uri) -> Connecting<Bytes> {
        let connecting = self.tcp.call(target.clone());
        let security = Arc::clone(&self.security);
        Box::pin(async move { security.secure(&target, connecting.await?).await })
    }
}

/// A connection that knows whether a proxy reads the requests on it.
pub struct Stream {
    bytes: Bytes,
    proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.bytes.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write_vectored(cx, slices)
    }
}
