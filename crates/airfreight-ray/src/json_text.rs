//! One string of a JSON answer, decoded while it arrives: a log may be larger than memory.

use crate::error::Source;

/// Decodes the value of `{"logs": "…"}`.
#[derive(Debug)]
pub(crate) struct JsonText {
    state: State,
    /// What may not be decoded yet: the answer's beginning, or the beginning of an escape.
    held: Vec<u8>,
    /// The first half of a character that JSON writes as two.
    high: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Before,
    Within,
    After,
}

/// The beginning of the answer is shorter; what is longer is another answer.
const BEGINNING_BYTES_MAX: usize = 256;

impl JsonText {
    pub(crate) fn new() -> Self {
        Self { state: State::Before, held: Vec::new(), high: None }
    }

    /// Takes a piece of the answer, and gives what of the string is certain.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Source> {
        let joined;
        let mut rest = if self.held.is_empty() {
            bytes
        } else {
            self.held.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.held);
            &joined
        };
        let mut decoded = Vec::with_capacity(rest.len());
        if self.state == State::Before {
            let Some((length, state)) = beginning(rest)? else {
                self.held = rest.to_vec();
                return Ok(decoded);
            };
            self.state = state;
            rest = &rest[length..];
        }
        while self.state == State::Within && !rest.is_empty() {
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len());
            if plain > 0 {
                self.flush(&mut decoded);
                decoded.extend_from_slice(&rest[..plain]);
                rest = &rest[plain..];
                continue;
            }
            if rest[0] == b'"' {
                self.flush(&mut decoded);
                self.state = State::After;
                break;
            }
            let length = if rest.get(1) == Some(&b'u') { 6 } else { 2 };
            if rest.len() < length {
                self.held = rest.to_vec();
                break;
            }
            self.escape(&rest[1..length], &mut decoded)?;
            rest = &rest[length..];
        }
        Ok(decoded)
    }

    /// Whether the string is complete.
    pub(crate) fn finish(&self) -> Result<(), Source> {
        if self.state == State::After { Ok(()) } else { Err("the answer ends within the log".into()) }
    }

    fn escape(&mut self, escape: &[u8], decoded: &mut Vec<u8>) -> Result<(), Source> {
        let plain = match escape[0] {
            b'u' => {
                let digits = std::str::from_utf8(&escape[1..]).map_err(|_| malformed())?;
                self.unit(u16::from_str_radix(digits, 16).map_err(|_| malformed())?, decoded);
                return Ok(());
            }
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            other @ (b'"' | b'\\' | b'/') => other,
            _ => return Err(malformed()),
        };
        self.flush(decoded);
        decoded.push(plain);
        Ok(())
    }

    /// One UTF-16 unit; halves without the other half become U+FFFD.
    fn unit(&mut self, unit: u16, decoded: &mut Vec<u8>) {
        if let (Some(high), 0xDC00..=0xDFFF) = (self.high, unit) {
            self.high = None;
            let both =
                char::decode_utf16([high, unit]).next().and_then(Result::ok).unwrap_or(char::REPLACEMENT_CHARACTER);
            push(decoded, both);
            return;
        }
        self.flush(decoded);
        match unit {
            0xD800..=0xDBFF => self.high = Some(unit),
            _ => push(decoded, char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER)),
        }
    }

    fn flush(&mut self, decoded: &mut Vec<u8>) {
        if self.high.take().is_some() {
            push(decoded, char::REPLACEMENT_CHARACTER);
        }
    }
}

fn push(decoded: &mut Vec<u8>, character: char) {
    decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

fn malformed() -> Source {
    "the answer is no JSON".into()
}

/// The length of `{"logs": "`, once all of it is there.
fn beginning(bytes: &[u8]) -> Result<Option<(usize, State)>, Source> {
    let mut at = 0;
    for word in ["{", "\"logs\"", ":"] {
        at += bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let given = &bytes[at..bytes.len().min(at + word.len())];
        if !word.as_bytes().starts_with(given) || bytes.len() > BEGINNING_BYTES_MAX && given.len() < word.len() {
            return Err("the answer is not a job's log".into());
        }
        if given.len() < word.len() {
            return Ok(None);
        }
        at += word.len();
    }
    at += bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    match bytes.get(at) {
        None => Ok(None),
        Some(b'"') => Ok(Some((at + 1, State::Within))),
        // There is no log.
        Some(b'n') => Ok(Some((at, State::After))),
        Some(_) => Err("the answer is not a job's log".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn decode(sent: &[u8], pieces: &[usize]) -> Result<Vec<u8>, Source> {
        let (mut text, mut rest, mut received) = (JsonText::new(), sent, Vec::new());
        for piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at((*piece).min(rest.len()));
            received.extend(text.decode(now)?);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        text.finish().map(|()| received)
    }

    /// As Python writes it: everything beyond ASCII as escapes.
    fn ascii(text: &str) -> String {
        let mut written = String::new();
        for unit in json!({"logs": text}).to_string().encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => written.push(char::from(byte)),
                _ => write!(written, "\\u{unit:04x}").unwrap(),
            }
        }
        written
    }

    proptest! {
        #[test]
        fn any_string_comes_back_however_it_arrives(
            text in ".{0,300}", pieces in prop::collection::vec(1_usize..40, 1..6),
        ) {
            prop_assert_eq!(decode(json!({"logs": text}).to_string().as_bytes(), &pieces).unwrap(), text.as_bytes());
            prop_assert_eq!(decode(ascii(&text).as_bytes(), &pieces).unwrap(), text.as_bytes());
        }

        #[test]
        fn anything_is_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, &[7]);
            let _ = decode(&[br#"{"logs": ""#.as_slice(), &bytes].concat(), &[7]);
        }
    }

    #[test]
    fn a_string_that_breaks_off_is_an_error() {
        assert!(decode(br#"{"logs": "abc"#, &[100]).is_err());
        assert!(decode(br#"{"log"#, &[100]).is_err());
        assert_eq!(decode(br#"{"logs": null}"#, &[100]).unwrap(), b"");
        assert_eq!(decode(br#"{"logs": "\ud83d."}"#, &[3]).unwrap(), "\u{fffd}.".as_bytes());
    }
}
