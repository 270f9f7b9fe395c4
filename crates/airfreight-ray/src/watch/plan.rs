//! What a watcher asks next, and what the answers mean. No IO, and no clock but the one that is passed in.
//!
//! The state of few jobs is asked job by job, that of many by one list; a list costs Ray 0.4 ms for each job that it
//! remembers, and a single question 4 ms. Logs are asked for one after the other, those that grow more often.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use airfreight_core::ErrorKind;

use super::Event;
use crate::{Job, JobStatus, RayError};

/// Which of the watches.
pub(crate) type Key = u64;

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
/// How long the log of a job that has ended is tried for.
const LOG_PATIENCE: Duration = Duration::from_secs(30);
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long a silence is not worth mentioning, and how often it is mentioned then.
const SILENCE_UNTOLD: Duration = Duration::from_secs(15);
const SILENCE_TOLD_EVERY: Duration = Duration::from_mins(1);
/// How many refusals in a row are believed.
const DENIALS_MAX: u32 = 3;

/// What to ask.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ask {
    /// All jobs.
    List,
    /// One job.
    Job(Key, String),
    /// The cluster's session.
    Session,
    /// More of a job's log; all that is left of it if the job is over.
    Log { key: Key, job: Job, last: bool },
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Answer {
    List(Result<Vec<Job>, RayError>, Duration),
    Job(Key, Result<Option<Job>, RayError>),
    Session(Result<Option<String>, RayError>),
    Log(Key, LogAnswer),
}

/// How a turn at a log ended.
#[derive(Debug)]
pub(crate) enum LogAnswer {
    Grew,
    Unchanged,
    /// There was no more, and there will be no more.
    Complete,
    /// Who takes the lines is slow.
    Full,
    /// There is no such file or node.
    Missing(RayError),
    Failed(RayError),
}

/// What a watch is told.
#[derive(Debug)]
pub(crate) enum Notice {
    Event(Event),
    Error(Arc<RayError>),
}

type Notices = Vec<(Key, Notice)>;

/// What somebody wants to know of a job.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) id: String,
    pub(crate) logs: bool,
    pub(crate) session: Option<String>,
    pub(crate) deadline: Option<Instant>,
}

#[derive(Debug)]
struct Watched {
    wish: Wish,
    since: Instant,
    due: Instant,
    asked: bool,
    job: Option<Job>,
    missing: u32,
    told: Option<Instant>,
    log: Log,
    /// When it was seen to be over.
    over: Option<Instant>,
}

#[derive(Debug)]
struct Log {
    busy: bool,
    due: Instant,
    pause: Duration,
}

/// The state of one watcher.
#[derive(Debug)]
pub(crate) struct Plan {
    address: String,
    patience: Duration,
    watched: BTreeMap<Key, Watched>,
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
    pub(crate) fn new(address: &str, patience: Duration, now: Instant) -> Self {
        Self {
            address: address.to_owned(),
            patience,
            watched: BTreeMap::new(),
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
        let log = Log { busy: false, due: now, pause: LOG_PAUSE_MIN };
        let watched =
            Watched { wish, since: now, due: now, asked: false, job: None, missing: 0, told: None, log, over: None };
        self.watched.insert(key, watched);
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.watched.remove(&key);
    }

    /// What to ask now; what is under way is remembered.
    pub(crate) fn asks(&mut self, now: Instant) -> Vec<Ask> {
        let mut asks = Vec::new();
        if self.retry.is_none_or(|retry| now >= retry) {
            self.ask_states(now, &mut asks);
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
            // What is left of the logs of jobs that are over comes first.
            let next = self
                .watched
                .iter()
                .filter(|(_, watched)| self.log_due(watched).is_some_and(|due| now >= due))
                .min_by_key(|(_, watched)| (watched.over.is_none(), watched.log.due))
                .map(|(key, _)| *key);
            let Some((key, watched)) = next.and_then(|key| Some((key, self.watched.get_mut(&key)?))) else { return };
            let Some(job) = watched.job.clone() else { return };
            watched.log.busy = true;
            self.logs += 1;
            self.log_due = self.log_due.max(now) + LOGS_EVERY;
            asks.push(Ask::Log { key, job, last: watched.over.is_some() });
        }
    }

    /// Takes an answer and says what it means.
    pub(crate) fn answer(&mut self, answer: Answer, now: Instant) -> Notices {
        let mut notices = Vec::new();
        match answer {
            Answer::List(result, took) => {
                self.listing = false;
                if let Some(jobs) = self.settle(result, now, &mut notices) {
                    self.list_took = took;
                    self.records = Some((jobs.len(), now));
                    self.take_list(jobs, now, &mut notices);
                }
            }
            Answer::Job(key, result) => {
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
                self.session_asked = false;
                if let Some(session) = self.settle(result, now, &mut notices) {
                    self.take_session(session, &mut notices);
                }
            }
            Answer::Log(key, answer) => {
                self.logs -= 1;
                self.take_log(key, answer, now, &mut notices);
            }
        }
        self.forget_the_finished(&notices);
        notices
    }

    /// What the clock alone brings: deadlines, and the end of patience.
    pub(crate) fn tick(&mut self, now: Instant) -> Notices {
        let mut notices = Vec::new();
        for (key, watched) in &mut self.watched {
            if watched.wish.deadline.is_some_and(|deadline| now >= deadline) && watched.over.is_none() {
                watched.wish.deadline = None;
                notices.push((*key, Notice::Event(Event::Deadline)));
            }
            // Who is over waits for his log only, and that has a limit of its own.
            if let Some(over) = watched.over {
                if now >= over + LOG_PATIENCE.max(self.patience) && !watched.log.busy {
                    let why = self.trouble.as_ref().map_or_else(
                        || "it could not be read in time".to_owned(),
                        |error| airfreight_core::chain(&**error),
                    );
                    notices.extend(watched.ended(*key, Some(why)));
                }
                continue;
            }
            let silence = now.saturating_duration_since(watched.heard(self.answered));
            let untold = SILENCE_UNTOLD.min(self.patience / 2);
            if silence >= self.patience {
                let error = unavailable(&self.address, &watched.wish.id, self.failures, silence, self.trouble.as_ref());
                notices.push((*key, Notice::Error(Arc::new(error))));
            } else if silence >= untold && watched.told.is_none_or(|told| now >= told + SILENCE_TOLD_EVERY) {
                watched.told = Some(now);
                let error = self.trouble.as_ref().map_or_else(
                    || "no answer yet to the last request".to_owned(),
                    |error| airfreight_core::chain(&**error),
                );
                notices.push((*key, Notice::Event(Event::Unreachable { silence, error })));
            } else if silence < untold {
                watched.told = None;
            }
        }
        self.forget_the_finished(&notices);
        notices
    }

    /// When to look again, unless an answer comes before.
    pub(crate) fn wake_at(&self, now: Instant) -> Option<Instant> {
        let mut moments: Vec<Instant> = Vec::new();
        let lists = self.lists(now);
        let states = |at: Instant| self.retry.map_or(at, |retry| at.max(retry));
        let may_ask = self.may_ask();
        if lists && !self.listing && may_ask {
            moments.push(states(self.list_due));
        }
        if self.wants_session() && may_ask {
            moments.push(states(now));
        }
        let untold = SILENCE_UNTOLD.min(self.patience / 2);
        for watched in self.watched.values() {
            moments.extend(watched.wish.deadline.filter(|_| watched.over.is_none()));
            if watched.is_asked_alone(lists) && self.singles < SINGLES_AT_ONCE && may_ask {
                moments.push(states(watched.due));
            }
            if self.logs < LOGS_AT_ONCE {
                moments.extend(self.log_due(watched));
            }
            if let Some(over) = watched.over {
                // A turn under way has limits of its own.
                moments.extend((!watched.log.busy).then(|| over + LOG_PATIENCE.max(self.patience)));
            } else {
                let heard = watched.heard(self.answered);
                moments.push(heard + self.patience);
                moments.push(watched.told.map_or(heard + untold, |told| told + SILENCE_TOLD_EVERY));
            }
        }
        moments.into_iter().min()
    }

    /// When a job's log may be asked for.
    fn log_due(&self, watched: &Watched) -> Option<Instant> {
        match watched.over {
            _ if !watched.wants_log() => None,
            Some(_) => Some(watched.log.due),
            // Where the dashboard doesn't say how a job is, it won't say what it writes.
            None if self.failures > 0 => None,
            None => Some(watched.log.due.max(self.log_due)),
        }
    }

    /// Whether one list is cheaper than a question for each.
    fn lists(&self, now: Instant) -> bool {
        let running = self.watched.values().filter(|watched| watched.over.is_none()).count();
        running > SINGLES_MAX
            && match self.records {
                Some((records, then)) if now < then + RECORDS_BELIEVED => running > records / 10,
                // A list is how the number is found out.
                _ => true,
            }
    }

    /// From one question to the next, so that an end is noticed in time and Ray has little to do.
    fn interval(&self, now: Instant) -> Duration {
        let running = self.watched.values().filter(|watched| watched.over.is_none()).count();
        let wanted = match running {
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
        let changed = watched.job.as_ref().map(Job::status) != Some(job.status());
        if changed {
            notices.push((key, Notice::Event(Event::Status { job: job.clone() })));
        }
        let over = job.status().is_terminal();
        watched.job = Some(job);
        if over {
            watched.over = Some(now);
            watched.log.due = now;
            if !watched.has_log() {
                notices.extend(watched.ended(key, None));
            }
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
        let running = self.watched.values().filter(|watched| watched.wants_log()).count();
        let share = LOGS_EVERY * u32::try_from(running).unwrap_or(u32::MAX);
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
        log.due = now + log.pause.max(share);
        let Some(over) = over else { return };
        // What failed before it began has no log.
        let succeeded = watched.job.as_ref().is_some_and(|job| job.status() == JobStatus::Succeeded);
        match answer {
            LogAnswer::Complete => notices.extend(watched.ended(key, None)),
            LogAnswer::Missing(error) if now >= over + Duration::from_secs(2) => {
                let why = succeeded.then(|| airfreight_core::chain(&error));
                notices.extend(watched.ended(key, why));
            }
            LogAnswer::Failed(error) if now >= over + LOG_PATIENCE => {
                notices.extend(watched.ended(key, Some(airfreight_core::chain(&error))));
            }
            // The last turn is still to come, at once.
            LogAnswer::Grew | LogAnswer::Unchanged => watched.log.due = now,
            LogAnswer::Full | LogAnswer::Missing(_) | LogAnswer::Failed(_) => {}
        }
    }

    fn forget_the_finished(&mut self, notices: &Notices) {
        for (key, notice) in notices {
            match notice {
                Notice::Event(event) if !event.is_last() => {}
                Notice::Event(_) | Notice::Error(_) => drop(self.watched.remove(key)),
            }
        }
    }
}

impl Watched {
    /// Whether a question of its own is worth while: a list says of most what there is to say.
    fn is_asked_alone(&self, lists: bool) -> bool {
        self.over.is_none() && !self.asked && (!lists || self.missing > 0)
    }

    fn wants_log(&self) -> bool {
        self.wish.logs && !self.log.busy && self.has_log()
    }

    /// Whether it has come far enough to write one.
    fn has_log(&self) -> bool {
        self.wish.logs && self.job.as_ref().is_some_and(|job| job.driver_node_id().is_some())
    }

    /// When the dashboard was heard last, as far as this watch knows.
    fn heard(&self, answered: Option<Instant>) -> Instant {
        answered.map_or(self.since, |answered| answered.max(self.since))
    }

    fn ended(&self, key: Key, log_error: Option<String>) -> Option<(Key, Notice)> {
        let job = self.job.clone()?;
        Some((key, Notice::Event(Event::Ended { job, log_error })))
    }
}

fn unavailable(address: &str, id: &str, attempts: u32, elapsed: Duration, trouble: Option<&Arc<RayError>>) -> RayError {
    let why = trouble
        .map_or_else(|| "the last request is still unanswered".to_owned(), |error| airfreight_core::chain(&**error));
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
