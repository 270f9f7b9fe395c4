//! The KubeRay operator: whether it is there, and which.

use serde_json::Value;

use crate::api::{Api, Call, segment};
use crate::error::ClusterError;

/// What KubeRay's chart and its own manifests call the operator's deployment.
const DEPLOYMENT: &str = "kuberay-operator";

/// The KubeRay operator, as far as one can see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Its kinds of objects: `rayclusters`, `rayjobs`, `rayservices`, ….
    pub serves: Vec<String>,
    /// Where its deployment is; `None` if none of the usual name is there, or may be seen.
    pub namespace: Option<String>,
    /// Its version, as its image's tag says: `1.7.0`.
    pub version: Option<String>,
    /// Whether a pod of it runs.
    pub is_available: Option<bool>,
}

/// What there is of the operator; `None` where its objects are not known.
pub(crate) async fn find(api: &Api) -> Result<Option<Operator>, ClusterError> {
    let served = match api.ask(&Call::get("look for KubeRay", "/apis/ray.io/v1".into())).await {
        Ok(Some(served)) => served,
        Ok(None) | Err(ClusterError::NoOperator { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let plurals = served["resources"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str());
    let plurals = plurals.filter(|name| !name.contains('/')).map(str::to_owned).collect();
    let deployment = deployment(api).await?;
    let image = deployment.as_ref().and_then(|one| one["spec"]["template"]["spec"]["containers"][0]["image"].as_str());
    Ok(Some(Operator {
        serves: plurals,
        namespace: deployment.as_ref().and_then(|one| one["metadata"]["namespace"].as_str()).map(str::to_owned),
        version: image.and_then(tag),
        is_available: deployment.map(|one| one["status"]["availableReplicas"].as_i64().unwrap_or(0) > 0),
    }))
}

/// The operator's deployment, wherever one may look.
async fn deployment(api: &Api) -> Result<Option<Value>, ClusterError> {
    let selector = format!("deployments?fieldSelector=metadata.name%3D{DEPLOYMENT}");
    let here = format!("/apis/apps/v1/namespaces/{}/{selector}", segment(api.default_namespace()));
    for path in [format!("/apis/apps/v1/{selector}"), here] {
        match api.ask(&Call::get("look for the KubeRay operator", path)).await {
            Ok(Some(mut list)) => return Ok(list["items"].get_mut(0).map(Value::take)),
            Ok(None) | Err(ClusterError::Denied { .. } | ClusterError::NoOperator { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// `1.7.0` of `quay.io/kuberay/operator:v1.7.0`.
fn tag(image: &str) -> Option<String> {
    let (_, tag) = image.split('@').next()?.rsplit('/').next()?.split_once(':')?;
    Some(tag.trim_start_matches('v').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_images_tag() {
        assert_eq!(tag("quay.io/kuberay/operator:v1.7.0").as_deref(), Some("1.7.0"));
        assert_eq!(tag("mirror:5000/operator:1.6.2@sha256:0a").as_deref(), Some("1.6.2"));
        assert_eq!(tag("mirror:5000/operator@sha256:0a"), None);
    }
}
