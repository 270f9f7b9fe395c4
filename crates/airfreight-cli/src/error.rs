//! What can go wrong in a command.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use airfreight_agent::AgentError;
use airfreight_airflow::AirflowError;
use airfreight_apolo::ApoloError;
use airfreight_bucket::BucketError;
use airfreight_cluster::ClusterError;
use airfreight_ray::{RayError, Sent};
use airfreight_store::StoreError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("cannot start threads")]
    Threads(#[source] io::Error),
    #[error("cannot ask Airflow what is still needed")]
    Airflow(#[from] AirflowError),
    #[error("{origin} = `{text}` is not {expected}")]
    Setting { origin: String, text: String, expected: &'static str },
    #[error("cannot read Airflow's configuration `{}`: {reason}", path.display())]
    Configuration { path: PathBuf, reason: String },
    #[error("no object's name begins with `{id}`")]
    NoSuchObject { id: String },
    #[error("{count} objects' names begin with `{id}`")]
    Ambiguous { id: String, count: usize },
    #[error("cannot read the API token")]
    Token(#[source] io::Error),
    #[error(transparent)]
    Ray(#[from] RayError),
    #[error(transparent)]
    Followed(Arc<RayError>),
    #[error(transparent)]
    Apolo(#[from] ApoloError),
    #[error(transparent)]
    ApoloFollowed(Arc<ApoloError>),
    #[error("cannot begin to talk to Apolo")]
    ApoloRuntime(#[source] io::Error),
    #[error("there is no token for Apolo")]
    NoApoloToken,
    #[error("left job `{id}` as it was")]
    ApoloLeft { id: String },
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("cannot begin to talk to Kubernetes")]
    KubeRuntime(#[source] io::Error),
    #[error("cannot read the description of the cluster")]
    Description(#[source] io::Error),
    #[error("cannot use the description in `{}`: {reason}", path.display())]
    DescriptionFile { path: PathBuf, reason: String },
    #[error("cannot begin to talk to Ray")]
    Runtime(#[source] io::Error),
    #[error("cannot use the variable {name}: {reason}")]
    Variable { name: &'static str, reason: String },
    #[error("cannot read Ray's token")]
    RayToken(#[source] io::Error),
    #[error("cannot read the runtime environment")]
    RuntimeEnv(#[source] io::Error),
    #[error("cannot use the runtime environment in `{}`: {reason}", path.display())]
    RuntimeEnvFile { path: PathBuf, reason: String },
    #[error("cannot quote the entrypoint for the shell")]
    Entrypoint(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("left before the answer to the submission: there may be a job now")]
    Unanswered,
    #[error("left job `{id}` as it was")]
    Left { id: String },
    #[error("job `{id}` is gone before its end was known{}", if *replaced { ": the cluster is another one now" } else { "" })]
    Gone { id: String, replaced: bool },
    #[error("Ray has not deleted job `{id}`")]
    Kept { id: String },
    #[error("there is no runner on the cluster")]
    NoRunner,
    #[error("several runners are on the cluster: {}", ids.join(", "))]
    Runners { ids: Vec<String> },
    #[error("there is no owner `{name}` on the cluster")]
    NoOwner { name: String },
    #[error(transparent)]
    Checkpoint(#[from] BucketError),
    #[error("cannot begin to talk to the bucket")]
    Bucket(#[source] io::Error),
    #[error("no bucket was named")]
    NoBucket,
    #[error("no checkpoint has the key or name `{key}`")]
    NoSuchCheckpoint { key: String },
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
}

impl CliError {
    /// What to try.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Agent(error) => error.hint(),
            Self::Checkpoint(error) => error.hint(),
            Self::NoBucket => Some("give --bucket s3://bucket/prefix, or set `checkpoint` in [airfreight]".into()),
            Self::NoSuchCheckpoint { .. } => Some("`airfreight checkpoint ls` lists what there is".into()),
            Self::Airflow(error) => error.hint().map(Into::into),
            Self::Ray(error) => ray_hint(error).map(Into::into),
            Self::Followed(error) => ray_hint(error).map(Into::into),
            Self::Apolo(error) => apolo_hint(error).map(Into::into),
            Self::ApoloFollowed(error) => apolo_hint(error).map(Into::into),
            Self::Cluster(error) => cluster_hint(error).map(Into::into),
            Self::DescriptionFile { .. } => Some("the file must be the YAML of one RayCluster".into()),
            Self::NoApoloToken => Some("put what `apolo service-account create` prints into APOLO_TOKEN".into()),
            Self::ApoloLeft { id } => Some(format!("`airfreight apolo logs --follow {id}` goes on with its log")),
            Self::Unanswered => Some("`airfreight ray list` shows the newest jobs first, as `apolo ps` does".into()),
            Self::Left { id } => Some(format!("`airfreight ray logs --follow {id}` goes on with its log")),
            Self::Gone { .. } => {
                Some("Ray forgets its jobs when its head node restarts, or when someone deletes them".into())
            }
            Self::NoRunner => Some("a task with `mode = warm` or `auto` starts one".into()),
            Self::Runners { .. } => Some("say which one by --runner".into()),
            Self::NoOwner { .. } => Some("`airfreight ray runner owners` lists what there is".into()),
            Self::NoSuchObject { .. } => Some("`airfreight store ls` lists what there is".into()),
            Self::Ambiguous { .. } => Some("give more of the name".into()),
            Self::Configuration { .. } => Some("AIRFLOW_CONFIG and AIRFLOW_HOME say where the file is".into()),
            _ => None,
        }
    }
}

/// What to try here, where there are flags in place of a connection of Airflow's.
fn cluster_hint(error: &ClusterError) -> Option<&str> {
    match error {
        ClusterError::Kubeconfig { .. } => {
            Some("give --kubeconfig PATH, or set KUBECONFIG; in a pod its service account is used")
        }
        ClusterError::Untrusted { .. } => Some("the kubeconfig's certificate-authority must be that of the API server"),
        ClusterError::NotFound { .. } => Some("`airfreight cluster status` lists those of the namespace"),
        ClusterError::Listen { .. } => Some("choose another port by --local-port, or 0 for any"),
        _ => error.hint(),
    }
}

/// What to try here, where there are flags and variables in place of a connection of Airflow's.
fn ray_hint(error: &RayError) -> Option<&str> {
    match error {
        RayError::Setting { .. } => Some("`airfreight ray --help` says what can be set, and how"),
        RayError::Certificate(_) => Some("the file must be PEM, and readable by this user"),
        RayError::Untrusted { .. } => Some(
            "name a file with your authority's certificate by --verify, or use http:// where the port speaks no TLS",
        ),
        RayError::Denied { sent: Sent::Nothing, status: 401, .. } => {
            Some("the cluster wants its token: put it into RAY_AUTH_TOKEN or ~/.ray/auth_token")
        }
        RayError::Denied { sent: Sent::Basic, .. } => {
            Some("a login in the address is for a proxy; the token of the cluster belongs into RAY_AUTH_TOKEN")
        }
        RayError::Redirected { .. } => {
            Some("a proxy before the cluster wants a login of its own: give its header in RAY_JOB_HEADERS")
        }
        _ => error.hint(),
    }
}

/// Likewise for Apolo.
fn apolo_hint(error: &ApoloError) -> Option<&str> {
    match error {
        ApoloError::Setting { setting: "token", .. } | ApoloError::Denied { status: 401, .. } => {
            Some("put what `apolo service-account create` prints into APOLO_TOKEN")
        }
        ApoloError::Setting { .. } => Some("`airfreight apolo --help` says what can be set, and how"),
        ApoloError::Certificate(_) => Some("the file must be PEM, and readable by this user"),
        ApoloError::Untrusted { .. } => Some("name a file with your authority's certificate by --verify"),
        ApoloError::Unavailable { .. } => {
            Some("does `curl <URL>/ping` answer from this host? --api-url says where the platform is")
        }
        ApoloError::Rejected { status: 404 | 405, .. } | ApoloError::Unreadable { .. } => {
            Some("is --api-url the platform's API? It ends with /api/v1")
        }
        ApoloError::Quota { .. } => Some("wait until other jobs are over, or ask for more"),
        _ => error.hint(),
    }
}
