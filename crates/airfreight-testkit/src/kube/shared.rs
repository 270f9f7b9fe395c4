//! What the server knows and has been told: the objects, its faults and refusals, and who is to hear of a change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::apply::{self, Manner, Strangers};
use super::operator::Plot;
use super::store::{Key, Store};
use super::{KubeOptions, kinds};

/// A request that has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// `GET`, `PATCH`, ….
    pub method: String,
    /// With its query.
    pub path: String,
}

/// What goes wrong instead of an answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubeFault {
    /// A part of the path with its query; empty for all.
    pub path: String,
    /// Only this method.
    pub method: Option<String>,
    /// How many requests it spares before.
    pub after: u32,
    /// For how many requests.
    pub times: u32,
    /// The status to answer; 0 closes the connection.
    pub status: u16,
}

pub(super) struct Shared {
    pub(super) options: KubeOptions,
    store: Mutex<Store>,
    plot: Mutex<Plot>,
    token: Mutex<Option<String>>,
    denied: Mutex<BTreeSet<(String, String)>>,
    faults: Mutex<Vec<KubeFault>>,
    seen: Mutex<Vec<Seen>>,
    logs: Mutex<BTreeMap<String, String>>,
    changed: watch::Sender<u64>,
    /// Watches of an earlier one have ended.
    pub(super) epoch: AtomicU64,
    /// How often forwarded connections were ended.
    cuts: watch::Sender<u64>,
    /// How often it was restarted, and how long nobody listened the last time.
    pub(super) restarts: watch::Sender<(u64, Duration)>,
}

/// A panic while one of these was held has failed the test already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The store, whose watchers hear of it when this is dropped.
pub(super) struct Writing<'a>(MutexGuard<'a, Store>, &'a watch::Sender<u64>);

impl std::ops::Deref for Writing<'_> {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.0
    }
}

impl std::ops::DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut Store {
        &mut self.0
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let version = self.0.version;
        self.1.send_if_modified(|known| std::mem::replace(known, version) != version);
    }
}

impl Shared {
    pub(super) fn new(options: KubeOptions) -> Self {
        Self {
            plot: Mutex::new(options.plot.clone()),
            token: Mutex::new(options.token.clone()),
            options,
            store: Mutex::new(Store::new()),
            denied: Mutex::default(),
            faults: Mutex::default(),
            seen: Mutex::default(),
            logs: Mutex::default(),
            changed: watch::Sender::new(0),
            epoch: AtomicU64::new(0),
            cuts: watch::Sender::new(0),
            restarts: watch::Sender::new((0, Duration::ZERO)),
        }
    }

    pub(super) fn store(&self) -> Writing<'_> {
        Writing(lock(&self.store), &self.changed)
    }

    pub(super) fn plot(&self) -> MutexGuard<'_, Plot> {
        lock(&self.plot)
    }

    /// KubeRay's kinds that are served: those that are defined, besides those of the beginning.
    pub(super) fn ray_kinds(&self) -> Vec<String> {
        if self.options.has_operator {
            return kinds::RAY_PLURALS.map(str::to_owned).to_vec();
        }
        let defined = self.store().all("customresourcedefinitions");
        let served = defined.iter().filter(|(_, object)| !object["status"].is_null());
        served.filter_map(|(key, _)| key.name.strip_suffix(".ray.io").map(str::to_owned)).collect()
    }

    pub(super) fn token(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.token)
    }

    pub(super) fn denied(&self) -> MutexGuard<'_, BTreeSet<(String, String)>> {
        lock(&self.denied)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Vec<KubeFault>> {
        lock(&self.faults)
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        lock(&self.seen)
    }

    pub(super) fn logs(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        lock(&self.logs)
    }

    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn put(&self, plural: &str, namespace: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = Key::new(plural, namespace, &name);
        let mut store = self.store();
        if store.object(&key).is_some() {
            store.update(&key, object)
        } else {
            store.create(&key, object)
        };
    }

    pub(super) fn merge_status(&self, key: &Key, status: &Value) {
        let manner = Manner {
            manager: "operator",
            force: false,
            dry_run: false,
            strangers: Strangers::Dropped,
            is_status: true,
        };
        apply::merge(&mut self.store(), key, &json!({"status": status}), &manner);
    }

    pub(super) fn scale(&self, key: &Key, group: usize, replicas: i64) {
        let manner = Manner {
            manager: "autoscaler",
            force: false,
            dry_run: false,
            strangers: Strangers::Dropped,
            is_status: false,
        };
        let path = format!("/spec/workerGroupSpecs/{group}/replicas");
        let steps = json!([{"op": "replace", "path": path, "value": replicas}]);
        apply::json_patch(&mut self.store(), key, &steps, &manner);
    }

    /// Removes what belongs to objects that are gone.
    pub(super) fn collect_garbage(&self) {
        let mut store = self.store();
        let owners: Vec<Value> = ["rayclusters", "rayjobs", "rayservices"]
            .iter()
            .flat_map(|plural| store.all(plural))
            .map(|(_, mut object)| object["metadata"]["uid"].take())
            .collect();
        let orphans: Vec<Key> = ["rayclusters", "pods", "services"]
            .iter()
            .flat_map(|plural| store.all(plural))
            .filter(|(_, object)| {
                let owner = &object["metadata"]["ownerReferences"][0]["uid"];
                owner.is_string() && !owners.contains(owner)
            })
            .map(|(key, _)| key)
            .collect();
        for key in orphans {
            store.remove(&key);
        }
    }

    pub(super) fn cut_watches(&self, forget: bool) {
        let mut store = self.store();
        if forget {
            store.version += 1;
            store.forgotten = store.version;
            store.changes.clear();
        }
        self.epoch.fetch_add(1, Ordering::Relaxed);
        drop(store);
        self.changed.send_modify(|_| {});
    }

    pub(super) fn cut_forwards(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub(super) fn restart(&self, pause: Duration) {
        self.cut_watches(true);
        self.cut_forwards();
        self.restarts.send_modify(|(count, last)| (*count, *last) = (*count + 1, pause));
    }

    pub(super) fn cuts(&self) -> watch::Receiver<u64> {
        self.cuts.subscribe()
    }

    /// The fault that strikes this request, if any does.
    pub(super) fn strike(&self, method: &Method, path: &str) -> Option<u16> {
        let mut faults = self.faults();
        let index = faults.iter_mut().position(|fault| {
            let is_meant = fault.times > 0
                && fault.method.as_deref().is_none_or(|only| only.eq_ignore_ascii_case(method.as_str()))
                && path.contains(&fault.path);
            let is_spared = is_meant && fault.after > 0;
            if is_spared {
                fault.after -= 1;
            }
            is_meant && !is_spared
        })?;
        let fault = &mut faults[index];
        fault.times -= 1;
        Some(fault.status)
    }
}
