//! Requests of the `object_store` crate over our own HTTP stack: hyper and rustls, proxies, patience with the silent.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector as Tcp};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme};
use tower_service::Service;

use crate::told::Told;
use crate::{BucketError, Result, Settings};

/// What is said when there are no credentials and no instance either that would have some.
pub(crate) const NO_CREDENTIALS: &str = "there are no credentials";

/// Who doesn't answer, or stops in the middle of an answer, for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// A request's body may take so much longer: a second for each of these many bytes.
const SLOWEST_BYTES_PER_SECOND: u64 = 128 << 10;
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// An instance's metadata answers at once, or isn't there.
const METADATA_MAX: Duration = Duration::from_secs(2);
const METADATA_HOSTS: [&str; 4] = ["169.254.169.254", "169.254.170.2", "metadata.google.internal", "metadata"];

/// Makes the clients that `object_store` asks for, all of them one.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Http>);

struct Http {
    client: Client<HttpsConnector<Way>, HttpRequestBody>,
    /// Uploads in parts must not replace anything.
    creates_only: bool,
}

impl Connector {
    pub(crate) fn new(settings: &Settings, creates_only: bool) -> Result<Self> {
        let way = Way::new(settings)?;
        let https = HttpsConnectorBuilder::new().with_tls_config(tls(settings)?).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_timer(TokioTimer::new())
            .build(https.wrap_connector(way));
        Ok(Self(Arc::new(Http { client, creates_only })))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Connector {
    fn call<'a, 'b>(
        &'a self,
        mut request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let is_completion = *request.method() == Method::POST
                && request.uri().query().is_some_and(|query| query.contains("uploadId="));
            if self.0.creates_only && is_completion {
                // Not among the headers that Amazon wants signed.
                request.headers_mut().insert(http::header::IF_NONE_MATCH, HeaderValue::from_static("*"));
            }
            let is_metadata = request.uri().host().is_some_and(|host| METADATA_HOSTS.contains(&host));
            let length = request.body().content_length() as u64;
            let limit = if is_metadata {
                METADATA_MAX
            } else {
                SILENCE_MAX + Duration::from_secs(length / SLOWEST_BYTES_PER_SECOND)
            };
            let answered = if let Ok(answered) = timeout(limit, self.0.client.request(request)).await {
                answered.map_err(|error| (kind_of(&error), Box::<dyn Error + Send + Sync>::from(error)))
            } else {
                let silence =
                    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs()));
                Err((HttpErrorKind::Timeout, silence.into()))
            };
            let response = match answered {
                Ok(response) => response,
                // To ask again is of no use where no instance is.
                Err(_) if is_metadata => {
                    let reason = format!("{NO_CREDENTIALS} in the connection or the environment, nor an instance's");
                    return Err(HttpError::new(HttpErrorKind::Unknown, io::Error::other(reason)));
                }
                Err((kind, source)) => return Err(HttpError::new(kind, Chain(source))),
            };
            let (mut parts, body) = response.into_parts();
            parts.extensions.insert(Told::read(&parts.headers));
            Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(Patient::new(body))))
        })
    }
}

/// An error that tells its causes, too: what is on top says no more than that something failed.
#[derive(Debug)]
struct Chain(Box<dyn Error + Send + Sync>);

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&airfreight_core::chain(&*self.0))
    }
}

impl Error for Chain {}

/// Whether and how a failed request may be tried again.
fn kind_of(error: &hyper_util::client::legacy::Error) -> HttpErrorKind {
    if error.is_connect() {
        // A certificate doesn't become better by waiting.
        return if is_tls(error) { HttpErrorKind::Unknown } else { HttpErrorKind::Connect };
    }
    HttpErrorKind::Interrupted
}

fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if error.is::<TlsError>() || within.is_some_and(<dyn Error + Send + Sync>::is::<TlsError>) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A body that is given up when nothing comes any more.
struct Patient {
    body: Incoming,
    silence: Pin<Box<Sleep>>,
}

impl Patient {
    fn new(body: Incoming) -> Self {
        Self { body, silence: Box::pin(sleep(SILENCE_MAX)) }
    }
}

impl Body for Patient {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(frame) = polled {
            self.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
            return Poll::Ready(frame.map(|frame| {
                frame.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, Chain(Box::new(error))))
            }));
        }
        self.silence.as_mut().poll(cx).map(|()| {
            let silence = io::Error::new(io::ErrorKind::TimedOut, "the answer stopped in its middle");
            Some(Err(HttpError::new(HttpErrorKind::Timeout, silence)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// TCP to the storage, or to a proxy on the way.
#[derive(Clone)]
struct Way {
    tcp: Tcp,
    proxies: Arc<Matcher>,
}

impl Way {
    fn new(settings: &Settings) -> Result<Self> {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_mins(1)));
        tcp.set_connect_timeout(Some(CONNECT_MAX));
        let proxies = match &settings.proxy {
            None => Matcher::from_env(),
            Some(proxy) => {
                let matcher = Matcher::builder().all(proxy.trim()).build();
                if matcher.intercept(&Uri::from_static("https://storage")).is_none() {
                    return Err(BucketError::Option {
                        bucket: settings.url.clone(),
                        reason: "`proxy` is not the URL of a proxy, such as http://proxy:3128".into(),
                    });
                }
                matcher
            }
        };
        Ok(Self { tcp, proxies: Arc::new(proxies) })
    }
}

type Failure = Box<dyn Error + Send + Sync>;

impl Service<Uri> for Way {
    type Response = Stream;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Failure>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let mut tcp = self.tcp.clone();
        let is_metadata = target.host().is_some_and(|host| METADATA_HOSTS.contains(&host));
        let proxy = if is_metadata { None } else { self.proxies.intercept(&target) };
        Box::pin(async move {
            let Some(proxy) = proxy else { return Ok(Stream { io: tcp.call(target).await?, proxied: false }) };
            let is_secure = target.scheme_str() == Some("https");
            match proxy.uri().scheme_str() {
                Some("http") if !is_secure => Ok(Stream { io: tcp.call(proxy.uri().clone()).await?, proxied: true }),
                Some("http") => {
                    let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
                    if let Some(authorization) = proxy.basic_auth() {
                        tunnel = tunnel.with_auth(authorization.clone());
                    }
                    Ok(Stream { io: tunnel.call(with_port(&target)).await?, proxied: false })
                }
                Some("socks5" | "socks5h") => {
                    let mut socks = SocksV5::new(proxy.uri().clone(), tcp);
                    if let Some((login, password)) = proxy.raw_auth() {
                        socks = socks.with_auth(login.to_owned(), password.to_owned());
                    }
                    Ok(Stream { io: socks.call(with_port(&target)).await?, proxied: false })
                }
                other => Err(format!("a proxy of the kind `{}` is not supported", other.unwrap_or_default()).into()),
            }
        })
    }
}

/// Proxies are asked for `host:port`.
fn with_port(target: &Uri) -> Uri {
    let port = target.port_u16().unwrap_or(if target.scheme_str() == Some("https") { 443 } else { 80 });
    let host = target.host().unwrap_or_default();
    format!("{}://{host}:{port}", target.scheme_str().unwrap_or("http")).parse().unwrap_or_else(|_| target.clone())
}

/// A connection that knows whether a proxy reads the requests on it.
struct Stream {
    io: TokioIo<TcpStream>,
    proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

fn tls(settings: &Settings) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let refuse = |reason: String| BucketError::Option { bucket: settings.url.clone(), reason };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|source| refuse(format!("TLS can't be set up: {source}")))?;
    let builder = builder.dangerous();
    Ok(match (settings.verify, &settings.authorities) {
        (false, _) => builder.with_custom_certificate_verifier(Arc::new(Anyone(provider))),
        (true, authorities) => {
            let more = authorities.as_deref().map(certificates).transpose()?.unwrap_or_default();
            let verifier = Verifier::new_with_extra_roots(more, provider)
                .map_err(|source| refuse(format!("the system's certificates can't be read: {source}")))?;
            builder.with_custom_certificate_verifier(Arc::new(verifier))
        }
    }
    .with_no_client_auth())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unusable = |reason: String| BucketError::Certificate { path: path.to_owned(), reason };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| unusable(format!("it can't be read as PEM: {source}")))?;
    if found.is_empty() { Err(unusable("there is no certificate in it".into())) } else { Ok(found) }
}

/// Trusts whoever answers, as `verify = false` asks for. That the peer holds its certificate's key is still checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
