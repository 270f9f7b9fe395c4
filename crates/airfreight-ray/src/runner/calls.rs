//! What one asks a runner: calls, owners, values.

use std::time::Duration;

use http::Method;
use percent_encoding::utf8_percent_encode;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::request::unreadable;
use super::{Runner, START_PATIENCE, start};
use crate::client::SEGMENT;
use crate::pool::{Lane, lock};
use crate::runner::Request;
use crate::{Event, Follow, Job, JobStatus, RayError, Result, Stopped, Watch, Watcher};

/// How long a submission waits for the call's end, because most small ones end meanwhile.
const QUICK: Duration = Duration::from_secs(1);
/// How long it waits for a place to do so: quick calls give theirs back soon.
const PLACE_PATIENCE: Duration = Duration::from_millis(25);

/// A call and the owner that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallId {
    /// The owner actor's name.
    pub owner: String,
    /// The call's id: the submission id of the attempt.
    pub id: String,
}

/// A runner that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The cluster's Python, where the runner is.
    pub python: String,
    /// The cluster's Ray.
    pub ray: String,
    /// Changes when the runner begins another life.
    pub generation: String,
    /// The head node.
    pub node_id: String,
    /// `port` or `mailbox`.
    pub transport: &'static str,
}

impl CallId {
    /// A call of an owner.
    #[must_use]
    pub fn new(owner: impl Into<String>, id: impl Into<String>) -> Self {
        Self { owner: owner.into(), id: id.into() }
    }

    pub(super) fn path(&self, action: &str) -> String {
        format!("/v1/calls/{}{action}?owner={}", quoted(&self.id), quoted(&self.owner))
    }
}

impl Runner {
    /// Finds the runner, and starts it if there is none, for at most `limit`.
    ///
    /// # Errors
    /// - [`RayError::NoRunner`]: it does not start, or not in time.
    /// - [`RayError::Unavailable`], [`RayError::Denied`]: of the dashboard.
    pub async fn ready(&self, limit: Option<Duration>) -> Result<Ready> {
        let link = self.inner.link(limit.unwrap_or(START_PATIENCE)).await?;
        let port = link.port(&self.inner).await;
        let beacon = &link.beacon;
        Ok(Ready {
            python: beacon.python.clone(),
            ray: beacon.ray.clone(),
            generation: beacon.generation.clone(),
            node_id: beacon.node_id.clone(),
            transport: if port.is_some() { "port" } else { "mailbox" },
        })
    }

    /// Whether its job is there and not over; starts nothing.
    ///
    /// # Errors
    /// Those of every call to the dashboard.
    pub async fn is_running(&self) -> Result<bool> {
        Ok(start::running(&self.inner.client, &self.inner.id).await?.is_some())
    }

    /// The submission id of its job, as far as it is known.
    #[must_use]
    pub fn job_id(&self) -> String {
        let link = lock(&self.inner.link).clone();
        link.and_then(|link| link.beacon.job.clone()).unwrap_or_else(|| self.inner.id.clone())
    }

    /// The way that requests take now, `port` or `mailbox`; `None` before there was any.
    #[must_use]
    pub fn transport(&self) -> Option<&'static str> {
        let link = lock(&self.inner.link).clone()?;
        Some(if link.open_port().is_some() { "port" } else { "mailbox" })
    }

    /// Submits a call, once, however often the answer is lost; its state, which is the last one if it took less than a
    /// second.
    ///
    /// # Errors
    /// - [`RayError::Conflict`]: the id belongs to another call.
    /// - [`RayError::Runner`]: it was refused.
    /// - [`RayError::NoRunner`], [`RayError::Unavailable`].
    pub async fn call(&self, spec: Map<String, Value>) -> Result<Map<String, Value>> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let id = text(spec.get("id"));
        let owner = text(spec.get("owner").and_then(|owner| owner.get("name")));
        if id.is_empty() || owner.is_empty() {
            return Err(RayError::Submission { reason: "a call needs an id and the name of its owner".to_owned() });
        }
        let action = format!("submit the call `{id}`");
        // Where as many wait already as may, and for long, the feed tells of the end.
        let place = timeout(PLACE_PATIENCE, self.inner.waits.acquire()).await.ok().and_then(Result::ok);
        let (wait, lane) = if place.is_some() { (QUICK, Lane::Ordinary) } else { (Duration::ZERO, Lane::Urgent) };
        let request = Request::new(Method::POST, format!("/v1/calls?wait={}", wait.as_secs_f64()), &action);
        let reply = self.inner.ask(&request.with_body(Value::Object(spec)).in_lane(lane)).await?;
        let is_waiting = place.is_none();
        drop(place);
        if reply.status == 409 {
            return Err(RayError::Conflict { submission_id: id, address: self.address() });
        }
        let state = reply.object(&action, &self.inner.client.transport.address.base)?;
        if is_waiting && !is_over(&state) {
            return Ok(self.soon(&CallId { owner, id }).await.unwrap_or(state));
        }
        Ok(state)
    }

    /// The last state of a call that is over within a moment.
    async fn soon(&self, call: &CallId) -> Option<Map<String, Value>> {
        let follow = Follow { logs: false, ..Follow::new(&call.id) };
        let watch = self.watch(&call.owner, follow);
        let ended = async {
            loop {
                match watch.next().await {
                    Ok(Event::Ended { job, .. }) => return Some(job.into_details()),
                    Ok(Event::Gone { .. }) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        timeout(QUICK, ended).await.ok().flatten()
    }

    /// Where a call stands; `None` if its owner knows none of this id, or is gone.
    ///
    /// # Errors
    /// - [`RayError::Runner`], [`RayError::NoRunner`], [`RayError::Unavailable`].
    pub async fn state(&self, call: &CallId) -> Result<Option<Map<String, Value>>> {
        let action = format!("read the call `{}`", call.id);
        self.object_unless_missing(Request::get(call.path(""), action)).await
    }

    /// The calls of an owner, without their results.
    ///
    /// # Errors
    /// Those of [`Runner::state`].
    pub async fn calls(&self, owner: &str) -> Result<Vec<Map<String, Value>>> {
        let request = Request::get(format!("/v1/calls?owner={}", quoted(owner)), "list the calls of a run");
        self.list(request, "calls").await
    }

    /// Stops a call; `false` if it was over already, or is not known.
    ///
    /// # Errors
    /// Those of [`Runner::state`].
    pub async fn cancel(&self, call: &CallId) -> Result<bool> {
        let action = format!("stop the call `{}`", call.id);
        let request = Request::new(Method::POST, call.path("/cancel"), action).in_lane(Lane::Urgent);
        self.flag(request, "cancelled").await
    }

    /// The owners on the cluster: one for each DAG run that has values or calls there.
    ///
    /// # Errors
    /// Those of [`Runner::state`].
    pub async fn owners(&self) -> Result<Vec<Map<String, Value>>> {
        self.list(Request::get("/v1/owners", "list the owners"), "owners").await
    }

    /// Ends an owner, and with it all calls and values of its DAG run; `false` if there is none of this name.
    ///
    /// # Errors
    /// Those of [`Runner::state`].
    pub async fn drop_owner(&self, name: &str) -> Result<bool> {
        let action = format!("drop the owner `{name}`");
        let request = Request::new(Method::DELETE, format!("/v1/owners/{}", quoted(name)), action);
        self.flag(request, "dropped").await
    }

    /// Frees one value; `false` if it is not there.
    ///
    /// # Errors
    /// Those of [`Runner::state`].
    pub async fn drop_value(&self, owner: &str, key: &str) -> Result<bool> {
        let path = format!("/v1/values/{}/{}", quoted(owner), quoted(key));
        self.flag(Request::new(Method::DELETE, path, format!("drop the value `{key}`")), "dropped").await
    }

    /// What there is of a value, without it.
    ///
    /// # Errors
    /// Those of [`Runner::state`].
    pub async fn value(&self, owner: &str, key: &str, generation: &str) -> Result<Map<String, Value>> {
        let path = format!("/v1/values/{}/{}?generation={}", quoted(owner), quoted(key), quoted(generation));
        let found = self.object_unless_missing(Request::get(path, format!("look for the value `{key}`"))).await?;
        Ok(found.unwrap_or_else(|| Map::from_iter([("state".to_owned(), "gone".into())])))
    }

    /// Ends the runner's job, and its actor with it; the owners, and what they hold, stay. The answer is the job's id;
    /// `None` if there was none.
    ///
    /// # Errors
    /// Those of [`crate::Client::stop`].
    pub async fn end(&self) -> Result<Option<String>> {
        let known = lock(&self.inner.link).take();
        drop(known);
        let client = &self.inner.client;
        let Some(job) = start::running(client, &self.inner.id).await? else { return Ok(None) };
        let Some(id) = job.submission_id() else { return Ok(None) };
        match client.stop(id).await {
            Ok(Stopped::WasOver) | Err(RayError::NotFound { .. }) => Ok(None),
            Ok(_) => Ok(Some(id.to_owned())),
            Err(error) => Err(error),
        }
    }

    /// Follows a call of `owner`, as [`Watcher`] follows jobs: same events, same cursors. All watches of a runner share
    /// one feed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn watch(&self, owner: &str, follow: Follow) -> Watch {
        let mut watcher = lock(&self.watcher);
        watcher.get_or_insert_with(|| Watcher::of_calls(&self.inner)).watch_call(owner, follow)
    }

    async fn object_unless_missing(&self, request: Request) -> Result<Option<Map<String, Value>>> {
        let reply = self.inner.ask(&request).await?;
        if matches!(reply.status, 404 | 410) {
            return Ok(None);
        }
        reply.object(&request.action, &self.inner.client.transport.address.base).map(Some)
    }

    async fn flag(&self, request: Request, key: &str) -> Result<bool> {
        let answer = self.object_unless_missing(request).await?;
        Ok(answer.is_some_and(|answer| answer.get(key).and_then(Value::as_bool).unwrap_or(true)))
    }

    async fn list(&self, request: Request, key: &str) -> Result<Vec<Map<String, Value>>> {
        let Some(mut answer) = self.object_unless_missing(request.clone()).await? else { return Ok(Vec::new()) };
        match answer.remove(key) {
            Some(Value::Array(all)) => Ok(all
                .into_iter()
                .filter_map(|one| if let Value::Object(object) = one { Some(object) } else { None })
                .collect()),
            _ => Err(unreadable(&request.action, &self.address(), "it has no list")),
        }
    }

    fn address(&self) -> String {
        self.inner.client.address().to_owned()
    }
}

/// Whether a call's state stays as it is.
pub(super) fn is_over(state: &Map<String, Value>) -> bool {
    let status = state.get("status").and_then(Value::as_str).and_then(JobStatus::parse);
    status.is_some_and(JobStatus::is_terminal)
}

/// A call's state in the form of a job's, so that whatever reads a job's log and end reads a call's.
pub(super) fn job_of(mut state: Map<String, Value>) -> Option<Job> {
    let id = state.get("id")?.clone();
    let node = state.get("node_id").cloned().unwrap_or(Value::Null);
    state.insert("submission_id".to_owned(), id);
    state.insert("driver_node_id".to_owned(), node);
    Job::new(state)
}

fn quoted(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}
