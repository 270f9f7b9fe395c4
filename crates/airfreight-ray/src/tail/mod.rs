//! The log of one job: what to ask for next, and what the answer adds.
//!
//! There is no IO here. A [`Tail`] says what it wants ([`Ask`]), is fed with the bytes of the answer through a
//! [`Reading`], and hands out lines: each once and in order, whatever the log and however the answers are cut.
//!
//! By `Range`, and when all of a file comes, that is simple: bytes are counted, and the known ones are compared and
//! skipped. Where a file can only be had from its beginning or by its last lines, short logs are fetched whole. Of
//! longer ones the last lines are asked for, and what is known is found in them. That fails when the log repeats itself
//! or has grown by more than the window; then the window is widened, and in the end the whole is fetched. A log that
//! grew by more than a window and happens to end as it did before cannot be told from one that did not grow, so the
//! whole is fetched now and then (whenever the log has doubled) and at the job's end, and compared by checksum. Were
//! lines missed, all from the last certain place on are handed out again, and marked.

mod fetch;
mod lines;
mod overlap;

use std::time::{Duration, Instant};

use crc_fast::{CrcAlgorithm, Digest};

use self::lines::Lines;
pub use self::lines::is_control;
use self::overlap::{Overlap, overlap};
use crate::cursor::{CONTEXT_BYTES, Cursor};

/// How a log can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From any offset: the agent of the job's node.
    Range,
    /// From its beginning, or its last lines: the dashboard's state API.
    File,
    /// All of it as text: the dashboard's Jobs API.
    Text,
}

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Everything from this offset on.
    From(u64),
    /// The last lines.
    Last(usize),
    /// All of it.
    All,
}

/// What an answer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There was more.
    Grew,
    /// There was no more.
    Unchanged,
    /// It cannot be told yet: ask again, for more.
    Again,
    /// It cannot be told yet, and finding out costs too much to do it at once.
    Later,
    /// It is not the log that was read before, or lines were missed: what follows may have been handed out before.
    Restarted,
}

/// How much is fetched when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Up to this size, a log is fetched whole.
    pub(crate) small_bytes: u64,
    /// How much of the log's end is kept to be recognised.
    pub(crate) known_bytes: usize,
    /// The first window.
    pub(crate) window_lines: usize,
    /// The last window, before the whole is fetched.
    pub(crate) window_lines_max: usize,
    /// The largest answer that is taken for a window.
    pub(crate) window_bytes_max: usize,
    /// The least pause between two fetches of a whole that isn't small.
    pub(crate) whole_pause: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            small_bytes: 64 << 10,
            known_bytes: 16 << 10,
            window_lines: 16,
            window_lines_max: 4096,
            window_bytes_max: 256 << 10,
            whole_pause: Duration::from_secs(2),
        }
    }
}

/// A place in the log that everything before has been read to.
#[derive(Clone, Debug)]
struct Place {
    lines: Lines,
    /// The last bytes before it. Empty at a cursor of which only the checksum is known.
    known: Vec<u8>,
    /// The checksum of everything before it, where everything was seen.
    digest: Option<Digest>,
}

/// How far one job's log has been read.
#[derive(Debug)]
pub(crate) struct Tail {
    bounds: Bounds,
    place: Place,
    /// The last place that is certain.
    certain: Place,
    /// Where to begin, until that place has been seen.
    start: Option<Cursor>,
    window_lines: usize,
    /// No window helps: the whole is wanted.
    whole_wanted: bool,
    whole_not_before: Option<Instant>,
    /// How often in a row the log was shorter than what has been read of it.
    shorter: u32,
}

/// An answer that is being read.
#[derive(Debug)]
pub(crate) struct Reading {
    ask: Ask,
    began: Instant,
    /// Where its next byte belongs.
    at: u64,
    /// Its last bytes before the place from which on all is new.
    before: Vec<u8>,
    digest: Digest,
    certain: bool,
    window: Vec<u8>,
    outcome: Option<Outcome>,
    grew: bool,
}

impl Tail {
    pub(crate) fn new(cursor: Option<&Cursor>) -> Self {
        Self::with_bounds(cursor, Bounds::default())
    }

    pub(crate) fn with_bounds(cursor: Option<&Cursor>, bounds: Bounds) -> Self {
        let place = Place::beginning();
        let start = cursor.filter(|cursor| cursor.offset() > 0).cloned();
        let at = start.as_ref().map_or(0, Cursor::offset);
        Self {
            bounds,
            certain: place.clone(),
            place: Place { lines: Lines::new(at), known: Vec::new(), digest: (at == 0).then(digest) },
            start,
            window_lines: bounds.window_lines,
            whole_wanted: false,
            whole_not_before: None,
            shorter: 0,
        }
    }

    /// The place after the last line that was handed out.
    pub(crate) fn cursor(&self) -> Cursor {
        match &self.start {
            Some(start) => start.clone(),
            None => self.place.lines.cursor(),
        }
    }

    /// What to ask for next; `last` when the log does not grow any more.
    pub(crate) fn ask(&self, way: Way, last: bool, now: Instant) -> Ask {
        let fed = self.place.lines.fed();
        match way {
            Way::Range => Ask::From(fed - self.context_bytes() as u64),
            Way::Text => Ask::All,
            Way::File => {
                let doubled = fed > 2 * self.certain.lines.fed() + self.bounds.small_bytes;
                let certain = self.start.is_none() && fed > self.bounds.small_bytes && !last;
                let affordable = self.whole_not_before.is_none_or(|then| now >= then);
                if certain && !((self.whole_wanted || doubled) && affordable) {
                    Ask::Last(self.window_lines)
                } else {
                    Ask::All
                }
            }
        }
    }

    /// Takes the next bytes of an answer, and hands out the lines that they complete. `false`: the rest is of no use.
    #[must_use]
    pub(crate) fn feed(&mut self, reading: &mut Reading, mut bytes: &[u8], lines: &mut Vec<String>) -> bool {
        if reading.outcome.is_some() {
            return false;
        }
        if let Ask::Last(_) = reading.ask {
            reading.window.extend_from_slice(bytes);
            if reading.window.len() > self.bounds.window_bytes_max {
                reading.outcome = Some(self.want_whole(reading.began));
            }
            return reading.outcome.is_none();
        }
        let fed = self.place.lines.fed();
        while reading.at < fed {
            // Up to the certain place, then up to the end of what is known.
            let certain = self.certain.lines.fed();
            let until = if reading.at < certain { certain.min(fed) } else { fed };
            let known = bytes.len().min(usize::try_from(until - reading.at).unwrap_or(usize::MAX));
            let (skipped, rest) = bytes.split_at(known);
            reading.skip(skipped);
            bytes = rest;
            if reading.at == certain {
                reading.certain = reading.ask == Ask::All && self.certain.is_reached_by(reading);
            }
            if bytes.is_empty() && reading.at < fed {
                return true;
            }
        }
        if reading.at == fed && !reading.grew && !self.confirm(reading) {
            self.restart(reading.certain);
            reading.outcome = Some(Outcome::Restarted);
            return false;
        }
        if !bytes.is_empty() {
            reading.grew = true;
            reading.at += bytes.len() as u64;
            self.take(bytes, lines);
        }
        true
    }

    /// Ends an answer; `complete` if it came to its own end.
    pub(crate) fn end(
        &mut self,
        mut reading: Reading,
        complete: bool,
        now: Instant,
        lines: &mut Vec<String>,
    ) -> Outcome {
        if let Some(outcome) = reading.outcome {
            return outcome;
        }
        if let (Ask::Last(wanted), true) = (reading.ask, complete) {
            return self.fit(&std::mem::take(&mut reading.window), wanted, now, lines);
        }
        if reading.ask == Ask::All && self.place.lines.fed() > self.bounds.small_bytes {
            let took = now.saturating_duration_since(reading.began);
            self.whole_not_before = Some(now + self.bounds.whole_pause.max(20 * took));
        }
        if complete && reading.at < self.place.lines.fed() {
            self.shorter += 1;
            if self.shorter > 1 {
                self.shorter = 0;
                self.restart(reading.certain);
                return Outcome::Restarted;
            }
            return Outcome::Later;
        }
        // An answer may end exactly where what is known ends, without a byte after it.
        if reading.at == self.place.lines.fed() && !reading.grew && !self.confirm(&reading) {
            self.restart(reading.certain);
            return Outcome::Restarted;
        }
        if complete {
            self.shorter = 0;
            self.whole_wanted = false;
            self.certain = self.place.clone();
            let excess = self.certain.known.len().saturating_sub(CONTEXT_BYTES);
            self.certain.known.drain(..excess);
        }
        if reading.grew { Outcome::Grew } else { Outcome::Unchanged }
    }

    /// Hands out the line that was held back: there will be no more.
    pub(crate) fn finish(&mut self, lines: &mut Vec<String>) {
        self.place.lines.finish(lines);
    }

    /// Whether nothing has been read yet.
    pub(crate) fn is_at_beginning(&self) -> bool {
        self.place.lines.fed() == 0
    }

    /// How many bytes before the place [`Ask::From`] must bring along.
    fn context_bytes(&self) -> usize {
        match &self.start {
            Some(start) => start.context_bytes(),
            None => self.place.known.len().min(CONTEXT_BYTES),
        }
    }

    /// Whether an answer that has come to the place is of the log that was read before.
    fn confirm(&mut self, reading: &Reading) -> bool {
        if let Some(start) = &self.start {
            let context = &reading.before[reading.before.len().saturating_sub(start.context_bytes())..];
            if !start.follows(context) {
                return false;
            }
            self.place.lines.remember(context);
            self.place.known = context.to_vec();
            self.place.digest = (reading.ask == Ask::All).then_some(reading.digest);
            self.start = None;
            return true;
        }
        if !self.place.is_reached_by(reading) {
            return false;
        }
        if reading.ask == Ask::All {
            self.place.digest = Some(reading.digest);
        }
        true
    }

    fn take(&mut self, bytes: &[u8], lines: &mut Vec<String>) {
        self.place.lines.feed(bytes, lines);
        if let Some(digest) = &mut self.place.digest {
            digest.update(bytes);
        }
        let known = &mut self.place.known;
        let kept = &bytes[bytes.len().saturating_sub(self.bounds.known_bytes)..];
        let excess = (known.len() + kept.len()).saturating_sub(self.bounds.known_bytes);
        known.drain(..excess.min(known.len()));
        known.extend_from_slice(kept);
    }

    /// Finds in the last lines what is known, and takes the rest.
    fn fit(&mut self, window: &[u8], wanted: usize, now: Instant, lines: &mut Vec<String>) -> Outcome {
        let has = line_ends(window) + usize::from(!window.ends_with(b"\n"));
        if has < wanted {
            // That was all of it.
            let mut reading = Reading::new(Ask::All, now);
            let _ = self.feed(&mut reading, window, lines);
            return self.end(reading, true, now, lines);
        }
        match overlap(&self.place.known, window) {
            // With less than half of it known, the match may be by chance.
            Overlap::Bytes(known) if 2 * known >= window.len() => {
                let (_, new) = window.split_at(known);
                if new.is_empty() {
                    self.window_lines = (self.window_lines / 2).max(self.bounds.window_lines);
                    return Outcome::Unchanged;
                }
                self.take(new, lines);
                self.window_lines = (4 * line_ends(new)).clamp(self.bounds.window_lines, self.bounds.window_lines_max);
                Outcome::Grew
            }
            _ if wanted < self.bounds.window_lines_max => {
                self.window_lines = (8 * wanted).min(self.bounds.window_lines_max);
                Outcome::Again
            }
            _ => self.want_whole(now),
        }
    }

    fn want_whole(&mut self, now: Instant) -> Outcome {
        self.whole_wanted = true;
        self.window_lines = self.bounds.window_lines;
        if self.whole_not_before.is_none_or(|then| now >= then) { Outcome::Again } else { Outcome::Later }
    }

    /// Goes back to the last certain place, or to the beginning.
    fn restart(&mut self, certain: bool) {
        if !certain {
            self.certain = Place::beginning();
        }
        self.place = self.certain.clone();
        self.start = None;
        self.whole_wanted = true;
        self.whole_not_before = None;
    }
}

impl Place {
    fn beginning() -> Self {
        Self { lines: Lines::new(0), known: Vec::new(), digest: Some(digest()) }
    }

    /// Whether an answer that has come here brought the bytes that were here before.
    fn is_reached_by(&self, reading: &Reading) -> bool {
        if let (Some(known), Ask::All) = (&self.digest, reading.ask) {
            return known.finalize() == reading.digest.finalize();
        }
        let common = self.known.len().min(reading.before.len());
        self.known[self.known.len() - common..] == reading.before[reading.before.len() - common..]
    }
}

impl Reading {
    /// Begins with the answer to `ask`.
    pub(crate) fn new(ask: Ask, now: Instant) -> Self {
        Self {
            ask,
            began: now,
            at: if let Ask::From(offset) = ask { offset } else { 0 },
            before: Vec::new(),
            digest: digest(),
            certain: false,
            window: Vec::new(),
            outcome: None,
            grew: false,
        }
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.at += bytes.len() as u64;
        if self.ask == Ask::All {
            self.digest.update(bytes);
        }
        let kept = &bytes[bytes.len().saturating_sub(CONTEXT_BYTES)..];
        self.before.extend_from_slice(kept);
        let excess = self.before.len().saturating_sub(CONTEXT_BYTES);
        self.before.drain(..excess);
    }
}

fn line_ends(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}

fn digest() -> Digest {
    Digest::new(CrcAlgorithm::Crc64Nvme)
}

#[cfg(test)]
mod tests;
