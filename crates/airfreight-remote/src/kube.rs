//! `airfreight._remote.KubeClusters`.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use airfreight_cluster::{Access, ClusterError, Clusters, JobEnd, Kind, Known, Manifest, Objects, Place, Saying};
use airfreight_core::{ErrorKind, chain};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use crate::client::seconds;
use crate::error::{from_cluster, invalid, new};
use crate::forward::KubeForward;
use crate::json::{from_python, to_python};
use crate::process::process;
use crate::wait::block;
use crate::watch::{Following, Happening, Watch};

/// The way to an API server, as two calls may share it.
#[derive(Clone)]
pub(crate) struct Way(Access);

impl Way {
    pub(crate) fn access(&self) -> Access {
        self.0.clone()
    }
}

impl PartialEq for Way {
    fn eq(&self, other: &Self) -> bool {
        let place = match (&self.0.place, &other.0.place) {
            (Place::Usual, Place::Usual) | (Place::Pod, Place::Pod) => true,
            (Place::File(mine), Place::File(other)) => mine == other,
            (Place::Text(mine), Place::Text(other)) => mine.expose_secret() == other.expose_secret(),
            _ => false,
        };
        let rest = |access: &Access| {
            (access.context.clone(), access.namespace.clone(), access.verify, access.timeout, access.patience)
        };
        place && rest(&self.0) == rest(&other.0)
    }
}

#[pyclass(frozen, module = "airfreight._remote")]
pub(crate) struct KubeClusters {
    way: Way,
}

impl KubeClusters {
    /// Calls the API server without the interpreter's lock.
    fn call<T, F>(&self, py: Python<'_>, call: impl FnOnce(Clusters) -> F + Send + 'static) -> PyResult<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ClusterError>> + Send + 'static,
    {
        let (process, way) = (process(py)?, self.way.clone());
        block(py, async move { call(process.kube(way).await?).await })?.map_err(|error| from_cluster(py, &error))
    }
}

#[pymethods]
impl KubeClusters {
    #[new]
    #[pyo3(signature = (
        *, kubeconfig_path=None, kubeconfig=None, in_cluster=false, context=None, namespace=None, verify=true,
        timeout=30.0, patience=120.0
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn new(
        py: Python<'_>,
        kubeconfig_path: Option<PathBuf>,
        kubeconfig: Option<String>,
        in_cluster: bool,
        context: Option<String>,
        namespace: Option<String>,
        verify: bool,
        timeout: f64,
        patience: f64,
    ) -> PyResult<Self> {
        let place = match (kubeconfig_path, kubeconfig, in_cluster) {
            (None, None, false) => Place::Usual,
            (Some(path), None, false) => Place::File(path),
            (None, Some(text), false) => Place::Text(SecretString::from(text)),
            (None, None, true) => Place::Pod,
            _ => {
                let hint = Some("keep one of kubeconfig_path, kubeconfig and in_cluster");
                return Err(invalid(py, "cannot use several kubeconfigs at once", hint));
            }
        };
        let access = Access {
            place,
            context,
            namespace,
            verify,
            timeout: seconds(py, "timeout", timeout)?,
            patience: seconds(py, "patience", patience)?,
        };
        Ok(Self { way: Way(access) })
    }

    fn place(&self, py: Python<'_>) -> PyResult<(String, String)> {
        self.call(
            py,
            |clusters| async move { Ok((clusters.server().to_owned(), clusters.default_namespace().to_owned())) },
        )
    }

    fn operator<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let found = self.call(py, |clusters| async move { clusters.operator().await })?;
        let Some(operator) = found else { return Ok(None) };
        let dict = PyDict::new(py);
        dict.set_item("serves", operator.serves)?;
        dict.set_item("namespace", operator.namespace)?;
        dict.set_item("version", operator.version)?;
        dict.set_item("is_available", operator.is_available)?;
        Ok(Some(dict))
    }

    #[pyo3(signature = (texts, *, namespace=None, images=None, update=true, patience=600.0))]
    fn apply_objects(
        &self,
        py: Python<'_>,
        texts: Vec<String>,
        namespace: Option<&str>,
        images: Option<BTreeMap<String, String>>,
        update: bool,
        patience: f64,
    ) -> PyResult<Vec<(String, bool)>> {
        let patience = seconds(py, "patience", patience)?;
        let mut objects = objects_of(py, texts)?.with_images(&images.unwrap_or_default());
        if let Some(namespace) = namespace {
            objects = objects.in_namespace(namespace);
        }
        let applied =
            self.call(py, move |clusters| async move { clusters.apply_objects(&objects, update, patience).await })?;
        Ok(applied.into_iter().map(|each| (each.what, each.is_kept)).collect())
    }

    fn read_objects<'py>(&self, py: Python<'py>, texts: Vec<String>) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        let objects = objects_of(py, texts)?;
        let found = self.call(py, move |clusters| async move { clusters.read_objects(&objects).await })?;
        found.iter().map(|object| object.as_ref().map(|object| to_python(py, object)).transpose()).collect()
    }

    fn delete_objects(&self, py: Python<'_>, texts: Vec<String>) -> PyResult<Vec<String>> {
        let objects = objects_of(py, texts)?;
        self.call(py, move |clusters| async move { clusters.delete_objects(&objects).await })
    }

    #[pyo3(signature = (description, *, kind="RayCluster", update=false, owner=None, attempt=None, patience=600.0))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn apply<'py>(
        &self,
        py: Python<'py>,
        description: &Bound<'py, PyAny>,
        kind: &str,
        update: bool,
        owner: Option<String>,
        attempt: Option<&Bound<'py, PyAny>>,
        patience: f64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let kind = kind_of(py, kind)?;
        let description: Map<String, Value> = from_python(description, "the description of a Ray cluster")?;
        let mut manifest = Manifest::of(kind, Value::Object(description)).map_err(|error| from_cluster(py, &error))?;
        if let Some(attempt) = attempt {
            manifest = manifest.made_by(from_python(attempt, "the attempt that makes a cluster")?);
        }
        let patience = seconds(py, "patience", patience)?;
        let (known, outcome) = self.call(py, move |clusters| async move {
            clusters.apply(&manifest, update, owner.as_deref(), patience).await
        })?;
        let dict = to_dict(py, &known)?;
        dict.set_item("outcome", outcome.as_str())?;
        Ok(dict)
    }

    #[pyo3(signature = (namespace, name, *, kind="RayCluster"))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        namespace: String,
        name: String,
        kind: &str,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let kind = kind_of(py, kind)?;
        let known = self.call(py, move |clusters| async move { clusters.get_of(kind, &namespace, &name).await })?;
        known.map(|known| to_dict(py, &known)).transpose()
    }

    #[pyo3(signature = (namespace, *, owner=None, kind="RayCluster"))]
    fn list<'py>(
        &self,
        py: Python<'py>,
        namespace: String,
        owner: Option<String>,
        kind: &str,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let kind = kind_of(py, kind)?;
        let found =
            self.call(py, move |clusters| async move { clusters.list_of(kind, &namespace, owner.as_deref()).await })?;
        found.iter().map(|known| to_dict(py, known)).collect()
    }

    #[pyo3(signature = (namespace, name, *, uid=None, kind="RayCluster"))]
    fn delete(
        &self,
        py: Python<'_>,
        namespace: String,
        name: String,
        uid: Option<String>,
        kind: &str,
    ) -> PyResult<bool> {
        let kind = kind_of(py, kind)?;
        self.call(py, move |clusters| async move { clusters.delete_of(kind, &namespace, &name, uid.as_deref()).await })
    }

    #[pyo3(signature = (namespace, name, *, uid=None, patience=600.0, kind="RayCluster"))]
    fn wait_gone(
        &self,
        py: Python<'_>,
        namespace: String,
        name: String,
        uid: Option<String>,
        patience: f64,
        kind: &str,
    ) -> PyResult<()> {
        let (patience, kind) = (seconds(py, "patience", patience)?, kind_of(py, kind)?);
        self.call(py, move |clusters| async move {
            clusters.wait_gone_of(kind, &namespace, &name, uid.as_deref(), patience).await
        })
    }

    #[pyo3(signature = (namespace, name, suspend, *, kind="RayJob"))]
    fn suspend(&self, py: Python<'_>, namespace: String, name: String, suspend: bool, kind: &str) -> PyResult<bool> {
        let kind = kind_of(py, kind)?;
        self.call(py, move |clusters| async move { clusters.suspend(kind, &namespace, &name, suspend).await })
    }

    #[pyo3(signature = (namespace, name, *, patience=2.0))]
    fn open_way<'py>(
        &self,
        py: Python<'py>,
        namespace: String,
        name: String,
        patience: f64,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let patience = seconds(py, "patience", patience)?;
        let found =
            self.call(py, move |clusters| async move { clusters.open_way(&namespace, &name, patience).await })?;
        let Some(way) = found else { return Ok(None) };
        let dict = PyDict::new(py);
        dict.set_item("kind", way.kind.as_str())?;
        dict.set_item("urls", way.urls)?;
        Ok(Some(dict))
    }

    #[pyo3(signature = (namespace, name, *, port=8265, local_port=0))]
    fn forward(
        &self,
        py: Python<'_>,
        namespace: String,
        name: String,
        port: u16,
        local_port: u16,
    ) -> PyResult<KubeForward> {
        let opened =
            self.call(py, move |clusters| async move { clusters.forward(&namespace, &name, port, local_port).await })?;
        Ok(KubeForward::new(opened))
    }

    fn token(&self, py: Python<'_>, namespace: String, name: String) -> PyResult<Option<String>> {
        let token = self.call(py, |clusters| async move {
            match clusters.get(&namespace, &name).await? {
                Some(known) => clusters.token(&known).await,
                None => Err(ClusterError::NotFound { name, namespace }),
            }
        })?;
        Ok(token.map(|token| token.expose_secret().to_owned()))
    }

    #[pyo3(signature = (namespace, name, *, patience=1200.0, kind="RayCluster"))]
    fn watch(&self, py: Python<'_>, namespace: String, name: String, patience: f64, kind: &str) -> PyResult<Watch> {
        let (patience, kind) = (seconds(py, "patience", patience)?, kind_of(py, kind)?);
        let (process, way) = (process(py)?, self.way.clone());
        let id = format!("{namespace}/{name}");
        // A line for each change of one cluster: few enough not to be counted.
        let (sender, events) = unbounded_channel();
        let task = process.runtime.spawn(async move {
            let tell = |saying| drop(sender.send(Said::Line(saying)));
            let waited = async {
                let clusters = process.kube(way).await?;
                Ok(match kind {
                    Kind::Cluster => Over::Ready(clusters.wait_ready(&namespace, &name, patience, tell).await?.uid),
                    Kind::Service => Over::Ready(clusters.wait_service(&namespace, &name, patience, tell).await?.uid),
                    Kind::Job => Over::Job(Box::new(clusters.wait_job(&namespace, &name, patience, tell).await?)),
                })
            };
            drop(sender.send(Said::End(waited.await.map_err(|error| Refusal::of(&error)))));
        });
        Ok(Watch::new(id, Start { events: Mutex::new((events, None)), task }))
    }

    fn __repr__(&self) -> String {
        format!("<KubeClusters {:?}>", self.way.0)
    }
}

fn objects_of(py: Python<'_>, texts: Vec<String>) -> PyResult<Objects> {
    Objects::read(texts).map_err(|error| from_cluster(py, &error))
}

fn kind_of(py: Python<'_>, kind: &str) -> PyResult<Kind> {
    let kinds = [Kind::Cluster, Kind::Job, Kind::Service];
    kinds.into_iter().find(|each| each.as_str() == kind).ok_or_else(|| {
        invalid(py, &format!("`{kind}` is none of KubeRay's kinds"), Some("RayCluster, RayJob or RayService"))
    })
}

fn to_dict<'py>(py: Python<'py>, known: &Known) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &known.name)?;
    dict.set_item("namespace", &known.namespace)?;
    dict.set_item("uid", &known.uid)?;
    dict.set_item("owner", &known.owner)?;
    dict.set_item("object", to_python(py, &known.object)?)?;
    Ok(dict)
}

enum Said {
    Line(Saying),
    End(End),
}

/// An error that can be raised again.
#[derive(Clone)]
struct Refusal {
    kind: ErrorKind,
    message: String,
    hint: Option<&'static str>,
}

impl Refusal {
    fn of(error: &ClusterError) -> Self {
        Self { kind: error.kind(), message: chain(error), hint: error.hint() }
    }

    fn broken() -> Self {
        Self { kind: ErrorKind::Internal, message: "a call broke down".into(), hint: None }
    }
}

/// How what was waited for ended, or why nobody waits any more.
type End = Result<Over, Refusal>;

#[derive(Clone)]
enum Over {
    /// It serves; its uid.
    Ready(String),
    /// A job is over.
    Job(Box<JobEnd>),
}

/// The start of a cluster, being followed.
struct Start {
    /// What is said of it, and how it ended once that was said.
    events: Mutex<(UnboundedReceiver<Said>, Option<End>)>,
    task: JoinHandle<()>,
}

impl Following for Start {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Happening> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let (receiver, ended) = &mut *events;
        let end = match ended {
            Some(end) => end.clone(),
            None => match ready!(receiver.poll_recv(context)) {
                Some(Said::Line(saying)) => return Poll::Ready(Box::new(move |py| line(py, &saying))),
                Some(Said::End(end)) => ended.insert(end).clone(),
                None => ended.insert(Err(Refusal::broken())).clone(),
            },
        };
        Poll::Ready(Box::new(move |py| match end {
            Err(refusal) => Err(new(py, refusal.kind, &refusal.message, refusal.hint)),
            Ok(Over::Ready(uid)) => {
                let dict = PyDict::new(py);
                dict.set_item("event", "ready")?;
                dict.set_item("uid", uid)?;
                Ok(dict)
            }
            Ok(Over::Job(end)) => {
                let dict = PyDict::new(py);
                dict.set_item("event", "ended")?;
                dict.set_item("is_success", end.is_success)?;
                dict.set_item("status", &end.status)?;
                dict.set_item("why", &end.why)?;
                for (name, field) in [("job_id", "jobId"), ("cluster", "rayClusterName")] {
                    dict.set_item(name, end.object["status"][field].as_str().filter(|text| !text.is_empty()))?;
                }
                Ok(dict)
            }
        }))
    }

    fn cursor(&self) -> String {
        String::new()
    }

    fn close(self: Box<Self>) -> String {
        String::new()
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn line<'py>(py: Python<'py>, saying: &Saying) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("event", "line")?;
    dict.set_item("line", &saying.line)?;
    dict.set_item("is_problem", saying.is_problem)?;
    Ok(dict)
}
