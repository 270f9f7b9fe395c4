//! Where the lines of a log that have been handed out end.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crc_fast::{CrcAlgorithm, checksum};

/// How many bytes before the offset tell one log from another.
pub(crate) const CONTEXT_BYTES: usize = 64;

/// A place in a job's log, to go on from in another watch: the offset, and what stood before it.
///
/// Its text form is less than 100 bytes long. A cursor that was taken while its watch was open may be behind what that
/// watch has handed out since; one that was taken afterwards is not ([`Cursor::is_exact`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    offset: u64,
    context_bytes: u8,
    context_crc: u64,
    unix_ms: u64,
    exact: bool,
}

impl Cursor {
    /// The place right after `context`, which ends at `offset`.
    pub(crate) fn new(offset: u64, context: &[u8]) -> Self {
        let context = &context[context.len().saturating_sub(CONTEXT_BYTES)..];
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            offset,
            context_bytes: u8::try_from(context.len()).unwrap_or(0),
            context_crc: checksum(CrcAlgorithm::Crc64Nvme, context),
            unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            exact: false,
        }
    }

    /// The same place, of a watch that hands out no more.
    pub(crate) fn into_exact(self) -> Self {
        Self { exact: true, ..self }
    }

    /// How many bytes of the log lie before it.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether nothing after it had been handed out by the watch that it is from.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.exact || self.unix_ms == 0
    }

    /// How long ago it was taken.
    #[must_use]
    pub fn age(&self) -> Duration {
        let then = UNIX_EPOCH + Duration::from_millis(self.unix_ms);
        SystemTime::now().duration_since(then).unwrap_or_default()
    }

    /// How many bytes before the offset [`Cursor::follows`] wants to see.
    pub(crate) fn context_bytes(&self) -> usize {
        usize::from(self.context_bytes)
    }

    /// Whether these bytes are the ones that stood before the offset.
    pub(crate) fn follows(&self, context: &[u8]) -> bool {
        context.len() == self.context_bytes() && checksum(CrcAlgorithm::Crc64Nvme, context) == self.context_crc
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = if self.exact { "-exact" } else { "" };
        write!(f, "1-{}-{}-{:016x}-{}{exact}", self.offset, self.context_bytes, self.context_crc, self.unix_ms)
    }
}

/// A text that is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor of a watch")]
pub struct NoCursor;

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (text, exact) = match text.strip_suffix("-exact") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(NoCursor);
        if part()? != "1" {
            return Err(NoCursor);
        }
        let cursor = Self {
            offset: part()?.parse().map_err(|_| NoCursor)?,
            context_bytes: part()?.parse().map_err(|_| NoCursor)?,
            context_crc: u64::from_str_radix(part()?, 16).map_err(|_| NoCursor)?,
            unix_ms: part()?.parse().map_err(|_| NoCursor)?,
            exact,
        };
        let sound = cursor.context_bytes() <= CONTEXT_BYTES && u64::from(cursor.context_bytes) <= cursor.offset;
        if sound && parts.next().is_none() { Ok(cursor) } else { Err(NoCursor) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_as_text() {
        for cursor in [
            Cursor::default(),
            Cursor::new(0, b""),
            Cursor::new(70, &[b'x'; 70]),
            Cursor::new(u64::MAX, b"some line\n").into_exact(),
        ] {
            let text = cursor.to_string();
            assert!(text.len() < 100, "{text}");
            assert_eq!(text.parse::<Cursor>(), Ok(cursor));
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in ["", "1", "0", "1-2-3", "2-0-0-0-0", "1-10-64-00-5", "1-100-65-00-5", "1-1-1-zz-5", "1-5-5-0-5-6"] {
            assert_eq!(text.parse::<Cursor>(), Err(NoCursor), "{text}");
        }
    }

    #[test]
    fn it_knows_what_it_stands_behind() {
        let log = b"one\ntwo\n";
        let cursor = Cursor::new(8, log);
        assert!(cursor.follows(log));
        assert!(!cursor.follows(b"one\ntwi\n"));
        assert!(!cursor.follows(b"two\n"));
        assert!(!cursor.is_exact());
        assert!(cursor.into_exact().is_exact());
        assert!(Cursor::default().is_exact(), "nothing has been handed out before the beginning");
    }
}
