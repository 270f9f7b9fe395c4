//! Clusters, organisations and projects: what a token opens, and which of it is meant.

use serde::{Deserialize, Deserializer};

use crate::{ApoloError, Result};

/// What the platform says of itself to whoever has a token.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Platform {
    /// Missing on platforms that refuse a bad token outright.
    pub(crate) authorized: Option<bool>,
    #[serde(default)]
    clusters: Vec<Cluster>,
    #[serde(default)]
    projects: Vec<Project>,
}

/// A cluster that the token opens.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Where its images are.
    pub registry_url: String,
    /// Where its jobs' logs are.
    pub monitoring_url: String,
    /// The organisations that may use it.
    #[serde(default, deserialize_with = "named")]
    pub orgs: Vec<String>,
    #[serde(default)]
    resource_presets: Vec<Preset>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Preset {
    name: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Project {
    name: String,
    cluster_name: String,
    org_name: Option<String>,
}

/// Where a job runs and relative names lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The cluster.
    pub cluster: Cluster,
    /// The organisation.
    pub org: Option<String>,
    /// The project.
    pub project: String,
}

impl Platform {
    /// The place that is meant: what is named, else the first there is.
    pub(crate) fn place(&self, cluster: Option<&str>, org: Option<&str>, project: Option<&str>) -> Result<Place> {
        let cluster = self.cluster(cluster)?;
        let orgs = &cluster.orgs;
        let mine = |candidate: &&Project| candidate.cluster_name == cluster.name;
        let org = match org {
            Some(org) if orgs.iter().any(|known| known == org) => Some(org.to_owned()),
            Some(org) => return Err(unknown("organisation", org, orgs.iter().map(String::as_str))),
            // Where a project is named, its organisation follows.
            None => {
                let named = self.projects.iter().filter(mine).find(|known| Some(known.name.as_str()) == project);
                named.and_then(|known| known.org_name.clone()).or_else(|| orgs.first().cloned())
            }
        };
        let mut there = self.projects.iter().filter(mine).filter(|known| known.org_name == org);
        let project = match project {
            Some(project) if there.clone().any(|known| known.name == project) => project.to_owned(),
            Some(project) => return Err(unknown("project", project, there.map(|known| known.name.as_str()))),
            None => match there.next() {
                Some(first) => first.name.clone(),
                None => {
                    return Err(ApoloError::Place {
                        what: "organisation",
                        name: org.unwrap_or_default(),
                        reason: "it has no project that the token opens".into(),
                    });
                }
            },
        };
        Ok(Place { cluster: cluster.clone(), org, project })
    }

    pub(crate) fn cluster(&self, name: Option<&str>) -> Result<&Cluster> {
        let found = match name {
            Some(name) => self.clusters.iter().find(|cluster| cluster.name == name),
            None => self.clusters.first(),
        };
        found.ok_or_else(|| unknown("cluster", name.unwrap_or_default(), self.clusters.iter().map(|c| c.name.as_str())))
    }

    pub(crate) fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }
}

impl Cluster {
    /// `host[:port]` of its registry, as it stands before images' names.
    pub(crate) fn registry(&self) -> String {
        let rest = self.registry_url.split_once("://").map_or(self.registry_url.as_str(), |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default().to_owned()
    }

    /// Refuses a preset that the cluster hasn't, while nothing was posted yet.
    pub(crate) fn check_preset(&self, name: &str) -> Result<()> {
        if self.resource_presets.iter().any(|preset| preset.name == name) {
            return Ok(());
        }
        let presets = self.resource_presets.iter().map(|preset| preset.name.as_str());
        Err(ApoloError::spec(format!("cluster `{}` has no preset `{name}`; {}", self.name, listed(presets))))
    }
}

/// Those that have a name: `null` is how older platforms speak of jobs outside of all organisations.
fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let orgs: Option<Vec<Option<String>>> = Deserialize::deserialize(deserializer)?;
    Ok(orgs.unwrap_or_default().into_iter().flatten().collect())
}

fn unknown<'a>(what: &'static str, name: &str, known: impl Iterator<Item = &'a str>) -> ApoloError {
    ApoloError::Place { what, name: name.to_owned(), reason: format!("the token doesn't open it; {}", listed(known)) }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "there is none".into() } else { format!("there are {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn platform(orgs: &serde_json::Value, org: Option<&str>) -> Platform {
        let cluster = json!({"name": "c", "registry_url": "https://r", "monitoring_url": "https://m", "orgs": orgs});
        let project = json!({"name": "p", "cluster_name": "c", "org_name": org});
        serde_json::from_value(json!({"clusters": [cluster], "projects": [project]})).unwrap()
    }

    #[test]
    fn an_organisation_may_have_no_name() {
        for orgs in [json!([null]), json!([]), json!(null)] {
            assert_eq!(platform(&orgs, None).place(None, None, None).unwrap().org, None);
        }
        let both = platform(&json!([null, "o"]), Some("o"));
        assert_eq!(both.place(None, None, None).unwrap().org.as_deref(), Some("o"));
        assert!(both.place(None, Some("other"), None).is_err());
    }
}
