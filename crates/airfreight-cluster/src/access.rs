//! Which API server, and as whom.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use secrecy::{ExposeSecret, SecretString};

use crate::error::{ClusterError, Source};

/// Where the way to the API server is written down.
#[derive(Clone, Default)]
pub enum Place {
    /// `KUBECONFIG`, `~/.kube/config`, and in a pod its service account: the first that is there.
    #[default]
    Usual,
    /// This file.
    File(PathBuf),
    /// This text, YAML or JSON.
    Text(SecretString),
    /// The pod's service account.
    Pod,
}

/// How to reach an API server. `Debug` shows no secret.
#[derive(Clone)]
pub struct Access {
    /// Where that is written down.
    pub place: Place,
    /// The kubeconfig's context, where not the current one is meant.
    pub context: Option<String>,
    /// The namespace of clusters that don't name one; otherwise the context's.
    pub namespace: Option<String>,
    /// Whether the API server's certificate is checked.
    pub verify: bool,
    /// For a call as a whole.
    pub timeout: Duration,
    /// How long an API server that doesn't answer is asked again.
    pub patience: Duration,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            place: Place::Usual,
            context: None,
            namespace: None,
            verify: true,
            timeout: Duration::from_secs(30),
            patience: Duration::from_mins(2),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("place", &self.what())
            .field("context", &self.context)
            .field("namespace", &self.namespace)
            .field("verify", &self.verify)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// What it is, for messages.
    fn what(&self) -> String {
        match &self.place {
            Place::Usual => "the usual kubeconfig or the pod's service account".into(),
            Place::File(path) => format!("the kubeconfig `{}`", path.display()),
            Place::Text(_) => "the kubeconfig of the connection".into(),
            Place::Pod => "the pod's service account".into(),
        }
    }

    /// What the client needs to know; reads files, and runs nothing yet.
    pub(crate) async fn config(&self) -> Result<Config, ClusterError> {
        let refuse = |source: Source| ClusterError::Kubeconfig { what: self.what(), source };
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let read = match &self.place {
            Place::Usual if self.context.is_none() => {
                return self.adjusted(Config::infer().await.map_err(|e| refuse(e.into()))?);
            }
            Place::Usual => Config::from_kubeconfig(&options).await,
            Place::Pod => return self.adjusted(Config::incluster().map_err(|e| refuse(e.into()))?),
            Place::File(path) => match Kubeconfig::read_from(path) {
                Ok(file) => Config::from_custom_kubeconfig(file, &options).await,
                Err(error) => Err(error),
            },
            Place::Text(text) => match Kubeconfig::from_yaml(text.expose_secret()) {
                Ok(file) => Config::from_custom_kubeconfig(file, &options).await,
                // A parser's message may quote the text.
                Err(_) => return Err(refuse("it is neither YAML nor JSON of a kubeconfig".into())),
            },
        };
        self.adjusted(read.map_err(|error| refuse(error.into()))?)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the end of every way through `config`")]
    fn adjusted(&self, mut config: Config) -> Result<Config, ClusterError> {
        config.accept_invalid_certs |= !self.verify;
        config.connect_timeout = Some(self.timeout);
        // What is tried again, and for how long, is ours to say.
        config.default_retry = false;
        if let Some(namespace) = &self.namespace {
            config.default_namespace.clone_from(namespace);
        }
        Ok(config)
    }
}
