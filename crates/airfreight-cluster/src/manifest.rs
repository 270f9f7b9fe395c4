//! The description of a cluster: what was written, and what is sent.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::attempt::Attempt;
use crate::error::ClusterError;
use crate::kind::Kind;

/// The group and version that every KubeRay since 1.0 serves.
pub(crate) const API_VERSION: &str = "ray.io/v1";

/// Who has written the fields that we send.
pub(crate) const MANAGER: &str = "airfreight";
/// The label that says so to people and tools.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The annotation that tells whether the description has changed since it was sent.
pub(crate) const SPEC_HASH: &str = "airfreight/spec-hash";
/// The label by which the cluster of a task is found again.
pub(crate) const OWNER: &str = "airfreight/owner";

/// A name has room for what KubeRay appends to it: `-head-svc` and the like.
const NAME_LENGTH_MAX: usize = 50;

/// One `RayCluster`, `RayJob` or `RayService` as somebody has described it.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    kind: Kind,
    name: String,
    namespace: Option<String>,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    spec: Map<String, Value>,
    attempt: Option<Attempt>,
}

impl Manifest {
    /// The description of a cluster; checks what can be checked without the API server.
    ///
    /// # Errors
    /// - [`ClusterError::Manifest`], with the place that is wrong.
    pub fn new(description: Value) -> Result<Self, ClusterError> {
        Self::of(Kind::Cluster, description)
    }

    /// The description of one of KubeRay's kinds.
    ///
    /// # Errors
    /// - [`ClusterError::Manifest`], with the place that is wrong.
    pub fn of(kind: Kind, description: Value) -> Result<Self, ClusterError> {
        let refuse = |reason: String| ClusterError::Manifest { reason };
        let Value::Object(mut object) = description else { return Err(refuse("it is not a mapping".into())) };
        for (field, wanted) in [("apiVersion", "ray.io/v1"), ("kind", kind.as_str())] {
            match object.remove(field) {
                // The first form is served for the same objects.
                Some(Value::String(given))
                    if given == wanted || (field == "apiVersion" && given == "ray.io/v1alpha1") => {}
                Some(given) => return Err(refuse(format!("{field} is {given}, not {wanted}"))),
                None => return Err(refuse(format!("it has no {field}; {wanted} is needed"))),
            }
        }
        let Some(Value::Object(mut metadata)) = object.remove("metadata") else {
            return Err(refuse("it has no metadata".into()));
        };
        let Some(Value::String(name)) = metadata.remove("name") else {
            return Err(refuse("metadata has no name".into()));
        };
        check_name(&name).map_err(refuse)?;
        let namespace = match metadata.remove("namespace") {
            None | Some(Value::Null) => None,
            Some(Value::String(namespace)) => Some(namespace),
            Some(_) => return Err(refuse("metadata.namespace is not a text".into())),
        };
        let texts = |field: &str, value: Option<Value>| match value {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(texts)) if texts.values().all(Value::is_string) => Ok(texts),
            Some(_) => Err(refuse(format!("metadata.{field} is not a mapping of texts"))),
        };
        let labels = texts("labels", metadata.remove("labels"))?;
        let annotations = texts("annotations", metadata.remove("annotations"))?;
        let Some(Value::Object(spec)) = object.remove("spec") else { return Err(refuse("it has no spec".into())) };
        if !kind.needed().iter().any(|field| spec.contains_key(*field)) {
            return Err(refuse(format!("spec has no {}", kind.needed().join(" and no "))));
        }
        Ok(Self { kind, name, namespace, labels, annotations, spec, attempt: None })
    }

    /// Names the attempt of a task that makes the cluster, by labels for people and an annotation for programs. It is no
    /// part of the description: the next attempt finds the cluster unchanged.
    #[must_use]
    pub fn made_by(self, attempt: Attempt) -> Self {
        Self { attempt: Some(attempt), ..self }
    }

    /// What it describes.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace, where the description says.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Whether Ray itself decides how many workers there are.
    #[must_use]
    pub fn is_autoscaled(&self) -> bool {
        self.spec.get("enableInTreeAutoscaling") == Some(&Value::Bool(true))
    }

    /// What tells two descriptions apart: 16 hexadecimal digits over all that a user can write.
    #[must_use]
    pub fn hash(&self) -> String {
        let text = json!([self.labels, self.annotations, self.spec]).to_string();
        let digest = Sha256::digest(text.as_bytes());
        let first = digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        format!("{first:016x}")
    }

    /// What is sent.
    ///
    /// `owner` marks the cluster of one task. With `live`, an object that is there already is changed: what the
    /// autoscaler has decided since stays, although the list that it stands in is replaced as a whole.
    pub(crate) fn object(&self, namespace: &str, owner: Option<&str>, live: Option<&Value>) -> Value {
        let mut labels = self.labels.clone();
        labels.insert(MANAGED_BY.into(), MANAGER.into());
        if let Some(owner) = owner {
            labels.insert(OWNER.into(), owner.into());
        }
        let mut annotations = self.annotations.clone();
        annotations.insert(SPEC_HASH.into(), self.hash().into());
        // Who has made it stays; what apply leaves out would go.
        if let Some(attempt) = live.map_or_else(|| self.attempt.clone(), Attempt::of) {
            attempt.mark(&mut labels, &mut annotations);
        }
        let mut metadata = json!({
            "name": self.name, "namespace": namespace, "labels": labels, "annotations": annotations,
        });
        let mut spec = self.spec.clone();
        if let Some(live) = live {
            // Refused if somebody has changed the object since it was read.
            metadata["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
            if self.is_autoscaled() {
                keep_replicas(&mut spec, &live["spec"]);
            }
        }
        json!({"apiVersion": API_VERSION, "kind": self.kind.as_str(), "metadata": metadata, "spec": spec})
    }
}

/// Puts the live numbers of workers into a spec, within the limits that this spec has.
fn keep_replicas(spec: &mut Map<String, Value>, live: &Value) {
    let live: BTreeMap<&str, i64> = live["workerGroupSpecs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|group| Some((group["groupName"].as_str()?, group["replicas"].as_i64()?)))
        .collect();
    let Some(Value::Array(groups)) = spec.get_mut("workerGroupSpecs") else { return };
    for group in groups {
        let Some(replicas) = group["groupName"].as_str().and_then(|name| live.get(name)) else { continue };
        let least = group["minReplicas"].as_i64().unwrap_or(0);
        let most = group["maxReplicas"].as_i64().unwrap_or(i64::MAX).max(least);
        group["replicas"] = (*replicas).clamp(least, most).into();
    }
}

/// Kubernetes' rule for names that become host names, and room for what KubeRay appends.
fn check_name(name: &str) -> Result<(), String> {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.is_empty()
        || !name.starts_with(|c: char| c.is_ascii_lowercase())
        || !name.ends_with(is_good)
        || !name.chars().all(|c| is_good(c) || c == '-')
    {
        return Err(format!(
            "metadata.name `{name}` must consist of lower-case letters, digits and `-`, and begin with a letter"
        ));
    }
    if name.len() > NAME_LENGTH_MAX {
        return Err(format!(
            "metadata.name `{name}` has {} characters; KubeRay takes {NAME_LENGTH_MAX} at most",
            name.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Value {
        json!({
            "apiVersion": "ray.io/v1", "kind": "RayCluster",
            "metadata": {"name": "demo", "labels": {"team": "a"}},
            "spec": {
                "enableInTreeAutoscaling": true,
                "headGroupSpec": {},
                "workerGroupSpecs": [
                    {"groupName": "small", "replicas": 1, "minReplicas": 0, "maxReplicas": 5},
                    {"groupName": "new", "replicas": 2},
                ],
            },
        })
    }

    fn with(path: &str, value: Value) -> Value {
        let mut changed = description();
        *changed.pointer_mut(path).unwrap() = value;
        changed
    }

    #[test]
    fn what_is_no_cluster_is_refused_by_its_place() {
        let refused = |value: Value| match Manifest::new(value) {
            Err(ClusterError::Manifest { reason }) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(json!([])), "it is not a mapping");
        assert_eq!(refused(json!({"kind": "RayCluster"})), "it has no apiVersion; ray.io/v1 is needed");
        assert_eq!(refused(with("/kind", json!("Pod"))), "kind is \"Pod\", not RayCluster");
        assert_eq!(refused(with("/metadata", json!({}))), "metadata has no name");
        assert!(refused(with("/metadata/name", json!("Bad_Name"))).contains("must consist of lower-case letters"));
        assert!(refused(with("/metadata/name", json!("a".repeat(51)))).contains("has 51 characters"));
        assert_eq!(refused(with("/metadata/labels", json!({"a": 1}))), "metadata.labels is not a mapping of texts");
        assert_eq!(refused(with("/spec", json!({}))), "spec has no headGroupSpec");
    }

    #[test]
    fn the_hash_follows_what_users_write_and_not_its_order() {
        let hash = |value: Value| Manifest::new(value).unwrap().hash();
        let plain = hash(description());
        assert_eq!(plain.len(), 16);
        let again: Value = serde_json::from_str(&description().to_string()).unwrap();
        assert_eq!(hash(again), plain);
        assert_ne!(hash(with("/spec/workerGroupSpecs/0/maxReplicas", json!(6))), plain);
        assert_ne!(hash(with("/metadata/labels/team", json!("b"))), plain);
    }

    #[test]
    fn the_autoscalers_work_is_kept_within_the_new_limits() {
        let live = json!({
            "metadata": {"resourceVersion": "7"},
            "spec": {"workerGroupSpecs": [{"groupName": "small", "replicas": 9}, {"groupName": "gone", "replicas": 4}]},
        });
        let object = Manifest::new(description()).unwrap().object("ns", Some("o"), Some(&live));
        let replicas = |object: &Value, group: usize| object["spec"]["workerGroupSpecs"][group]["replicas"].clone();
        assert_eq!((replicas(&object, 0), replicas(&object, 1)), (json!(5), json!(2)));
        assert_eq!(object["metadata"]["resourceVersion"], "7");
        assert_eq!(object["metadata"]["labels"][OWNER], "o");
        let fixed = Manifest::new(with("/spec/enableInTreeAutoscaling", json!(false))).unwrap();
        assert_eq!(replicas(&fixed.object("ns", None, Some(&live)), 0), json!(1));
    }
}
