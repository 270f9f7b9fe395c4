//! What can go wrong between us and a Kubernetes API server, and with a cluster on it.

use std::error::Error;
use std::time::Duration;

use airfreight_core::ErrorKind;

/// The cause of an error, whoever made it.
pub(crate) type Source = Box<dyn Error + Send + Sync>;

/// Why work on a Ray cluster's Kubernetes objects failed. Nothing of a kubeconfig but names and places stands in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// There is no usable way to an API server.
    #[error("cannot use {what} to reach Kubernetes")]
    Kubeconfig {
        /// The file, the connection's text, or the pod's service account.
        what: String,
        /// Why not.
        #[source]
        source: Source,
    },
    /// The cluster's description cannot be used.
    #[error("cannot use the description of the Ray cluster: {reason}")]
    Manifest {
        /// What is wrong with it, by its place.
        reason: String,
    },
    /// Manifests cannot be used.
    #[error("cannot use the manifests: {reason}")]
    Objects {
        /// What is wrong with them.
        reason: String,
    },
    /// The API server has no such objects, so nobody would act on one.
    #[error("{server} knows no RayCluster: the KubeRay operator is not installed there")]
    NoOperator {
        /// The API server.
        server: String,
    },
    /// No answer, or only failures that pass, for as long as was allowed.
    #[error("cannot {action}: {server} failed {attempts} attempts over {:.1} s", elapsed.as_secs_f64())]
    Unavailable {
        /// What was wanted.
        action: String,
        /// The API server.
        server: String,
        /// How often it was tried.
        attempts: u32,
        /// How long it took altogether.
        elapsed: Duration,
        /// The last attempt's failure.
        #[source]
        source: Source,
    },
    /// TLS with the API server did not come about.
    #[error("cannot speak TLS with the API server {server}")]
    Untrusted {
        /// The API server.
        server: String,
        /// What TLS said.
        #[source]
        source: Source,
    },
    /// Who we are may not do this.
    #[error("cannot {action}: Kubernetes refused it ({status}: {detail})")]
    Denied {
        /// What was wanted.
        action: String,
        /// 401 or 403.
        status: u16,
        /// The API server's words, which name the missing right.
        detail: String,
    },
    /// An answer that another attempt would not change.
    #[error("cannot {action}: Kubernetes answered {status}: {detail}")]
    Rejected {
        /// What was wanted.
        action: String,
        /// The HTTP status.
        status: u16,
        /// The API server's words.
        detail: String,
    },
    /// Somebody else changes the object as fast as we do.
    #[error("cannot {action}: it was changed by somebody else {attempts} times meanwhile")]
    Contended {
        /// What was wanted.
        action: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// It is one task's own, and goes with it.
    #[error("{kind} `{name}` in namespace {namespace} belongs to another task, which will delete it")]
    Owned {
        /// `RayCluster`, ….
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where it is.
        namespace: String,
    },
    /// There is no cluster of this name.
    #[error("there is no RayCluster `{name}` in namespace {namespace}")]
    NotFound {
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// There is no such object of another of KubeRay's kinds.
    #[error("there is no {kind} `{name}` in namespace {namespace}")]
    Missing {
        /// `RayJob`, ….
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// Something else than a cluster takes too long.
    #[error("{what} is not where it should be after {:.0} s: {why}", waited.as_secs_f64())]
    Late {
        /// What is waited for.
        what: String,
        /// How long was waited.
        waited: Duration,
        /// How it stands.
        why: String,
    },
    /// The cluster can't start as things are.
    #[error("RayCluster `{name}` in namespace {namespace} cannot start: {why}")]
    Failed {
        /// Its name.
        name: String,
        /// Where it is.
        namespace: String,
        /// What keeps it from starting.
        why: String,
    },
    /// The cluster may still start, but nobody waits any longer.
    #[error("RayCluster `{name}` in namespace {namespace} is not ready after {:.0} s: {why}", waited.as_secs_f64())]
    NotReady {
        /// Its name.
        name: String,
        /// Where it is.
        namespace: String,
        /// How long was waited.
        waited: Duration,
        /// What it waits for.
        why: String,
    },
    /// Its pods or itself are still there.
    #[error("RayCluster `{name}` in namespace {namespace} is not gone after {:.0} s", waited.as_secs_f64())]
    NotGone {
        /// Its name.
        name: String,
        /// Where it is.
        namespace: String,
        /// How long was waited.
        waited: Duration,
    },
    /// There is no way to the cluster's head from here.
    #[error("cannot reach RayCluster `{name}` in namespace {namespace}: {reason}")]
    Unreachable {
        /// Its name.
        name: String,
        /// Where it is.
        namespace: String,
        /// What was tried.
        reason: String,
    },
    /// No port of this host can be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl ClusterError {
    /// What the caller should do next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { .. }
            | Self::Failed { .. }
            | Self::NotReady { .. }
            | Self::NotGone { .. }
            | Self::Late { .. }
            | Self::Unreachable { .. }
            | Self::Listen { .. } => ErrorKind::Unavailable,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Contended { .. } | Self::Owned { .. } | Self::Rejected { status: 409, .. } => ErrorKind::Conflict,
            Self::NotFound { .. } | Self::Missing { .. } | Self::Rejected { status: 404, .. } => ErrorKind::NotFound,
            Self::Kubeconfig { .. }
            | Self::Manifest { .. }
            | Self::Objects { .. }
            | Self::NoOperator { .. }
            | Self::Untrusted { .. }
            | Self::Rejected { .. } => ErrorKind::Invalid,
        }
    }

    /// What to try.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Kubeconfig { .. } => {
                "set kube_config_path or kube_config in the connection's extra; in a pod, its service account is used \
                 where there is neither"
            }
            Self::Manifest { .. } => "give the YAML of one object, as `kubectl apply` takes it",
            Self::Objects { .. } => {
                "give YAML of objects as `kubectl apply` takes them: accounts, roles and bindings, services, \
                 definitions of kinds, deployments and daemon sets"
            }
            Self::NoOperator { .. } => {
                "SetupRayCluster and SubmitRayJob install it where they name a kuberay_version; or let the cluster's \
                 administrator do it: `helm install kuberay-operator --repo https://ray-project.github.io/kuberay-helm kuberay-operator`"
            }
            Self::Unavailable { .. } => "does `kubectl get rayclusters` with the same kubeconfig answer on this host?",
            Self::Untrusted { .. } => {
                "the kubeconfig's certificate-authority must be that of the API server; disable_verify_ssl in the \
                 connection turns the check off"
            }
            Self::Denied { status: 401, .. } => "the kubeconfig's or service account's token is not valid (any more)",
            Self::Denied { .. } => "grant it with a Role and a RoleBinding in that namespace",
            Self::Rejected { status: 404, .. } => "does the namespace exist?",
            Self::Rejected { .. } => "correct the field that the message names",
            Self::Contended { .. } => {
                "look who writes to it: `kubectl get raycluster <name> --show-managed-fields -o yaml`"
            }
            Self::Owned { .. } => {
                "with metadata.generateName in place of name, every task has a cluster of its own; what a task that \
                 has died for good has left, `airfreight cluster gc` removes"
            }
            Self::NotFound { .. } | Self::Missing { .. } => return None,
            Self::Late { .. } => "`kubectl describe` shows its conditions and events",
            Self::Failed { .. } | Self::NotReady { .. } => {
                "`kubectl describe pods -l ray.io/cluster=<name>` shows the same and more"
            }
            Self::NotGone { .. } => {
                "a finalizer or a pod that doesn't stop holds it: `kubectl get raycluster <name> -o yaml`"
            }
            Self::Unreachable { .. } => {
                "let the worker run in the same Kubernetes cluster, or grant `create` on pods/portforward"
            }
            Self::Listen { .. } => "choose another port, or 0 for any",
        })
    }
}
