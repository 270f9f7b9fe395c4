//! One turn at one log: as much as there is, by the best way there is.

use std::time::{Duration, Instant};

use super::Event;
use super::outlet::Outlet;
use super::plan::LogAnswer;
use crate::tail::{Ask, Outcome, Reading, Tail, Way};
use crate::{Client, Cursor, Job, Lines, LogStream, RayError};

/// What is handed out at once.
const PIECE_BYTES: usize = 32 << 10;
/// How long a turn waits for one who takes lines slowly, before it lets go of its connection.
const SLOW: Duration = Duration::from_secs(5);
/// More requests than one turn can sensibly need.
const REQUESTS_MAX: usize = 12;

/// How far a log has been read and handed out.
#[derive(Debug)]
pub(crate) struct Reader {
    tail: Tail,
    /// Why the first lines may have been handed out before.
    doubt: Option<String>,
}

/// Which ways have not proved impossible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ways {
    pub(crate) range: bool,
    pub(crate) file: bool,
}

impl Reader {
    pub(crate) fn new(cursor: Option<&Cursor>) -> Self {
        let doubt = cursor.filter(|cursor| !cursor.is_exact()).map(|cursor| {
            format!(
                "an earlier watch of this job broke off; what it had handed out in the {:.0} s since its last known place \
                 comes again",
                cursor.age().as_secs_f64()
            )
        });
        Self { tail: Tail::new(cursor), doubt }
    }

    /// Hands out the line that was never completed.
    pub(crate) fn finish(&mut self, outlet: &Outlet) {
        let mut lines = Vec::new();
        self.tail.finish(&mut lines);
        self.hand_out(lines, outlet);
    }

    /// Hands out what is new in a whole log that is over; `false` if that can't be told from it.
    pub(crate) fn whole(&mut self, log: &[u8], outlet: &Outlet) -> bool {
        // The second time from the beginning, if it is not the log that was read before.
        for _ in 0..2 {
            let now = Instant::now();
            let mut reading = Reading::new(Ask::All, now);
            let mut lines = Vec::new();
            let _ = self.tail.feed(&mut reading, log, &mut lines);
            let outcome = self.tail.end(reading, true, now, &mut lines);
            self.hand_out(lines, outlet);
            match outcome {
                Outcome::Grew | Outcome::Unchanged => {
                    self.finish(outlet);
                    return true;
                }
                Outcome::Restarted => self.doubt_lines(),
                Outcome::Again | Outcome::Later => return false,
            }
        }
        false
    }

    /// What follows may have been handed out before.
    fn doubt_lines(&mut self) {
        self.doubt.get_or_insert_with(|| {
            "the log is not the one that was read before, or could not be followed closely enough".to_owned()
        });
    }

    fn hand_out(&mut self, lines: Vec<String>, outlet: &Outlet) {
        if lines.is_empty() {
            return;
        }
        if let Some(reason) = self.doubt.take() {
            outlet.push(Event::Repeats { reason });
        }
        outlet.push_lines(lines, self.tail.cursor());
    }
}

/// Reads what there is; with `last`, all of it to its end.
pub(crate) async fn read(
    client: &Client,
    job: &Job,
    reader: &mut Reader,
    outlet: &Outlet,
    ways: &mut Ways,
    last: bool,
) -> LogAnswer {
    let mut grew = false;
    for _ in 0..REQUESTS_MAX {
        if !outlet.has_room() {
            return LogAnswer::Full;
        }
        let way = match ways {
            Ways { range: true, .. } => Way::Range,
            Ways { file: true, .. } => Way::File,
            _ => Way::Text,
        };
        let ask = reader.tail.ask(way, last, Instant::now());
        let stream = match open(client, job, way, ask).await {
            Ok(Some(stream)) => stream,
            Ok(None) => {
                ways.range = false;
                continue;
            }
            Err(error) => match (way, &error) {
                (Way::Range, _) => {
                    ways.range = false;
                    continue;
                }
                // Not even the path is known: a proxy lets only the Jobs API through.
                (Way::File, RayError::Rejected { status: 404 | 405 | 501, .. }) => {
                    ways.file = false;
                    continue;
                }
                (_, RayError::NotFound { .. }) if reader.tail.is_at_beginning() => return LogAnswer::Missing(error),
                _ => return LogAnswer::Failed(error),
            },
        };
        let (outcome, error) = match pour(stream, ask, reader, outlet).await {
            Poured::To(outcome, error) => (outcome, error),
            Poured::Full => return LogAnswer::Full,
        };
        grew |= outcome == Outcome::Grew;
        match (outcome, error) {
            (Outcome::Restarted, _) => reader.doubt_lines(),
            (Outcome::Again, _) => {}
            // What came is kept, and the next turn goes on there.
            (_, Some(error)) => return if grew { LogAnswer::Grew } else { LogAnswer::Failed(error) },
            (Outcome::Later, None) if last => {}
            (Outcome::Grew | Outcome::Unchanged, None) if last => {
                reader.finish(outlet);
                return LogAnswer::Complete;
            }
            (Outcome::Grew | Outcome::Unchanged | Outcome::Later, None) => {
                // It was as the cursor said, and what comes from now on is new.
                reader.doubt = None;
                return if grew { LogAnswer::Grew } else { LogAnswer::Unchanged };
            }
        }
    }
    LogAnswer::Failed(RayError::Internal { what: format!("the log of `{}` cannot be followed", name(job)) })
}

enum Poured {
    To(Outcome, Option<RayError>),
    Full,
}

async fn pour(mut stream: LogStream, ask: Ask, reader: &mut Reader, outlet: &Outlet) -> Poured {
    let mut reading = Reading::new(ask, Instant::now());
    let mut lines = Vec::new();
    let error = 'stream: loop {
        let chunk = match stream.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break None,
            Err(error) => break Some(error),
        };
        for piece in chunk.chunks(PIECE_BYTES) {
            if !outlet.has_room() && !outlet.room(SLOW).await {
                // Whatever this turn has read is in the tail; the next one goes on there.
                let _ = reader.tail.end(reading, false, Instant::now(), &mut lines);
                reader.hand_out(lines, outlet);
                return Poured::Full;
            }
            let goes_on = reader.tail.feed(&mut reading, piece, &mut lines);
            reader.hand_out(std::mem::take(&mut lines), outlet);
            if !goes_on {
                break 'stream None;
            }
        }
    };
    let outcome = reader.tail.end(reading, error.is_none(), Instant::now(), &mut lines);
    reader.hand_out(lines, outlet);
    Poured::To(outcome, error)
}

async fn open(client: &Client, job: &Job, way: Way, ask: Ask) -> Result<Option<LogStream>, RayError> {
    match (way, ask) {
        (Way::Range, Ask::From(offset)) => client.log_range(job, offset).await,
        (Way::Text, _) => client.log_whole(name(job)).await.map(Some),
        (_, ask) => {
            let (Some(node), Some(file)) = (job.driver_node_id(), job.log_name()) else {
                let error = RayError::NotFound {
                    what: "log of a job that has no node".to_owned(),
                    address: client.address().to_owned(),
                };
                return Err(error);
            };
            let lines = match ask {
                Ask::Last(lines) => Lines::Last(u32::try_from(lines).unwrap_or(u32::MAX)),
                Ask::From(_) | Ask::All => Lines::All,
            };
            client.log_file(node, &file, lines).await.map(Some)
        }
    }
}

fn name(job: &Job) -> &str {
    job.submission_id().or_else(|| job.job_id()).unwrap_or_default()
}
