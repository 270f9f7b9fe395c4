//! Waiting for a cluster, by watching it, its pods and what Kubernetes says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{Stream, StreamExt as _};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;
use tokio::time::{sleep, timeout_at};

use crate::api::{Api, Call, core_path, segment};
use crate::clusters::left;
use crate::error::{ClusterError, Source};
use crate::kind::Kind as RayKind;
use crate::reasons::{Outlook, Reason, of_cluster, of_pod};

/// The label of everything that belongs to a cluster.
pub(crate) const CLUSTER: &str = "ray.io/cluster";
/// A watch that was refused or cut begins again after so long.
const PAUSE: Duration = Duration::from_secs(1);
/// Of the log of a container that crashes.
const LINES: u32 = 10;

/// Something that has changed while one waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying {
    /// For people.
    pub line: String,
    /// Whether it keeps the cluster from becoming ready.
    pub is_problem: bool,
}

/// Which of the watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Cluster,
    Pod,
    Event,
}

pub(crate) enum Seen {
    There(Kind, Value),
    Gone(Kind, String),
    /// Everything that there is has been told.
    Listed(Kind),
    /// What was told so far may be out of date; it is told again.
    Anew(Kind),
    Failed(Kind, watcher::Error),
}

pub(crate) type Sights = SelectAll<BoxStream<'static, Seen>>;

fn sights(api: &Api, namespace: &str, name: &str, kinds: &[Kind]) -> Sights {
    let mut all = SelectAll::new();
    for kind in kinds {
        let (group, version, object, plural) = match kind {
            Kind::Cluster => ("ray.io", "v1", RayKind::Cluster.as_str(), "rayclusters"),
            Kind::Pod => ("", "v1", "Pod", "pods"),
            Kind::Event => ("", "v1", "Event", "events"),
        };
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, object), plural);
        let objects: kube::Api<DynamicObject> = kube::Api::namespaced_with(api.client.clone(), namespace, &resource);
        let config = match kind {
            Kind::Cluster => named(name),
            Kind::Pod => watcher::Config::default().labels(&format!("{CLUSTER}={name}")),
            Kind::Event => watcher::Config::default().fields("type=Warning"),
        };
        all.push(followed(*kind, watcher(objects, config)).boxed());
    }
    all
}

/// One object of KubeRay's, and nothing of what belongs to it.
pub(crate) fn only(api: &Api, namespace: &str, kind: RayKind, name: &str) -> Sights {
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("ray.io", "v1", kind.as_str()), kind.plural());
    let objects: kube::Api<DynamicObject> = kube::Api::namespaced_with(api.client.clone(), namespace, &resource);
    let mut sights = SelectAll::new();
    sights.push(followed(Kind::Cluster, watcher(objects, named(name))).boxed());
    sights
}

fn named(name: &str) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={name}"))
}

/// A watch that goes on after errors, not in haste.
fn followed(
    kind: Kind,
    events: impl Stream<Item = watcher::Result<Event<DynamicObject>>> + Send + 'static,
) -> impl Stream<Item = Seen> + Send {
    stream::unfold((events.boxed(), false), move |(mut events, has_failed)| async move {
        if has_failed {
            sleep(PAUSE).await;
        }
        let event = events.next().await?;
        let has_failed = event.is_err();
        Some((seen(kind, event), (events, has_failed)))
    })
}

fn seen(kind: Kind, event: watcher::Result<Event<DynamicObject>>) -> Seen {
    let value = |object: DynamicObject| serde_json::to_value(object).unwrap_or_default();
    match event {
        Ok(Event::Apply(object) | Event::InitApply(object)) => Seen::There(kind, value(object)),
        Ok(Event::Delete(object)) => Seen::Gone(kind, object.metadata.name.unwrap_or_default()),
        Ok(Event::Init) => Seen::Anew(kind),
        Ok(Event::InitDone) => Seen::Listed(kind),
        Err(error) => Seen::Failed(kind, error),
    }
}

/// What we know of a cluster, and have said of it.
struct View<'a> {
    api: &'a Api,
    name: &'a str,
    cluster: Option<Value>,
    pods: BTreeMap<String, Value>,
    /// Names that the list which is just being read has.
    relisted: BTreeSet<String>,
    is_listed: bool,
    are_pods_listed: bool,
    failing: Option<Instant>,
    /// By subject.
    said: BTreeMap<String, String>,
    problems: BTreeMap<String, Problem>,
}

struct Problem {
    line: String,
    since: Instant,
    lasting: Duration,
    log: Option<(String, String)>,
}

impl<'a> View<'a> {
    fn new(api: &'a Api, name: &'a str) -> Self {
        Self {
            api,
            name,
            cluster: None,
            pods: BTreeMap::new(),
            relisted: BTreeSet::new(),
            is_listed: false,
            are_pods_listed: false,
            failing: None,
            said: BTreeMap::new(),
            problems: BTreeMap::new(),
        }
    }

    /// Takes over what was seen; what is worth saying of it goes to `tell`.
    fn see(&mut self, seen: Seen, tell: &mut dyn FnMut(Saying)) -> Result<(), ClusterError> {
        if !matches!(seen, Seen::Failed(..)) {
            self.failing = None;
        }
        match seen {
            Seen::There(Kind::Cluster, object) => {
                let reason = of_cluster(&object);
                self.cluster = Some(object);
                self.judge(format!("RayCluster {}:", self.name), &reason, None, tell);
            }
            Seen::Gone(Kind::Cluster, _) => self.cluster = None,
            Seen::Anew(Kind::Cluster) => (self.cluster, self.is_listed) = (None, false),
            Seen::Listed(Kind::Cluster) => self.is_listed = true,
            Seen::There(Kind::Pod, pod) => self.see_pod(pod, tell),
            Seen::Gone(Kind::Pod, pod) => self.forget_pod(&pod),
            Seen::Anew(Kind::Pod) => {
                self.relisted.clear();
                self.are_pods_listed = false;
            }
            Seen::Listed(Kind::Pod) => {
                self.are_pods_listed = true;
                let gone: Vec<String> = self.pods.keys().filter(|pod| !self.relisted.contains(*pod)).cloned().collect();
                for pod in gone {
                    self.forget_pod(&pod);
                }
            }
            Seen::There(Kind::Event, event) => self.hear(&event, tell),
            Seen::Gone(Kind::Event, _) | Seen::Anew(Kind::Event) | Seen::Listed(Kind::Event) => {}
            Seen::Failed(kind, error) => self.fail(kind, error, tell)?,
        }
        Ok(())
    }

    fn see_pod(&mut self, pod: Value, tell: &mut dyn FnMut(Saying)) {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let role = pod["metadata"]["labels"]["ray.io/node-type"].as_str().unwrap_or("worker").to_owned();
        let reason = of_pod(&pod);
        self.relisted.insert(name.clone());
        self.pods.insert(name.clone(), pod);
        self.judge(format!("pod {name} ({role})"), &reason, Some(&name), tell);
    }

    fn forget_pod(&mut self, name: &str) {
        self.pods.remove(name);
        let subject = format!("pod {name} (");
        self.said.retain(|known, _| !known.starts_with(&subject));
        self.problems.retain(|known, _| !known.starts_with(&subject));
    }

    /// Warnings about the cluster or its pods that their own status doesn't have.
    fn hear(&mut self, event: &Value, tell: &mut dyn FnMut(Saying)) {
        let about = event["involvedObject"]["name"].as_str().unwrap_or_default();
        let is_ours = match event["involvedObject"]["kind"].as_str() {
            Some("RayCluster") => about == self.name,
            Some("Pod") => self.pods.contains_key(about),
            _ => false,
        };
        let (reason, message) = (event["reason"].as_str(), event["message"].as_str());
        let (Some(reason), Some(message)) = (reason, message) else { return };
        // Those two say what the status says, in other words each time.
        if is_ours && !matches!(reason, "FailedScheduling" | "BackOff") {
            self.say(format!("{about}: {reason}"), format!("{about}: {message}"), true, tell);
        }
    }

    fn judge(&mut self, subject: String, reason: &Reason, pod: Option<&str>, tell: &mut dyn FnMut(Saying)) {
        let line = format!("{subject} {}", reason.line);
        let is_problem = reason.is_problem();
        if let Outlook::Hopeless { lasting, container } = &reason.outlook {
            let log = container.as_ref().zip(pod).map(|(container, pod)| (pod.to_owned(), container.clone()));
            let fresh = Problem { line: line.clone(), since: Instant::now(), lasting: *lasting, log };
            let known = self.problems.entry(subject.clone()).or_insert(fresh);
            known.line.clone_from(&line);
        } else {
            self.problems.remove(&subject);
        }
        self.say(subject, line, is_problem, tell);
    }

    fn say(&mut self, subject: String, line: String, is_problem: bool, tell: &mut dyn FnMut(Saying)) {
        if self.said.get(&subject) != Some(&line) {
            self.said.insert(subject, line.clone());
            tell(Saying { line, is_problem });
        }
    }

    fn fail(&mut self, kind: Kind, error: watcher::Error, tell: &mut dyn FnMut(Saying)) -> Result<(), ClusterError> {
        let action = format!("watch RayCluster `{}`", self.name);
        let source: Source = match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => match self.api.passing(&action, error) {
                Ok(source) => source,
                Err(final_error) if kind == Kind::Cluster => return Err(final_error),
                Err(final_error) => {
                    // Without the right to see pods one can still wait, only not say why it takes so long.
                    let what = if kind == Kind::Pod { "its pods" } else { "its events" };
                    if kind == Kind::Pod {
                        self.are_pods_listed = true;
                    }
                    self.say(what.into(), format!("can't see {what}: {final_error}"), false, tell);
                    return Ok(());
                }
            },
            other => other.to_string().into(),
        };
        if kind != Kind::Cluster {
            return Ok(());
        }
        let since = *self.failing.get_or_insert_with(Instant::now);
        if since.elapsed() < self.api.patience {
            return Ok(());
        }
        let (server, elapsed) = (self.api.server.clone(), since.elapsed());
        let attempts = u32::try_from(elapsed.as_secs().max(1)).unwrap_or(u32::MAX);
        Err(ClusterError::Unavailable { action, server, attempts, elapsed, source })
    }

    /// The problem that ends the wait, and when it does.
    fn worst(&self) -> Option<(Instant, &Problem)> {
        let is_head_enough =
            self.cluster.as_ref().is_some_and(|cluster| cluster["spec"]["enableInTreeAutoscaling"] == true);
        self.problems
            .iter()
            .filter(|(subject, _)| !(is_head_enough && subject.ends_with("(worker)")))
            .map(|(_, problem)| (problem.since + problem.lasting, problem))
            .min_by_key(|(due, _)| *due)
    }

    /// What one waits for.
    fn why(&self) -> String {
        let problems: Vec<&str> = self
            .said
            .iter()
            .filter(|(subject, _)| !subject.starts_with("RayCluster "))
            .map(|(_, line)| line.as_str())
            .collect();
        let own =
            self.said.iter().find(|(subject, _)| subject.starts_with("RayCluster ")).map(|(_, line)| line.as_str());
        let mut all: Vec<&str> = own.into_iter().collect();
        all.extend(problems.into_iter().take(5));
        if all.is_empty() { "nothing is known of it".into() } else { all.join("; ") }
    }

    /// The last lines of a container that crashes, if they can be had.
    async fn last_lines(&self, namespace: &str, pod: &str, container: &str) -> Option<String> {
        for previous in ["&previous=true", ""] {
            let path = format!(
                "{}/log?container={}&tailLines={LINES}{previous}",
                core_path(namespace, "pods", Some(pod)),
                segment(container)
            );
            let text = self.api.text(&Call::get("read the log of a pod", path)).await.ok().flatten();
            if let Some(text) = text.filter(|text| !text.trim().is_empty()) {
                return Some(text.trim_end().to_owned());
            }
        }
        None
    }
}

/// Returns the object when it is ready.
pub(crate) async fn ready(
    api: &Api,
    namespace: &str,
    name: &str,
    patience: Duration,
    mut tell: impl FnMut(Saying) + Send,
) -> Result<Value, ClusterError> {
    let began = Instant::now();
    let mut sights = sights(api, namespace, name, &[Kind::Cluster, Kind::Pod, Kind::Event]);
    let mut view = View::new(api, name);
    let missing = || ClusterError::NotFound { name: name.into(), namespace: namespace.into() };
    loop {
        let due = view.worst().map(|(due, _)| due);
        let until = due.map_or(began + patience, |due| due.min(began + patience));
        match timeout_at(until.into(), sights.next()).await {
            Ok(Some(seen)) => view.see(seen, &mut tell)?,
            Ok(None) => return Err(missing()),
            Err(_) => {}
        }
        match &view.cluster {
            None if view.is_listed => return Err(missing()),
            Some(object) if of_cluster(object).outlook == Outlook::Ready => return Ok(object.clone()),
            _ => {}
        }
        if let Some((due, problem)) = view.worst()
            && due <= Instant::now()
        {
            let mut why = problem.line.clone();
            if let Some((pod, container)) = &problem.log
                && let Some(lines) = view.last_lines(namespace, pod, container).await
            {
                why = format!("{why}; its log ends with:\n{lines}");
            }
            return Err(ClusterError::Failed { name: name.into(), namespace: namespace.into(), why });
        }
        if left(began, patience).is_zero() {
            let (name, namespace) = (name.to_owned(), namespace.to_owned());
            return Err(ClusterError::NotReady { name, namespace, waited: patience, why: view.why() });
        }
    }
}

/// Returns when the cluster and its pods are gone.
pub(crate) async fn gone(
    api: &Api,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
    patience: Duration,
) -> Result<(), ClusterError> {
    let began = Instant::now();
    let mut sights = sights(api, namespace, name, &[Kind::Cluster, Kind::Pod]);
    let mut view = View::new(api, name);
    loop {
        let until = (began + patience).into();
        if let Ok(Some(seen)) = timeout_at(until, sights.next()).await {
            view.see(seen, &mut |_| {})?;
        }
        let is_another = |object: &Value| uid.is_some_and(|uid| object["metadata"]["uid"] != uid);
        let is_gone = view.is_listed && view.cluster.as_ref().is_none_or(is_another);
        // Another cluster of the same name has pods of the same label.
        if is_gone && view.are_pods_listed && (view.pods.is_empty() || view.cluster.is_some()) {
            return Ok(());
        }
        if left(began, patience).is_zero() {
            return Err(ClusterError::NotGone { name: name.into(), namespace: namespace.into(), waited: patience });
        }
    }
}

/// Waits until an object of any kind is as wished; `false` after `patience`.
pub(crate) async fn until(
    api: &Api,
    resource: &ApiResource,
    namespace: Option<&str>,
    name: &str,
    patience: Duration,
    is_done: impl Fn(&Value) -> bool,
) -> Result<bool, ClusterError> {
    let objects: kube::Api<DynamicObject> = match namespace {
        Some(namespace) => kube::Api::namespaced_with(api.client.clone(), namespace, resource),
        None => kube::Api::all_with(api.client.clone(), resource),
    };
    let action = format!("watch {} `{name}`", resource.kind);
    let mut sights = followed(Kind::Cluster, watcher(objects, named(name))).boxed();
    let until = (Instant::now() + patience).into();
    while let Ok(Some(seen)) = timeout_at(until, sights.next()).await {
        match seen {
            Seen::There(_, object) if is_done(&object) => return Ok(true),
            Seen::Failed(_, error) => api.tolerate(&action, error)?,
            _ => {}
        }
    }
    Ok(false)
}
