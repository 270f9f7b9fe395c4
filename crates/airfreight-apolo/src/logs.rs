//! A job's log as it arrives: over a web socket, or in chunks where none gets through.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::HOST;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tower_service::Service;

use crate::client::segment;
use crate::cursor::Cursor;
use crate::place::Platform;
use crate::transport::{Failure, passing};
use crate::{ApoloError, Client, Job};

/// As the SDK does.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Who doesn't even answer pings for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// The log's bytes, until its end.
pub(crate) enum LogStream {
    Socket { socket: Box<WebSocketStream<TokioIo<airfreight_http::Stream>>>, ping_at: Instant, heard: Instant },
    Chunks(Incoming),
}

impl Client {
    /// Opens a job's log from the cursor's second on.
    pub(crate) async fn log(&self, job: &Job, cursor: &Cursor, separator: &str) -> Result<LogStream, Failure> {
        let action = format!("read the log of job `{}`", job.id());
        let platform = self.platform().await.map_err(|error| match error {
            error @ (ApoloError::Unavailable { .. } | ApoloError::Unreadable { .. }) => passing(error.into()),
            error => Failure::Lasting(error),
        })?;
        let cluster = platform.cluster(job.cluster()).map_err(Failure::Lasting)?;
        let base = cluster.monitoring_url.trim_end_matches('/');
        if !Platform::trusts(self.api_url(), base) {
            let reason = "its logs are offered without TLS, where the token would be seen".to_owned();
            let name = cluster.name.clone();
            return Err(Failure::Lasting(ApoloError::Place { what: "cluster", name, reason }));
        }
        let (id, query) = (segment(job.id()), query(cursor, separator));
        match timeout(self.settings().timeout, self.socket(&format!("{base}/{id}/log_ws?{query}"), &action)).await {
            Ok(Ok(Some(stream))) => Ok(stream),
            // A proxy that knows no WebSockets.
            Ok(Ok(None)) => {
                let url = format!("{base}/{id}/log?{query}");
                let sent = self.transport.send(&action, Method::GET, &url, None);
                let response =
                    timeout(self.settings().timeout, sent).await.map_err(|_| passing("no answer".into()))??;
                let (parts, body) = response.into_parts();
                if parts.status.is_success() {
                    return Ok(LogStream::Chunks(body));
                }
                let text = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                Err(self.transport.refusal(&action, parts.status, &parts.headers, &text))
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(passing("no answer".into())),
        }
    }

    /// `None` if what answers there can't do that.
    async fn socket(&self, url: &str, action: &str) -> Result<Option<LogStream>, Failure> {
        let uri: Uri = url.parse().map_err(|source: http::uri::InvalidUri| passing(source.into()))?;
        if self.transport.connector.route(&uri).absolute {
            // A proxy that reads the requests itself.
            return Ok(None);
        }
        let stream = self
            .transport
            .connector
            .clone()
            .call(uri.clone())
            .await
            .map_err(|source| self.transport.unconnected(action, source))?;
        let mut request = Request::builder()
            // The library reads the scheme, though the connection is there.
            .uri(url.replacen("http", "ws", 1))
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", generate_key());
        if let Some(headers) = request.headers_mut() {
            self.transport.headers(&uri, headers);
            if let Some(host) = uri.authority().and_then(|authority| authority.as_str().parse().ok()) {
                headers.insert(HOST, host);
            }
        }
        let request = request.body(()).map_err(|source| passing(source.into()))?;
        match tokio_tungstenite::client_async(request, TokioIo::new(stream)).await {
            Ok((socket, _)) => {
                let now = Instant::now();
                Ok(Some(LogStream::Socket { socket: Box::new(socket), ping_at: now + PING_EVERY, heard: now }))
            }
            Err(WsError::Http(response)) => {
                let (status, text) = (response.status(), response.body().as_deref().unwrap_or_default());
                if matches!(status, StatusCode::OK | StatusCode::METHOD_NOT_ALLOWED | StatusCode::UPGRADE_REQUIRED) {
                    return Ok(None);
                }
                let text = String::from_utf8_lossy(text);
                Err(self.transport.refusal(action, status, response.headers(), &text))
            }
            Err(source) => Err(self.transport.unconnected(action, source.into())),
        }
    }
}

fn query(cursor: &Cursor, separator: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if cursor.micros > 0
        && let Ok(since) = Timestamp::from_microsecond(cursor.micros)
    {
        query.append_pair("since", &since.to_string());
    }
    query.append_pair("timestamps", "true").append_pair("separator", separator);
    query.finish()
}

impl LogStream {
    /// The next bytes; `None` at the end.
    ///
    /// Nothing is lost by cancelling.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, crate::error::Source> {
        match self {
            Self::Chunks(body) => loop {
                let Some(frame) = body.frame().await else { return Ok(None) };
                if let Ok(data) = frame?.into_data() {
                    return Ok(Some(data));
                }
            },
            Self::Socket { socket, ping_at, heard } => loop {
                let message = tokio::select! {
                    message = socket.next() => message,
                    () = sleep_until(*ping_at) => {
                        if heard.elapsed() > SILENCE_MAX {
                            return Err(format!("nothing was heard for {} s", SILENCE_MAX.as_secs()).into());
                        }
                        *ping_at = Instant::now() + PING_EVERY;
                        socket.send(Message::Ping(Bytes::new())).await?;
                        continue;
                    }
                };
                *heard = Instant::now();
                match message {
                    Some(Ok(Message::Binary(bytes))) => return Ok(Some(bytes)),
                    Some(Ok(Message::Close(close))) => {
                        return match close {
                            Some(frame) if u16::from(frame.code) != 1000 && u16::from(frame.code) != 1001 => {
                                Err(format!("the platform broke it off ({}: {})", frame.code, frame.reason).into())
                            }
                            _ => Ok(None),
                        };
                    }
                    Some(Ok(Message::Text(text))) => return Err(text.as_str().to_owned().into()),
                    Some(Ok(_)) => {}
                    Some(Err(source)) => return Err(source.into()),
                    // Without a word of farewell.
                    None => return Err("the connection was cut".into()),
                }
            },
        }
    }
}
