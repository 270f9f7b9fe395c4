//! Checkpoints that tasks have left to this host's agent: uploaded from the store's queue, until each is in its bucket.
//!
//! The queue is files, and what is to be done stands there alone. What is kept here (when to try again) may be lost with
//! the process: the next one looks at the buckets and sends what they lack.

mod credentials;
mod news;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use airfreight_bucket::{Begun, Bucket, BucketError, Claim, Queue, Queued, QueuedObject};
use airfreight_core::{ErrorKind, ObjectName, chain};
use airfreight_store::{Store, StoreError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use self::credentials::Buckets;
use self::news::News;
use crate::crash::crash_point;
use crate::error::Problem;
use crate::life;
use crate::metrics::{Metrics, Outcome};

/// How often it is looked at what is due, as long as anything waits.
const TICK: Duration = Duration::from_secs(1);
/// It is listed at least so often, upon which what killed writers have left is removed.
const LOOK_EVERY: Duration = Duration::from_mins(2);
/// Rows whose objects are sent at a time; each has up to eight parts under way.
const UPLOADS_MAX: usize = 2;
/// After a failure it is tried again: a second later, then two, four, ...
const PAUSE: Duration = Duration::from_secs(1);
/// ... and never later than this.
const PAUSE_MAX: Duration = Duration::from_mins(5);
/// Coarser than any file system's clock.
const CLOCK_GRAIN: Duration = Duration::from_millis(50);

/// What the page shows of the queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overview {
    pub(crate) waiting: u64,
    pub(crate) bytes: u64,
    pub(crate) oldest: Option<SystemTime>,
    /// Why the last attempt of one that still waits has failed.
    pub(crate) problem: Option<String>,
}

/// One row's upload, as long as it is in the queue.
struct Waiting {
    queued: Arc<Queued>,
    since: SystemTime,
    failures: u32,
    due: Instant,
    problem: Option<String>,
    is_under_way: bool,
}

type Plan = BTreeMap<(SystemTime, ObjectName), Waiting>;

/// What one attempt came to.
enum Ended {
    /// The bucket has all of it; so many bytes were sent for that.
    Stored(u64),
    /// It was taken out of the queue in the meantime.
    Withdrawn,
    /// It can't be done, whenever it is tried.
    Lost(Problem),
    /// It may work later.
    Failed(Problem),
}

pub(crate) struct Checkpoints {
    store: Store,
    queue: Queue,
    buckets: Buckets,
    plan: Mutex<Plan>,
    metrics: Arc<Metrics>,
}

impl Checkpoints {
    pub(crate) fn new(store: Store, access_command: Vec<String>, metrics: Arc<Metrics>) -> Arc<Self> {
        let queue = Queue::of(&store);
        Arc::new(Self { store, queue, buckets: Buckets::new(access_command), plan: Mutex::default(), metrics })
    }

    pub(crate) fn overview(&self) -> Overview {
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        Overview {
            waiting: plan.len() as u64,
            bytes: plan.values().map(|waiting| waiting.queued.nbytes()).sum(),
            oldest: plan.values().map(|waiting| waiting.since).min(),
            problem: plan.values().rev().find_map(|waiting| waiting.problem.clone()),
        }
    }

    /// Uploads until `ended` says so, then finishes what is under way. Looks for more at times counted from `began`.
    pub(crate) async fn run(self: Arc<Self>, mut ended: watch::Receiver<bool>, began: Instant) {
        let mut claim: Option<Claim> = None;
        let mut seen = None;
        let (mut under_way, mut tidying) = (JoinSet::new(), JoinSet::new());
        let mut looked_at = began;
        let mut next = began;
        let mut news = News::of(self.queue.folder());
        loop {
            tokio::select! {
                _ = ended.wait_for(|ended| *ended) => break,
                Some(done) = under_way.join_next() => {
                    if let Ok((place, result)) = done {
                        self.settle(place, result);
                    }
                }
                () = news.heard() => {}
                () = sleep_until(next) => {}
            }
            // An agent that has nothing to do wakes up once for all that it looks after; where there is no news, it finds
            // an upload then.
            let is_idle = self.plan.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
            next = next_tick(began, if is_idle { life::TICK } else { TICK });
            // Nothing is made in a store without checkpoints.
            let Some(changed) = self.queue.changed_at() else { continue };
            if claim.is_none() {
                claim = self.queue.claim().unwrap_or_else(|error| {
                    warn!(error = %chain(&error), "could not look after checkpoints");
                    None
                });
                if claim.is_none() {
                    continue;
                }
                tidying.spawn(Arc::clone(&self).tidy());
            }
            if seen != Some(changed) || looked_at.elapsed() > LOOK_EVERY {
                looked_at = Instant::now();
                let looked = SystemTime::now();
                if let Err(error) = self.look() {
                    warn!(error = %chain(&error), "could not list the checkpoints that wait");
                }
                // What came in the same tick of the clock would not be noticed.
                let is_settled = looked.duration_since(changed).is_ok_and(|age| age > CLOCK_GRAIN);
                seen = is_settled.then_some(changed);
            }
            self.start(&mut under_way);
        }
        while let Some(done) = under_way.join_next().await {
            if let Ok((place, result)) = done {
                self.settle(place, result);
            }
        }
    }

    /// Takes up what has come into the queue, and forgets what has gone.
    fn look(&self) -> Result<(), BucketError> {
        let listed: HashSet<_> = self.queue.list()?.into_iter().map(|(name, since)| (since, name)).collect();
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.retain(|place, waiting| listed.contains(place) || waiting.is_under_way);
        let mut new: Vec<_> = listed.into_iter().filter(|place| !plan.contains_key(place)).collect();
        new.sort_unstable();
        for (since, name) in new {
            match self.queue.read(name) {
                Ok(Some(queued)) => {
                    self.supersede(&plan, &queued, since);
                    let queued = Arc::new(queued);
                    let due = Instant::now();
                    let waiting = Waiting { queued, since, failures: 0, due, problem: None, is_under_way: false };
                    plan.insert((since, name), waiting);
                }
                Ok(None) => {}
                // It stays, for people to look at.
                Err(error) => error!(error = %chain(&error), "cannot upload a checkpoint"),
            }
        }
        Ok(())
    }

    /// A task that has returned another value since wants only that one's copy to be the newest.
    fn supersede(&self, plan: &Plan, queued: &Queued, since: SystemTime) {
        let is_older = |waiting: &&Waiting| {
            waiting.since < since && waiting.queued.url == queued.url && waiting.queued.newest.key == queued.newest.key
        };
        for ((_, name), _) in plan.iter().filter(|(_, waiting)| is_older(waiting)) {
            if let Err(error) = self.queue.remove(*name) {
                warn!(error = %chain(&error), "could not withdraw a checkpoint that was replaced");
            }
        }
    }

    fn start(self: &Arc<Self>, under_way: &mut JoinSet<((SystemTime, ObjectName), Ended)>) {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while under_way.len() < UPLOADS_MAX {
            // A dict's members are objects of the dict's row, too, which finds them there when they are done.
            let busy: HashSet<_> = keys(plan.values().filter(|waiting| waiting.is_under_way)).collect();
            let is_free = |waiting: &Waiting| keys(std::iter::once(waiting)).all(|key| !busy.contains(&key));
            let next = plan.iter().find(|(_, waiting)| !waiting.is_under_way && waiting.due <= now && is_free(waiting));
            let Some((&place, _)) = next else { break };
            let Some(waiting) = plan.get_mut(&place) else { break };
            waiting.is_under_way = true;
            let (this, queued) = (Arc::clone(self), Arc::clone(&waiting.queued));
            under_way.spawn(async move { (place, this.carry_out(place.1, &queued).await) });
        }
    }

    fn settle(&self, place: (SystemTime, ObjectName), ended: Ended) {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = plan.get_mut(&place) else { return };
        let name = place.1;
        let outcome = match ended {
            Ended::Stored(sent) => {
                info!(%name, url = waiting.queued.url, nbytes = waiting.queued.nbytes(), sent, "checkpointed");
                Outcome::Stored
            }
            Ended::Withdrawn => {
                debug!(%name, "the checkpoint is not wanted any more");
                Outcome::Withdrawn
            }
            Ended::Lost(problem) => {
                error!(%name, url = waiting.queued.url, error = problem.text, "there will be no checkpoint");
                Outcome::Lost
            }
            Ended::Failed(problem) => {
                let pause = PAUSE.saturating_mul(1 << waiting.failures.min(16)).min(PAUSE_MAX);
                waiting.failures += 1;
                waiting.due = Instant::now() + pause;
                waiting.is_under_way = false;
                warn!(%name, error = problem.text, hint = problem.hint, again_in = ?pause, "could not checkpoint");
                waiting.problem = Some(problem.text);
                self.metrics.count_checkpoint(Outcome::Failed);
                return;
            }
        };
        self.metrics.count_checkpoint(outcome);
        plan.remove(&place);
    }

    /// One attempt. Whatever is there already is not sent again.
    async fn carry_out(&self, name: ObjectName, queued: &Queued) -> Ended {
        let bucket = match self.buckets.get(queued.conn.as_deref(), &queued.url).await {
            Ok(bucket) => bucket,
            Err(problem) => return Ended::Failed(problem),
        };
        match self.upload(name, queued, &bucket).await {
            Ok(ended) => ended,
            Err(error) => {
                if error.kind() == ErrorKind::Denied {
                    self.buckets.forget(queued.conn.as_deref(), &queued.url);
                }
                Ended::Failed(Problem::new(&error, error.hint()))
            }
        }
    }

    async fn upload(&self, name: ObjectName, queued: &Queued, bucket: &Bucket) -> Result<Ended, BucketError> {
        self.abandon(name, bucket).await?;
        let (mut sent, mut mine) = (0, Vec::new());
        for object in &queued.objects {
            let Some((object_name, expected)) = object.read() else { continue };
            if !self.queue.contains(name) {
                return self.withdraw(bucket, &mine).await;
            }
            // Nobody else writes under an object's own key.
            bucket.abandon(&object.key, None).await?;
            let note = |id: &str| {
                let (url, conn, key) = (queued.url.clone(), queued.conn.clone(), object.key.clone());
                self.queue.note_begun(name, &Begun { url, conn, key, id: id.to_owned() })
            };
            let completed = bucket.complete_object(&self.store, object_name, &object.key, &note).await;
            if completed.is_ok() {
                crash_point("checkpoint.copied");
                self.queue.forget_begun(name)?;
            }
            match completed {
                Ok((copied, _)) if copied != expected => {
                    let reason = format!("object {object_name} is not what its task has written");
                    return self.give_up(name, Problem { text: reason, hint: None });
                }
                Ok((copied, is_new)) => {
                    mine.push(object.key.as_str());
                    sent += if is_new { copied.nbytes } else { 0 };
                }
                Err(BucketError::Store(StoreError::NotFound { .. })) if !self.queue.contains(name) => {
                    return self.withdraw(bucket, &mine).await;
                }
                // Its copy may have been made before it went.
                Err(BucketError::Store(error @ StoreError::NotFound { .. })) => {
                    if bucket.size(&object.key).await? != Some(expected.nbytes) {
                        return self.give_up(name, Problem::new(&error, error.hint()));
                    }
                }
                Err(error @ (BucketError::Store(StoreError::Corrupt { .. }) | BucketError::Conflict { .. })) => {
                    return self.give_up(name, Problem::new(&error, error.hint()));
                }
                Err(error) => return Err(error),
            }
        }
        // A clear of the task takes the upload out of the queue before it deletes the copies.
        if !self.queue.contains(name) {
            return self.withdraw(bucket, &mine).await;
        }
        bucket.put(&queued.newest.key, queued.newest.text.clone().into_bytes()).await?;
        crash_point("checkpoint.newest");
        for key in &queued.replaces {
            bucket.delete(key).await?;
            crash_point("checkpoint.replaced");
        }
        if self.queue.remove(name)? {
            crash_point("checkpoint.removed");
            for (object_name, _) in queued.objects.iter().filter_map(QueuedObject::read) {
                // Only for room: without the note, the object is spilled rather than dropped.
                if let Err(error) = self.store.note_copy(object_name) {
                    debug!(%object_name, error = %chain(&error), "could not note its copy");
                }
            }
            return Ok(Ended::Stored(sent));
        }
        mine.push(&queued.newest.key);
        self.withdraw(bucket, &mine).await
    }

    /// Ends what an attempt before this one has begun whose agent was killed.
    async fn abandon(&self, name: ObjectName, bucket: &Bucket) -> Result<(), BucketError> {
        if let Some(begun) = self.queue.begun_of(name) {
            bucket.abandon(&begun.key, Some(&begun.id)).await?;
            self.queue.forget_begun(name)?;
        }
        Ok(())
    }

    /// Ends uploads of agents that were killed, and whose entries have gone since: those of cleared tasks.
    async fn tidy(self: Arc<Self>) {
        let begun = self.queue.begun().unwrap_or_else(|error| {
            warn!(error = %chain(&error), "could not list uploads that were begun");
            Vec::new()
        });
        for (name, begun) in begun.into_iter().filter(|(name, _)| !self.queue.contains(*name)) {
            let ended = match self.buckets.get(begun.conn.as_deref(), &begun.url).await {
                Ok(bucket) => self.abandon(name, &bucket).await.map_err(|error| chain(&error)),
                Err(problem) => Err(problem.text),
            };
            // The note stays, for the next agent.
            if let Err(error) = ended {
                warn!(key = begun.key, url = begun.url, error, "could not end an upload that nobody wants any more");
            }
        }
    }

    /// Removes what was made for nobody.
    async fn withdraw(&self, bucket: &Bucket, keys: &[&str]) -> Result<Ended, BucketError> {
        for key in keys {
            bucket.delete(key).await?;
        }
        Ok(Ended::Withdrawn)
    }

    fn give_up(&self, name: ObjectName, problem: Problem) -> Result<Ended, BucketError> {
        Ok(if self.queue.remove(name)? { Ended::Lost(problem) } else { Ended::Withdrawn })
    }
}

/// The next of the times that come every `period` after `began`.
fn next_tick(began: Instant, period: Duration) -> Instant {
    let passed = began.elapsed().as_millis() / period.as_millis().max(1);
    began + period.saturating_mul(u32::try_from(passed + 1).unwrap_or(u32::MAX))
}

/// What some uploads write.
fn keys<'a>(of: impl Iterator<Item = &'a Waiting>) -> impl Iterator<Item = (&'a str, &'a str)> {
    of.flat_map(|waiting| {
        waiting.queued.objects.iter().map(|object| (waiting.queued.url.as_str(), object.key.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use airfreight_store::Options;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn an_upload_is_carried_out_when_it_comes_and_not_when_it_is_next_looked_for() {
        let (memory, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let options = Options { path: Some(memory.path().join("store")), ..Options::default() };
        let store = Store::open(&options).unwrap();
        let mut writer = store.create().unwrap();
        writer.write(b"a row's member").unwrap();
        let name = writer.seal(&[], "{}").unwrap();
        let text = json!({
            "version": 1, "url": format!("file://{}", bucket.path().display()), "conn": null, "objects": [],
            "newest": {"key": "newest", "text": "a row"}, "replaces": [],
        });
        let queued = Queued::parse(&text.to_string()).unwrap();
        let checkpoints = Checkpoints::new(store, Vec::new(), Metrics::new());
        let queue = checkpoints.queue.clone();
        let (end, ended) = watch::channel(false);
        // It looks for the first time in an hour.
        let running = tokio::spawn(checkpoints.run(ended, Instant::now() + Duration::from_hours(1)));
        let began = Instant::now();
        while !bucket.path().join("newest").exists() {
            assert!(began.elapsed() < Duration::from_mins(1), "nobody has heard of it");
            // Again, since it may come before anybody listens.
            queue.add(name, &queued).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        end.send(true).unwrap();
        running.await.unwrap();
    }
}
