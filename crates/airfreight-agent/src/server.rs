//! Listening, and the life of connections.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use airfreight_store::Store;
use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

use crate::access::{Access, Gate};
use crate::checkpoints::Checkpoints;
use crate::error::AgentError;
use crate::life::LifeOptions;
use crate::limits::{CONNECTIONS_MAX, HANDSHAKE_MAX, HEAD_BYTES_MAX, HEAD_TIME_MAX, HEADERS_MAX, SILENCE_MAX};
use crate::metrics::Metrics;
use crate::page::{AirflowUrl, Page};
use crate::patient::Patient;
use crate::routes::{Peer, Shared, router, warm_up};
use crate::tls::{Acceptor, ServerTls};

/// Where an agent listens unless told otherwise.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:8733";

/// A listener that can't accept (too many open files) is asked again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How an agent runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen: `host:port`, an IPv6 address in brackets.
    pub listen: Vec<String>,
    /// Who may do what.
    pub access: Access,
    /// With which certificate, if any.
    pub tls: Option<ServerTls>,
    /// Where the page leads to task instances, and which site may show it in a frame.
    pub airflow_url: Option<AirflowUrl>,
    /// The command that tells an Airflow connection's bucket and credentials, with `connection@url` as its last argument.
    pub access_command: Vec<String>,
    /// How long answers may go on after the agent was asked to end.
    pub grace: Duration,
    /// How it keeps the store.
    pub life: LifeOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: vec![DEFAULT_ADDRESS.into()],
            access: Access::default(),
            tls: None,
            airflow_url: None,
            access_command: Vec::new(),
            grace: Duration::from_secs(30),
            life: LifeOptions::default(),
        }
    }
}

/// An agent that listens.
pub struct Agent {
    listeners: Vec<TcpListener>,
    router: Router,
    shared: Arc<Shared>,
    tls: Option<Arc<Acceptor>>,
    grace: Duration,
}

impl Agent {
    /// Begins to listen. From then on connections are taken, and answered once [`Self::run`] runs.
    ///
    /// # Errors
    /// - [`AgentError::Unprotected`]: others could reach it, and there is no token.
    /// - [`AgentError::Tokens`], [`AgentError::TokenFile`], [`AgentError::Tls`]: what it was given can't be used.
    /// - [`AgentError::Listen`]: the system refuses.
    pub async fn bind(store: Store, options: &Options) -> Result<Self, AgentError> {
        let gate = Gate::new(&options.access)?;
        let tls = options.tls.clone().map(Acceptor::new).transpose()?.map(Arc::new);
        let mut listeners = Vec::new();
        for text in &options.listen {
            let failed = |source| AgentError::Listen { address: text.clone(), source };
            for address in lookup_host(text).await.map_err(failed)? {
                let is_open = !address.ip().to_canonical().is_loopback();
                if is_open && !gate.is_closed() {
                    return Err(AgentError::Unprotected { address });
                }
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                if is_open && tls.is_none() {
                    warn!(%address, "tokens and values travel as they are: give the agent a certificate");
                }
                listeners.push(listener);
            }
        }
        let page = Page::new(options.airflow_url.clone(), tls.is_some());
        let metrics = Metrics::new();
        let checkpoints = Checkpoints::new(store.clone(), options.access_command.clone(), Arc::clone(&metrics));
        let shared = Shared::new(store, gate, metrics, page, checkpoints, options.life.clone());
        Ok(Self { listeners, router: router(&shared), shared, tls, grace: options.grace })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Answers until `ended` is done, then lets those who are being answered have their answers.
    pub async fn run(self, ended: impl Future<Output = ()>) {
        info!(store = %self.shared.store.path().display(), addresses = ?self.addresses(), tls = self.tls.is_some(), "listening");
        warm_up(&self.shared);
        let (end, ending) = watch::channel(false);
        let mut background = JoinSet::new();
        let began = Instant::now();
        let (checkpoints, life) = (Arc::clone(&self.shared.checkpoints), Arc::clone(&self.shared.life));
        // One task: two that are due at the same time would wake two threads.
        background.spawn(async move { tokio::join!(checkpoints.run(ending.clone(), began), life.run(ending, began)) });
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let mut ended = std::pin::pin!(ended);
        loop {
            let permit = tokio::select! {
                () = &mut ended => break,
                permit = Arc::clone(&room).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { break };
            let (stream, peer) = tokio::select! {
                () = &mut ended => break,
                accepted = accept(&self.listeners) => accepted,
            };
            while connections.try_join_next().is_some() {}
            let connection = Connection::new(&self, peer, graceful.watcher(), Some(permit));
            let _ = stream.set_nodelay(true);
            connections.spawn(connection.serve(stream));
        }
        // Nobody new is taken while the others get their answers.
        drop(self.listeners);
        info!(connections = connections.len(), "ending");
        end.send_replace(true);
        let uploaded = async { while background.join_next().await.is_some() {} };
        if timeout(self.grace, async { tokio::join!(graceful.shutdown(), uploaded) }).await.is_err() {
            warn!("cutting connections that have not ended, and checkpoints that the next agent sends");
        }
        connections.shutdown().await;
        background.shutdown().await;
    }
}

impl Agent {
    /// Answers on a connection that came by another way than its listeners, such as over a simulated network.
    pub async fn answer(&self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: SocketAddr) {
        // Its end would end the connection.
        let graceful = GracefulShutdown::new();
        Connection::new(self, peer, graceful.watcher(), None).serve(stream).await;
    }
}

/// The next connection of any listener.
async fn accept(listeners: &[TcpListener]) -> (TcpStream, SocketAddr) {
    loop {
        let accepted = std::future::poll_fn(|cx| {
            let ready = listeners.iter().find_map(|listener| match listener.poll_accept(cx) {
                std::task::Poll::Ready(accepted) => Some(accepted),
                std::task::Poll::Pending => None,
            });
            ready.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        });
        match accepted.await {
            Ok((stream, peer)) => return (stream, peer),
            Err(error) => {
                warn!(%error, "could not take a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Connection {
    router: Router,
    shared: Arc<Shared>,
    tls: Option<Arc<Acceptor>>,
    peer: SocketAddr,
    watcher: Watcher,
    /// Its place among those that the listeners took.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn new(agent: &Agent, peer: SocketAddr, watcher: Watcher, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            router: agent.router.clone(),
            shared: Arc::clone(&agent.shared),
            tls: agent.tls.clone(),
            peer,
            watcher,
            _permit: permit,
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let metrics = Arc::clone(&self.shared.metrics);
        metrics.connections.inc();
        let stream = Patient::new(stream, SILENCE_MAX);
        match self.tls.clone() {
            None => self.answer(stream).await,
            Some(tls) => match timeout(HANDSHAKE_MAX, tls.current().accept(stream)).await {
                Ok(Ok(stream)) => self.answer(stream).await,
                Ok(Err(error)) => debug!(peer = %self.peer, %error, "no TLS"),
                Err(_) => debug!(peer = %self.peer, "no TLS in time"),
            },
        }
        metrics.connections.dec();
    }

    async fn answer(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let Self { router, peer, watcher, _permit, .. } = self;
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            router.clone().oneshot(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            debug!(%peer, error = %airfreight_core::chain(&error), "the connection broke");
        }
    }
}
