//! What to run, and the platform's words for it.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::naming::{self, Mount};
use crate::{ApoloError, Place, Result};

/// A job to create. Names may be relative to the connection's cluster, organisation and project.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "as the platform has them")]
pub struct JobSpec {
    image: String,
    /// What a container runtime fetches, for who has worked that out already.
    docker_image: Option<String>,
    command: Option<String>,
    entrypoint: Option<String>,
    working_dir: Option<String>,
    preset: Option<String>,
    resources: Option<Map<String, Value>>,
    shm: Option<bool>,
    scheduler_enabled: bool,
    http_port: Option<u16>,
    http_auth: Option<bool>,
    env: Map<String, Value>,
    secret_env: Map<String, Value>,
    volumes: Vec<Volume>,
    tty: bool,
    name: Option<String>,
    tags: Vec<String>,
    description: Option<String>,
    life_span: Option<f64>,
    schedule_timeout: Option<f64>,
    restart_policy: Option<String>,
    priority: Option<String>,
    pass_config: bool,
    wait_for_quota: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Volume {
    Text(String),
    Parts {
        uri: String,
        container_path: String,
        #[serde(default)]
        read_only: bool,
    },
}

/// The most tags that the platform takes.
const TAGS_MAX: usize = 16;
const RESTART_POLICIES: [&str; 3] = ["never", "on-failure", "always"];
const PRIORITIES: [&str; 3] = ["low", "normal", "high"];

impl JobSpec {
    /// Reads a description whose keys are the fields of this struct; what is missing has the platform's default.
    ///
    /// # Errors
    /// - [`ApoloError::Spec`]: a key is unknown, or its value of another kind.
    pub fn from_json(value: Value) -> Result<Self> {
        serde_json::from_value(value).map_err(|source| ApoloError::spec(source.to_string()))
    }

    /// Whether the platform looks the resources up by a preset's name.
    pub(crate) fn preset(&self) -> Option<&str> {
        self.preset.as_deref()
    }

    /// Adds tags to those that are asked for.
    #[must_use]
    pub fn tagged(mut self, tags: impl IntoIterator<Item = String>) -> Self {
        for tag in tags {
            if !self.tags.contains(&tag) {
                self.tags.push(tag);
            }
        }
        self
    }

    /// The body of `POST jobs`, or, with a preset, of `POST jobs?from_preset`.
    ///
    /// # Errors
    /// - [`ApoloError::Spec`]: what can't be right, with the reason.
    pub fn body(&self, place: &Place) -> Result<Value> {
        self.check()?;
        let mut body = Map::new();
        let text = |body: &mut Map<String, Value>, key: &str, value: &Option<String>| {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                body.insert(key.into(), value.as_str().into());
            }
        };
        body.insert("cluster_name".into(), place.cluster.name.as_str().into());
        if let Some(org) = &place.org {
            body.insert("org_name".into(), org.as_str().into());
        }
        body.insert("project_name".into(), place.project.as_str().into());
        body.insert("pass_config".into(), self.pass_config.into());
        text(&mut body, "name", &self.name);
        text(&mut body, "description", &self.description);
        text(&mut body, "priority", &self.priority);
        if !self.tags.is_empty() {
            body.insert("tags".into(), json!(self.tags));
        }
        if let Some(policy) = self.restart_policy.as_ref().filter(|policy| *policy != "never") {
            body.insert("restart_policy".into(), policy.as_str().into());
        }
        if let Some(seconds) = self.schedule_timeout.filter(|seconds| *seconds > 0.0) {
            body.insert("schedule_timeout".into(), json!(seconds));
        }
        if let Some(seconds) = self.life_span {
            // The platform counts in minutes, and takes no 0.
            body.insert("max_run_time_minutes".into(), json!(whole_minutes(seconds)));
        }
        if self.wait_for_quota {
            body.insert("wait_for_jobs_quota".into(), true.into());
        }
        let mut container = self.container(place)?;
        match (&self.preset, &self.resources) {
            (Some(preset), _) => {
                body.insert("preset_name".into(), preset.as_str().into());
                if self.shm.unwrap_or(false) {
                    container.insert("resources".into(), json!({"shm": true}));
                }
                body.extend(container);
            }
            (None, Some(resources)) => {
                body.insert("scheduler_enabled".into(), self.scheduler_enabled.into());
                container.insert("resources".into(), Value::Object(resources.clone()));
                body.insert("container".into(), Value::Object(container));
            }
            (None, None) => return Err(ApoloError::spec("it has neither a preset nor resources")),
        }
        Ok(Value::Object(body))
    }

    fn container(&self, place: &Place) -> Result<Map<String, Value>> {
        let mut container = Map::new();
        let image = match &self.docker_image {
            Some(image) => image.clone(),
            None => naming::docker_image(&self.image, place)?,
        };
        container.insert("image".into(), image.into());
        for (key, value) in
            [("command", &self.command), ("entrypoint", &self.entrypoint), ("working_dir", &self.working_dir)]
        {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                container.insert(key.into(), value.as_str().into());
            }
        }
        if let Some(port) = self.http_port {
            container.insert("http".into(), json!({"port": port, "requires_auth": self.http_auth.unwrap_or(true)}));
        }
        if self.tty {
            container.insert("tty".into(), true.into());
        }
        let mut env = Map::new();
        let mut secret_env = Map::new();
        for (name, value) in &self.env {
            // As in the platform's own command line.
            match value.as_str() {
                Some(uri) if uri.starts_with("secret:") => {
                    secret_env.insert(name.clone(), naming::resource_uri(uri, "secret", place)?.into());
                }
                Some(text) => drop(env.insert(name.clone(), text.into())),
                None => return Err(ApoloError::spec(format!("the variable `{name}` is not a text"))),
            }
        }
        for (name, uri) in &self.secret_env {
            let uri = uri.as_str().ok_or_else(|| ApoloError::spec(format!("the secret of `{name}` is not a URI")))?;
            secret_env.insert(name.clone(), naming::resource_uri(uri, "secret", place)?.into());
        }
        let (mut storage, mut secrets, mut disks) = (Vec::new(), Vec::new(), Vec::new());
        for volume in &self.volumes {
            let mount = match volume {
                Volume::Text(text) => naming::volume(text, place)?,
                Volume::Parts { uri, container_path, read_only } => {
                    naming::mount(uri, container_path, *read_only, place)?
                }
            };
            match mount {
                Mount::Storage(mount) => storage.push(mount),
                Mount::Secret(mount) => secrets.push(mount),
                Mount::Disk(mount) => disks.push(mount),
            }
        }
        for (key, map) in [("env", env), ("secret_env", secret_env)] {
            if !map.is_empty() {
                container.insert(key.into(), Value::Object(map));
            }
        }
        for (key, list) in [("volumes", storage), ("secret_volumes", secrets), ("disk_volumes", disks)] {
            if !list.is_empty() {
                container.insert(key.into(), Value::Array(list));
            }
        }
        Ok(container)
    }

    fn check(&self) -> Result<()> {
        let one_of = |what: &str, value: &Option<String>, known: &[&str]| match value {
            Some(value) if !value.is_empty() && !known.contains(&value.as_str()) => {
                Err(ApoloError::spec(format!("{what} is `{value}` and none of {}", known.join(", "))))
            }
            _ => Ok(()),
        };
        one_of("the restart policy", &self.restart_policy, &RESTART_POLICIES)?;
        one_of("the priority", &self.priority, &PRIORITIES)?;
        if self.preset.is_some() && self.resources.is_some() {
            return Err(ApoloError::spec("it has both a preset and resources"));
        }
        if self.tags.len() > TAGS_MAX {
            return Err(ApoloError::spec(format!(
                "it has {} tags with those of Airfreight, and Apolo takes {TAGS_MAX}",
                self.tags.len()
            )));
        }
        if let Some(tag) = self.tags.iter().find(|tag| tag.is_empty() || tag.len() > 256 || tag.contains(' ')) {
            return Err(ApoloError::spec(format!("the tag `{tag}` is empty, too long or has a blank in it")));
        }
        if self.life_span.is_some_and(|seconds| !seconds.is_finite() || seconds <= 0.0) {
            return Err(ApoloError::spec("its life span is no number of seconds above 0"));
        }
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be positive; saturates")]
fn whole_minutes(seconds: f64) -> u64 {
    (seconds / 60.0).ceil().max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_span_is_rounded_up_to_minutes() {
        assert_eq!([0.1, 30.0, 60.0, 61.0, 3600.0].map(whole_minutes), [1, 1, 1, 2, 60]);
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let refused = JobSpec::from_json(json!({"image": "a", "volume": []})).unwrap_err();
        assert!(refused.to_string().contains("unknown field `volume`"), "{refused}");
    }
}
