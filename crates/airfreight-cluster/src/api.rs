//! Requests and answers of the API server: time limits, what is tried again and what isn't, refusals.

use std::error::Error;
use std::time::{Duration, Instant};

use airfreight_http::is_tls;
use http::{Method, Request};
use kube::Client;
use kube::runtime::watcher;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::access::Access;
use crate::error::{ClusterError, Source};
use crate::kind::Kind;

/// What stays as it is in a path segment or a query's value.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const JSON: &str = "application/json";
/// JSON is YAML.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// One API server, as one user.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) client: Client,
    pub(crate) server: String,
    timeout: Duration,
    pub(crate) patience: Duration,
}

/// One request.
pub(crate) struct Call<'a> {
    /// What is wanted, for messages.
    pub(crate) action: &'a str,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<(&'static str, Value)>,
}

impl<'a> Call<'a> {
    pub(crate) fn get(action: &'a str, path: String) -> Self {
        Self { action, method: Method::GET, path, body: None }
    }

    pub(crate) fn with(action: &'a str, method: Method, path: String, content_type: &'static str, body: Value) -> Self {
        Self { action, method, path, body: Some((content_type, body)) }
    }
}

/// What an attempt came to.
enum Failure {
    /// Another attempt may succeed.
    Passing(Source),
    Final(ClusterError),
    /// There is no such object.
    Missing,
    /// There are no such objects at all: what answered knows no such path.
    Unknown,
}

impl Api {
    pub(crate) async fn connect(access: &Access) -> Result<Self, ClusterError> {
        let config = access.config().await?;
        let uri = &config.cluster_url;
        let server = format!(
            "{}://{}{}",
            uri.scheme_str().unwrap_or("https"),
            uri.host().unwrap_or_default(),
            uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default()
        );
        let client = Client::try_from(config)
            .map_err(|error| ClusterError::Kubeconfig { what: format!("the way to {server}"), source: error.into() })?;
        Ok(Self { client, server, timeout: access.timeout, patience: access.patience })
    }

    /// The namespace of objects that name none.
    pub(crate) fn default_namespace(&self) -> &str {
        self.client.default_namespace()
    }

    /// The answer; `None` where there is no such object.
    pub(crate) async fn ask(&self, call: &Call<'_>) -> Result<Option<Value>, ClusterError> {
        self.tried(call, |request| async { self.client.request::<Value>(request).await }).await
    }

    /// An answer that is plain text; `None` where there is no such object.
    pub(crate) async fn text(&self, call: &Call<'_>) -> Result<Option<String>, ClusterError> {
        self.tried(call, |request| async { self.client.request_text(request).await }).await
    }

    async fn tried<T, F>(
        &self,
        call: &Call<'_>,
        send: impl Fn(Request<Vec<u8>>) -> F,
    ) -> Result<Option<T>, ClusterError>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let began = Instant::now();
        let (mut attempts, mut pause) = (0, Duration::from_millis(200));
        loop {
            attempts += 1;
            let answer = timeout(self.timeout, send(request(call)?)).await;
            let failure = match answer {
                Ok(Ok(value)) => return Ok(Some(value)),
                Ok(Err(error)) => self.judge(call.action, error),
                Err(_) => Failure::Passing(format!("no answer within {:.0} s", self.timeout.as_secs_f64()).into()),
            };
            match failure {
                Failure::Missing => return Ok(None),
                Failure::Unknown => return Err(ClusterError::NoOperator { server: self.server.clone() }),
                Failure::Final(error) => return Err(error),
                Failure::Passing(source) if began.elapsed() + pause > self.patience => {
                    return Err(ClusterError::Unavailable {
                        action: call.action.to_owned(),
                        server: self.server.clone(),
                        attempts,
                        elapsed: began.elapsed(),
                        source,
                    });
                }
                Failure::Passing(_) => sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// What a watch's or stream's failure means: `Ok` if it passes.
    pub(crate) fn passing(&self, action: &str, error: kube::Error) -> Result<Source, ClusterError> {
        match self.judge(action, error) {
            Failure::Passing(source) => Ok(source),
            Failure::Final(error) => Err(error),
            Failure::Missing | Failure::Unknown => Err(ClusterError::NoOperator { server: self.server.clone() }),
        }
    }

    /// A failure of a watch, which begins again by itself: only one that lasts is an error.
    pub(crate) fn tolerate(&self, action: &str, error: watcher::Error) -> Result<(), ClusterError> {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => self.passing(action, error).map(drop),
            _ => Ok(()),
        }
    }

    fn judge(&self, action: &str, error: kube::Error) -> Failure {
        if is_tls(&error) {
            return Failure::Final(ClusterError::Untrusted { server: self.server.clone(), source: innermost(&error) });
        }
        let status = match error {
            kube::Error::Api(status) => status,
            kube::Error::Auth(error) => {
                return Failure::Final(ClusterError::Kubeconfig {
                    what: "the kubeconfig's credentials".into(),
                    source: error.into(),
                });
            }
            other => return Failure::Passing(innermost(&other)),
        };
        let detail = status.message.trim().to_owned();
        match status.code {
            401 | 403 => {
                Failure::Final(ClusterError::Denied { action: action.to_owned(), status: status.code, detail })
            }
            // What isn't Kubernetes' own `Status` is its router's word for a path that nobody serves.
            404 if status.reason != "NotFound" => Failure::Unknown,
            404 if status.details.as_ref().is_some_and(|details| details.kind != "namespaces") => Failure::Missing,
            410 | 429 | 502..=504 => Failure::Passing(detail.into()),
            // Server-side apply says so of a wrong field, without a reason: that doesn't pass.
            500 if !status.reason.is_empty() => Failure::Passing(detail.into()),
            code => Failure::Final(ClusterError::Rejected { action: action.to_owned(), status: code, detail }),
        }
    }
}

fn request(call: &Call<'_>) -> Result<Request<Vec<u8>>, ClusterError> {
    let mut request = Request::builder().method(call.method.clone()).uri(&call.path).header(http::header::ACCEPT, JSON);
    let mut bytes = Vec::new();
    if let Some((content_type, body)) = &call.body {
        request = request.header(http::header::CONTENT_TYPE, *content_type);
        bytes = body.to_string().into_bytes();
    }
    request
        .body(bytes)
        .map_err(|error| ClusterError::Manifest { reason: format!("no path can be made of it: {error}") })
}

/// The cause that says something: those around it name only who passed it on.
fn innermost(error: &kube::Error) -> Source {
    let mut cause: &(dyn Error + 'static) = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().into()
}

pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Where KubeRay's objects of a namespace are, or one of them.
pub(crate) fn ray_path(kind: Kind, namespace: &str, name: Option<&str>) -> String {
    let base = format!("/apis/ray.io/v1/namespaces/{}/{}", segment(namespace), kind.plural());
    name.map_or(base.clone(), |name| format!("{base}/{}", segment(name)))
}

/// Where the core objects of a namespace are, or one of them.
pub(crate) fn core_path(namespace: &str, plural: &str, name: Option<&str>) -> String {
    let base = format!("/api/v1/namespaces/{}/{plural}", segment(namespace));
    name.map_or(base.clone(), |name| format!("{base}/{}", segment(name)))
}
