//! From an origin to a byte stream: name, proxy, TCP, TLS.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tower_service::Service;

use crate::error::Source;
use crate::settings::Settings;
use crate::{RayError, Result, tls};

/// A connection's bytes, whatever carries them.
pub(crate) trait Bytestream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytestream for T {}

pub(crate) type Stream = TokioIo<Box<dyn Bytestream>>;

/// How requests find their way.
pub(crate) struct Connector {
    direct: Direct,
    proxy: Option<Intercept>,
    /// Read when first needed: certificates of the system are many.
    tls: OnceLock<TlsConnector>,
}

/// What a request must know of the way it takes.
#[derive(Clone, Default)]
pub(crate) struct Route {
    /// The request line names the whole URL, because a proxy reads it.
    pub(crate) absolute: bool,
    /// What that proxy wants as `Proxy-Authorization`.
    pub(crate) proxy_authorization: Option<HeaderValue>,
}

impl Connector {
    pub(crate) fn new(settings: &Settings, origin: &Uri) -> Result<Self> {
        let matcher = match &settings.proxy {
            None => Matcher::from_env(),
            Some(proxy) => Matcher::builder().all(proxy.trim()).build(),
        };
        let proxy = matcher.intercept(origin);
        if let (Some(given), None) = (&settings.proxy, &proxy) {
            return Err(RayError::Setting {
                setting: "proxy",
                reason: format!(
                    "`{}` is not a URL of a proxy, such as http://proxy:3128",
                    crate::address::without_credentials(given)
                ),
            });
        }
        let connector = Self { direct: Direct::new(settings.timeout), proxy, tls: OnceLock::new() };
        // Files that can't be used are found out at once.
        if origin.scheme_str() == Some("https")
            || connector.proxy.as_ref().is_some_and(|p| p.uri().scheme_str() == Some("https"))
        {
            let config = tls::config(&settings.verify, settings.client_certificate.as_ref())?;
            let _ = connector.tls.set(TlsConnector::from(Arc::<ClientConfig>::new(config)));
        }
        Ok(connector)
    }

    pub(crate) fn route(&self, origin: &Uri) -> Route {
        match &self.proxy {
            Some(proxy) if origin.scheme_str() == Some("http") && is_http(proxy) => {
                Route { absolute: true, proxy_authorization: proxy.basic_auth().cloned() }
            }
            _ => Route::default(),
        }
    }

    /// Connects to the cluster's dashboard.
    pub(crate) async fn connect(&self, origin: &Uri) -> Result<Stream, Source> {
        let to_target = match &self.proxy {
            None => self.direct.clone().call(origin.clone()).await?,
            Some(proxy) => {
                let via = Via { direct: self.direct.clone(), tls: self.tls_for(proxy.uri()) };
                if !is_http(proxy) {
                    let mut socks = SocksV5::new(proxy.uri().clone(), via);
                    if let Some((login, password)) = proxy.raw_auth() {
                        socks = socks.with_auth(login.to_owned(), password.to_owned());
                    }
                    socks.call(with_port(origin)).await?
                } else if origin.scheme_str() == Some("https") {
                    let mut tunnel = Tunnel::new(proxy.uri().clone(), via);
                    if let Some(value) = proxy.basic_auth() {
                        tunnel = tunnel.with_auth(value.clone());
                    }
                    tunnel.call(with_port(origin)).await?
                } else {
                    via.clone().call(proxy.uri().clone()).await?
                }
            }
        };
        match self.tls_for(origin) {
            None => Ok(to_target),
            Some(tls) => secure(&tls, origin, to_target).await,
        }
    }

    /// Connects to a node's agent, which is never behind the dashboard's proxies.
    pub(crate) async fn connect_directly(&self, origin: &Uri) -> Result<Stream, Source> {
        self.direct.clone().call(origin.clone()).await
    }

    fn tls_for(&self, target: &Uri) -> Option<TlsConnector> {
        if target.scheme_str() == Some("https") { self.tls.get().cloned() } else { None }
    }
}

fn is_http(proxy: &Intercept) -> bool {
    matches!(proxy.uri().scheme_str(), Some("http" | "https"))
}

/// Proxies are asked for `host:port`.
fn with_port(origin: &Uri) -> Uri {
    let port = origin.port_u16().unwrap_or(if origin.scheme_str() == Some("https") { 443 } else { 80 });
    let host = origin.host().unwrap_or_default();
    format!("{}://{host}:{port}", origin.scheme_str().unwrap_or("http")).parse().unwrap_or_else(|_| origin.clone())
}

async fn secure(tls: &TlsConnector, target: &Uri, stream: Stream) -> Result<Stream, Source> {
    let host = target.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let secured = tls.connect(ServerName::try_from(host)?, stream.into_inner()).await?;
    Ok(TokioIo::new(Box::new(secured)))
}

/// TCP.
#[derive(Clone)]
struct Direct(HttpConnector);

impl Direct {
    fn new(timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_mins(1)));
        tcp.set_connect_timeout(Some(timeout.min(Duration::from_secs(10))));
        Self(tcp)
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<Stream, Source>> + Send>>;

impl Service<Uri> for Direct {
    type Response = Stream;
    type Error = Source;
    type Future = Connecting;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Source>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Connecting {
        let connecting = self.0.call(target);
        Box::pin(async move {
            let stream: Box<dyn Bytestream> = Box::new(connecting.await?.into_inner());
            Ok(TokioIo::new(stream))
        })
    }
}

/// TCP to a proxy, and TLS if the proxy itself speaks it.
#[derive(Clone)]
struct Via {
    direct: Direct,
    tls: Option<TlsConnector>,
}

impl Service<Uri> for Via {
    type Response = Stream;
    type Error = Source;
    type Future = Connecting;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Source>> {
        self.direct.poll_ready(cx)
    }

    fn call(&mut self, proxy: Uri) -> Connecting {
        let connecting = self.direct.call(proxy.clone());
        let tls = self.tls.clone();
        Box::pin(async move {
            let stream = connecting.await?;
            match tls {
                None => Ok(stream),
                Some(tls) => secure(&tls, &proxy, stream).await,
            }
        })
    }
}
