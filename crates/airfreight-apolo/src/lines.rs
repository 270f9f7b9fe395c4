//! Bytes of a log into lines with their times.

use jiff::Timestamp;

/// A line without end is cut after so many bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// One line, and when the platform got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Microseconds since 1970; `None` where the platform doesn't say.
    pub(crate) micros: Option<i64>,
    pub(crate) text: String,
}

/// Puts lines together, however their bytes are cut on the way.
#[derive(Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
    /// The line that stands between the archive and what is live.
    separator: String,
}

impl Lines {
    pub(crate) fn new(separator: &str) -> Self {
        Self { rest: Vec::new(), separator: separator.to_owned() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        self.rest.extend_from_slice(bytes);
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(length) = self.rest[from..].iter().position(|byte| *byte == b'\n') {
            found.extend(self.line(&self.rest[from..from + length]));
            from += length + 1;
        }
        self.rest.drain(..from);
        if self.rest.len() > LINE_BYTES_MAX {
            let begun = self.rest.split_off(whole_letters(&self.rest));
            found.extend(self.end());
            self.rest = begun;
        }
        found
    }

    /// The last line, which has no end.
    pub(crate) fn end(&mut self) -> Option<Line> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() { None } else { self.line(&rest) }
    }

    fn line(&self, bytes: &[u8]) -> Option<Line> {
        // A terminal's line ends; and of what was drawn over, what stays.
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches('\r');
        if text == self.separator {
            return None;
        }
        let stamped = text.split_once(' ').or(Some((text, ""))).and_then(|(first, rest)| Some((time(first)?, rest)));
        let (micros, text) = stamped.map_or((None, text), |(micros, rest)| (Some(micros), rest));
        let text = text.rsplit('\r').next().unwrap_or_default();
        Some(Line { micros, text: text.to_owned() })
    }
}

/// How many bytes there are before a letter whose end hasn't come yet.
fn whole_letters(bytes: &[u8]) -> usize {
    let wants = |first: u8| match first {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    let first = bytes.iter().rposition(|byte| byte & 0xc0 != 0x80).unwrap_or_default();
    if bytes.len() - first < wants(bytes[first]) { first } else { bytes.len() }
}

/// `2026-01-02T03:04:05.123456789Z`.
fn time(word: &str) -> Option<i64> {
    let is_one = word.len() >= 20 && word.as_bytes()[4] == b'-' && word.as_bytes()[10] == b'T';
    if !is_one {
        return None;
    }
    word.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOG: &str = "2026-01-02T03:04:05.000001Z eins\r\n2026-01-02T03:04:05.5Z zw\u{e4}\u{1f600}i\n=== x ===\n\
                       plain\n2026-01-02T03:04:06.000000001Z \n2026-01-02T03:04:07Z 10%\r 20%\r\nlast";

    fn texts(chunks: impl IntoIterator<Item = Vec<u8>>) -> Vec<Line> {
        let mut lines = Lines::new("=== x ===");
        let mut found: Vec<_> = chunks.into_iter().flat_map(|chunk| lines.push(&chunk)).collect();
        found.extend(lines.end());
        found
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_where_bytes_are_cut(cuts in proptest::collection::vec(1_usize..9, 0..60)) {
            let mut rest = LOG.as_bytes().to_vec();
            let mut chunks = Vec::new();
            for cut in cuts {
                let tail = rest.split_off(cut.min(rest.len()));
                chunks.push(std::mem::replace(&mut rest, tail));
            }
            chunks.push(rest);
            prop_assert_eq!(texts(chunks), texts([LOG.as_bytes().to_vec()]));
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_between_letters() {
        let line = "\u{1f600}".repeat(LINE_BYTES_MAX);
        for size in [4093, 4094, 4095, 4096] {
            let found = texts(line.as_bytes().chunks(size).map(<[u8]>::to_vec));
            assert!(found.len() > 1);
            assert!(found.iter().map(|each| each.text.as_str()).collect::<String>() == line);
        }
    }

    #[test]
    fn times_are_taken_off_and_the_separator_is_left_out() {
        let found = texts([LOG.as_bytes().to_vec()]);
        let shown: Vec<_> = found.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(shown, ["eins", "zw\u{e4}\u{1f600}i", "plain", "", " 20%", "last"]);
        assert_eq!(found[1].micros.unwrap() - found[0].micros.unwrap(), 499_999);
        assert_eq!(found[2].micros, None);
    }
}
