//! Bytes of a log into the lines that people see.

use crate::cursor::{CONTEXT_BYTES, Cursor};

/// What a line begins with that is not for people.
const CONTROL_PREFIX: &[u8] = b"\x1eairfreight ";

/// Longer lines come in pieces.
pub(crate) const LINE_BYTES_MAX: usize = 64 << 10;

/// Cuts a stream of bytes into lines, holding back the last one until it is complete.
///
/// Memory stays below [`LINE_BYTES_MAX`] and a bit: a longer line is cut, at a character's end; of a line that is
/// overwritten with `\r` only the last state is kept; of a control line nothing is.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    /// Of the line that isn't complete: what is known of its last state.
    pending: Vec<u8>,
    /// In a control line that was too long to be kept.
    hidden: bool,
    /// Where the next byte belongs.
    fed: u64,
    /// Where what has been handed out ends.
    done: u64,
    /// The last bytes before `done`.
    context: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(offset: u64) -> Self {
        Self { pending: Vec::new(), hidden: false, fed: offset, done: offset, context: Vec::new() }
    }

    /// Where the next byte belongs.
    pub(crate) fn fed(&self) -> u64 {
        self.fed
    }

    /// The place after the last line that was handed out.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor::new(self.done, &self.context)
    }

    /// Remembers bytes that come before the offset, where there are some.
    pub(crate) fn remember(&mut self, before: &[u8]) {
        keep_last(&mut self.context, before);
    }

    /// Takes the next bytes, and hands out the lines that they complete.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], lines: &mut Vec<String>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if self.pending.is_empty() && !self.hidden && end <= LINE_BYTES_MAX {
                self.fed += line.len() as u64;
                show(&line[..end], lines);
                self.hand_out(line);
            } else {
                self.hold(&line[..end], lines);
                self.fed += 1;
                let mut held = std::mem::take(&mut self.pending);
                if !std::mem::take(&mut self.hidden) {
                    show(&held, lines);
                }
                held.push(b'\n');
                self.hand_out(&held);
                held.clear();
                self.pending = held;
            }
        }
        self.hold(bytes, lines);
    }

    /// Hands out the line that was held back: there will be no more.
    pub(crate) fn finish(&mut self, lines: &mut Vec<String>) {
        let held = std::mem::take(&mut self.pending);
        if !held.is_empty() && !self.hidden {
            show(&held, lines);
        }
        self.hand_out(&held);
    }

    fn hold(&mut self, mut bytes: &[u8], lines: &mut Vec<String>) {
        while !bytes.is_empty() {
            let taken = bytes.len().min(2 * LINE_BYTES_MAX - self.pending.len().min(LINE_BYTES_MAX));
            self.pending.extend_from_slice(&bytes[..taken]);
            self.fed += taken as u64;
            bytes = &bytes[taken..];
            while self.pending.len() > LINE_BYTES_MAX {
                self.shorten(lines);
            }
        }
    }

    /// Makes room in a line that is too long: forgets what was overwritten, or hands out a piece.
    fn shorten(&mut self, lines: &mut Vec<String>) {
        if self.hidden {
            // Enough for the context, which must end with the line's own last bytes.
            self.pending.drain(..self.pending.len() - CONTEXT_BYTES);
            return;
        }
        let written = self.pending.strip_suffix(b"\r").unwrap_or(&self.pending);
        if let Some(overwritten) = written.iter().rposition(|byte| *byte == b'\r') {
            self.pending.drain(..=overwritten);
        } else if self.pending.starts_with(CONTROL_PREFIX) {
            self.hidden = true;
        } else {
            let piece: Vec<u8> = self.pending.drain(..character_end(&self.pending, LINE_BYTES_MAX)).collect();
            lines.push(String::from_utf8_lossy(&piece).into_owned());
            self.hand_out(&piece);
        }
    }

    /// Everything that was fed, up to and with these bytes, has been handed out.
    fn hand_out(&mut self, bytes: &[u8]) {
        // After something was forgotten, these bytes don't follow the context.
        if self.done + bytes.len() as u64 != self.fed - self.pending.len() as u64 {
            self.context.clear();
        }
        keep_last(&mut self.context, bytes);
        self.done = self.fed - self.pending.len() as u64;
    }
}

fn keep_last(context: &mut Vec<u8>, bytes: &[u8]) {
    context.extend_from_slice(&bytes[bytes.len().saturating_sub(CONTEXT_BYTES)..]);
    let excess = context.len().saturating_sub(CONTEXT_BYTES);
    context.drain(..excess);
}

/// Whether a line of a job's log is not for people, but for whoever submitted the job.
#[must_use]
pub fn is_control(line: &[u8]) -> bool {
    line.starts_with(CONTROL_PREFIX)
}

/// A complete line as a terminal would show it in the end.
fn show(line: &[u8], lines: &mut Vec<String>) {
    let mut end = line.len();
    while end > 0 && line[end - 1] == b'\r' {
        end -= 1;
    }
    let start = line[..end].iter().rposition(|byte| *byte == b'\r').map_or(0, |at| at + 1);
    let shown = &line[start..end];
    if !is_control(shown) && !is_control(line) {
        lines.push(String::from_utf8_lossy(shown).into_owned());
    }
}

/// The last end of a UTF-8 character in the first `limit` bytes; `limit` itself where it isn't UTF-8.
fn character_end(bytes: &[u8], limit: usize) -> usize {
    let begins = |at: usize| bytes.get(at).is_none_or(|byte| byte & 0xc0 != 0x80);
    (limit.saturating_sub(3)..=limit).rev().find(|at| begins(*at)).unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines_of(pieces: &[&[u8]]) -> Vec<String> {
        let mut reader = Lines::new(0);
        let mut lines = Vec::new();
        for piece in pieces {
            reader.feed(piece, &mut lines);
        }
        reader.finish(&mut lines);
        lines
    }

    #[test]
    fn lines_keep_their_indentation_and_come_when_they_are_complete() {
        let mut reader = Lines::new(0);
        let mut lines = Vec::new();
        reader.feed(b"Traceback:\n    at ho", &mut lines);
        assert_eq!(lines, ["Traceback:"]);
        assert_eq!(reader.cursor().offset(), 11);
        reader.feed(b"me  \n\n", &mut lines);
        assert_eq!(lines, ["Traceback:", "    at home  ", ""]);
        reader.feed(b"the end", &mut lines);
        assert_eq!(lines.len(), 3);
        reader.finish(&mut lines);
        assert_eq!(lines[3], "the end");
        assert_eq!(reader.cursor().offset(), reader.fed());
    }

    #[test]
    fn a_progress_bar_is_its_last_state() {
        assert_eq!(lines_of(&[b"10%\r50%\r", b"100%\r\n", b"dos\r\n"]), ["100%", "dos"]);
        let mut reader = Lines::new(0);
        let mut lines = Vec::new();
        for _ in 0..100_000 {
            reader.feed(b"still at it\r", &mut lines);
        }
        assert!(lines.is_empty() && reader.pending.len() <= LINE_BYTES_MAX);
        assert_eq!(reader.cursor().offset(), 0);
        reader.feed(b"done\n", &mut lines);
        assert_eq!(lines, ["done"]);
        assert_eq!(reader.cursor().offset(), 1_200_005);
    }

    #[test]
    fn what_is_not_utf8_is_replaced() {
        assert_eq!(lines_of(&[b"gr\xfc\xdfe\n", "gr\u{fc}".as_bytes(), b"\n"]), ["gr\u{fffd}\u{fffd}e", "gr\u{fc}"]);
        assert_eq!(lines_of(&[b"\xc3", b"\xbc\n"]), ["\u{fc}"], "a character may be cut between two reads");
    }

    #[test]
    fn a_long_line_comes_in_pieces_of_whole_characters() {
        let long = "\u{20ac}".repeat(100_000);
        let pieces = lines_of(&[long.as_bytes(), b"\nnext\n"]);
        assert!(pieces.len() > 4 && pieces.iter().all(|piece| piece.len() <= LINE_BYTES_MAX));
        assert_eq!(pieces.last().map(String::as_str), Some("next"));
        assert_eq!(pieces[..pieces.len() - 1].concat(), long);
    }

    #[test]
    fn control_lines_are_not_for_people() {
        let long = [CONTROL_PREFIX, &vec![b'A'; 5 * LINE_BYTES_MAX], b"\n"].concat();
        let mut reader = Lines::new(0);
        let mut lines = Vec::new();
        for piece in long.chunks(1000) {
            reader.feed(piece, &mut lines);
            assert!(reader.pending.len() <= LINE_BYTES_MAX + 1000);
        }
        reader.feed(b"seen\n\x1eairfreight nonce {}\nairfreight\n", &mut lines);
        assert_eq!(lines, ["seen", "airfreight"]);
    }

    /// A cursor taken anywhere names bytes that really stand before it, and everything after it comes in the second
    /// reading.
    fn resumes(log: &[u8], cuts: &[usize]) -> Result<(), TestCaseError> {
        let mut reader = Lines::new(0);
        let mut seen = Vec::new();
        let mut at = 0;
        for cut in cuts.iter().map(|cut| cut % (log.len() + 1)).chain([log.len()]) {
            if cut > at {
                reader.feed(&log[at..cut], &mut seen);
                at = cut;
            }
            let cursor = reader.cursor();
            let done = usize::try_from(cursor.offset()).unwrap();
            prop_assert!(cursor.follows(&log[done - cursor.context_bytes()..done]));
            let mut again = Lines::new(cursor.offset());
            let mut lines = seen.clone();
            again.feed(&log[done..], &mut lines);
            again.finish(&mut lines);
            prop_assert_eq!(&lines, &lines_of(&[log]));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_log_in_any_pieces_can_be_resumed_anywhere(
            log in "([a-c\u{20ac}]{0,3}(\n|\r|\r\n|\x1eairfreight )?){0,40}", cuts in prop::collection::vec(0_usize..200, 0..5)
        ) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            resumes(log.as_bytes(), &cuts)?;
        }
    }
}
