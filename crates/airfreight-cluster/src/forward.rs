//! A port of this host that leads to one of the head pod's, through the API server.
//!
//! Each connection is a stream of its own to the API server, as `kubectl port-forward` has it. The pod is looked up anew
//! when a stream can't be opened, so a head that was replaced is found again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::api::Api;
use crate::error::ClusterError;
use crate::ways::head_pod;

/// An open forward; dropping it closes its port and its connections.
pub struct Forward {
    address: SocketAddr,
    listening: JoinHandle<()>,
}

struct Target {
    api: Api,
    namespace: String,
    name: String,
    port: u16,
    pod: Mutex<String>,
}

impl Forward {
    pub(crate) async fn open(
        api: &Api,
        namespace: &str,
        name: &str,
        port: u16,
        local: u16,
    ) -> Result<Self, ClusterError> {
        let target = Target {
            api: api.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port,
            pod: Mutex::default(),
        };
        target.find().await?;
        // Says now, and not with the first request, that there is no right to it.
        drop(target.stream().await?);
        let wanted = SocketAddr::from(([127, 0, 0, 1], local));
        let listen = |source| ClusterError::Listen { address: wanted.to_string(), source };
        let listener = TcpListener::bind(wanted).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { address, listening: tokio::spawn(serve(listener, Arc::new(target))) })
    }

    /// Where it listens: `127.0.0.1:…`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn serve(listener: TcpListener, target: Arc<Target>) {
    // Dropped with this task, and its connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(carry(stream, Arc::clone(&target)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Whoever has connected sees a closed connection where there is no way on, and tries again as with any server.
async fn carry(mut local: TcpStream, target: Arc<Target>) {
    let _ = local.set_nodelay(true);
    let opened = match target.stream().await {
        Ok(opened) => Ok(opened),
        // The head was replaced, perhaps.
        Err(_) => match target.find().await {
            Ok(()) => target.stream().await,
            Err(error) => Err(error),
        },
    };
    if let Ok(mut remote) = opened {
        let _ = copy_bidirectional(&mut local, &mut remote).await;
    }
}

impl Target {
    /// Looks for the head pod.
    async fn find(&self) -> Result<(), ClusterError> {
        let pod = head_pod(&self.api, &self.namespace, &self.name).await?;
        let name = pod.as_ref().and_then(|pod| pod["metadata"]["name"].as_str());
        let Some(name) = name else { return Err(self.unreachable("it has no head pod".into())) };
        name.clone_into(&mut self.pod.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// A stream to the pod's port.
    async fn stream(
        &self,
    ) -> Result<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + use<>, ClusterError> {
        let pod = self.pod.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let pods: kube::Api<Pod> = kube::Api::namespaced(self.api.client.clone(), &self.namespace);
        let opened = pods.portforward(&pod, &[self.port]).await;
        let mut forwarder = opened.map_err(|error| self.refused(&pod, error))?;
        forwarder
            .take_stream(self.port)
            .ok_or_else(|| self.unreachable(format!("port {} of pod {pod} was not opened", self.port)))
    }

    fn refused(&self, pod: &str, error: kube::Error) -> ClusterError {
        let why = match error {
            // The answer's words are lost in kube, its status isn't.
            kube::Error::UpgradeConnection(error) => {
                let text = error.to_string();
                if text.contains("403") {
                    return ClusterError::Denied {
                        action: format!("forward a port to pod `{pod}`"),
                        status: 403,
                        detail: "the right to `create` pods/portforward is needed".into(),
                    };
                }
                text
            }
            other => match self.api.passing("forward a port", other) {
                Ok(source) => source.to_string(),
                Err(error) => return error,
            },
        };
        self.unreachable(format!("no port of pod {pod} can be forwarded: {why}"))
    }

    fn unreachable(&self, reason: String) -> ClusterError {
        ClusterError::Unreachable { name: self.name.clone(), namespace: self.namespace.clone(), reason }
    }
}
