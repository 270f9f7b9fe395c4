//! The kinds of objects that are served, and how clients find out about them.

use serde_json::{Value, json};

/// One kind.
#[derive(Debug)]
pub(super) struct Kind {
    /// As paths have it.
    pub(super) plural: &'static str,
    pub(super) name: &'static str,
    /// Empty for the core.
    pub(super) group: &'static str,
    pub(super) is_namespaced: bool,
}

const fn kind(plural: &'static str, name: &'static str, group: &'static str, is_namespaced: bool) -> Kind {
    Kind { plural, name, group, is_namespaced }
}

const RAY: &str = "ray.io";
const RBAC: &str = "rbac.authorization.k8s.io";

const KINDS: [Kind; 21] = [
    kind("configmaps", "ConfigMap", "", true),
    kind("events", "Event", "", true),
    kind("namespaces", "Namespace", "", false),
    kind("pods", "Pod", "", true),
    kind("secrets", "Secret", "", true),
    kind("serviceaccounts", "ServiceAccount", "", true),
    kind("services", "Service", "", true),
    kind("customresourcedefinitions", "CustomResourceDefinition", "apiextensions.k8s.io", false),
    kind("daemonsets", "DaemonSet", "apps", true),
    kind("deployments", "Deployment", "apps", true),
    kind("selfsubjectaccessreviews", "SelfSubjectAccessReview", "authorization.k8s.io", false),
    kind("ingresses", "Ingress", "networking.k8s.io", true),
    kind("rayclusters", "RayCluster", RAY, true),
    kind("rayjobs", "RayJob", RAY, true),
    kind("rayservices", "RayService", RAY, true),
    kind("raycronjobs", "RayCronJob", RAY, true),
    kind("clusterrolebindings", "ClusterRoleBinding", RBAC, false),
    kind("clusterroles", "ClusterRole", RBAC, false),
    kind("rolebindings", "RoleBinding", RBAC, true),
    kind("roles", "Role", RBAC, true),
    kind("priorityclasses", "PriorityClass", "scheduling.k8s.io", false),
];

/// Those of KubeRay's that are there from the beginning.
pub(super) const RAY_PLURALS: [&str; 4] = ["rayclusters", "rayjobs", "rayservices", "raycronjobs"];

/// The kind of a plural.
pub(super) fn of(plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.plural == plural)
}

/// Whether a path of this group, version and plural is served.
pub(super) fn is_served(group: &str, version: &str, plural: &str, ray: &[String]) -> bool {
    // The youngest kind has never had another version.
    let is_version = version == "v1" || (group == RAY && version == "v1alpha1" && plural != "raycronjobs");
    is_version
        && of(plural).is_some_and(|kind| kind.group == group && (group != RAY || ray.iter().any(|p| p == plural)))
}

/// What clients ask before they ask for objects; `None` if the path is another, or nobody serves the group.
pub(super) fn discovery(path: &str, ray: &[String]) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["version"] => Some(json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0", "platform": "linux/amd64"})),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        ["api", "v1"] => resources("", "v1", ray),
        ["apis"] => {
            let groups: Vec<Value> = groups().into_iter().filter_map(|name| group(name, ray)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => {
            let mut group = group(name, ray)?;
            (group["kind"], group["apiVersion"]) = ("APIGroup".into(), "v1".into());
            Some(group)
        }
        ["apis", group, version] => resources(group, version, ray),
        _ => None,
    }
}

fn groups() -> Vec<&'static str> {
    let mut groups: Vec<_> = KINDS.iter().map(|kind| kind.group).filter(|group| !group.is_empty()).collect();
    groups.dedup();
    groups
}

fn group(name: &str, ray: &[String]) -> Option<Value> {
    if !groups().contains(&name) || (name == RAY && ray.is_empty()) {
        return None;
    }
    let versions: &[&str] = if name == RAY { &["v1", "v1alpha1"] } else { &["v1"] };
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    Some(json!({"name": name, "versions": versions, "preferredVersion": versions[0]}))
}

fn resources(group: &str, version: &str, ray: &[String]) -> Option<Value> {
    const ALL: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
    let kinds = KINDS.iter().filter(|kind| kind.group == group && is_served(group, version, kind.plural, ray));
    let mut resources = Vec::new();
    for kind in kinds {
        let described = |name: &str, singular: &str, verbs: &[&str]| {
            json!({
                "name": name, "singularName": singular, "namespaced": kind.is_namespaced, "kind": kind.name,
                "verbs": verbs,
            })
        };
        resources.push(described(kind.plural, &kind.name.to_lowercase(), &ALL));
        if group == RAY {
            resources.push(described(&format!("{}/status", kind.plural), "", &["get", "patch", "update"]));
        }
    }
    let version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!resources.is_empty()).then(
        || json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}),
    )
}
