//! What happens to calls, for all who watch: one question to the runner is open at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::calls::{CallId, is_over, job_of};
use super::mailbox::{self, Outbox};
use super::{Failure, Inner, START_PATIENCE};
use crate::pool::Lane;
use crate::runner::Request;
use crate::{Job, RayError, Result};

/// How long the runner may keep a question open over its port.
const POLL_WAIT: Duration = Duration::from_secs(20);
/// From one look into the outbox to the next: while something has just happened, and at most.
const LOOK_MIN: Duration = Duration::from_millis(15);
const LOOK_MAX: Duration = Duration::from_millis(500);
/// How often it is looked whether the runner still is the same, and runs, where only its files are read.
const LIFE_EVERY: Duration = Duration::from_secs(3);
/// States that are asked for at once.
const SYNCS_MAX: usize = 3;
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A call that nobody knows is asked for once more.
const SECOND_LOOK: Duration = Duration::from_millis(300);

/// What the feed shall tell of.
pub(crate) enum Wanted {
    Call(CallId),
    Nothing(CallId),
}

/// What it has to tell.
pub(crate) enum Told {
    /// Where a call stands now, and its whole log if that was sent along.
    State(Box<Job>, Option<String>),
    /// Nobody knows the call any more. The session of the cluster that says so.
    Missing(String, Option<String>),
    /// The runner has answered, or its dashboard has.
    Heard,
    /// Nobody has.
    Trouble(RayError),
}

struct Known {
    call: CallId,
    /// The state that was told last.
    version: Option<i64>,
    /// It has to be asked for by itself.
    due: bool,
    syncing: bool,
}

enum Done {
    Polled(Result<Outbox>),
    Synced(CallId, Result<Option<Map<String, Value>>, RayError>, Option<String>),
}

/// Tells of calls until nobody listens.
pub(crate) async fn feed(inner: Arc<Inner>, mut wanted: UnboundedReceiver<Wanted>, told: UnboundedSender<Told>) {
    let mut this = Feed {
        inner,
        told,
        calls: HashMap::new(),
        place: None,
        working: JoinSet::new(),
        polling: false,
        syncs: 0,
        failures: 0,
        pause: LOOK_MIN,
    };
    loop {
        this.begin();
        tokio::select! {
            biased;
            change = wanted.recv() => match change {
                Some(Wanted::Call(call)) => {
                    this.pause = LOOK_MIN;
                    if this.calls.is_empty() && !this.polling {
                        // What has happened while nobody listened is of no interest.
                        this.place = None;
                    }
                    // Somebody else may watch it already; this one wants to hear of it, too.
                    let known = this.calls.entry(call.id.clone());
                    let unasked = Known { call, version: None, due: true, syncing: false };
                    known.and_modify(|known| known.due = true).or_insert(unasked);
                }
                Some(Wanted::Nothing(call)) => drop(this.calls.remove(&call.id)),
                None => return,
            },
            Some(done) = this.working.join_next() => {
                let Ok(done) = done else { continue };
                this.take(done);
            }
        }
    }
}

struct Feed {
    inner: Arc<Inner>,
    told: UnboundedSender<Told>,
    calls: HashMap<String, Known>,
    /// The epoch and the last event of it.
    place: Option<(String, u64)>,
    working: JoinSet<Done>,
    polling: bool,
    syncs: usize,
    failures: u32,
    pause: Duration,
}

impl Feed {
    /// Asks what is not being asked yet.
    fn begin(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let backoff = if self.failures == 0 {
            Duration::ZERO
        } else {
            (BACKOFF_MIN * 2_u32.saturating_pow(self.failures.min(7) - 1)).min(BACKOFF_MAX)
        };
        if !self.polling {
            self.polling = true;
            let (inner, place, pause) = (Arc::clone(&self.inner), self.place.clone(), self.pause);
            self.working.spawn(async move {
                sleep(backoff).await;
                Done::Polled(inner.poll(place, pause).await)
            });
        }
        // What happens between the first look at a call and the first event is told by the events: they come first.
        if self.place.is_none() {
            return;
        }
        for known in self.calls.values_mut() {
            if self.syncs >= SYNCS_MAX {
                break;
            }
            if !known.due || known.syncing {
                continue;
            }
            (known.due, known.syncing) = (false, true);
            self.syncs += 1;
            let (inner, call) = (Arc::clone(&self.inner), known.call.clone());
            self.working.spawn(async move {
                sleep(backoff).await;
                let (state, session) = inner.look_at(&call).await;
                Done::Synced(call, state, session)
            });
        }
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Polled(result) => {
                self.polling = false;
                let Some(outbox) = self.settle(result) else { return };
                self.pause = if outbox.events.is_empty() { (self.pause * 5 / 4).min(LOOK_MAX) } else { LOOK_MIN };
                if outbox.lost {
                    self.calls.values_mut().for_each(|known| known.due = true);
                }
                self.place = Some((outbox.epoch, outbox.seq));
                outbox.events.into_iter().for_each(|event| self.tell(event, false));
            }
            Done::Synced(call, result, session) => {
                self.syncs -= 1;
                if let Some(known) = self.calls.get_mut(&call.id) {
                    known.syncing = false;
                    known.due |= result.is_err();
                }
                match self.settle(result) {
                    Some(Some(state)) => self.tell(state, true),
                    Some(None) if self.calls.remove(&call.id).is_some() => {
                        let _ = self.told.send(Told::Missing(call.id, session));
                    }
                    _ => {}
                }
            }
        }
    }

    fn settle<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.failures = 0;
                let _ = self.told.send(Told::Heard);
                Some(value)
            }
            Err(error) => {
                self.failures += 1;
                let _ = self.told.send(Told::Trouble(error));
                None
            }
        }
    }

    /// Tells of a state, unless a later one has been told. `asked`: it was asked for by itself, perhaps for one who has
    /// not heard of it yet.
    fn tell(&mut self, mut state: Map<String, Value>, asked: bool) {
        let Some(id) = state.get("id").and_then(Value::as_str).map(str::to_owned) else { return };
        let Some(known) = self.calls.get_mut(&id) else { return };
        let version = state.get("version").and_then(Value::as_i64).unwrap_or(0);
        if known.version.is_some_and(|told| version < told || (version == told && !asked)) {
            return;
        }
        let over = is_over(&state);
        // An event tells of the end, but not what came of it.
        if over && !asked && !state.contains_key("record") {
            known.due = true;
            return;
        }
        known.version = Some(version);
        if over {
            self.calls.remove(&id);
        }
        state.remove("seq");
        state.remove("epoch");
        let tail = match state.remove("tail") {
            Some(Value::String(tail)) => Some(tail),
            _ => None,
        };
        // What isn't text has other bytes in the file than here, and places in it would be wrong.
        let bytes = state.get("log_bytes").and_then(Value::as_u64);
        let tail = tail.filter(|tail| bytes.is_none_or(|bytes| bytes == tail.len() as u64));
        if let Some(job) = job_of(state) {
            let _ = self.told.send(Told::State(Box::new(job), tail));
        }
    }
}

impl Inner {
    /// Waits for events: on the port until there are some, in the outbox for a pause.
    async fn poll(self: &Arc<Self>, place: Option<(String, u64)>, pause: Duration) -> Result<Outbox> {
        #[derive(Deserialize)]
        struct News {
            epoch: String,
            seq: u64,
            #[serde(default)]
            lost: bool,
            #[serde(default)]
            events: Vec<Map<String, Value>>,
        }
        const ACTION: &str = "wait for the runner's events";
        let link = self.link(START_PATIENCE).await?;
        if let Some(port) = link.port(self).await {
            let path = match &place {
                Some((epoch, seq)) => {
                    format!("/v1/events?epoch={epoch}&since={seq}&wait={}", POLL_WAIT.as_secs())
                }
                None => "/v1/events?wait=0".to_owned(),
            };
            match port.ask(&Request::get(path, ACTION).in_lane(Lane::Bulk)).await {
                Ok(reply) if reply.status == 401 => {
                    self.renew(&link).await?;
                    return Err(reply.error(ACTION, self.client.address()));
                }
                Ok(reply) => {
                    let address = self.client.address();
                    if !reply.is_success() {
                        return Err(reply.error(ACTION, address));
                    }
                    let News { epoch, seq, lost, events } = serde_json::from_value(reply.body)
                        .map_err(|source| super::request::unreadable(ACTION, address, &source.to_string()))?;
                    let lost = lost || place.is_some_and(|(known, _)| known != epoch);
                    return Ok(Outbox { epoch, seq, lost, events });
                }
                // Whoever cut it: the outbox says the same, and whether the runner is still there.
                Err(_) => {
                    link.doubt(&port);
                    self.renew(&link).await?;
                }
            }
        } else if place.is_some() {
            sleep(pause).await;
            if self.is_life_due() {
                self.renew(&link).await?;
            }
        }
        let link = self.link(START_PATIENCE).await?;
        let known = place.as_ref().map(|(epoch, seq)| (epoch.as_str(), *seq));
        mailbox::events(&self.once, &link.beacon, known).await
    }

    fn is_life_due(&self) -> bool {
        let mut looked = crate::pool::lock(&self.looked);
        let due = looked.elapsed() > LIFE_EVERY;
        if due {
            *looked = Instant::now();
        }
        due
    }

    /// A call's state by itself; if there is none, the cluster's session.
    async fn look_at(self: &Arc<Self>, call: &CallId) -> (Result<Option<Map<String, Value>>>, Option<String>) {
        let action = format!("watch the call `{}`", call.id);
        let request = Request::get(call.path(""), &action);
        for last in [false, true] {
            let reply = match self.ask_once(&request).await {
                Ok(reply) => reply,
                Err(error) => return (Err(error), None),
            };
            if !matches!(reply.status, 404 | 410) {
                return (reply.object(&action, self.client.address()).map(Some), None);
            }
            if !last {
                sleep(SECOND_LOOK).await;
            }
        }
        (Ok(None), self.once.cluster().await.ok().and_then(|cluster| cluster.session_name))
    }

    /// One attempt, whose failure is an error at once: whoever watches tells of it, and asks again.
    async fn ask_once(self: &Arc<Self>, request: &Request) -> Result<super::Reply> {
        let mut course = super::Course::new()?;
        self.attempt(request, &mut course).await.map_err(|failed| match failed {
            Failure::Lasting(error) => error,
            Failure::Passing(source) | Failure::AtOnce(source) => RayError::Unavailable {
                action: request.action.clone(),
                address: self.client.address().to_owned(),
                attempts: 1,
                elapsed: Duration::ZERO,
                source,
            },
        })
    }
}
