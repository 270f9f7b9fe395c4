//! Carries out the plan: one task for all watches of a cluster.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::outlet::Outlet;
use super::plan::{Answer, Ask, Key, LogAnswer, Notice, Plan, Wish};
use super::turn::{Reader, Ways, read};
use super::{Event, Follow};
use crate::runner::{CallId, Told, Wanted};
use crate::{Client, Job, RayError};

/// What the handles want.
#[derive(Debug)]
pub(crate) enum Command {
    /// One more watch.
    Follow(Order),
    /// Some outlet has been closed.
    Forget,
}

/// A watch to begin.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) follow: Follow,
    /// The same as a runner knows it.
    pub(crate) call: CallId,
    pub(crate) outlet: Arc<Outlet>,
}

/// How one learns how things stand.
pub(crate) enum States {
    /// By asking.
    Asked,
    /// A runner tells.
    Told { wanted: UnboundedSender<Wanted>, news: UnboundedReceiver<Told> },
}

/// What a watch needs besides its place in the plan.
struct Served {
    call: CallId,
    outlet: Arc<Outlet>,
    /// Taken along by the turn that reads.
    reader: Option<Box<Reader>>,
}

/// What a background task came back with.
enum Done {
    Answer(Answer),
    Read { key: Key, reader: Box<Reader>, answer: LogAnswer, file_works: bool },
}

/// How long it is remembered that the state API is not there.
const FILE_MISSED: Duration = Duration::from_mins(5);
/// However short the plan's pauses are.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// Serves every watch of one watcher, until the last handle is gone.
pub(crate) async fn drive(
    client: Client,
    states: States,
    patience: Duration,
    mut commands: UnboundedReceiver<Command>,
) {
    let (wanted, mut news) = match states {
        States::Asked => (None, None),
        States::Told { wanted, news } => (Some(wanted), Some(news)),
    };
    let plan = Plan::new(client.address(), patience, wanted.is_none(), Instant::now());
    let mut driver = Driver {
        wanted,
        client,
        plan,
        served: BTreeMap::new(),
        working: JoinSet::new(),
        next_key: 0,
        no_file: None,
        tickets: HashMap::new(),
    };
    loop {
        let now = Instant::now();
        let notices = driver.plan.tick(now);
        driver.tell(notices);
        for ask in driver.plan.asks(now) {
            driver.begin(ask, now);
        }
        let wake = driver.plan.wake_at(now).map(|wake| wake.max(now + PAUSE_MIN));
        let pause = async {
            match wake {
                Some(wake) => sleep_until(wake.into()).await,
                None => std::future::pending().await,
            }
        };
        let told = async {
            match &mut news {
                Some(news) => news.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(Command::Follow(order)) => driver.follow(order),
                Some(Command::Forget) => driver.forget_closed(),
                None => return,
            },
            Some(done) = driver.working.join_next_with_id() => driver.take(done),
            Some(told) = told => driver.hear(told),
            () = pause => {}
        }
    }
}

struct Driver {
    client: Client,
    /// Where to say what one wants to be told of, if one is.
    wanted: Option<UnboundedSender<Wanted>>,
    plan: Plan,
    served: BTreeMap<Key, Served>,
    working: JoinSet<Done>,
    /// What each task in the background was to do, should it break down.
    tickets: HashMap<tokio::task::Id, Ask>,
    next_key: Key,
    /// When it was seen that there is no state API.
    no_file: Option<Instant>,
}

impl Driver {
    fn follow(&mut self, Order { follow, call, outlet }: Order) {
        let key = self.next_key;
        self.next_key += 1;
        let now = Instant::now();
        let deadline = follow.deadline.and_then(|deadline| {
            let rest = deadline.duration_since(SystemTime::now()).unwrap_or_default();
            // What no clock reaches never comes.
            now.checked_add(rest)
        });
        let reader = Box::new(Reader::new(follow.cursor.as_ref()));
        let wish = Wish { id: follow.id, logs: follow.logs, session: follow.session, deadline };
        if let Some(wanted) = &self.wanted {
            let _ = wanted.send(Wanted::Call(call.clone()));
        }
        self.served.insert(key, Served { call, outlet, reader: Some(reader) });
        self.plan.add(key, wish, now);
    }

    /// Takes a watch away, and says so where nobody else watches the same call.
    fn forget(&mut self, key: Key) {
        let Some(gone) = self.served.remove(&key) else { return };
        let is_last = || !self.served.values().any(|served| served.call == gone.call);
        if let Some(wanted) = self.wanted.as_ref().filter(|_| is_last()) {
            let _ = wanted.send(Wanted::Nothing(gone.call));
        }
    }

    fn forget_closed(&mut self) {
        let closed: Vec<Key> =
            self.served.iter().filter(|(_, served)| served.outlet.is_closed()).map(|(key, _)| *key).collect();
        for key in closed {
            self.plan.remove(key);
            self.forget(key);
        }
    }

    fn begin(&mut self, ask: Ask, now: Instant) {
        let client = self.client.clone();
        let handle = match ask.clone() {
            Ask::List => self.working.spawn(async move {
                let jobs = client.jobs().await;
                Done::Answer(Answer::List(jobs, now.elapsed()))
            }),
            Ask::Job(key, id) => {
                self.working.spawn(async move { Done::Answer(Answer::Job(key, client.job(&id).await)) })
            }
            Ask::Session => self.working.spawn(async move {
                let session = client.cluster().await.map(|cluster| cluster.session_name);
                Done::Answer(Answer::Session(session))
            }),
            Ask::Log { key, job, last } => {
                let Some((outlet, mut reader)) = self
                    .served
                    .get_mut(&key)
                    .and_then(|served| Some((Arc::clone(&served.outlet), served.reader.take()?)))
                else {
                    let _ = self.plan.answer(Answer::Log(key, LogAnswer::Unchanged), now);
                    return;
                };
                let file = self.no_file.is_none_or(|then| now >= then + FILE_MISSED);
                self.working.spawn(async move {
                    let mut ways = Ways { range: true, file };
                    let answer = tokio::select! {
                        biased;
                        () = outlet.closed() => LogAnswer::Unchanged,
                        answer = read(&client, &job, &mut reader, &outlet, &mut ways, last) => answer,
                    };
                    Done::Read { key, reader, answer, file_works: ways.file }
                })
            }
        };
        self.tickets.insert(handle.id(), ask);
    }

    fn take(&mut self, done: Result<(tokio::task::Id, Done), tokio::task::JoinError>) {
        let now = Instant::now();
        let answer = match done {
            Ok((ticket, done)) => {
                self.tickets.remove(&ticket);
                match done {
                    Done::Answer(answer) => answer,
                    Done::Read { key, reader, answer, file_works } => {
                        self.no_file = if file_works { None } else { self.no_file.or(Some(now)) };
                        if let Some(served) = self.served.get_mut(&key) {
                            served.reader = Some(reader);
                        }
                        Answer::Log(key, answer)
                    }
                }
            }
            Err(broken) => match self.tickets.remove(&broken.id()) {
                Some(ask) => self.broken(&ask, &broken.to_string()),
                None => return,
            },
        };
        let notices = self.plan.answer(answer, now);
        self.tell(notices);
    }

    /// Takes what a runner tells, for each watch of the call.
    fn hear(&mut self, told: Told) {
        let now = Instant::now();
        let answers: Vec<Answer> = match told {
            Told::Heard => vec![Answer::Heard(Ok(()))],
            Told::Trouble(error) => vec![Answer::Heard(Err(error))],
            Told::Missing(id, session) => self.keys_of(&id).map(|key| Answer::Missing(key, session.clone())).collect(),
            Told::State(job, log) => {
                let keys: Vec<Key> = self.keys_of(job.submission_id().unwrap_or_default()).collect();
                let told = |key| {
                    let log_read = log.as_ref().is_some_and(|log| self.read_whole(key, log));
                    Answer::Told { key, job: Job::clone(&job), log_read }
                };
                keys.into_iter().map(told).collect()
            }
        };
        for answer in answers {
            let notices = self.plan.answer(answer, now);
            self.tell(notices);
        }
    }

    fn keys_of(&self, id: &str) -> impl Iterator<Item = Key> {
        self.served.iter().filter(move |(_, served)| served.call.id == id).map(|(key, _)| *key)
    }

    /// Hands out a log that came all at once, unless a turn is reading it already.
    fn read_whole(&mut self, key: Key, log: &str) -> bool {
        let Some(served) = self.served.get_mut(&key) else { return false };
        let wants = self.plan.wants_log(key);
        wants && served.reader.as_mut().is_some_and(|reader| reader.whole(log.as_bytes(), &served.outlet))
    }

    /// What a task that broke down would have answered. Its watch must hear of it rather than wait for ever.
    fn broken(&mut self, ask: &Ask, how: &str) -> Answer {
        let error = || RayError::Internal { what: format!("a task of the watcher broke down: {how}") };
        match *ask {
            Ask::List => Answer::List(Err(error()), Duration::ZERO),
            Ask::Job(key, _) => Answer::Job(key, Err(error())),
            Ask::Session => Answer::Session(Err(error())),
            Ask::Log { key, .. } => {
                if let Some(served) = self.served.get_mut(&key) {
                    served.reader = Some(Box::new(Reader::new(Some(&served.outlet.cursor()))));
                }
                Answer::Log(key, LogAnswer::Failed(error()))
            }
        }
    }

    fn tell(&mut self, notices: Vec<(Key, Notice)>) {
        for (key, notice) in notices {
            let Some(served) = self.served.get_mut(&key) else { continue };
            let outlet = Arc::clone(&served.outlet);
            let over = match notice {
                Notice::Event(event) => {
                    let over = event.is_last();
                    // A line that was never completed is handed out before the end.
                    if let (Event::Gone { .. }, Some(reader)) = (&event, &mut served.reader) {
                        reader.finish(&outlet);
                    }
                    outlet.push(event);
                    over
                }
                Notice::Error(error) => {
                    outlet.fail(error);
                    true
                }
            };
            if over {
                self.forget(key);
            }
        }
    }
}
