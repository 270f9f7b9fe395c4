//! Bytes as the dashboard carries them: lines of a checksum and base64.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::crc32;
use crate::error::Source;

/// Longer lines are none of the runner's.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Takes a text in pieces and hands out what its lines hold.
#[derive(Default)]
pub(crate) struct Lines {
    /// The beginning of a line whose end hasn't come.
    rest: Vec<u8>,
}

impl Lines {
    /// Decodes what this piece completes. The bytes before a damaged line are handed out before the error.
    pub(crate) fn push(&mut self, mut text: &[u8], mut line: impl FnMut(Vec<u8>)) -> Result<(), Source> {
        while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
            let (head, tail) = text.split_at(end);
            text = &tail[1..];
            if self.rest.is_empty() {
                line(decode(head)?);
            } else {
                self.rest.extend_from_slice(head);
                let whole = std::mem::take(&mut self.rest);
                line(decode(&whole)?);
                // Keeps the allocation.
                self.rest = whole;
                self.rest.clear();
            }
        }
        if self.rest.len() + text.len() > LINE_BYTES_MAX {
            return Err("a line is longer than any that the runner writes".into());
        }
        self.rest.extend_from_slice(text);
        Ok(())
    }
}

fn decode(line: &[u8]) -> Result<Vec<u8>, Source> {
    let parts = line.split_at_checked(9).filter(|(mark, _)| mark.ends_with(b" "));
    let (mark, text) = parts.ok_or("a line has no checksum")?;
    let expected = str::from_utf8(&mark[..8]).ok().and_then(|mark| u32::from_str_radix(mark, 16).ok());
    let bytes = BASE64_STANDARD.decode(text.trim_ascii_end())?;
    if expected != Some(crc32(&bytes)) {
        return Err("a line does not match its checksum".into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(content: &[u8], line_bytes: usize) -> Vec<u8> {
        let lines =
            content.chunks(line_bytes).map(|part| format!("{:08x} {}\n", crc32(part), BASE64_STANDARD.encode(part)));
        lines.collect::<String>().into_bytes()
    }

    proptest! {
        #[test]
        fn lines_are_decoded_however_they_arrive(
            content in prop::collection::vec(any::<u8>(), 0..5000),
            line_bytes in 1_usize..900,
            pieces in prop::collection::vec(1_usize..3000, 1..8),
        ) {
            let text = written(&content, line_bytes);
            let (mut lines, mut rest, mut decoded) = (Lines::default(), text.as_slice(), Vec::new());
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at((*piece).min(rest.len()));
                lines.push(now, |bytes| decoded.extend(bytes)).unwrap();
                rest = later;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(decoded, content);
        }

        #[test]
        fn a_changed_byte_is_never_handed_out(
            content in prop::collection::vec(any::<u8>(), 1..500), line_bytes in 1_usize..200, at: prop::sample::Index,
            to: u8,
        ) {
            let mut text = written(&content, line_bytes);
            let at = at.index(text.len());
            prop_assume!(text[at] != to);
            text[at] = to;
            let mut decoded = Vec::new();
            let _ = Lines::default().push(&text, |bytes| decoded.extend(bytes));
            prop_assert!(content.starts_with(&decoded));
        }
    }
}
