//! What a watcher asks next, and what the answers mean. No IO, and no clock but the one that is passed in.
//!
//! The state of few jobs is asked job by job, that of many by one list; a list costs Ray 0.4 ms for each job that it
//! remembers, and a single question 4 ms. Logs are asked for one after the other, those that grow more often.
//!
//! With a thousand watches there are a hundred requests and answers a second, mostly for logs. None of these may walk all
//! watches: logs wait in queues, and the walks that remain are made when something has changed or is due.

mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use airfreight_core::{ErrorKind, chain};

pub(crate) use self::words::{Answer, Ask, Key, LogAnswer, Notice, Wish};
use super::Event;
use crate::{Job, JobStatus, RayError};

/// Up to so many are asked for one by one, however few jobs there are.
const SINGLES_MAX: usize = 10;
/// How many small questions are under way at once.
const SINGLES_AT_ONCE: usize = 2;
/// How long the number of Ray's records is believed.
const RECORDS_BELIEVED: Duration = Duration::from_mins(1);
/// How many logs are read at once; less than a client's connections for such, so that others get a turn.
const LOGS_AT_ONCE: usize = 4;
/// The least pause between two requests for logs.
const LOGS_EVERY: Duration = Duration::from_millis(20);
const LOG_PAUSE_MIN: Duration = Duration::from_millis(300);
const LOG_PAUSE_MAX: Duration = Duration::from_secs(5);
/// What is told is told at once: most calls are over before there is a reason to read their logs.
const LOG_FIRST: Duration = Duration::from_millis(300);
/// How long the log of a job that has ended is tried for.
const LOG_PATIENCE: Duration = Duration::from_secs(30);
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long a silence is not worth mentioning, and how often it is mentioned then.
const SILENCE_UNTOLD: Duration = Duration::from_secs(15);
const SILENCE_TOLD_EVERY: Duration = Duration::from_mins(1);
/// How many refusals in a row are believed.
const DENIALS_MAX: u32 = 3;

type Notices = Vec<(Key, Notice)>;

#[derive(Debug)]
struct Watched {
    wish: Wish,
    since: Instant,
    due: Instant,
    asked: bool,
    job: Option<Arc<Job>>,
    missing: u32,
    told: Option<Instant>,
    log: Log,
    /// When it was seen to be over.
    over: Option<Instant>,
}

#[derive(Debug)]
struct Log {
    /// Wanted, and the job has come far enough to write one.
    exists: bool,
    busy: bool,
    /// Under which moment it waits in a queue.
    queued: Option<Instant>,
    pause: Duration,
}

/// The state of one watcher.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Plan {
    address: String,
    patience: Duration,
    /// Whether states are asked for; otherwise they are told.
    asks: bool,
    watched: BTreeMap<Key, Watched>,
    /// How many of them aren't over.
    running: usize,
    /// The logs of jobs that run, by when they are due; and what is left of those of jobs that are over.
    growing: BTreeSet<(Instant, Key)>,
    ending: BTreeSet<(Instant, Key)>,
    /// Before these moments there is nothing to ask about states, and nothing that the clock alone brings. `None`: to be
    /// found out.
    states_at: Option<Instant>,
    tick_at: Option<Instant>,
    listing: bool,
    list_due: Instant,
    list_took: Duration,
    records: Option<(usize, Instant)>,
    session: Option<String>,
    session_asked: bool,
    session_known: bool,
    singles: usize,
    logs: usize,
    log_due: Instant,
    answered: Option<Instant>,
    failures: u32,
    denials: u32,
    retry: Option<Instant>,
    trouble: Option<Arc<RayError>>,
}

impl Plan {
    pub(crate) fn new(address: &str, patience: Duration, asks: bool, now: Instant) -> Self {
        Self {
            address: address.to_owned(),
            patience,
            asks,
            watched: BTreeMap::new(),
            running: 0,
            growing: BTreeSet::new(),
            ending: BTreeSet::new(),
            states_at: None,
            tick_at: None,
            listing: false,
            list_due: now,
            list_took: Duration::ZERO,
            records: None,
            session: None,
            session_asked: false,
            session_known: false,
            singles: 0,
            logs: 0,
            log_due: now,
            answered: None,
            failures: 0,
            denials: 0,
            retry: None,
            trouble: None,
        }
    }

    pub(crate) fn add(&mut self, key: Key, wish: Wish, now: Instant) {
        let log = Log { exists: false, busy: false, queued: None, pause: LOG_PAUSE_MIN };
        let watched =
            Watched { wish, since: now, due: now, asked: false, job: None, missing: 0, told: None, log, over: None };
        self.watched.insert(key, watched);
        self.running += 1;
        self.states_at = None;
        self.tick_at = None;
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.unqueue(key);
        if let Some(watched) = self.watched.remove(&key) {
            self.running -= usize::from(watched.over.is_none());
        }
    }

    /// What to ask now; what is under way is remembered.
    pub(crate) fn asks(&mut self, now: Instant) -> Vec<Ask> {
        let mut asks = Vec::new();
        let due = self.states_at.is_none_or(|at| now >= at) && self.retry.is_none_or(|retry| now >= retry);
        if due && self.asks {
            self.ask_states(now, &mut asks);
            self.states_at = Some(self.states_due(now));
        }
        self.ask_logs(now, &mut asks);
        asks
    }

    fn ask_states(&mut self, now: Instant, asks: &mut Vec<Ask>) {
        let lists = self.lists(now);
        if lists && !self.listing && now >= self.list_due && self.may_ask() {
            self.listing = true;
            self.list_due = now + self.interval(now);
            asks.push(Ask::List);
        }
        if self.wants_session() && self.may_ask() {
            self.session_asked = true;
            asks.push(Ask::Session);
        }
        let due = |watched: &Watched| watched.is_asked_alone(lists) && now >= watched.due;
        let mut due: Vec<(Instant, Key)> =
            self.watched.iter().filter(|(_, watched)| due(watched)).map(|(key, watched)| (watched.due, *key)).collect();
        due.sort_unstable();
        for (_, key) in due {
            if self.singles >= SINGLES_AT_ONCE || !self.may_ask() {
                break;
            }
            if let Some(watched) = self.watched.get_mut(&key) {
                watched.asked = true;
                self.singles += 1;
                asks.push(Ask::Job(key, watched.wish.id.clone()));
            }
        }
    }

    /// When there may be something to ask about states, if nothing happens before.
    fn states_due(&self, now: Instant) -> Instant {
        // How many records there are is forgotten in time.
        let mut due = now + Duration::from_secs(5);
        if self.may_ask() {
            let lists = self.lists(now);
            if lists && !self.listing {
                due = due.min(self.list_due);
            }
            if self.singles < SINGLES_AT_ONCE {
                let alone = self.watched.values().filter(|watched| watched.is_asked_alone(lists));
                due = alone.map(|watched| watched.due).fold(due, Instant::min);
            }
        }
        due
    }

    /// While the dashboard doesn't answer, one question is under way and no more.
    fn may_ask(&self) -> bool {
        self.failures == 0 || (self.singles == 0 && !self.listing && !self.session_asked)
    }

    fn wants_session(&self) -> bool {
        let vanished = self.watched.values().any(|watched| watched.missing > 1);
        let unknown = !self.session_known && self.watched.values().any(|watched| watched.wish.session.is_none());
        (vanished || unknown) && !self.session_asked
    }

    fn ask_logs(&mut self, now: Instant, asks: &mut Vec<Ask>) {
        while self.logs < LOGS_AT_ONCE {
            // What is left of the logs of jobs that are over comes first. Where the dashboard doesn't say how a job is,
            // it won't say what it writes.
            let growing = self.growing.first().filter(|_| self.failures == 0 && now >= self.log_due);
            let due = |entry: &&(Instant, Key)| now >= entry.0;
            let Some((_, key)) = self.ending.first().filter(due).or(growing.filter(due)).copied() else { return };
            self.unqueue(key);
            let Some(watched) = self.watched.get_mut(&key) else { continue };
            let Some(job) = watched.job.clone() else { continue };
            watched.log.busy = true;
            self.logs += 1;
            self.log_due = self.log_due.max(now) + LOGS_EVERY;
            asks.push(Ask::Log { key, job, last: watched.over.is_some() });
        }
    }

    /// Lets a job's log wait for its turn.
    fn queue(&mut self, key: Key, due: Instant) {
        self.unqueue(key);
        let Some(watched) = self.watched.get_mut(&key).filter(|watched| watched.log.exists && !watched.log.busy) else {
            return;
        };
        watched.log.queued = Some(due);
        let queue = if watched.over.is_some() { &mut self.ending } else { &mut self.growing };
        queue.insert((due, key));
    }

    /// Whether the lines of a log are wanted, and nobody is reading them.
    pub(crate) fn wants_log(&self, key: Key) -> bool {
        self.watched.get(&key).is_some_and(|watched| watched.wish.logs && !watched.log.busy && watched.over.is_none())
    }

    fn unqueue(&mut self, key: Key) {
        if let Some(due) = self.watched.get_mut(&key).and_then(|watched| watched.log.queued.take()) {
            self.growing.remove(&(due, key));
            self.ending.remove(&(due, key));
        }
    }

    /// Takes an answer and says what it means.
    pub(crate) fn answer(&mut self, answer: Answer, now: Instant) -> Notices {
        let mut notices = Vec::new();
        match answer {
            Answer::List(result, took) => {
                self.states_at = None;
                self.listing = false;
                if let Some(jobs) = self.settle(result, now, &mut notices) {
                    self.list_took = took;
                    self.records = Some((jobs.len(), now));
                    self.take_list(jobs, now, &mut notices);
                }
            }
            Answer::Job(key, result) => {
                self.states_at = None;
                self.singles -= 1;
                let pause = self.pause_of(key, now);
                if let Some(watched) = self.watched.get_mut(&key) {
                    watched.asked = false;
                    watched.due = now + pause;
                }
                if let Some(job) = self.settle(result, now, &mut notices) {
                    match job {
                        Some(job) => self.take_job(key, job, now, &mut notices),
                        None => self.take_missing(key, now),
                    }
                }
            }
            Answer::Session(result) => {
                self.states_at = None;
                self.session_asked = false;
                if let Some(session) = self.settle(result, now, &mut notices) {
                    self.take_session(session, &mut notices);
                }
            }
            Answer::Log(key, answer) => {
                self.logs -= 1;
                self.take_log(key, answer, now, &mut notices);
            }
            Answer::Told { key, job, log_read } => {
                if log_read {
                    self.unqueue(key);
                    if let Some(watched) = self.watched.get_mut(&key) {
                        watched.wish.logs = false;
                        watched.log.exists = false;
                    }
                }
                self.take_job(key, job, now, &mut notices);
            }
            Answer::Missing(key, session) => {
                if let Some(watched) = self.watched.get(&key).filter(|watched| watched.over.is_none()) {
                    let before = watched.wish.session.as_ref();
                    let replaced = before.is_some() && session.is_some() && before != session.as_ref();
                    notices.push((key, Notice::Event(Event::Gone { replaced })));
                }
            }
            Answer::Heard(result) => drop(self.settle(result, now, &mut notices)),
        }
        self.forget_the_finished(&notices);
        notices
    }

    /// What the clock alone brings: deadlines, and the end of patience.
    pub(crate) fn tick(&mut self, now: Instant) -> Notices {
        let mut notices = Vec::new();
        if self.tick_at.is_some_and(|at| now < at) {
            return notices;
        }
        for (key, watched) in &mut self.watched {
            // Who is over waits for his log only, and that has a limit of its own.
            if let Some(over) = watched.over {
                if now >= over + LOG_PATIENCE.max(self.patience) && !watched.log.busy {
                    let why = || "it could not be read in time".to_owned();
                    let why = self.trouble.as_ref().map_or_else(why, |error| chain(&**error));
                    notices.extend(watched.ended(*key, Some(why)));
                }
                continue;
            }
            if watched.wish.deadline.is_some_and(|deadline| now >= deadline) {
                watched.wish.deadline = None;
                notices.push((*key, Notice::Event(Event::Deadline)));
            }
            let silence = now.saturating_duration_since(watched.heard(self.answered));
            let untold = untold(self.patience);
            if silence >= self.patience {
                let error = unavailable(&self.address, &watched.wish.id, self.failures, silence, self.trouble.as_ref());
                notices.push((*key, Notice::Error(Arc::new(error))));
            } else if silence >= untold && watched.told.is_none_or(|told| now >= told + SILENCE_TOLD_EVERY) {
                watched.told = Some(now);
                let unanswered = || "no answer yet to the last request".to_owned();
                let error = self.trouble.as_ref().map_or_else(unanswered, |error| chain(&**error));
                notices.push((*key, Notice::Event(Event::Unreachable { silence, error })));
            } else if silence < untold {
                watched.told = None;
            }
        }
        self.forget_the_finished(&notices);
        self.tick_at = Some(self.tick_due(now));
        notices
    }

    /// When the clock alone brings something, at the earliest. Answers can only put it off.
    fn tick_due(&self, now: Instant) -> Instant {
        let untold = untold(self.patience);
        let moments = self.watched.values().map(|watched| {
            if let Some(over) = watched.over {
                // A turn under way has limits of its own.
                return (over + LOG_PATIENCE.max(self.patience)).max(now + Duration::from_secs(1));
            }
            let heard = watched.heard(self.answered);
            let told = watched.told.map_or(heard + untold, |told| told + SILENCE_TOLD_EVERY);
            watched.wish.deadline.map_or(told, |deadline| told.min(deadline)).min(heard + self.patience)
        });
        moments.fold(now + SILENCE_TOLD_EVERY, Instant::min)
    }

    /// When to look again, unless an answer comes before.
    pub(crate) fn wake_at(&self, now: Instant) -> Option<Instant> {
        if self.watched.is_empty() {
            return None;
        }
        let states = self.states_at.unwrap_or(now);
        let states = self.retry.map_or(states, |retry| states.max(retry));
        let states = Some(states).filter(|_| self.asks);
        let free = self.logs < LOGS_AT_ONCE;
        let ending = self.ending.first().filter(|_| free).map(|(due, _)| *due);
        let growing = self.growing.first().filter(|_| free && self.failures == 0);
        let growing = growing.map(|(due, _)| (*due).max(self.log_due));
        [states, Some(self.tick_at.unwrap_or(now)), ending, growing].into_iter().flatten().min()
    }

    /// Whether one list is cheaper than a question for each.
    fn lists(&self, now: Instant) -> bool {
        self.running > SINGLES_MAX
            && match self.records {
                Some((records, then)) if now < then + RECORDS_BELIEVED => self.running > records / 10,
                // A list is how the number is found out.
                _ => true,
            }
    }

    /// From one question to the next, so that an end is noticed in time and Ray has little to do.
    fn interval(&self, now: Instant) -> Duration {
        let wanted = match self.running {
            0..=SINGLES_MAX => {
                let fresh = self.watched.values().any(|watched| now < watched.since + Duration::from_secs(30));
                Duration::from_millis(if fresh { 250 } else { 700 })
            }
            11..=50 => Duration::from_millis(700),
            // Four seconds at a thousand.
            more => {
                Duration::from_millis(700) + Duration::from_micros(3474) * u32::try_from(more - 50).unwrap_or(u32::MAX)
            }
        };
        if self.lists(now) { wanted.max(2 * self.list_took) } else { wanted }
    }

    fn pause_of(&self, key: Key, now: Instant) -> Duration {
        match self.watched.get(&key) {
            Some(watched) if watched.missing == 1 => BACKOFF_MIN,
            Some(_) => self.interval(now),
            None => Duration::ZERO,
        }
    }

    /// Whether the dashboard answers; what it answered.
    fn settle<T>(&mut self, result: Result<T, RayError>, now: Instant, notices: &mut Notices) -> Option<T> {
        let error = match result {
            Ok(answer) => {
                self.answered = Some(now);
                self.failures = 0;
                self.denials = 0;
                self.retry = None;
                self.trouble = None;
                return Some(answer);
            }
            Err(error) => Arc::new(error),
        };
        self.failures += 1;
        let backoff = BACKOFF_MIN * 2_u32.saturating_pow(self.failures.min(6) - 1);
        self.retry = Some(now + backoff.min(BACKOFF_MAX));
        self.trouble = Some(Arc::clone(&error));
        // A token may be replaced while we ask; after a few times it is we who have the wrong one.
        self.denials = if error.kind() == ErrorKind::Denied { self.denials + 1 } else { 0 };
        if self.denials >= DENIALS_MAX {
            let running = self.watched.iter().filter(|(_, watched)| watched.over.is_none());
            notices.extend(running.map(|(key, _)| (*key, Notice::Error(Arc::clone(&error)))));
        }
        None
    }

    fn take_list(&mut self, jobs: Vec<Job>, now: Instant, notices: &mut Notices) {
        let mut wanted: BTreeMap<String, Vec<Key>> = BTreeMap::new();
        for (key, watched) in self.watched.iter().filter(|(_, watched)| watched.over.is_none()) {
            wanted.entry(watched.wish.id.clone()).or_default().push(*key);
        }
        for job in jobs {
            let ids = [job.submission_id(), job.job_id()];
            let keys: Vec<Key> = ids.into_iter().flatten().filter_map(|id| wanted.remove(id)).flatten().collect();
            for key in keys {
                self.take_job(key, job.clone(), now, notices);
            }
        }
        for key in wanted.into_values().flatten() {
            // Asked for by itself before anybody believes it.
            if let Some(watched) = self.watched.get_mut(&key) {
                watched.missing = watched.missing.max(1);
                watched.due = now;
            }
        }
    }

    fn take_job(&mut self, key: Key, job: Job, now: Instant, notices: &mut Notices) {
        let Some(watched) = self.watched.get_mut(&key) else { return };
        if watched.over.is_some() {
            return;
        }
        watched.missing = 0;
        let changed = watched.job.as_ref().map(|job| job.status()) != Some(job.status());
        if changed {
            notices.push((key, Notice::Event(Event::Status { job: job.clone() })));
        }
        let over = job.status().is_terminal();
        let begins = !watched.log.exists && watched.wish.logs && job.driver_node_id().is_some();
        watched.log.exists |= begins;
        watched.job = Some(Arc::new(job));
        if over {
            watched.over = Some(now);
            self.running -= 1;
            self.tick_at = None;
            if !watched.log.exists {
                notices.extend(watched.ended(key, None));
            }
        }
        if over || begins {
            let first = if over || self.asks { Duration::ZERO } else { LOG_FIRST };
            self.queue(key, now + first);
        }
    }

    fn take_missing(&mut self, key: Key, now: Instant) {
        if let Some(watched) = self.watched.get_mut(&key) {
            watched.missing += 1;
            watched.due = now + BACKOFF_MIN;
        }
    }

    fn take_session(&mut self, session: Option<String>, notices: &mut Notices) {
        if !self.session_known {
            self.session_known = true;
            self.session.clone_from(&session);
        }
        for (key, watched) in self.watched.iter().filter(|(_, watched)| watched.missing > 1) {
            let before = watched.wish.session.as_ref().or(self.session.as_ref());
            let replaced = before.is_some() && session.is_some() && before != session.as_ref();
            notices.push((*key, Notice::Event(Event::Gone { replaced })));
        }
        self.session = session;
    }

    fn take_log(&mut self, key: Key, answer: LogAnswer, now: Instant, notices: &mut Notices) {
        let share = LOGS_EVERY * u32::try_from(self.growing.len()).unwrap_or(u32::MAX);
        let Some(watched) = self.watched.get_mut(&key) else { return };
        let over = watched.over;
        let log = &mut watched.log;
        log.busy = false;
        log.pause = match &answer {
            LogAnswer::Grew | LogAnswer::Full => LOG_PAUSE_MIN,
            LogAnswer::Failed(_) if over.is_some() => (2 * log.pause).min(Duration::from_secs(2)),
            _ if over.is_some() => LOG_PAUSE_MIN,
            LogAnswer::Failed(_) => (2 * log.pause).min(2 * LOG_PAUSE_MAX),
            _ => (log.pause + log.pause / 2).min(LOG_PAUSE_MAX),
        };
        let mut due = now + log.pause;
        if let Some(over) = over {
            // What failed before it began has no log.
            let succeeded = watched.job.as_ref().is_some_and(|job| job.status() == JobStatus::Succeeded);
            match answer {
                LogAnswer::Complete => notices.extend(watched.ended(key, None)),
                LogAnswer::Missing(error) if now >= over + Duration::from_secs(2) => {
                    notices.extend(watched.ended(key, succeeded.then(|| chain(&error))));
                }
                LogAnswer::Failed(error) if now >= over + LOG_PATIENCE => {
                    notices.extend(watched.ended(key, Some(chain(&error))));
                }
                // The last turn is still to come, at once.
                LogAnswer::Grew | LogAnswer::Unchanged => due = now,
                LogAnswer::Full | LogAnswer::Missing(_) | LogAnswer::Failed(_) => {}
            }
        } else {
            due = due.max(now + share);
        }
        self.queue(key, due);
    }

    fn forget_the_finished(&mut self, notices: &Notices) {
        for (key, notice) in notices {
            match notice {
                Notice::Event(event) if !event.is_last() => {}
                Notice::Event(_) | Notice::Error(_) => self.remove(*key),
            }
        }
    }
}

impl Watched {
    /// Whether a question of its own is worth while: a list says of most what there is to say.
    fn is_asked_alone(&self, lists: bool) -> bool {
        self.over.is_none() && !self.asked && (!lists || self.missing > 0)
    }

    /// When the dashboard was heard last, as far as this watch knows.
    fn heard(&self, answered: Option<Instant>) -> Instant {
        answered.map_or(self.since, |answered| answered.max(self.since))
    }

    fn ended(&self, key: Key, log_error: Option<String>) -> Option<(Key, Notice)> {
        let job = Job::clone(self.job.as_ref()?);
        Some((key, Notice::Event(Event::Ended { job, log_error })))
    }
}

/// How long a silence is not worth mentioning.
fn untold(patience: Duration) -> Duration {
    SILENCE_UNTOLD.min(patience / 2)
}

fn unavailable(address: &str, id: &str, attempts: u32, elapsed: Duration, trouble: Option<&Arc<RayError>>) -> RayError {
    let why = trouble.map_or_else(|| "the last request is still unanswered".to_owned(), |error| chain(&**error));
    RayError::Unavailable {
        action: format!("watch the job `{id}`"),
        address: address.to_owned(),
        attempts: attempts.max(1),
        elapsed,
        source: why.into(),
    }
}

#[cfg(test)]
mod tests;
