//! One cluster's Jobs API.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_RANGE, HOST, RANGE};
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::{sleep, timeout};

use crate::json_text::JsonText;
use crate::logs::{Blocks, Decoder};
use crate::pool::{Lane, lock};
use crate::submission::NONCE;
use crate::transport::{Body, Call, Transport, exchange, host};
use crate::{Cluster, Job, JobStatus, Lines, LogStream, RayError, RayVersion, Result, Settings, Submission};

/// A cluster's Jobs API. Cheap to clone; connects at first use.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
}

/// A job that runs, or waits to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Its id.
    pub submission_id: String,
    /// Whether this answer came with its creation; otherwise an earlier answer was lost, and the job was found.
    pub created: bool,
}

/// What came of stopping a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It is being stopped, or was while it was being prepared.
    Stopping,
    /// It was over already.
    WasOver,
    /// It waits for resources, and Ray cannot cancel it before it has them: stop it again once it runs.
    StillPending,
}

/// What stays as it is in a path segment.
pub(crate) const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// The first Ray that takes `entrypoint_label_selector`.
const LABELS_SINCE: RayVersion = RayVersion { major: 2, minor: 54 };
/// Before it, logs come in blocks.
const PLAIN_LOGS_SINCE: RayVersion = RayVersion { major: 2, minor: 40 };
/// From it on, a log that can't be read is an error and not a text.
const LOG_ERRORS_SINCE: RayVersion = RayVersion { major: 2, minor: 47 };
/// The head cuts a log off after so long; if it isn't asked for more, after 30 seconds.
const LOG_SECONDS_MAX: u32 = 3600;
/// How long a cluster is believed to run the same Ray.
const VERSION_REMEMBERED: Duration = Duration::from_mins(10);
/// What only some clusters tell is not waited for.
const OPTIONAL_PATIENCE: Duration = Duration::from_secs(5);
/// A node's agent that can be reached from here answers at once.
const AGENT_PATIENCE: Duration = Duration::from_secs(1);
/// Once connected, a busy one is given some time.
const AGENT_ANSWER_PATIENCE: Duration = Duration::from_secs(5);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl Client {
    /// Prepares to talk to a cluster; nothing is connected yet. Clients of the same cluster share their connections,
    /// within one process: after a fork, make a new one.
    ///
    /// # Errors
    /// - [`RayError::Address`], [`RayError::Setting`], [`RayError::Certificate`].
    pub fn new(settings: Settings) -> Result<Self> {
        Ok(Self { transport: Arc::new(Transport::new(settings)?) })
    }

    /// The same cluster, with every call tried for at most so long; with zero, once.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { transport: Arc::new(self.transport.with_patience(patience)) }
    }

    /// The dashboard's address, without credentials and trailing slash.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.transport.address.base
    }

    /// The job's page in the Ray dashboard.
    #[must_use]
    pub fn job_url(&self, id: &str) -> String {
        format!("{}/#/jobs/{}", self.address(), segment(id))
    }

    /// Asks the cluster for its version and the like.
    ///
    /// # Errors
    /// - [`RayError::TooOld`], and those of every call: [`RayError::Unavailable`], [`RayError::Denied`],
    ///   [`RayError::Untrusted`], [`RayError::Redirected`], [`RayError::Rejected`], [`RayError::Unreadable`].
    pub async fn cluster(&self) -> Result<Cluster> {
        #[derive(Deserialize)]
        struct Version {
            ray_version: String,
            session_name: Option<String>,
        }
        #[derive(Deserialize)]
        struct Metadata {
            data: Option<Data>,
        }
        #[derive(Deserialize)]
        struct Data {
            #[serde(rename = "pythonVersion")]
            python_version: Option<String>,
        }
        #[derive(Deserialize)]
        struct Mode {
            authentication_mode: Option<String>,
        }
        const ACTION: &str = "ask the cluster for its version";
        let get = |path: &str| Call::get(path, Lane::Ordinary, ACTION);
        let version: Version = self.answered(&get("/api/version")).await?;
        if RayVersion::parse(&version.ray_version).is_some_and(|version| version < RayVersion::OLDEST) {
            return Err(RayError::TooOld { address: self.address().to_owned(), ray_version: version.ray_version });
        }
        // Proxies may let the Jobs API through and nothing else, and old versions know less of themselves.
        let optional = |call: Call| call.accepting(|status, _| matches!(status, 401 | 403..=405 | 500 | 501));
        let brief = self.transport.with_patience(self.transport.settings.patience.min(OPTIONAL_PATIENCE));
        let metadata: Option<Metadata> =
            brief.ask_json(&optional(get("/api/v0/cluster_metadata"))).await.ok().flatten();
        let mode: Option<Mode> = brief.ask_json(&optional(get("/api/authentication_mode"))).await.ok().flatten();
        let cluster = Cluster {
            ray_version: version.ray_version,
            python_version: metadata.and_then(|answer| answer.data?.python_version),
            session_name: version.session_name,
            authentication: mode.and_then(|answer| answer.authentication_mode),
        };
        *lock(&self.transport.pool.cluster) = Some((Instant::now(), cluster.clone()));
        Ok(cluster)
    }

    /// How long what doesn't answer is asked again.
    pub(crate) fn patience(&self) -> Duration {
        self.transport.settings.patience
    }

    /// Takes somebody's word for the cluster's Ray, so that nobody has to ask for it.
    pub(crate) fn believe_version(&self, ray_version: &str) {
        if RayVersion::parse(ray_version).is_none() {
            return;
        }
        lock(&self.transport.pool.cluster).get_or_insert_with(|| {
            let cluster = Cluster {
                ray_version: ray_version.to_owned(),
                python_version: None,
                session_name: None,
                authentication: None,
            };
            (Instant::now(), cluster)
        });
    }

    /// A small file below the session's log directory on a node as this Ray sends it, whichever that is; `None` if there
    /// is none.
    pub(crate) async fn small_file(
        &self,
        node_id: &str,
        name: &str,
        last: Option<u32>,
        action: &str,
    ) -> Result<Option<Bytes>> {
        let lines = last.map_or(-1, i64::from);
        let path = format!("/api/v0/logs/file?node_id={}&filename={}&lines={lines}", segment(node_id), segment(name));
        let answer = self.transport.ask(&Call::get(path, Lane::Ordinary, action).accepting(says_no_file)).await?;
        Ok(Some(answer.body).filter(|_| (200..300).contains(&answer.status)))
    }

    /// The cluster's Ray, which is asked for once in a while.
    async fn ray_version(&self) -> Result<(String, Option<RayVersion>)> {
        let known = lock(&self.transport.pool.cluster).as_mut().and_then(|(at, cluster)| {
            let is_fresh = at.elapsed() < VERSION_REMEMBERED;
            // One asks again; whoever comes meanwhile believes what is known.
            *at = if is_fresh { *at } else { Instant::now() };
            is_fresh.then(|| cluster.clone())
        });
        let cluster = match known {
            Some(cluster) => cluster,
            None => self.cluster().await?,
        };
        let version = RayVersion::parse(&cluster.ray_version);
        Ok((cluster.ray_version, version))
    }

    /// Submits a job, once, however often the answer is lost on the way.
    ///
    /// # Errors
    /// - [`RayError::Submission`]: the description is wrong; nothing was posted.
    /// - [`RayError::Unsupported`]: the cluster's Ray is too old for it; nothing was posted.
    /// - [`RayError::Conflict`]: the id belongs to another job.
    /// - [`RayError::Unavailable`]: perhaps it was submitted; [`Client::job`] will tell.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted> {
        let wants_labels = submission.wants_labels();
        let ready = submission.finish()?;
        if wants_labels {
            let (text, version) = self.ray_version().await?;
            if version.is_some_and(|version| version < LABELS_SINCE) {
                return Err(RayError::Unsupported {
                    address: self.address().to_owned(),
                    ray_version: text,
                    feature: "entrypoint_label_selector",
                    since: "2.54",
                });
            }
        }
        let call = Call::new(Method::POST, "/api/jobs/", Lane::Urgent, format!("submit job `{}`", ready.id))
            .json(&ready.body)
            .accepting(|status, text| status == 500 && text.contains("already exists"));
        let answer = self.transport.ask(&call).await?;
        let created = (200..300).contains(&answer.status);
        if created {
            let named: Option<Value> = serde_json::from_slice(&answer.body).ok();
            if named.as_ref().and_then(|body| body.get("submission_id")).and_then(Value::as_str) == Some(&*ready.id) {
                return Ok(Submitted { submission_id: ready.id, created });
            }
        }
        // Posted twice because the first answer was lost, or taken by someone else, or an answer that isn't Ray's.
        let job = self.job(&ready.id).await?;
        match job {
            Some(job) if job.metadata(NONCE) == Some(&*ready.nonce) => {
                Ok(Submitted { submission_id: ready.id, created })
            }
            None if created => Err(RayError::Unreadable {
                action: call.action,
                address: self.address().to_owned(),
                source: "it names no job".into(),
            }),
            _ => Err(RayError::Conflict { submission_id: ready.id, address: self.address().to_owned() }),
        }
    }

    /// Reads one job; `None` if there is none of this id.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn job(&self, id: &str) -> Result<Option<Job>> {
        let call = Call::get(format!("/api/jobs/{}", segment(id)), Lane::Ordinary, format!("read job `{id}`"))
            .accepting(says_missing);
        let details: Option<Map<String, Value>> = self.transport.ask_json(&call).await?;
        let Some(details) = details else { return Ok(None) };
        Job::new(details).map(Some).ok_or_else(|| self.not_a_job(&call))
    }

    /// Lists every job that the cluster remembers. Costs the cluster 0.4 ms per job: not for loops.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn jobs(&self) -> Result<Vec<Job>> {
        let call = Call::get("/api/jobs/", Lane::Bulk, "list the jobs");
        let all: Vec<Map<String, Value>> = self.answered(&call).await?;
        Ok(all.into_iter().filter_map(Job::new).collect())
    }

    /// Asks Ray to stop a job and says what came of it.
    ///
    /// # Errors
    /// - [`RayError::NotFound`].
    pub async fn stop(&self, id: &str) -> Result<Stopped> {
        #[derive(Deserialize)]
        struct Answer {
            stopped: bool,
        }
        let path = format!("/api/jobs/{}/stop", segment(id));
        let call = Call::new(Method::POST, path, Lane::Urgent, format!("stop job `{id}`")).accepting(says_missing);
        let answer: Answer = self.transport.ask_json(&call).await?.ok_or_else(|| self.no_job(id))?;
        if !answer.stopped {
            return Ok(Stopped::WasOver);
        }
        // Ray says so of a job that waits for resources, too, and lets it wait on.
        match self.job(id).await? {
            Some(job) if job.status() == JobStatus::Pending => Ok(Stopped::StillPending),
            _ => Ok(Stopped::Stopping),
        }
    }

    /// Stops a job and keeps on until it is over, for at most `limit`: a job that was pending is stopped once it runs.
    ///
    /// Answers the job as it was seen last.
    ///
    /// # Errors
    /// - [`RayError::NotFound`].
    pub async fn stop_and_wait(&self, id: &str, limit: Duration) -> Result<Job> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(50);
        let mut asked: Option<Instant> = None;
        loop {
            // Ray kills after three seconds; a request that came while the job was pending may have been in vain.
            if asked.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
                self.stop(id).await?;
                asked = Some(Instant::now());
            }
            let job = self.job(id).await?.ok_or_else(|| self.no_job(id))?;
            if job.status().is_terminal() || began.elapsed() >= limit {
                return Ok(job);
            }
            sleep(pause.min(limit.saturating_sub(began.elapsed()))).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Removes the record of a job that is over; `false` if there is none. Its log file stays on the cluster.
    ///
    /// # Errors
    /// - [`RayError::Rejected`]: it is not over.
    pub async fn delete(&self, id: &str) -> Result<bool> {
        #[derive(Deserialize)]
        struct Answer {
            deleted: bool,
        }
        let path = format!("/api/jobs/{}", segment(id));
        let call =
            Call::new(Method::DELETE, path, Lane::Ordinary, format!("delete job `{id}`")).accepting(says_missing);
        let answer: Option<Answer> = self.transport.ask_json(&call).await?;
        Ok(answer.is_some_and(|answer| answer.deleted))
    }

    /// Reads a job's log from `offset` (bytes) straight from its node's agent. `None` if the agent can't be reached
    /// from here, or the job has none yet. An empty stream if there is nothing beyond `offset`; its
    /// [`LogStream::total_bytes`] says how long the log is.
    ///
    /// # Errors
    /// - [`RayError::NotFound`]: the agent has no such file.
    pub async fn log_range(&self, job: &Job, offset: u64) -> Result<Option<LogStream>> {
        let (Some(agent), Some(name)) = (job.agent_address(), job.log_name()) else { return Ok(None) };
        let Some(origin) = agent_origin(agent) else { return Ok(None) };
        let pool = &self.transport.pool;
        let Some(response) = self.ask_agent(&origin, &name, offset).await else { return Ok(None) };
        let (parts, body) = response.into_parts();
        let what = format!("the log `{name}`");
        let range = parts.headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let total = range.and_then(|range| range.rsplit('/').next()?.parse().ok());
        let stream = |decoder| LogStream::new(what.clone(), agent.to_owned(), body, decoder).with_total(total);
        match parts.status.as_u16() {
            206 => Ok(Some(stream(Decoder::Plain))),
            200 => Ok(Some(stream(Decoder::After(offset)))),
            416 => Ok(Some(LogStream::empty(what, agent.to_owned(), total))),
            404 => Err(RayError::NotFound { what, address: agent.to_owned() }),
            _ => {
                // Another server at this address, or one that doesn't take our token.
                pool.remember_agent(&origin, false);
                Ok(None)
            }
        }
    }

    async fn ask_agent(&self, origin: &Uri, name: &str, offset: u64) -> Option<Response<Body>> {
        let pool = &self.transport.pool;
        let silence_max = self.transport.settings.timeout;
        let patience = silence_max.min(AGENT_ANSWER_PATIENCE);
        // A connection that was kept may have been closed meanwhile.
        for _ in 0..2 {
            if !pool.is_agent_reachable(origin) {
                return None;
            }
            let places = self.transport.places(Lane::Bulk).await.ok()?;
            let lease = pool.agent(origin, places, AGENT_PATIENCE).await?;
            let used = lease.used;
            let mut request = Request::get(format!("/logs/{}", segment(name))).body(Full::new(Bytes::new())).ok()?;
            let headers = request.headers_mut();
            *headers = self.transport.credentials.for_agents().clone();
            headers.insert(HOST, host(origin));
            headers.insert(RANGE, HeaderValue::from_str(&format!("bytes={offset}-")).ok()?);
            match timeout(patience, exchange(lease, request, silence_max)).await {
                Ok(Ok(response)) => return Some(response),
                Ok(Err(_)) if used => {}
                _ => break,
            }
        }
        pool.remember_agent(origin, false);
        None
    }

    /// Reads a file below the session's log directory on a node.
    ///
    /// # Errors
    /// - [`RayError::NotFound`]: the node is gone, or there is no such file.
    pub async fn log_file(&self, node_id: &str, name: &str, lines: Lines) -> Result<LogStream> {
        let what = format!("the log `{name}`");
        let lines = match lines {
            // Ray takes 0 for "the usual thousand".
            Lines::Last(0) => return Ok(LogStream::empty(what, self.address().to_owned(), None)),
            Lines::Last(lines) => i64::from(lines),
            Lines::All => -1,
        };
        let (_, version) = self.ray_version().await?;
        let before = |since: RayVersion| version.is_some_and(|version| version < since);
        let mut path = format!(
            "/api/v0/logs/file?node_id={}&filename={}&lines={lines}&timeout={LOG_SECONDS_MAX}",
            segment(node_id),
            segment(name)
        );
        if !before(PLAIN_LOGS_SINCE) && before(LOG_ERRORS_SINCE) {
            path.push_str("&format=text");
        }
        let call = Call::get(path, Lane::Bulk, format!("read {what}")).accepting(says_no_file);
        let missing = || RayError::NotFound {
            what: format!("file `{name}` on node {node_id}"),
            address: self.address().to_owned(),
        };
        let Some(body) = self.transport.open(&call).await? else { return Err(missing()) };
        let decoder = if before(PLAIN_LOGS_SINCE) { Decoder::Blocks(Blocks::default()) } else { Decoder::Plain };
        let stream = LogStream::new(what, self.address().to_owned(), body, decoder);
        if !before(LOG_ERRORS_SINCE) {
            return Ok(stream);
        }
        // The status was 200 before anybody looked for the file.
        match stream.begun().await {
            Ok(stream) if stream.first().starts_with(b"[get_logs] Fetch log error") => Err(missing()),
            Err(RayError::Cut { bytes: 0, source, .. }) if source.to_string().starts_with("Closing HTTP stream") => {
                Err(missing())
            }
            begun => begun,
        }
    }

    /// Reads a job's whole log through the Jobs API. Costs the head node three times the log's size in memory:
    /// [`Client::log_file`] is better where the job's node is known.
    ///
    /// # Errors
    /// - [`RayError::NotFound`].
    pub async fn log_whole(&self, id: &str) -> Result<LogStream> {
        let action = format!("read the log of job `{id}`");
        let call = Call::get(format!("/api/jobs/{}/logs", segment(id)), Lane::Bulk, action).accepting(says_missing);
        let body = self.transport.open(&call).await?.ok_or_else(|| self.no_job(id))?;
        let what = format!("the log of job `{id}`");
        Ok(LogStream::new(what, self.address().to_owned(), body, Decoder::Json(JsonText::new())))
    }

    /// Uploads a package unless the cluster has it, and answers its URI. Either way the cluster keeps it for the next
    /// ten minutes, so upload just before submitting.
    ///
    /// # Errors
    /// - [`RayError::PackageTooLarge`].
    pub async fn upload(&self, package: Vec<u8>) -> Result<String> {
        self.upload_package(crate::package::Package::from_zip("the package".into(), package)?).await
    }

    pub(crate) async fn upload_package(&self, package: crate::package::Package) -> Result<String> {
        let path = format!("/api/packages/gcs/{}", segment(&package.name));
        let action = format!("upload package `{}`", package.name);
        // Asking also keeps it from being collected until the job holds it.
        let ask = Call::get(path.clone(), Lane::Urgent, action.clone()).accepting(says_missing);
        if !(200..300).contains(&self.transport.ask(&ask).await?.status) {
            let mut put = Call::new(Method::PUT, path, Lane::Bulk, action);
            put.body = Some((package.bytes, "application/octet-stream"));
            self.transport.ask(&put).await?;
        }
        Ok(format!("gcs://{}", package.name))
    }

    /// Packs and uploads what a runtime environment names on this machine (`working_dir`, `py_modules`), relative to
    /// `base`, and answers one that Ray takes.
    ///
    /// # Errors
    /// - [`RayError::RuntimeEnv`], [`RayError::Pack`], [`RayError::PackageTooLarge`].
    pub async fn resolve_runtime_env(
        &self,
        runtime_env: Map<String, Value>,
        base: Option<&Path>,
    ) -> Result<Map<String, Value>> {
        crate::runtime_env::resolve(self, runtime_env, base).await
    }

    /// For answers that are there whenever the cluster is.
    async fn answered<T: serde::de::DeserializeOwned>(&self, call: &Call) -> Result<T> {
        self.transport.ask_json(call).await?.ok_or_else(|| RayError::Internal {
            what: format!("cannot {}: an answer was accepted that can't be used", call.action),
        })
    }

    fn no_job(&self, id: &str) -> RayError {
        RayError::NotFound { what: format!("job `{id}`"), address: self.address().to_owned() }
    }

    fn not_a_job(&self, call: &Call) -> RayError {
        RayError::Unreadable {
            action: call.action.clone(),
            address: self.address().to_owned(),
            source: "it has no status that a job may have".into(),
        }
    }
}

/// Ray's own words; a proxy's 404 while the head restarts says nothing about the job.
fn says_missing(status: u16, text: &str) -> bool {
    status == 404 && text.contains("does not exist")
}

/// Ray's words for a file or a node that is not there.
fn says_no_file(status: u16, text: &str) -> bool {
    matches!(status, 404 | 500)
        && ["not found", "doesn't exist", "does not exist", "not available"].iter().any(|words| text.contains(words))
}

pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// `http://host:port` of an agent; anything else in a job's record is not followed.
fn agent_origin(address: &str) -> Option<Uri> {
    let uri: Uri = address.trim_end_matches('/').parse().ok()?;
    (uri.scheme_str() == Some("http") && uri.host().is_some() && matches!(uri.path(), "" | "/")).then_some(uri)
}
