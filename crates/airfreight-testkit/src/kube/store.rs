//! Objects with versions, and what has happened to them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// `rayclusters`, `pods`, ….
    pub plural: String,
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The object of this name.
    #[must_use]
    pub fn new(plural: &str, namespace: &str, name: &str) -> Self {
        Self { plural: plural.into(), namespace: namespace.into(), name: name.into() }
    }

    pub(super) fn group(&self) -> Option<&'static str> {
        match self.plural.as_str() {
            plural if plural.starts_with("ray") => Some("ray.io"),
            "ingresses" => Some("networking.k8s.io"),
            _ => None,
        }
    }

    /// As messages call its kind.
    pub(super) fn resource(&self) -> String {
        self.group().map_or_else(|| self.plural.clone(), |group| format!("{}.{group}", self.plural))
    }

    pub(super) fn kind(&self) -> &'static str {
        match self.plural.as_str() {
            "rayclusters" => "RayCluster",
            "rayjobs" => "RayJob",
            "rayservices" => "RayService",
            "pods" => "Pod",
            "services" => "Service",
            "secrets" => "Secret",
            "events" => "Event",
            "ingresses" => "Ingress",
            _ => "Object",
        }
    }

    pub(super) fn api_version(&self) -> &'static str {
        match self.group() {
            Some("ray.io") => "ray.io/v1",
            Some(_) => "networking.k8s.io/v1",
            None => "v1",
        }
    }
}

/// Something that a watch tells.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) kind: &'static str,
    pub(super) key: Key,
    pub(super) object: Value,
}

#[derive(Debug)]
pub(super) struct Store {
    pub(super) version: u64,
    objects: BTreeMap<Key, Value>,
    pub(super) changes: Vec<Change>,
    /// What happened up to here is forgotten.
    pub(super) forgotten: u64,
    uids: u64,
    /// Who has written `spec.workerGroupSpecs` last, which is owned as a whole.
    pub(super) scalers: BTreeMap<Key, String>,
    /// What a manager has applied, so that what it leaves out next time goes.
    pub(super) applied: BTreeMap<(Key, String), Value>,
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            version: 200,
            objects: BTreeMap::new(),
            changes: Vec::new(),
            forgotten: 100,
            uids: 0,
            scalers: BTreeMap::new(),
            applied: BTreeMap::new(),
        }
    }

    pub(super) fn object(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    pub(super) fn list(&self, plural: &str, namespace: &str) -> Vec<(&Key, &Value)> {
        self.objects.iter().filter(|(key, _)| key.plural == plural && key.namespace == namespace).collect()
    }

    /// All of a kind, wherever they are.
    pub(super) fn all(&self, plural: &str) -> Vec<(Key, Value)> {
        let found = self.objects.iter().filter(|(key, _)| key.plural == plural);
        found.map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// Writes an object that isn't there, and answers what it has become.
    pub(super) fn create(&mut self, key: &Key, mut object: Value) -> Value {
        self.uids += 1;
        object["apiVersion"] = key.api_version().into();
        object["kind"] = key.kind().into();
        let metadata = &mut object["metadata"];
        metadata["name"] = key.name.clone().into();
        metadata["namespace"] = key.namespace.clone().into();
        metadata["uid"] = format!("00000000-0000-4000-8000-{:012}", self.uids).into();
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = format!("{:.0}", jiff::Timestamp::now()).into();
        }
        metadata["generation"] = 1.into();
        self.write(key, object, "ADDED")
    }

    /// Writes an object that is there, unless nothing has changed.
    pub(super) fn update(&mut self, key: &Key, mut object: Value) -> Value {
        let Some(old) = self.objects.get(key) else { return object };
        if *old == object {
            return object;
        }
        let is_ending = |object: &Value| object["metadata"]["deletionTimestamp"].is_string();
        if old["spec"] != object["spec"] || is_ending(old) != is_ending(&object) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(1);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        self.write(key, object, "MODIFIED")
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Value> {
        let mut object = self.objects.remove(key)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.scalers.remove(key);
        self.applied.retain(|(known, _), _| known != key);
        self.tell("DELETED", key, object.clone());
        Some(object)
    }

    fn write(&mut self, key: &Key, mut object: Value, kind: &'static str) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(key.clone(), object.clone());
        self.tell(kind, key, object.clone());
        object
    }

    fn tell(&mut self, kind: &'static str, key: &Key, object: Value) {
        self.changes.push(Change { version: self.version, kind, key: key.clone(), object });
    }
}
