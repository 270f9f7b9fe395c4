//! A Kubernetes API server without Kubernetes: objects, watches, server-side apply, forwards and refusals over real
//! HTTP, and an operator that does with `RayCluster`s what a script says.
//!
//! It answers as a real API server did (`tests/kube-transcripts.jsonl`), for what a client of `RayCluster`s asks. What it
//! is told comes by [`KubeServer`]'s methods or, from another process, by HTTP (`control`).

mod answer;
mod apply;
mod control;
mod delete;
mod forward;
mod kinds;
mod operator;
mod route;
mod serve;
mod shared;
mod store;
mod system;
mod workloads;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use operator::{Plot, Scene, Script};
pub use shared::{KubeFault, Seen};
pub use store::Key;

use shared::Shared;

/// What kind of API server to be.
#[derive(Clone, Debug)]
pub struct KubeOptions {
    /// The port on 127.0.0.1; 0 for any.
    pub port: u16,
    /// The token that requests need.
    pub token: Option<String>,
    /// Whether KubeRay's objects are known.
    pub has_operator: bool,
    /// The namespaces of the beginning; `None`: any that is asked for.
    pub namespaces: Option<Vec<String>>,
    /// Where forwarded ports lead, whatever their number: a Ray that runs on this host.
    pub dashboard: Option<SocketAddr>,
    /// Where a load balancer's address and the dashboard's port behind it lead; heads have no such address without it.
    pub load_balancer: Option<SocketAddr>,
    /// What becomes of `RayCluster`s.
    pub plot: Plot,
}

impl Default for KubeOptions {
    fn default() -> Self {
        Self {
            port: 0,
            token: None,
            has_operator: true,
            namespaces: None,
            dashboard: None,
            load_balancer: None,
            plot: Plot::default(),
        }
    }
}

/// An API server that listens; dropping it closes its port and connections.
pub struct KubeServer {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    address: SocketAddr,
}

impl KubeServer {
    /// Listens on 127.0.0.1 and serves on the runtime that this is called on.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(options: KubeOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], options.port))).await?;
        let address = listener.local_addr()?;
        let namespaces = options.namespaces.clone();
        let shared = Arc::new(Shared::new(options));
        for name in namespaces.into_iter().flatten() {
            shared.put("namespaces", "", serde_json::json!({"metadata": {"name": name}}));
        }
        let tasks = vec![
            tokio::spawn(serve::accept(Arc::clone(&shared), listener, address)),
            tokio::spawn(operator::run(Arc::clone(&shared))),
        ];
        Ok(Self { shared, tasks, address })
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The kubeconfig of somebody who may do what isn't denied.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        let user = match &*self.shared.token() {
            Some(token) => serde_json::json!({"token": token}),
            None => serde_json::json!({}),
        };
        serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "fake", "user": user}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": "demo"}}],
        })
        .to_string()
    }

    /// An object as it is now: `("rayclusters", "demo", "name")`.
    #[must_use]
    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.shared.store().object(&Key::new(plural, namespace, name)).cloned()
    }

    /// The names of all objects of a kind in a namespace.
    #[must_use]
    pub fn names(&self, plural: &str, namespace: &str) -> Vec<String> {
        self.shared.store().list(plural, namespace).iter().map(|(key, _)| key.name.clone()).collect()
    }

    /// Puts an object there, as somebody else does.
    pub fn put(&self, plural: &str, namespace: &str, object: Value) {
        self.shared.put(plural, namespace, object);
    }

    /// Removes an object at once, as somebody else does.
    pub fn remove(&self, plural: &str, namespace: &str, name: &str) {
        self.shared.store().remove(&Key::new(plural, namespace, name));
    }

    /// Lets the autoscaler change the number of workers of a group.
    pub fn scale(&self, namespace: &str, name: &str, group: usize, replicas: i64) {
        self.shared.scale(&Key::new("rayclusters", namespace, name), group, replicas);
    }

    /// What becomes of `RayCluster`s that are created from now on.
    pub fn plot(&self, plot: Plot) {
        *self.shared.plot() = plot;
    }

    /// The token that requests need from now on, so that the one before has expired.
    pub fn set_token(&self, token: &str) {
        *self.shared.token() = Some(token.into());
    }

    /// Refuses a verb on a resource from now on: `("create", "pods/portforward")`.
    pub fn deny(&self, verb: &str, resource: &str) {
        self.shared.denied().insert((verb.into(), resource.into()));
    }

    /// Refuses nothing any more.
    pub fn allow(&self) {
        self.shared.denied().clear();
    }

    /// Lets requests fail in future.
    pub fn fault(&self, fault: KubeFault) {
        self.shared.faults().push(fault);
    }

    /// Ends every watch; with `forget`, what happened before can't be watched any more.
    pub fn cut_watches(&self, forget: bool) {
        self.shared.cut_watches(forget);
    }

    /// Closes the port and every connection, and opens it again after `pause`. Objects are still there then; what has
    /// happened to them can't be watched any more.
    pub fn restart(&self, pause: Duration) {
        self.shared.restart(pause);
    }

    /// Ends every forwarded connection.
    pub fn cut_forwards(&self) {
        self.shared.cut_forwards();
    }

    /// What has arrived so far: method and path.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen().clone()
    }
}

impl Drop for KubeServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.shared.cut_watches(false);
        self.shared.cut_forwards();
    }
}
