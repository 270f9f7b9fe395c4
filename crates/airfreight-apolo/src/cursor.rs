//! A place in a log that can be kept.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// Live and archived logs round times differently, by a microsecond.
const SAME_MOMENT_MICROS: i64 = 5;
/// So many lines may share a moment before some of them may be repeated.
const LINES_MAX: usize = 64;

/// How far a log has been handed out: the time of the last line, and the lines of that moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Microseconds since 1970 by the platform's clock; 0 before the first line.
    pub(crate) micros: i64,
    lines: Vec<(i64, u64)>,
}

/// A text that is no cursor.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a place in a log")]
pub struct NoCursor {
    text: String,
}

impl Cursor {
    /// Notes a line that is handed out.
    pub(crate) fn pass(&mut self, micros: i64, line: &str) {
        // A platform's clocks differ by a little; what is behind is no way back.
        self.micros = self.micros.max(micros);
        self.lines.retain(|(at, _)| self.micros - at <= SAME_MOMENT_MICROS);
        if self.lines.len() == LINES_MAX {
            self.lines.remove(0);
        }
        self.lines.push((micros, digest(line)));
    }
}

/// What of a log that is read again has been handed out already.
pub(crate) struct Seam {
    before: i64,
    lines: Vec<(i64, u64)>,
}

impl Seam {
    pub(crate) fn at(cursor: &Cursor) -> Self {
        Self { before: cursor.micros, lines: cursor.lines.clone() }
    }

    /// Whether this line was handed out before.
    pub(crate) fn has(&mut self, micros: i64, line: &str) -> bool {
        if self.before == 0 || micros > self.before + SAME_MOMENT_MICROS {
            return false;
        }
        if micros < self.before - SAME_MOMENT_MICROS {
            return true;
        }
        let digest = digest(line);
        let known = self.lines.iter().position(|(_, known)| *known == digest);
        known.map(|at| self.lines.remove(at)).is_some()
    }
}

/// Stays the same within a version of ours; after an upgrade the lines of one moment may come twice.
fn digest(line: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.micros)?;
        self.lines.iter().try_for_each(|(at, line)| write!(f, " {at}:{line:x}"))
    }
}

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let read = || {
            let mut words = text.split(' ');
            let micros = words.next()?.parse().ok()?;
            let lines = words.map(|word| {
                let (at, line) = word.split_once(':')?;
                Some((at.parse().ok()?, u64::from_str_radix(line, 16).ok()?))
            });
            Some(Self { micros, lines: lines.collect::<Option<_>>()? })
        };
        read().ok_or_else(|| NoCursor { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the line at which a log breaks off, each line is handed out once when it is read again from the
        /// second of the last one on.
        #[test]
        fn each_line_once_over_a_seam(steps in proptest::collection::vec((0_i64..3_000_000, 0_u8..3), 1..60), cut: usize) {
            let mut at = 1_700_000_000_000_000;
            let log: Vec<_> = steps.iter().map(|(step, word)| { at += step; (at, format!("line {word}")) }).collect();
            let cut = cut % (log.len() + 1);
            let mut cursor = Cursor::default();
            let mut seen = Vec::new();
            for (at, line) in &log[..cut] {
                cursor.pass(*at, line);
                seen.push((*at, line.clone()));
            }
            let cursor: Cursor = cursor.to_string().parse().unwrap();
            let mut seam = Seam::at(&cursor);
            let since = cursor.micros / 1_000_000 * 1_000_000;
            for (at, line) in log.iter().filter(|(at, _)| *at >= since) {
                if !seam.has(*at, line) {
                    seen.push((*at, line.clone()));
                }
            }
            // Lines of the same moment may change places only if they are equal.
            prop_assert_eq!(seen, log);
        }
    }

    #[test]
    fn other_texts_are_no_cursor() {
        for text in ["", "x", "1 2", "1 2:zz"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
