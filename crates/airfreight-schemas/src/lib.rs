//! What the schemas of `KubeRay` and of Kubernetes say of a spec, by the types that others make of them.
//!
//! A spec is read into its type and written out again: what can't be read is mistyped, what isn't written any more is a
//! field that the schema doesn't know.
//!
//! A crate of its own because these types take minutes to optimise, and the rest of the test kit is optimised.

use std::fmt::Write as _;

use k8s_openapi::api::apps::v1::DaemonSetSpec;
use k8s_openapi::api::core::v1::PodSpec;
use kcr_ray_io::v1::rayclusters::RayClusterSpec;
use kcr_ray_io::v1::rayjobs::RayJobSpec;
use kcr_ray_io::v1::rayservices::RayServiceSpec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Fields of a cluster's spec that `KubeRay` 1.7 has and the types have not.
const YOUNGER: [&str; 3] = ["networkPolicy", "schedulingGates", "tlsOptions"];

/// What is wrong with a spec; fields are named by their way from there.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A field has to be there.
    Missing {
        /// Which.
        field: String,
    },
    /// A value is of another type.
    Mistyped {
        /// Whose.
        field: String,
        /// The value's type, as JSON names it.
        given: String,
        /// The field's.
        wanted: String,
    },
    /// A value is none of the few that there are.
    Unsupported {
        /// Whose.
        field: String,
        /// The value.
        given: String,
        /// Those that there are.
        supported: Vec<String>,
    },
}

/// One step of the way to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
}

/// The way to a field that the schema doesn't know.
#[derive(Debug, PartialEq, Eq)]
pub struct Stranger(Vec<Step>);

impl Stranger {
    /// As servers write it: `workerGroupSpecs[0].maxReplica`.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.0 {
            let _ = match step {
                Step::Field(name) if path.is_empty() => write!(path, "{name}"),
                Step::Field(name) => write!(path, ".{name}"),
                Step::Index(index) => write!(path, "[{index}]"),
            };
        }
        path
    }

    /// Takes the field out.
    pub fn remove_from(&self, spec: &mut Value) {
        let Some((Step::Field(last), way)) = self.0.split_last() else { return };
        let parent = way.iter().try_fold(spec, |value, step| match step {
            Step::Field(name) => value.get_mut(name),
            Step::Index(index) => value.get_mut(index),
        });
        if let Some(fields) = parent.and_then(Value::as_object_mut) {
            fields.remove(last);
        }
    }
}

/// The fields that a kind's schema doesn't know; none for kinds that have no types. Kinds go by their plural.
///
/// # Errors
/// [`Wrong`]: the first thing in it that can't be read.
pub fn strangers(plural: &str, spec: &Value) -> Result<Vec<Stranger>, Wrong> {
    let known = match plural {
        "rayclusters" => again::<RayClusterSpec>(spec)?,
        "rayjobs" => again::<RayJobSpec>(spec)?,
        "rayservices" => again::<RayServiceSpec>(spec)?,
        "daemonsets" => again::<DaemonSetSpec>(spec)?,
        "pods" => again::<PodSpec>(spec)?,
        _ => return Ok(Vec::new()),
    };
    let mut found = Vec::new();
    collect(spec, &known, &mut Vec::new(), &mut found);
    Ok(found)
}

fn again<T: Serialize + DeserializeOwned>(spec: &Value) -> Result<Value, Wrong> {
    let typed: T = serde_path_to_error::deserialize(spec).map_err(|error| {
        let path = error.path().to_string();
        wrong(if path == "." { String::new() } else { path }, &error.into_inner().to_string())
    })?;
    Ok(serde_json::to_value(typed).unwrap_or_default())
}

/// What serde says of a field, taken apart.
fn wrong(field: String, why: &str) -> Wrong {
    let mut quoted = why.split('`').skip(1).step_by(2).map(str::to_owned);
    if why.starts_with("missing field") {
        let name = quoted.next().unwrap_or_default();
        return Wrong::Missing { field: if field.is_empty() { name } else { format!("{field}.{name}") } };
    }
    if why.starts_with("unknown variant") {
        return Wrong::Unsupported { field, given: quoted.next().unwrap_or_default(), supported: quoted.collect() };
    }
    let (given, wanted) = why.trim_start_matches("invalid type: ").split_once(", expected ").unwrap_or((why, ""));
    Wrong::Mistyped { field, given: type_of(given).to_owned(), wanted: type_of(wanted).to_owned() }
}

/// The JSON type that serde's words mean.
fn type_of(words: &str) -> &str {
    let kinds = [
        ("string", &["string", "a string"][..]),
        ("boolean", &["boolean", "a boolean"]),
        ("integer", &["integer", "i32", "i64"]),
        ("number", &["floating point", "f32", "f64"]),
        ("array", &["sequence", "a sequence"]),
        ("object", &["map", "a map", "struct "]),
    ];
    let found = kinds.iter().find(|(_, beginnings)| beginnings.iter().any(|beginning| words.starts_with(beginning)));
    found.map_or(words, |(name, _)| name)
}

/// What of `given` isn't in `known`, on the way that led to both.
fn collect(given: &Value, known: &Value, way: &mut Vec<Step>, found: &mut Vec<Stranger>) {
    if let Some(items) = given.as_array() {
        for (index, item) in items.iter().enumerate() {
            way.push(Step::Index(index));
            collect(item, &known[index], way, found);
            way.pop();
        }
    }
    for (name, value) in given.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        way.push(Step::Field(name.clone()));
        match known.get(name) {
            Some(known) => collect(value, known, way, found),
            None if is_younger(way) => {}
            None => found.push(Stranger(way.clone())),
        }
        way.pop();
    }
}

fn is_younger(way: &[Step]) -> bool {
    let cluster = match way.split_last() {
        Some((Step::Field(name), cluster)) if YOUNGER.contains(&name.as_str()) => cluster,
        _ => return false,
    };
    match cluster {
        [] => true,
        [Step::Field(name)] => matches!(name.as_str(), "rayClusterSpec" | "rayClusterConfig"),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail anywhere")]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> Value {
        let template =
            json!({"spec": {"containers": [{"name": "ray", "image": "ray", "env": [{"name": "A", "value": "1"}]}]}});
        json!({
            "rayVersion": "2.60.0",
            "headGroupSpec": {"rayStartParams": {"dashboard-host": "0.0.0.0"}, "template": template},
            "workerGroupSpecs": [
                {"groupName": "one", "minReplicas": 0, "maxReplicas": 2, "rayStartParams": {}, "template": template},
            ],
            "networkPolicy": {"mode": "DenyAll"},
        })
    }

    fn paths(plural: &str, spec: &Value) -> Vec<String> {
        strangers(plural, spec).unwrap().iter().map(Stranger::path).collect()
    }

    #[test]
    fn what_kuberay_knows_is_no_stranger() {
        assert!(paths("rayclusters", &spec()).is_empty());
        assert!(paths("rayjobs", &json!({"entrypoint": "python a.py", "rayClusterSpec": spec()})).is_empty());
        assert!(paths("rayservices", &json!({"serveConfigV2": "", "rayClusterConfig": spec()})).is_empty());
        assert!(paths("services", &json!({"anything": {"at": "all"}})).is_empty());
    }

    #[test]
    fn a_stranger_is_found_wherever_it_hides() {
        let mut wrong = spec();
        wrong["headGroupSpec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always".into();
        wrong["workerGroupSpecs"][0]["maxReplica"] = 3.into();
        wrong["rayVersionX"] = "1".into();
        // Younger fields belong to clusters alone.
        wrong["headGroupSpec"]["networkPolicy"] = json!({});
        let mut found = paths("rayclusters", &wrong);
        found.sort();
        let wanted = [
            "headGroupSpec.networkPolicy",
            "headGroupSpec.template.spec.containers[0].imagePullPolice",
            "rayVersionX",
            "workerGroupSpecs[0].maxReplica",
        ];
        assert_eq!(found, wanted);
        for stranger in strangers("rayclusters", &wrong).unwrap() {
            stranger.remove_from(&mut wrong);
        }
        assert_eq!(wrong, spec());
    }

    #[test]
    fn a_value_of_another_type_is_named() {
        let mut wrong = spec();
        wrong["workerGroupSpecs"][0]["maxReplicas"] = "three".into();
        let mistyped = |field: &str, given: &str, wanted: &str| Wrong::Mistyped {
            field: field.to_owned(),
            given: given.to_owned(),
            wanted: wanted.to_owned(),
        };
        let told = strangers("rayclusters", &wrong).unwrap_err();
        assert_eq!(told, mistyped("workerGroupSpecs[0].maxReplicas", "string", "integer"));
        let mut wrong = spec();
        wrong["headGroupSpec"]["template"]["spec"]["containers"] = json!({});
        let told = strangers("rayclusters", &wrong).unwrap_err();
        assert_eq!(told, mistyped("headGroupSpec.template.spec.containers", "object", "array"));
    }

    #[test]
    fn what_is_missing_or_none_of_few_is_named() {
        let mut wrong = spec();
        wrong["authOptions"] = json!({"mode": "open"});
        let supported = vec!["disabled".to_owned(), "token".to_owned()];
        let unsupported =
            Wrong::Unsupported { field: "authOptions.mode".to_owned(), given: "open".to_owned(), supported };
        assert_eq!(strangers("rayclusters", &wrong).unwrap_err(), unsupported);
        let mut wrong = spec();
        wrong["headGroupSpec"].as_object_mut().unwrap().remove("template");
        let missing = Wrong::Missing { field: "headGroupSpec.template".to_owned() };
        assert_eq!(strangers("rayclusters", &wrong).unwrap_err(), missing);
    }
}
