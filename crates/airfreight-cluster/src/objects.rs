//! Objects of other kinds than KubeRay's: what its operator and device plugins consist of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use http::Method;
use kube::api::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::api::{APPLY, Api, Call, segment};
use crate::clusters::left;
use crate::error::ClusterError;
use crate::manifest::{MANAGED_BY, MANAGER};
use crate::watch;

const CORE: &str = "v1";
const APPS: &str = "apps/v1";
const RBAC: &str = "rbac.authorization.k8s.io/v1";
/// KubeRay's definitions describe a pod several times over, each inside something else.
const DEPTH_MAX: usize = 512;
const NODES_MAX: usize = 10_000_000;

/// A kind of which objects can be applied.
struct Known {
    kind: &'static str,
    version: &'static str,
    plural: &'static str,
    is_namespaced: bool,
    /// Lower ones first: others refer to them.
    rank: u8,
}

const LAST_RANK: u8 = 4;

const fn known(
    kind: &'static str,
    version: &'static str,
    plural: &'static str,
    is_namespaced: bool,
    rank: u8,
) -> Known {
    Known { kind, version, plural, is_namespaced, rank }
}

const KNOWN: [Known; 13] = [
    known("Namespace", CORE, "namespaces", false, 0),
    known("CustomResourceDefinition", "apiextensions.k8s.io/v1", "customresourcedefinitions", false, 1),
    known("ServiceAccount", CORE, "serviceaccounts", true, 2),
    known("ConfigMap", CORE, "configmaps", true, 2),
    known("Secret", CORE, "secrets", true, 2),
    known("ClusterRole", RBAC, "clusterroles", false, 2),
    known("Role", RBAC, "roles", true, 2),
    known("PriorityClass", "scheduling.k8s.io/v1", "priorityclasses", false, 2),
    known("ClusterRoleBinding", RBAC, "clusterrolebindings", false, 3),
    known("RoleBinding", RBAC, "rolebindings", true, 3),
    known("Service", CORE, "services", true, 3),
    known("DaemonSet", APPS, "daemonsets", true, LAST_RANK),
    known("Deployment", APPS, "deployments", true, LAST_RANK),
];

/// Objects that belong together, in the order in which they are applied.
#[derive(Clone, Debug)]
pub struct Objects(Vec<Value>);

impl Objects {
    /// Reads YAML, of which each text may hold several documents; lists of objects are taken apart.
    ///
    /// # Errors
    /// - [`ClusterError::Objects`]: a text is no YAML, or holds what can't be applied.
    pub fn read(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, ClusterError> {
        let mut objects = Vec::new();
        for text in texts {
            let options = serde_saphyr::options! {
                budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_nodes: NODES_MAX, max_events: 4 * NODES_MAX },
            };
            let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text.as_ref(), options)
                .map_err(|error| ClusterError::Objects { reason: error.to_string() })?;
            objects.extend(documents.into_iter().flat_map(taken_apart));
        }
        for object in &mut objects {
            if let Some(fields) = object.as_object_mut() {
                // Nobody's to apply.
                fields.remove("status");
            }
            Piece::of(object, "")?;
        }
        Ok(Self(objects))
    }

    /// Moves everything that is in a namespace to this one, as `kustomize` does.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        for object in &mut self.0 {
            if Piece::of(object, "").is_ok_and(|piece| piece.known.is_namespaced) {
                object["metadata"]["namespace"] = namespace.into();
            }
            for subject in accounts(object) {
                subject["namespace"] = namespace.into();
            }
        }
        self
    }

    /// Takes other images, by the names of those that are written there.
    #[must_use]
    pub fn with_images(mut self, images: &BTreeMap<String, String>) -> Self {
        for object in &mut self.0 {
            for list in ["containers", "initContainers"] {
                let containers = object.pointer_mut(&format!("/spec/template/spec/{list}"));
                for container in containers.and_then(Value::as_array_mut).into_iter().flatten() {
                    let name = container["image"].as_str().map(untagged);
                    if let Some(image) = name.and_then(|name| images.get(name)) {
                        container["image"] = image.clone().into();
                    }
                }
            }
        }
        self
    }
}

/// The objects of a document: those of a list, or itself.
fn taken_apart(mut document: Value) -> Vec<Value> {
    let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match document.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if is_list => items,
        _ if document.is_null() => Vec::new(),
        _ => vec![document],
    }
}

/// The service accounts that a binding names.
fn accounts(object: &mut Value) -> impl Iterator<Item = &mut Value> {
    let subjects = object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten();
    subjects.filter(|subject| subject["kind"] == "ServiceAccount")
}

/// `kuberay/operator` of `kuberay/operator:v1`.
fn untagged(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// For people: ``DaemonSet `plugin` ``.
    pub what: String,
    /// Whether it was there and is left as it is.
    pub is_kept: bool,
}

/// An object on its way.
struct Piece<'a> {
    known: &'static Known,
    namespace: Option<String>,
    name: &'a str,
    object: &'a Value,
}

impl<'a> Piece<'a> {
    fn of(object: &'a Value, default_namespace: &str) -> Result<Self, ClusterError> {
        let refuse = |reason: String| ClusterError::Objects { reason };
        let text = |place: &str| object.pointer(place).and_then(Value::as_str);
        let (Some(kind), Some(version)) = (text("/kind"), text("/apiVersion")) else {
            return Err(refuse("an object has no kind or no apiVersion".into()));
        };
        let Some(name) = text("/metadata/name") else { return Err(refuse(format!("a {kind} has no name"))) };
        let known = KNOWN.iter().find(|known| known.kind == kind && known.version == version);
        let Some(known) = known else {
            return Err(refuse(format!("{kind} `{name}` of {version} is none of the kinds that are applied")));
        };
        if object.pointer("/metadata/labels").is_some_and(|labels| !labels.is_object() && !labels.is_null()) {
            return Err(refuse(format!("metadata.labels of {kind} `{name}` is not a mapping")));
        }
        let namespace =
            known.is_namespaced.then(|| text("/metadata/namespace").unwrap_or(default_namespace).to_owned());
        Ok(Self { known, namespace, name, object })
    }

    fn group(&self) -> &'static str {
        self.known.version.rsplit_once('/').map_or("", |(group, _)| group)
    }

    fn path(&self) -> String {
        let root = if self.group().is_empty() { "api" } else { "apis" };
        let namespace =
            self.namespace.as_deref().map(|name| format!("/namespaces/{}", segment(name))).unwrap_or_default();
        format!("/{root}/{}{namespace}/{}/{}", self.known.version, self.known.plural, segment(self.name))
    }

    /// For messages.
    fn what(&self) -> String {
        format!("{} `{}`", self.known.kind, self.name)
    }

    /// What is sent.
    fn wanted(&self) -> Value {
        let mut object = self.object.clone();
        object["metadata"]["labels"][MANAGED_BY] = MANAGER.into();
        if let Some(namespace) = &self.namespace {
            object["metadata"]["namespace"] = namespace.clone().into();
            for subject in accounts(&mut object).filter(|subject| subject["namespace"].is_null()) {
                subject["namespace"] = namespace.clone().into();
            }
        }
        object
    }

    fn resource(&self) -> ApiResource {
        let version = self.known.version.rsplit('/').next().unwrap_or_default();
        let kind = GroupVersionKind::gvk(self.group(), version, self.known.kind);
        ApiResource::from_gvk_with_plural(&kind, self.known.plural)
    }

    /// Whether one can go on once it is applied; of most there is nothing to wait for.
    fn is_done(&self, object: &Value) -> bool {
        let status = &object["status"];
        match self.known.kind {
            "CustomResourceDefinition" => {
                let conditions = status["conditions"].as_array();
                conditions.into_iter().flatten().any(|one| one["type"] == "Established" && one["status"] == "True")
            }
            "Deployment" => {
                let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
                let is_seen = status["observedGeneration"].as_i64() >= object["metadata"]["generation"].as_i64();
                is_seen && status["availableReplicas"].as_i64().unwrap_or(0) >= wanted
            }
            _ => true,
        }
    }
}

fn pieces<'a>(objects: &'a Objects, api: &Api) -> Result<Vec<Piece<'a>>, ClusterError> {
    let mut pieces: Vec<_> =
        objects.0.iter().map(|object| Piece::of(object, api.default_namespace())).collect::<Result<_, _>>()?;
    pieces.sort_by_key(|piece| piece.known.rank);
    Ok(pieces)
}

/// Applies objects in an order in which they are of use, and returns when those that take time are ready.
///
/// Without `update`, what is there already stays as it is.
pub(crate) async fn apply(
    api: &Api,
    objects: &Objects,
    update: bool,
    patience: Duration,
) -> Result<Vec<Applied>, ClusterError> {
    let began = Instant::now();
    let pieces = pieces(objects, api)?;
    let (mut applied, mut missing) = (Vec::new(), Vec::new());
    for piece in pieces {
        let is_kept = !update && get(api, &piece).await?.is_some();
        applied.push(Applied { what: piece.what(), is_kept });
        if !is_kept {
            missing.push(piece);
        }
    }
    // Half an operator would be worse than none; and what stays needs no right.
    check_rights(api, &missing, &["create", "patch"]).await?;
    for rank in 0..=LAST_RANK {
        let pieces: Vec<_> = missing.iter().filter(|piece| piece.known.rank == rank).collect();
        for piece in &pieces {
            let action = format!("apply {}", piece.what());
            let path = format!("{}?fieldManager={MANAGER}&force=true", piece.path());
            api.ask(&Call::with(&action, Method::PATCH, path, APPLY, piece.wanted())).await?;
        }
        for piece in pieces {
            wait(api, piece, began, patience).await?;
        }
    }
    Ok(applied)
}

/// The objects as the API server has them, in the order in which they are given; `None` where there is none.
pub(crate) async fn read(api: &Api, objects: &Objects) -> Result<Vec<Option<Value>>, ClusterError> {
    let mut found = Vec::new();
    for object in &objects.0 {
        found.push(get(api, &Piece::of(object, api.default_namespace())?).await?);
    }
    Ok(found)
}

async fn get(api: &Api, piece: &Piece<'_>) -> Result<Option<Value>, ClusterError> {
    api.ask(&Call::get(&format!("read {}", piece.what()), piece.path())).await
}

async fn wait(api: &Api, piece: &Piece<'_>, began: Instant, patience: Duration) -> Result<(), ClusterError> {
    if piece.is_done(&Value::Null) {
        return Ok(());
    }
    let (namespace, resource) = (piece.namespace.as_deref(), piece.resource());
    let is_done = |object: &Value| piece.is_done(object);
    if watch::until(api, &resource, namespace, piece.name, left(began, patience), is_done).await? {
        return Ok(());
    }
    let why = match piece.known.kind {
        "Deployment" => "no pod of it is available",
        _ => "the API server doesn't serve it yet",
    };
    Err(ClusterError::Late { what: piece.what(), waited: patience, why: why.into() })
}

/// Asks for every right that is needed before anything is written, so that all that are missing can be named.
async fn check_rights(api: &Api, pieces: &[Piece<'_>], verbs: &[&str]) -> Result<(), ClusterError> {
    let wanted: BTreeSet<(&str, &str, Option<&str>)> =
        pieces.iter().map(|piece| (piece.group(), piece.known.plural, piece.namespace.as_deref())).collect();
    let mut missing = Vec::new();
    for (group, plural, namespace) in wanted {
        for verb in verbs {
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {
                    "group": group, "resource": plural, "verb": verb, "namespace": namespace.unwrap_or_default(),
                }},
            });
            let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned();
            let call = Call::with("ask for rights", Method::POST, path, "application/json", review);
            // Who may not even ask will be told by the request itself.
            let answer = match api.ask(&call).await {
                Ok(Some(answer)) => answer,
                Ok(None) | Err(ClusterError::Denied { .. } | ClusterError::NoOperator { .. }) => return Ok(()),
                Err(error) => return Err(error),
            };
            if answer["status"]["allowed"] == false {
                let resource = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
                let place = namespace.map(|name| format!(" in namespace {name}")).unwrap_or_default();
                missing.push(format!("{verb} {resource}{place}"));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let detail = format!("these rights are missing: {}", missing.join(", "));
    Err(ClusterError::Denied { action: "apply the manifests".into(), status: 403, detail })
}

/// Deletes those of the objects that Airfreight has put there, the last ones first, and doesn't wait.
///
/// Definitions of kinds stay: every object of the kind would go with them, whoever has made it.
pub(crate) async fn delete(api: &Api, objects: &Objects) -> Result<Vec<String>, ClusterError> {
    let mut deleted = Vec::new();
    for piece in pieces(objects, api)?.iter().rev().filter(|piece| piece.known.rank > 1) {
        let Some(live) = get(api, piece).await? else { continue };
        if live["metadata"]["labels"][MANAGED_BY] != MANAGER {
            continue;
        }
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
            "preconditions": {"uid": live["metadata"]["uid"]},
        });
        let action = format!("delete {}", piece.what());
        let call = Call::with(&action, Method::DELETE, piece.path(), "application/json", options);
        match api.ask(&call).await {
            Ok(Some(_)) => deleted.push(piece.what()),
            // Gone, or another one by now.
            Ok(None) | Err(ClusterError::Rejected { status: 409, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str) -> String {
        format!("apiVersion: {RBAC}\nkind: ClusterRole\nmetadata: {{name: {name}}}\nrules: []\n")
    }

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}},
        ]});
        let text = format!("{}---\n# nothing\n---\n{}", role("r"), role("s"));
        let objects = Objects::read([text.as_str(), &list.to_string()]).unwrap();
        let names: Vec<_> = objects.0.iter().map(|object| object["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["r", "s", "a"]);
    }

    #[test]
    fn what_cannot_be_applied_is_refused_by_its_name() {
        let refused = |text: &str| Objects::read([text]).unwrap_err().to_string();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}).to_string();
        assert!(refused(&pod).ends_with("Pod `p` of v1 is none of the kinds that are applied"), "{}", refused(&pod));
        let labels =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "labels": ["a"]}}).to_string();
        assert!(refused(&labels).ends_with("metadata.labels of Secret `s` is not a mapping"), "{}", refused(&labels));
        assert!(refused("- 1").ends_with("an object has no kind or no apiVersion"));
        assert!(refused("{a: 1").contains("cannot use the manifests"));
    }

    #[test]
    fn a_namespace_is_set_where_there_is_one_and_for_accounts() {
        let binding = json!({
            "apiVersion": RBAC, "kind": "ClusterRoleBinding", "metadata": {"name": "b"},
            "subjects": [{"kind": "ServiceAccount", "name": "a"}, {"kind": "User", "name": "u"}],
        });
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}});
        let texts = [binding.to_string(), account.to_string()];
        let objects = Objects::read(texts.iter().map(String::as_str)).unwrap().in_namespace("ray");
        assert_eq!(objects.0[0]["metadata"].get("namespace"), None);
        assert_eq!(objects.0[0]["subjects"][0]["namespace"], "ray");
        assert_eq!(objects.0[0]["subjects"][1].get("namespace"), None);
        assert_eq!(objects.0[1]["metadata"]["namespace"], "ray");
        let path = Piece::of(&objects.0[1], "").ok().unwrap().path();
        assert_eq!(path, "/api/v1/namespaces/ray/serviceaccounts/a");
    }

    #[test]
    fn images_are_replaced_by_their_names() {
        let text = json!({
            "apiVersion": APPS, "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"template": {"spec": {"containers": [{"image": "kuberay/operator:old"}, {"image": "other"}]}}},
        });
        let images = BTreeMap::from([("kuberay/operator".to_owned(), "quay.io/kuberay/operator:v1.7.0".to_owned())]);
        let objects = Objects::read([text.to_string().as_str()]).unwrap().with_images(&images);
        let containers = &objects.0[0]["spec"]["template"]["spec"]["containers"];
        assert_eq!(containers[0]["image"], "quay.io/kuberay/operator:v1.7.0");
        assert_eq!(containers[1]["image"], "other");
        assert_eq!(untagged("mirror:5000/kuberay/operator"), "mirror:5000/kuberay/operator");
    }
}
