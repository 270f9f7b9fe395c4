//! The RayClusters of one API server.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::access::Access;
use crate::api::{APPLY, Api, Call, core_path, ray_path, segment};
use crate::attempt::Attempt;
use crate::error::ClusterError;
use crate::forward::Forward;
use crate::jobs::{self, JobEnd};
use crate::kind::Kind;
use crate::manifest::{MANAGED_BY, MANAGER, Manifest, OWNER, SPEC_HASH};
use crate::objects::{self, Applied, Objects};
use crate::operator::{self, Operator};
use crate::reasons::{Outlook, of_cluster, of_pod};
use crate::watch::{self, CLUSTER, Saying};
use crate::ways::{self, Way};

/// How often we read again what somebody else has changed under our hands.
const ATTEMPTS_MAX: u32 = 5;

/// The RayClusters of one API server. Cheap to clone.
#[derive(Clone)]
pub struct Clusters {
    api: Api,
}

/// What came of applying a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was none.
    Created,
    /// There was one of just this description.
    Unchanged,
    /// There was another, which is as described now.
    Updated,
    /// There was another, which was left as it is.
    Kept,
}

impl Outcome {
    /// Its name in logs and Python.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Unchanged => "unchanged",
            Self::Updated => "updated",
            Self::Kept => "kept",
        }
    }
}

/// A cluster as the API server has it.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub namespace: String,
    /// Another cluster of this name has another.
    pub uid: String,
    /// Whose it is, if it was made for one task.
    pub owner: Option<String>,
    /// The whole object.
    pub object: Value,
}

impl Known {
    fn of(object: Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        Self {
            name: text(&metadata["name"]),
            namespace: text(&metadata["namespace"]),
            uid: text(&metadata["uid"]),
            owner: metadata["labels"][OWNER].as_str().map(str::to_owned),
            object,
        }
    }

    /// Whether it is being deleted.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.object["metadata"]["deletionTimestamp"].is_string()
    }

    fn hash(&self) -> Option<&str> {
        self.object["metadata"]["annotations"][SPEC_HASH].as_str()
    }

    /// The attempt of a task that has made it, where it says so.
    #[must_use]
    pub fn attempt(&self) -> Option<Attempt> {
        Attempt::of(&self.object)
    }

    /// When it was made, RFC 3339.
    #[must_use]
    pub fn created_at(&self) -> Option<&str> {
        self.object["metadata"]["creationTimestamp"].as_str()
    }

    /// How many workers are ready, and how many there should be.
    #[must_use]
    pub fn workers(&self) -> (u64, u64) {
        let count = |field: &str| self.object["status"][field].as_u64().unwrap_or(0);
        (count("readyWorkerReplicas"), count("desiredWorkerReplicas"))
    }

    /// How it stands, as far as its own object says.
    #[must_use]
    pub fn standing(&self) -> Saying {
        let reason = of_cluster(&self.object);
        Saying { is_problem: reason.is_problem(), line: reason.line }
    }

    /// Whether it serves.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        of_cluster(&self.object).outlook == Outlook::Ready
    }

    /// Whether Airfreight has made it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.object["metadata"]["labels"][MANAGED_BY] == MANAGER
    }
}

/// How a pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub pod: String,
    /// `head` or `worker`.
    pub role: String,
    /// For people.
    pub line: String,
    /// Whether something is wrong with it.
    pub is_problem: bool,
}

impl Standing {
    fn of(pod: &Value) -> Self {
        let metadata = &pod["metadata"];
        let text = |value: &Value, default: &str| value.as_str().unwrap_or(default).to_owned();
        let reason = of_pod(pod);
        Self {
            pod: text(&metadata["name"], ""),
            role: text(&metadata["labels"]["ray.io/node-type"], "worker"),
            is_problem: reason.is_problem(),
            line: reason.line,
        }
    }
}

impl Clusters {
    /// Reads how to reach the API server; asks it nothing yet.
    ///
    /// # Errors
    /// - [`ClusterError::Kubeconfig`].
    pub async fn connect(access: &Access) -> Result<Self, ClusterError> {
        Ok(Self { api: Api::connect(access).await? })
    }

    /// The API server, without credentials.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.api.server
    }

    /// Where a cluster of this description goes.
    #[must_use]
    pub fn namespace_of(&self, manifest: &Manifest) -> String {
        manifest.namespace().unwrap_or_else(|| self.api.default_namespace()).to_owned()
    }

    /// The namespace of clusters that name none.
    #[must_use]
    pub fn default_namespace(&self) -> &str {
        self.api.default_namespace()
    }

    /// What there is of the KubeRay operator; `None` where its objects are not known.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn operator(&self) -> Result<Option<Operator>, ClusterError> {
        operator::find(&self.api).await
    }

    /// Applies objects of other kinds, such as the KubeRay operator's or a device plugin's, and waits until definitions
    /// are served and deployments available. Without `update`, what is there already stays as it is.
    ///
    /// # Errors
    /// - [`ClusterError::Denied`], before anything is written, with every right that is missing.
    /// - [`ClusterError::Late`] after `patience`.
    pub async fn apply_objects(
        &self,
        objects: &Objects,
        update: bool,
        patience: Duration,
    ) -> Result<Vec<Applied>, ClusterError> {
        objects::apply(&self.api, objects, update, patience).await
    }

    /// The objects as the API server has them; `None` where there is none.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn read_objects(&self, objects: &Objects) -> Result<Vec<Option<Value>>, ClusterError> {
        objects::read(&self.api, objects).await
    }

    /// Deletes those of the objects that Airfreight has applied, but no definitions of kinds, and doesn't wait; answers
    /// which there were.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn delete_objects(&self, objects: &Objects) -> Result<Vec<String>, ClusterError> {
        objects::delete(&self.api, objects).await
    }

    /// Creates the cluster unless it is there; one that is there and was described otherwise is changed if `update`.
    ///
    /// `owner` marks a cluster that is created as one task's. A cluster of this name that is just being deleted is
    /// waited for, for `patience`.
    ///
    /// # Errors
    /// - [`ClusterError::Owned`]: it is there, and another's.
    /// - [`ClusterError::NoOperator`], [`ClusterError::Denied`], [`ClusterError::Rejected`] with the field that is
    ///   wrong, [`ClusterError::Contended`], [`ClusterError::NotGone`], [`ClusterError::Unavailable`].
    pub async fn apply(
        &self,
        manifest: &Manifest,
        update: bool,
        owner: Option<&str>,
        patience: Duration,
    ) -> Result<(Known, Outcome), ClusterError> {
        let (namespace, name) = (self.namespace_of(manifest), manifest.name());
        let kind = manifest.kind();
        let action = format!("apply {} `{name}`", kind.as_str());
        for _ in 0..ATTEMPTS_MAX {
            let live = self.get_of(kind, &namespace, name).await?;
            let (outcome, force, live) = match live {
                None => (Outcome::Created, false, None),
                Some(known) if known.is_ending() => {
                    self.wait_gone_of(kind, &namespace, name, Some(&known.uid), patience).await?;
                    continue;
                }
                Some(known) if known.owner.is_some() && known.owner.as_deref() != owner => {
                    return Err(ClusterError::Owned { kind: kind.as_str(), name: name.into(), namespace });
                }
                Some(known) if known.hash() == Some(&manifest.hash()) => return Ok((known, Outcome::Unchanged)),
                Some(known) if !update => return Ok((known, Outcome::Kept)),
                Some(known) => (Outcome::Updated, true, Some(known)),
            };
            let marked = match &live {
                Some(known) => known.owner.as_deref(),
                None => owner,
            };
            let object = manifest.object(&namespace, marked, live.as_ref().map(|known| &known.object));
            let force = if force { "&force=true" } else { "" };
            let path = format!("{}?fieldManager={MANAGER}{force}", ray_path(kind, &namespace, Some(name)));
            match self.api.ask(&Call::with(&action, Method::PATCH, path, APPLY, object)).await {
                Ok(Some(object)) => {
                    let known = Known::of(object);
                    // It may have begun to end between our two requests, which apply doesn't mind.
                    if !known.is_ending() {
                        return Ok((known, outcome));
                    }
                }
                // Deleted, created or changed by somebody else meanwhile.
                Ok(None) | Err(ClusterError::Rejected { status: 409, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ClusterError::Contended { action, attempts: ATTEMPTS_MAX })
    }

    /// A cluster; `None` if there is none of this name.
    ///
    /// # Errors
    /// - [`ClusterError::NoOperator`], and those of every call.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Option<Known>, ClusterError> {
        self.get_of(Kind::Cluster, namespace, name).await
    }

    /// An object of any of KubeRay's kinds; `None` if there is none of this name.
    ///
    /// # Errors
    /// - [`ClusterError::NoOperator`], and those of every call.
    pub async fn get_of(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Known>, ClusterError> {
        let action = format!("read {} `{name}`", kind.as_str());
        let object = self.api.ask(&Call::get(&action, ray_path(kind, namespace, Some(name)))).await?;
        Ok(object.map(Known::of))
    }

    /// The clusters of a namespace that Airfreight has made; with `owner` those of one task.
    ///
    /// # Errors
    /// - [`ClusterError::NoOperator`], and those of every call.
    pub async fn list(&self, namespace: &str, owner: Option<&str>) -> Result<Vec<Known>, ClusterError> {
        self.list_of(Kind::Cluster, namespace, owner).await
    }

    /// The same for any of KubeRay's kinds.
    ///
    /// # Errors
    /// - [`ClusterError::NoOperator`], and those of every call.
    pub async fn list_of(&self, kind: Kind, namespace: &str, owner: Option<&str>) -> Result<Vec<Known>, ClusterError> {
        let mut selector = format!("{MANAGED_BY}={MANAGER}");
        if let Some(owner) = owner {
            selector = format!("{selector},{OWNER}={owner}");
        }
        let path = format!("{}?labelSelector={}", ray_path(kind, namespace, None), segment(&selector));
        let action = format!("list the {}s", kind.as_str());
        let answer = self.api.ask(&Call::get(&action, path)).await?;
        let Some(Value::Array(items)) = answer.map(|mut list| list["items"].take()) else { return Ok(Vec::new()) };
        Ok(items.into_iter().map(Known::of).collect())
    }

    /// Deletes a cluster, its pods and services with it, and doesn't wait; `false` if there is none.
    ///
    /// With `uid`, another cluster of this name is left alone.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn delete(&self, namespace: &str, name: &str, uid: Option<&str>) -> Result<bool, ClusterError> {
        self.delete_of(Kind::Cluster, namespace, name, uid).await
    }

    /// The same for any of KubeRay's kinds; a job's or service's cluster goes with it.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn delete_of(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
    ) -> Result<bool, ClusterError> {
        let action = format!("delete {} `{name}`", kind.as_str());
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
        if let Some(uid) = uid {
            options["preconditions"] = json!({"uid": uid});
        }
        let path = ray_path(kind, namespace, Some(name));
        match self.api.ask(&Call::with(&action, Method::DELETE, path, "application/json", options)).await {
            Ok(answer) => Ok(answer.is_some()),
            Err(ClusterError::Rejected { status: 409, .. }) if uid.is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns when the cluster is gone, and its pods.
    ///
    /// # Errors
    /// - [`ClusterError::NotGone`] after `patience`.
    pub async fn wait_gone(
        &self,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
        patience: Duration,
    ) -> Result<(), ClusterError> {
        watch::gone(&self.api, namespace, name, uid, patience).await
    }

    /// The same for any of KubeRay's kinds, whose pods go after it.
    ///
    /// # Errors
    /// - [`ClusterError::NotGone`] or [`ClusterError::Late`] after `patience`.
    pub async fn wait_gone_of(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
        patience: Duration,
    ) -> Result<(), ClusterError> {
        if kind == Kind::Cluster {
            return self.wait_gone(namespace, name, uid, patience).await;
        }
        jobs::gone(&self.api, kind, namespace, name, uid, patience).await
    }

    /// Returns when the job is over, and tells by `tell` how it and its cluster get on, a line for each change.
    ///
    /// # Errors
    /// - [`ClusterError::Failed`]: its cluster can't start, and why.
    /// - [`ClusterError::Late`] after `patience`.
    /// - [`ClusterError::Missing`]: it is not there, or not any more.
    pub async fn wait_job(
        &self,
        namespace: &str,
        name: &str,
        patience: Duration,
        tell: impl FnMut(Saying) + Send,
    ) -> Result<JobEnd, ClusterError> {
        jobs::end(&self.api, namespace, name, patience, tell).await
    }

    /// Returns when the service's applications serve.
    ///
    /// # Errors
    /// - [`ClusterError::Late`] after `patience`.
    /// - [`ClusterError::Missing`]: it is not there, or not any more.
    pub async fn wait_service(
        &self,
        namespace: &str,
        name: &str,
        patience: Duration,
        tell: impl FnMut(Saying) + Send,
    ) -> Result<Known, ClusterError> {
        jobs::serves(&self.api, namespace, name, patience, tell).await.map(Known::of)
    }

    /// Suspends a cluster or a job, whose pods go, or lets it go on; `false` if there is none of this name.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn suspend(&self, kind: Kind, namespace: &str, name: &str, yes: bool) -> Result<bool, ClusterError> {
        let action = format!("{} {} `{name}`", if yes { "suspend" } else { "resume" }, kind.as_str());
        let path = format!("{}?fieldManager={MANAGER}", ray_path(kind, namespace, Some(name)));
        let wish = json!({"spec": {"suspend": yes}});
        let call = Call::with(&action, Method::PATCH, path, "application/merge-patch+json", wish);
        Ok(self.api.ask(&call).await?.is_some())
    }

    /// Returns when the cluster serves, and tells by `tell` what it waits for meanwhile, a line for each change.
    ///
    /// # Errors
    /// - [`ClusterError::Failed`]: it can't start, and why.
    /// - [`ClusterError::NotReady`] after `patience`.
    /// - [`ClusterError::NotFound`]: it is not there, or not any more.
    pub async fn wait_ready(
        &self,
        namespace: &str,
        name: &str,
        patience: Duration,
        tell: impl FnMut(Saying) + Send,
    ) -> Result<Known, ClusterError> {
        watch::ready(&self.api, namespace, name, patience, tell).await.map(Known::of)
    }

    /// How a cluster's pods stand now, by their names; whoever wants to hear of changes waits for it to be ready.
    ///
    /// # Errors
    /// - [`ClusterError::Denied`]: seeing pods isn't allowed.
    pub async fn pods(&self, namespace: &str, name: &str) -> Result<Vec<Standing>, ClusterError> {
        let action = format!("list the pods of RayCluster `{name}`");
        let selector = segment(&format!("{CLUSTER}={name}"));
        let path = format!("{}?labelSelector={selector}", core_path(namespace, "pods", None));
        let answer = self.api.ask(&Call::get(&action, path)).await?;
        let Some(Value::Array(pods)) = answer.map(|mut list| list["items"].take()) else { return Ok(Vec::new()) };
        Ok(pods.iter().map(Standing::of).collect())
    }

    /// The ways on which the head's services can be reached, the best first, without trying any.
    ///
    /// # Errors
    /// - [`ClusterError::NotFound`]: there is no such cluster, or its head has no service yet.
    pub async fn ways(&self, namespace: &str, name: &str) -> Result<Vec<Way>, ClusterError> {
        let known = self.get(namespace, name).await?;
        let known = known.ok_or_else(|| ClusterError::NotFound { name: name.into(), namespace: namespace.into() })?;
        ways::of(&self.api, &known).await
    }

    /// The first way that takes a connection from this host, within `patience` each; `None` leaves a forward.
    ///
    /// # Errors
    /// Those of [`Clusters::ways`].
    pub async fn open_way(&self, namespace: &str, name: &str, patience: Duration) -> Result<Option<Way>, ClusterError> {
        for way in self.ways(namespace, name).await? {
            if way.is_open(patience).await {
                return Ok(Some(way));
            }
        }
        Ok(None)
    }

    /// Forwards a port of this host to one of the head pod's, through the API server.
    ///
    /// # Errors
    /// - [`ClusterError::NotFound`], [`ClusterError::Unreachable`]: there is no head pod that runs, or no right to it.
    /// - [`ClusterError::Listen`].
    pub async fn forward(&self, namespace: &str, name: &str, port: u16, local: u16) -> Result<Forward, ClusterError> {
        Forward::open(&self.api, namespace, name, port, local).await
    }

    /// The token that the cluster's Ray wants, where the operator has made one for it.
    ///
    /// # Errors
    /// - [`ClusterError::Denied`]: reading the secret isn't allowed.
    pub async fn token(&self, known: &Known) -> Result<Option<SecretString>, ClusterError> {
        let options = &known.object["spec"]["authOptions"];
        if !options.is_object() || options["mode"] == "disabled" {
            return Ok(None);
        }
        let secret = options["secretName"].as_str().unwrap_or(&known.name);
        let action = format!("read the secret `{secret}` with Ray's token");
        let answer = self.api.ask(&Call::get(&action, core_path(&known.namespace, "secrets", Some(secret)))).await?;
        let encoded = answer.and_then(|secret| secret["data"]["auth_token"].as_str().map(str::to_owned));
        let decoded = encoded.and_then(|text| BASE64_STANDARD.decode(text).ok());
        Ok(decoded.and_then(|bytes| String::from_utf8(bytes).ok()).map(SecretString::from))
    }

    /// Whether the KubeRay operator's objects are there; `false` where nobody would act on a RayCluster.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn has_operator(&self) -> Result<bool, ClusterError> {
        match self.api.ask(&Call::get("look for KubeRay", "/apis/ray.io/v1".into())).await {
            Ok(found) => Ok(found.is_some()),
            Err(ClusterError::NoOperator { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What is left of a time limit that began then.
pub(crate) fn left(began: Instant, limit: Duration) -> Duration {
    limit.saturating_sub(began.elapsed())
}
