//! Objects with versions, and what has happened to them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kinds;

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
        kinds::of(&self.plural).map(|kind| kind.group).filter(|group| !group.is_empty())
    }

    /// As messages call its kind.
    pub(super) fn resource(&self) -> String {
        self.group().map_or_else(|| self.plural.clone(), |group| format!("{}.{group}", self.plural))
    }

    pub(super) fn kind(&self) -> &'static str {
        kinds::of(&self.plural).map_or("Object", |kind| kind.name)
    }

    pub(super) fn api_version(&self) -> String {
        self.group().map_or_else(|| "v1".to_owned(), |group| format!("{group}/v1"))
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

    /// All of a kind in a namespace, or in all of them if it is empty.
    pub(super) fn list(&self, plural: &str, namespace: &str) -> Vec<(&Key, &Value)> {
        let is_there = |key: &Key| namespace.is_empty() || key.namespace == namespace;
        self.objects.iter().filter(|(key, _)| key.plural == plural && is_there(key)).collect()
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
        if !key.namespace.is_empty() {
            metadata["namespace"] = key.namespace.clone().into();
        }
        metadata["uid"] = format!("00000000-0000-4000-8000-{:012}", self.uids).into();
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = format!("{:.0}", jiff::Timestamp::now()).into();
        }
        if has_generation(&key.plural) {
            metadata["generation"] = 1.into();
        }
        self.write(key, object, "ADDED")
    }

    /// Writes an object that is there, unless nothing has changed.
    pub(super) fn update(&mut self, key: &Key, mut object: Value) -> Value {
        let Some(old) = self.objects.get(key) else { return object };
        if *old == object {
            return object;
        }
        let is_ending = |object: &Value| object["metadata"]["deletionTimestamp"].is_string();
        let is_changed = old["spec"] != object["spec"] || is_ending(old) != is_ending(&object);
        if is_changed && has_generation(&key.plural) {
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

/// Whether an object's changes are counted.
fn has_generation(plural: &str) -> bool {
    !matches!(plural, "configmaps" | "events" | "namespaces" | "secrets" | "serviceaccounts")
}
