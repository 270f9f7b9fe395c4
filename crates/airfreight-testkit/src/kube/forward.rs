//! A pod's port through a WebSocket, as the API server carries it: a channel for data, one for errors.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::answer::{Answer, text};

/// Agrees to a WebSocket that leads to `target`, whatever port was asked for.
pub(super) fn forward(
    headers: &HeaderMap,
    upgrade: OnUpgrade,
    port: u16,
    target: Option<SocketAddr>,
    mut cuts: watch::Receiver<u64>,
) -> Option<Answer> {
    let key = headers.get(SEC_WEBSOCKET_KEY)?;
    let accept = derive_accept_key(key.as_bytes());
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        tokio::select! {
            _ = carry(socket, port, target) => {}
            _ = cuts.changed() => {}
        }
    });
    let mut answer = text(101, "");
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("v4.channel.k8s.io"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).ok()?);
    Some(answer)
}

async fn carry(
    mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
    port: u16,
    target: Option<SocketAddr>,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let frame = |channel: u8, data: &[u8]| {
        let mut framed = vec![channel];
        framed.extend_from_slice(data);
        Message::Binary(Bytes::from(framed))
    };
    // Each channel begins with the port that it is for.
    socket.send(frame(0, &port.to_le_bytes())).await?;
    socket.send(frame(1, &port.to_le_bytes())).await?;
    let stream = match target {
        Some(target) => TcpStream::connect(target).await,
        None => Err(std::io::ErrorKind::ConnectionRefused.into()),
    };
    let Ok(stream) = stream else {
        socket.send(frame(1, b"error forwarding port: connection refused")).await?;
        return socket.close(None).await;
    };
    let (mut read, mut write) = stream.into_split();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        tokio::select! {
            count = read.read(&mut buffer) => match count {
                Ok(count) if count > 0 => socket.send(frame(0, &buffer[..count])).await?,
                _ => return socket.close(None).await,
            },
            message = socket.next() => match message.transpose()? {
                Some(Message::Binary(bytes)) if bytes.first() == Some(&0) => {
                    if write.write_all(&bytes[1..]).await.is_err() {
                        return socket.close(None).await;
                    }
                }
                Some(Message::Close(_)) | None => return Ok(()),
                Some(_) => {}
            },
        }
    }
}
