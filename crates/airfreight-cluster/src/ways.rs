//! The ways to a cluster's head, as its service and ingress say them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::api::{Api, Call, core_path, segment};
use crate::clusters::Known;
use crate::error::ClusterError;
use crate::watch::CLUSTER;

/// Where Ray's dashboard listens on the head.
pub const DASHBOARD_PORT: u16 = 8265;

/// What leads to the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayKind {
    /// The service's name, which only pods of the same Kubernetes cluster can resolve.
    Service,
    /// An address that a load balancer gave it.
    LoadBalancer,
    /// A port of the head's node.
    NodePort,
    /// A path of an ingress; for the dashboard alone.
    Ingress,
}

impl WayKind {
    /// Its name in logs and Python.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::LoadBalancer => "load_balancer",
            Self::NodePort => "node_port",
            Self::Ingress => "ingress",
        }
    }
}

/// One way to the head's services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// What leads there.
    pub kind: WayKind,
    /// A URL for each port of the service by its name: `dashboard`, `client`, `gcs-server`, ….
    pub urls: BTreeMap<String, String>,
}

impl Way {
    /// The dashboard's URL, if this way leads to it.
    #[must_use]
    pub fn dashboard(&self) -> Option<&str> {
        self.urls.get("dashboard").map(String::as_str)
    }

    /// Whether the dashboard takes a connection from here.
    pub async fn is_open(&self, patience: Duration) -> bool {
        let Some(uri) = self.dashboard().and_then(|url| url.parse::<http::Uri>().ok()) else { return false };
        let Some(host) = uri.host() else { return false };
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let address = (host.trim_matches(['[', ']']).to_owned(), port);
        matches!(timeout(patience, TcpStream::connect(address)).await, Ok(Ok(_)))
    }
}

pub(crate) async fn of(api: &Api, known: &Known) -> Result<Vec<Way>, ClusterError> {
    let (namespace, name) = (&known.namespace, &known.name);
    let status = &known.object["status"]["head"];
    let service = status["serviceName"].as_str().map_or_else(|| format!("{name}-head-svc"), str::to_owned);
    let action = format!("read the service `{service}`");
    let found = api.ask(&Call::get(&action, core_path(namespace, "services", Some(&service)))).await?;
    let Some(found) = found else {
        let reason = format!("its head has no service `{service}` (yet)");
        return Err(ClusterError::Unreachable { name: name.clone(), namespace: namespace.clone(), reason });
    };
    let mut ways =
        vec![Way { kind: WayKind::Service, urls: urls(&found, "port", &format!("{service}.{namespace}.svc")) }];
    for ingress in found["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten() {
        if let Some(host) = ingress["ip"].as_str().or(ingress["hostname"].as_str()) {
            ways.push(Way { kind: WayKind::LoadBalancer, urls: urls(&found, "port", host) });
        }
    }
    if found["spec"]["ports"].as_array().into_iter().flatten().any(|port| port["nodePort"].is_u64())
        && let Some(host) = head_host(api, namespace, name).await
    {
        ways.push(Way { kind: WayKind::NodePort, urls: urls(&found, "nodePort", &host) });
    }
    if known.object["spec"]["headGroupSpec"]["enableIngress"] == true
        && let Some(url) = ingress(api, namespace, name).await
    {
        ways.push(Way { kind: WayKind::Ingress, urls: BTreeMap::from([("dashboard".to_owned(), url)]) });
    }
    Ok(ways)
}

/// A URL for each port of a service that has the field.
fn urls(service: &Value, field: &str, host: &str) -> BTreeMap<String, String> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports
        .filter_map(|port| {
            let number = port[field].as_u64().filter(|number| *number > 0)?;
            Some((port["name"].as_str()?.to_owned(), format!("http://{host}:{number}")))
        })
        .collect()
}

/// The address of the node that the head pod runs on, which needs no right to read nodes.
async fn head_host(api: &Api, namespace: &str, name: &str) -> Option<String> {
    let pod = head_pod(api, namespace, name).await.ok()??;
    pod["status"]["hostIP"].as_str().map(str::to_owned)
}

/// The head's pod, if there is one that isn't being removed.
pub(crate) async fn head_pod(api: &Api, namespace: &str, name: &str) -> Result<Option<Value>, ClusterError> {
    let selector = segment(&format!("{CLUSTER}={name},ray.io/node-type=head"));
    let path = format!("{}?labelSelector={selector}", core_path(namespace, "pods", None));
    let action = format!("look for the head pod of RayCluster `{name}`");
    let Some(mut list) = api.ask(&Call::get(&action, path)).await? else { return Ok(None) };
    let Value::Array(pods) = list["items"].take() else { return Ok(None) };
    let mut pods: Vec<Value> =
        pods.into_iter().filter(|pod| !pod["metadata"]["deletionTimestamp"].is_string()).collect();
    // One that runs before one that is on its way.
    pods.sort_by_key(|pod| pod["status"]["phase"] != "Running");
    Ok(pods.into_iter().next())
}

/// The dashboard behind the ingress that KubeRay makes where the description asks for one.
async fn ingress(api: &Api, namespace: &str, name: &str) -> Option<String> {
    let path = format!(
        "/apis/networking.k8s.io/v1/namespaces/{}/ingresses/{}",
        segment(namespace),
        segment(&format!("{name}-head-ingress"))
    );
    let found = api.ask(&Call::get("read the cluster's ingress", path)).await.ok()??;
    let rule = &found["spec"]["rules"][0];
    let given = &found["status"]["loadBalancer"]["ingress"][0];
    let host = rule["host"].as_str().or(given["ip"].as_str()).or(given["hostname"].as_str())?;
    // `/name/(.*)` stands for what is behind `/name`.
    let path = rule["http"]["paths"][0]["path"].as_str().unwrap_or("/");
    let prefix = path.split('(').next().unwrap_or(path).trim_end_matches('/');
    let scheme = if found["spec"]["tls"].is_array() { "https" } else { "http" };
    Some(format!("{scheme}://{host}{prefix}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_port_has_a_url() {
        let service = json!({"spec": {"ports": [
            {"name": "dashboard", "port": 8265, "nodePort": 30001}, {"name": "client", "port": 10001},
        ]}});
        let found = urls(&service, "port", "demo-head-svc.ns.svc");
        assert_eq!(found["dashboard"], "http://demo-head-svc.ns.svc:8265");
        assert_eq!(found["client"], "http://demo-head-svc.ns.svc:10001");
        assert_eq!(
            urls(&service, "nodePort", "fd00::1"),
            BTreeMap::from([("dashboard".to_owned(), "http://[fd00::1]:30001".to_owned())])
        );
    }
}
