//! What a watch does: asks for the job's status, and beside that reads its log.
//!
//! A log may hang: that of a silent job says nothing, and the platform keeps it open for minutes after the job's end. So
//! the status alone decides when a job is over, and its log is cut some seconds later.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::cursor::{Cursor, Seam};
use crate::lines::{Line, Lines};
use crate::transport::Failure;
use crate::watch::{Event, Follow, Said, Until};
use crate::{ApoloError, Client, Job};

/// A log that says nothing for so long after its job's end is at its end, too.
const QUIET_AT_END: Duration = Duration::from_secs(5);
/// What a job has written so far comes without a pause of this length.
const QUIET_SO_FAR: Duration = Duration::from_secs(2);
/// A log that is still read so long after its job's end is cut.
const READ_AT_END: Duration = Duration::from_mins(10);
/// Between two attempts to open a log.
const REOPEN_MIN: Duration = Duration::from_millis(300);
const REOPEN_MAX: Duration = Duration::from_secs(10);
/// How long a platform is silent before it is worth a word; then again every so often.
const SILENCE_TOLD: Duration = Duration::from_secs(10);
const SILENCE_TOLD_AGAIN: Duration = Duration::from_mins(1);
/// Lines of one event.
const LINES_MAX: usize = 500;

pub(crate) async fn drive(client: Client, follow: Follow, events: Sender<Said>) {
    let said = run(&client, &follow, &events).await;
    // Nobody listens any more if it can't be said.
    let _ = events.send(said.map_err(Arc::new)).await;
}

async fn run(client: &Client, follow: &Follow, events: &Sender<Said>) -> Result<Event, ApoloError> {
    let once = client.with_patience(Duration::ZERO);
    let mut deadline = follow.deadline.map(remaining);
    let mut pause = follow.pause_min;
    let mut status = None;
    let mut silent: Option<Silence> = None;
    let mut log: Option<Reader> = None;
    loop {
        match once.job(&follow.id).await {
            Ok(job) => {
                silent = None;
                if status != Some(job.status()) {
                    status = Some(job.status());
                    pause = follow.pause_min;
                    say(events, Event::Status { job: job.clone() }).await?;
                }
                let reads = follow.logs && matches!(follow.until, Until::End | Until::Now);
                if reads && log.is_none() && job.status().has_started() {
                    let is_live = !job.status().is_over();
                    let before = (follow.until == Until::Now && is_live).then(Timestamp::now);
                    log = Some(Reader::begin(client, &job, &follow.cursor, before, events));
                }
                let is_there = match follow.until {
                    Until::Now => true,
                    Until::End => job.status().is_over(),
                    Until::Start => job.status().has_started(),
                    Until::Other(known) => job.status() != known || job.status().is_over(),
                };
                if is_there {
                    let log_error = match log {
                        Some(log) => log.end().await,
                        None => None,
                    };
                    return Ok(Event::Ended { job, log_error });
                }
            }
            Err(error) if matches!(error, ApoloError::Unavailable { .. } | ApoloError::Unreadable { .. }) => {
                let silence = silent.get_or_insert_with(Silence::begin);
                if silence.began.elapsed() > follow.patience {
                    return Err(error);
                }
                if Instant::now() >= silence.tell_at {
                    silence.tell_at = Instant::now() + SILENCE_TOLD_AGAIN;
                    let error = airfreight_core::chain(&error);
                    say(events, Event::Unreachable { silence: silence.began.elapsed(), error }).await?;
                }
            }
            Err(error) => return Err(error),
        }
        let next = Instant::now() + pause;
        pause = (pause * 3 / 2).min(follow.pause_max);
        if let Some(at) = deadline.filter(|at| *at <= next) {
            sleep_until(at).await;
            deadline = None;
            say(events, Event::Deadline).await?;
        } else {
            sleep_until(next).await;
        }
    }
}

struct Silence {
    began: Instant,
    tell_at: Instant,
}

impl Silence {
    fn begin() -> Self {
        Self { began: Instant::now(), tell_at: Instant::now() + SILENCE_TOLD }
    }
}

async fn say(events: &Sender<Said>, event: Event) -> Result<(), ApoloError> {
    events.send(Ok(event)).await.map_err(|_| ApoloError::Internal { what: "nobody watches the job any more".into() })
}

fn remaining(deadline: SystemTime) -> Instant {
    Instant::now() + deadline.duration_since(SystemTime::now()).unwrap_or_default()
}

/// Reads a log beside the status; dropping it ends that.
struct Reader {
    task: JoinHandle<Option<String>>,
    over: watch::Sender<bool>,
}

impl Reader {
    /// With `before`, only what was written until then is wanted.
    fn begin(client: &Client, job: &Job, cursor: &Cursor, before: Option<Timestamp>, events: &Sender<Said>) -> Self {
        let (over, is_over) = watch::channel(false);
        let reading = Reading {
            client: client.with_patience(Duration::ZERO),
            job: job.clone(),
            cursor: cursor.clone(),
            before: before.map(Timestamp::as_microsecond),
            events: events.clone(),
            is_over,
        };
        Self { task: tokio::spawn(reading.run()), over }
    }

    /// No more than what is there is wanted: reads what is left of it, and says why some of it is missing.
    async fn end(mut self) -> Option<String> {
        let _ = self.over.send(true);
        match timeout(READ_AT_END, &mut self.task).await {
            Ok(Ok(error)) => error,
            Ok(Err(broken)) => Some(broken.to_string()),
            Err(_) => Some("it is longer than can be read in ten minutes".to_owned()),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Reading {
    client: Client,
    job: Job,
    cursor: Cursor,
    /// Microseconds since 1970; what is written later is not wanted.
    before: Option<i64>,
    events: Sender<Said>,
    is_over: watch::Receiver<bool>,
}

impl Reading {
    async fn run(mut self) -> Option<String> {
        let separator = format!("=== airfreight {} ===", self.job.id());
        let mut pause = REOPEN_MIN;
        let mut failures = 0;
        loop {
            let was_over = *self.is_over.borrow();
            let got = match self.client.log(&self.job, &self.cursor, &separator).await {
                Ok(stream) => self.copy(stream, &separator).await,
                // Its container is so new that nobody has heard of its log, for the job itself is there.
                Err(Failure::Lasting(error @ ApoloError::Rejected { status: 404, .. })) => Err(error.to_string()),
                Err(Failure::Lasting(error)) => return Some(airfreight_core::chain(&error)),
                Err(Failure::Passing { source, .. }) => Err(source.to_string()),
            };
            match got {
                // What was opened after the job's end and has ended itself is complete.
                Ok(Copied::Ended) if was_over => return None,
                Ok(Copied::Enough) => return None,
                Ok(Copied::Ended) => failures = 0,
                Err(error) => {
                    failures += 1;
                    if was_over && failures >= 3 {
                        return Some(error);
                    }
                }
            }
            if *self.is_over.borrow() {
                pause = REOPEN_MIN;
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(REOPEN_MAX),
                changed = self.is_over.changed() => if changed.is_err() { return None },
            }
        }
    }

    async fn copy(&mut self, mut stream: crate::logs::LogStream, separator: &str) -> Result<Copied, String> {
        let mut lines = Lines::new(separator);
        let mut seam = Seam::at(&self.cursor);
        let mut cut_at: Option<Instant> = None;
        let quiet = if self.before.is_some() { QUIET_SO_FAR } else { QUIET_AT_END };
        loop {
            if cut_at.is_none() && *self.is_over.borrow_and_update() {
                cut_at = Some(Instant::now() + quiet);
            }
            let far = Instant::now() + Duration::from_hours(24);
            let chunk = tokio::select! {
                chunk = stream.next() => chunk,
                changed = self.is_over.changed(), if cut_at.is_none() => {
                    if changed.is_err() {
                        return Ok(Copied::Enough);
                    }
                    continue;
                }
                () = sleep_until(cut_at.unwrap_or(far)) => {
                    let rest = lines.end();
                    self.hand_out(&Vec::from_iter(rest), &mut seam).await;
                    return Ok(Copied::Enough);
                }
            };
            match chunk {
                Ok(Some(bytes)) => {
                    cut_at = cut_at.map(|_| Instant::now() + quiet);
                    let found = lines.push(&bytes);
                    if !self.hand_out(&found, &mut seam).await {
                        return Ok(Copied::Enough);
                    }
                }
                Ok(None) => {
                    let rest = lines.end();
                    self.hand_out(&Vec::from_iter(rest), &mut seam).await;
                    return Ok(Copied::Ended);
                }
                // What has no end yet comes again.
                Err(source) => return Err(source.to_string()),
            }
        }
    }

    /// `false` if nobody wants more.
    async fn hand_out(&mut self, found: &[Line], seam: &mut Seam) -> bool {
        let is_late = |line: &Line| self.before.zip(line.micros).is_some_and(|(before, micros)| micros > before);
        let wanted = found.iter().position(is_late).unwrap_or(found.len());
        for part in found[..wanted].chunks(LINES_MAX) {
            let mut lines = Vec::with_capacity(part.len());
            for line in part {
                // Without a time, it can't be told from what came before.
                if let Some(micros) = line.micros {
                    if seam.has(micros, &line.text) {
                        continue;
                    }
                    self.cursor.pass(micros, &line.text);
                }
                lines.push(line.text.clone());
            }
            if lines.is_empty() {
                continue;
            }
            let event = Event::Lines { lines, cursor: self.cursor.clone() };
            if self.events.send(Ok(event)).await.is_err() {
                return false;
            }
        }
        wanted == found.len()
    }
}

enum Copied {
    /// The platform has ended it.
    Ended,
    /// Nothing comes any more that is wanted, or nobody listens.
    Enough,
}
