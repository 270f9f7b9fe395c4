//! The platform's API: one method for each thing that one wants of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::place::Platform;
use crate::transport::{Call, Transport};
use crate::{ApoloError, Cluster, Follow, Job, JobSpec, Place, Result, Settings, Watch};

/// The platform. Cheap to clone; connects at first use.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
    known: Arc<Mutex<Option<Known>>>,
}

/// What the platform said of itself, and when.
type Known = (Instant, Arc<Platform>);

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Jobs that have all of these tags.
    pub tags: Vec<String>,
    /// Jobs in one of these states; any if there is none.
    pub statuses: Vec<String>,
    /// Jobs of this name.
    pub name: Option<String>,
    /// At most so many, the newest first.
    pub limit: Option<u32>,
}

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How long the platform is believed to have the same clusters.
const PLATFORM_REMEMBERED: Duration = Duration::from_mins(10);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("api_url", &self.transport.base).finish_non_exhaustive()
    }
}

impl Client {
    /// Prepares to talk to the platform; nothing is connected yet. Clones share their connections, within one process:
    /// after a fork, make a new one.
    ///
    /// # Errors
    /// - [`ApoloError::Setting`], [`ApoloError::Certificate`].
    pub fn new(settings: Settings) -> Result<Self> {
        Ok(Self { transport: Arc::new(Transport::new(settings)?), known: Arc::default() })
    }

    /// The same platform, with every call tried for at most so long; with zero, once.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { transport: Arc::new(self.transport.with_patience(patience)), known: Arc::clone(&self.known) }
    }

    /// The API's URL.
    #[must_use]
    pub fn api_url(&self) -> &str {
        &self.transport.base
    }

    /// The settings that it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.transport.settings
    }

    /// Where jobs run: what the settings name, else the platform's defaults for this token.
    ///
    /// # Errors
    /// - [`ApoloError::Denied`]: the token is not good.
    /// - [`ApoloError::Place`]: it doesn't open what is named.
    /// - Those of every call: [`ApoloError::Unavailable`], [`ApoloError::Untrusted`], [`ApoloError::Rejected`],
    ///   [`ApoloError::Unreadable`].
    pub async fn place(&self) -> Result<Place> {
        let settings = &self.transport.settings;
        let platform = self.platform().await?;
        platform.place(settings.cluster.as_deref(), settings.org.as_deref(), settings.project.as_deref())
    }

    /// The clusters that the token opens.
    ///
    /// # Errors
    /// Those of [`Client::place`].
    pub async fn clusters(&self) -> Result<Vec<Cluster>> {
        Ok(self.platform().await?.clusters().to_vec())
    }

    pub(crate) async fn platform(&self) -> Result<Arc<Platform>> {
        // One asks, and the others wait for its answer.
        let mut known = self.known.lock().await;
        if let Some((at, platform)) = &*known
            && at.elapsed() < PLATFORM_REMEMBERED
        {
            return Ok(Arc::clone(platform));
        }
        let call = Call::new(Method::GET, "/config", "ask Apolo for its clusters");
        let platform: Option<Platform> = self.transport.ask_json(&call).await?;
        let platform = platform.ok_or_else(|| ApoloError::Internal { what: "an answer was lost".into() })?;
        // A bad token gets an answer without clusters and the status 200.
        if platform.authorized == Some(false) || (platform.authorized.is_none() && platform.clusters().is_empty()) {
            return Err(ApoloError::Denied {
                action: call.action,
                address: self.transport.base.clone(),
                status: 401,
                detail: "the token is not good, or opens no cluster".into(),
            });
        }
        let platform = Arc::new(platform);
        *known = Some((Instant::now(), Arc::clone(&platform)));
        Ok(platform)
    }

    /// The body that [`Client::create`] would post, and where to.
    ///
    /// # Errors
    /// - [`ApoloError::Spec`], [`ApoloError::Place`].
    pub async fn request(&self, spec: &JobSpec) -> Result<(&'static str, Value)> {
        let place = self.place().await?;
        if let Some(preset) = spec.preset() {
            place.cluster.check_preset(preset)?;
        }
        Ok((if spec.preset().is_some() { "/jobs?from_preset" } else { "/jobs" }, spec.body(&place)?))
    }

    /// Creates a job, once, however often the answer is lost: with a `tag` that no other job has, the job is looked up
    /// by it before it is posted again. Without one it is posted once.
    ///
    /// # Errors
    /// - [`ApoloError::Spec`], [`ApoloError::Place`]: nothing was posted.
    /// - [`ApoloError::Quota`].
    /// - [`ApoloError::Unavailable`]: perhaps it was created; [`Client::jobs`] with the tag will tell.
    pub async fn create(&self, spec: &JobSpec, tag: Option<&str>) -> Result<Job> {
        let spec = spec.clone().tagged(tag.map(str::to_owned));
        let (path, body) = self.request(&spec).await?;
        let mut call = Call::new(Method::POST, path, "create the job");
        call.body = Some(Bytes::from(body.to_string()));
        let Some(tag) = tag else {
            let answer = self.with_patience(Duration::ZERO).transport.ask(&call).await?;
            return self.job_in(&call, self.transport.read(&call, &answer)?);
        };
        let lookup = Wanted { tags: vec![tag.to_owned()], limit: Some(1), ..Wanted::default() };
        let (was_posted, was_repeated) = (AtomicBool::new(false), AtomicBool::new(false));
        let posted = self.transport.persist(&call.action, || async {
            if was_posted.swap(true, Ordering::Relaxed) {
                if let Some(job) = self.list_once(&lookup, &body).await?.into_iter().next() {
                    return Ok(Err(job));
                }
                was_repeated.store(true, Ordering::Relaxed);
            }
            self.transport.attempt(&call).await.map(Ok)
        });
        match posted.await {
            // By then the first request may have arrived after all, and its job have the name that is taken now.
            Err(refused @ ApoloError::Rejected { .. }) if was_repeated.load(Ordering::Relaxed) => {
                self.list(&lookup, Some(&body)).await?.into_iter().next().ok_or(refused)
            }
            Err(error) => Err(error),
            Ok(Err(found)) => Ok(found),
            Ok(Ok(answer)) => match self.transport.read(&call, &answer) {
                Ok(details) => self.job_in(&call, details),
                // A created job's answer that is damaged: it is found by its tag, too.
                Err(unreadable) => self.list(&lookup, Some(&body)).await?.into_iter().next().ok_or(unreadable),
            },
        }
    }

    /// Reads one job by its id, or by its name, which means the newest of that name.
    ///
    /// # Errors
    /// - [`ApoloError::NotFound`].
    pub async fn job(&self, id: &str) -> Result<Job> {
        let call = Call::new(Method::GET, format!("/jobs/{}", segment(id)), format!("read job `{id}`"))
            .accepting(says_missing);
        let details: Option<Map<String, Value>> = self.transport.ask_json(&call).await?;
        self.job_in(&call, details.ok_or_else(|| self.no_job(id))?)
    }

    /// Cancels a job by its id; one that is over stays as it is.
    ///
    /// # Errors
    /// - [`ApoloError::NotFound`].
    pub async fn kill(&self, id: &str) -> Result<()> {
        let call = Call::new(Method::DELETE, format!("/jobs/{}", segment(id)), format!("cancel job `{id}`"))
            .accepting(says_missing);
        let answer = self.transport.ask(&call).await?;
        if answer.is_success() { Ok(()) } else { Err(self.no_job(id)) }
    }

    /// Lists jobs of the project, the newest first.
    ///
    /// # Errors
    /// Those of [`Client::place`].
    pub async fn jobs(&self, wanted: &Wanted) -> Result<Vec<Job>> {
        let place = self.place().await?;
        let mut body = Map::new();
        body.insert("cluster_name".into(), place.cluster.name.into());
        body.insert("project_name".into(), place.project.into());
        if let Some(org) = place.org {
            body.insert("org_name".into(), org.into());
        }
        self.list(wanted, Some(&Value::Object(body))).await
    }

    async fn list(&self, wanted: &Wanted, place: Option<&Value>) -> Result<Vec<Job>> {
        let call = list_call(wanted, place);
        let answer = self.transport.ask(&call).await?;
        self.listed(&call, &self.transport.read(&call, &answer)?)
    }

    async fn list_once(&self, wanted: &Wanted, place: &Value) -> Result<Vec<Job>, crate::transport::Failure> {
        let call = list_call(wanted, Some(place));
        let answer = self.transport.attempt(&call).await?;
        self.transport
            .read(&call, &answer)
            .and_then(|found| self.listed(&call, &found))
            .map_err(|error| crate::transport::passing(error.into()))
    }

    fn listed(&self, call: &Call, found: &Value) -> Result<Vec<Job>> {
        let jobs = found.get("jobs").and_then(Value::as_array).ok_or_else(|| self.not_a_job(call))?;
        Ok(jobs.iter().filter_map(|job| Job::new(job.as_object()?.clone())).collect())
    }

    /// Follows a job until it is over, or has started. Needs a tokio runtime.
    #[must_use]
    pub fn watch(&self, follow: Follow) -> Watch {
        Watch::new(self.clone(), follow)
    }

    fn job_in(&self, call: &Call, details: Map<String, Value>) -> Result<Job> {
        Job::new(details).ok_or_else(|| self.not_a_job(call))
    }

    fn no_job(&self, id: &str) -> ApoloError {
        ApoloError::NotFound { what: format!("job `{id}`"), address: self.transport.base.clone() }
    }

    fn not_a_job(&self, call: &Call) -> ApoloError {
        ApoloError::Unreadable {
            action: call.action.clone(),
            address: self.transport.base.clone(),
            source: "there is no job in it".into(),
        }
    }
}

fn list_call(wanted: &Wanted, place: Option<&Value>) -> Call {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for tag in &wanted.tags {
        query.append_pair("tag", tag);
    }
    for status in &wanted.statuses {
        query.append_pair("status", status);
    }
    if let Some(name) = &wanted.name {
        query.append_pair("name", name);
    }
    for key in ["cluster_name", "org_name", "project_name"] {
        if let Some(value) = place.and_then(|place| place.get(key)).and_then(Value::as_str) {
            query.append_pair(key, value);
        }
    }
    query.append_pair("reverse", "1");
    if let Some(limit) = wanted.limit {
        query.append_pair("limit", &limit.to_string());
    }
    // Without these the platform shows jobs that it is about to forget.
    query.append_pair("being_dropped", "False").append_pair("logs_removed", "False");
    Call::new(Method::GET, format!("/jobs?{}", query.finish()), "list the jobs")
}

/// The platform says it with 400.
fn says_missing(status: u16, text: &str) -> bool {
    (status == 400 && text.to_ascii_lowercase().contains("no such job")) || (status == 404 && text.contains("job"))
}

pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}
