//! Logs of any length, of which only the wanted part is ever made.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// How much is made at a time; also the piece in which Ray sends log files.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// A text as it is at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Given(Bytes),
    /// Numbered lines of equal length; the last one may be incomplete.
    Numbered {
        line_bytes: usize,
        len: u64,
    },
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Self::Given(bytes) => bytes.len() as u64,
            Self::Numbered { len, .. } => *len,
        }
    }

    fn copy(&self, range: Range<u64>, into: &mut BytesMut) {
        match self {
            Self::Given(bytes) => into.extend_from_slice(&bytes[index(range.start)..index(range.end)]),
            Self::Numbered { line_bytes, .. } => {
                let line = *line_bytes as u64;
                for number in range.start / line..range.end.div_ceil(line) {
                    let begin = range.start.saturating_sub(number * line).min(line);
                    let end = (range.end - number * line).min(line);
                    into.extend_from_slice(&numbered_line(number, *line_bytes)[index(begin)..index(end)]);
                }
            }
        }
    }
}

/// `000000000017 ................\n`
fn numbered_line(number: u64, line_bytes: usize) -> Vec<u8> {
    let mut line = format!("{number:012} ").into_bytes();
    line.resize(line_bytes - 1, b'.');
    line.push(b'\n');
    line
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("a place in memory")
}

impl Text {
    pub(super) fn push(&mut self, text: impl Into<Bytes>) {
        self.parts.push(Part::Given(text.into()));
    }

    pub(super) fn push_numbered(&mut self, line_bytes: usize, len: u64) {
        self.parts.push(Part::Numbered { line_bytes, len });
    }

    pub(super) fn len(&self) -> u64 {
        self.parts.iter().map(Part::len).sum()
    }

    /// The bytes of a range, which must lie within.
    pub(super) fn read(&self, range: Range<u64>) -> Bytes {
        let mut out = BytesMut::with_capacity(index(range.end - range.start));
        let mut begin = 0;
        for part in &self.parts {
            let end = begin + part.len();
            let wanted = range.start.clamp(begin, end)..range.end.clamp(begin, end);
            if !wanted.is_empty() {
                part.copy(wanted.start - begin..wanted.end - begin, &mut out);
            }
            begin = end;
        }
        out.freeze()
    }

    pub(super) fn all(&self) -> Bytes {
        self.read(0..self.len())
    }

    /// Where the last `lines` lines begin; an incomplete one at the end counts.
    pub(super) fn tail(&self, lines: u64) -> u64 {
        let len = self.len();
        let mut end = len;
        let mut left = lines;
        while end > 0 {
            let begin = end.saturating_sub(CHUNK_BYTES as u64);
            let chunk = self.read(begin..end);
            for (at, _) in chunk.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                let after = begin + at as u64 + 1;
                // The line end at the very end closes the last line; any other one separates two.
                if after == len {
                    continue;
                }
                left -= 1;
                if left == 0 {
                    return after;
                }
            }
            end = begin;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_a_text_is_what_the_whole_has_there() {
        let mut text = Text::default();
        text.push("begin\n");
        text.push_numbered(20, 20 * 3 + 7);
        text.push("\nend\n");
        let all = text.all();
        assert_eq!(text.len(), all.len() as u64);
        assert!(all.starts_with(b"begin\n000000000000 ......\n000000000001 ......\n"));
        assert!(all.ends_with(b"0000000\nend\n"));
        for begin in 0..all.len() {
            for end in begin..=all.len() {
                assert_eq!(text.read(begin as u64..end as u64), all[begin..end]);
            }
        }
    }

    #[test]
    fn the_last_lines_are_found_across_chunks() {
        let mut text = Text::default();
        text.push_numbered(50, 50 * 10_000);
        for lines in [1, 2, 1_310, 1_311, 5_000, 10_000, 20_000] {
            assert_eq!(text.tail(lines), text.len().saturating_sub(50 * lines));
        }
        text.push("partial");
        assert_eq!(text.tail(2), text.len() - 57);
        assert_eq!(Text::default().tail(5), 0);
    }
}
