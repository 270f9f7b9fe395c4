//! Requests of the `object_store` crate over our own ways to others, with patience for the silent.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use airfreight_http::{Trust, is_tls};
use bytes::Bytes;
use http::{HeaderValue, Method, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use tokio::time::{Instant, Sleep, sleep, timeout};
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
    client: Client<Ways, HttpRequestBody>,
    ways: Ways,
    /// Uploads in parts must not replace anything.
    creates_only: bool,
}

impl Connector {
    pub(crate) fn new(settings: &Settings, creates_only: bool) -> Result<Self> {
        let ways = Ways::new(settings)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_timer(TokioTimer::new())
            .build(ways.clone());
        Ok(Self(Arc::new(Http { client, ways, creates_only })))
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
            let is_metadata = is_metadata(request.uri());
            if let Some(authorization) = self.0.ways.to(request.uri()).route(request.uri()).proxy_authorization {
                request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, authorization);
            }
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

/// Instances' metadata are never behind a proxy; the rest is as it is set up.
#[derive(Clone)]
struct Ways {
    usual: airfreight_http::Connector,
    direct: airfreight_http::Connector,
}

impl Ways {
    fn new(settings: &Settings) -> Result<Self> {
        let trust = match (settings.verify, &settings.authorities) {
            (false, _) => Trust::Anyone,
            (true, None) => Trust::System,
            (true, Some(authorities)) => Trust::SystemAnd(authorities.clone()),
        };
        let usual = airfreight_http::Connector::new(trust, None, CONNECT_MAX);
        let usual = match &settings.proxy {
            None => usual,
            Some(proxy) => usual.via(proxy).ok_or_else(|| BucketError::Option {
                bucket: settings.url.clone(),
                reason: "`proxy` is not the URL of a proxy, such as http://proxy:3128".into(),
            })?,
        };
        if settings.authorities.is_some() {
            // A file that can't be used is found out at once.
            usual.prepare_tls()?;
        }
        Ok(Self { direct: usual.directly(), usual })
    }

    fn to(&self, target: &Uri) -> &airfreight_http::Connector {
        if is_metadata(target) { &self.direct } else { &self.usual }
    }
}

impl Service<Uri> for Ways {
    type Response = airfreight_http::Stream;
    type Error = <airfreight_http::Connector as Service<Uri>>::Error;
    type Future = <airfreight_http::Connector as Service<Uri>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.usual.poll_ready(cx)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        self.to(&target).clone().call(target)
    }
}

fn is_metadata(target: &Uri) -> bool {
    target.host().is_some_and(|host| METADATA_HOSTS.contains(&host))
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
