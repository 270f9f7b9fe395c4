//! How much of the last lines of a log is known already.

/// How the end of what is known lies over a window that ends where the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overlap {
    /// In no way: the log has grown by more than the window.
    None,
    /// In one way: so many bytes of the window are known.
    Bytes(usize),
    /// In several: the log repeats itself.
    Ambiguous,
}

/// Finds every prefix of `window` that `known` could end with.
///
/// Where the prefix is longer than `known`, only its last bytes can be compared. Linear time (the Z algorithm over
/// `window` followed by `known`).
pub(crate) fn overlap(known: &[u8], window: &[u8]) -> Overlap {
    let mut found = Overlap::None;
    let mut ways = std::iter::empty()
        .chain(inside(known, window).map(|at| at + known.len()))
        .chain(across(known, window))
        .filter(|bytes| *bytes > 0);
    if let Some(bytes) = ways.next() {
        found = if ways.next().is_some() { Overlap::Ambiguous } else { Overlap::Bytes(bytes) };
    }
    found
}

/// Where all of `known` stands in `window`.
fn inside<'a>(known: &'a [u8], window: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let text = [known, window].concat();
    let matching = if known.is_empty() || known.len() > window.len() { Vec::new() } else { matching(&text) };
    let first = known.len();
    matching
        .into_iter()
        .enumerate()
        .skip(first)
        .filter(move |(_, bytes)| *bytes >= first)
        .map(move |(at, _)| at - first)
}

/// The lengths, shorter than `known`, of the beginnings of `window` that `known` ends with.
fn across<'a>(known: &'a [u8], window: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let head = &window[..window.len().min(known.len())];
    let text = [head, known].concat();
    let matching = matching(&text);
    let end = text.len();
    // One byte of `known` is left out: all of it is the other case, unless the window is shorter.
    let first = head.len() + (known.len() - head.len()) + usize::from(head.len() == known.len());
    matching.into_iter().enumerate().skip(first).filter_map(move |(at, bytes)| (at + bytes == end).then_some(end - at))
}

/// For each place, how many bytes from there on equal the beginning.
fn matching(text: &[u8]) -> Vec<usize> {
    let mut lengths = vec![0; text.len()];
    let (mut left, mut right) = (0, 0);
    for at in 1..text.len() {
        let mut length = if at < right { lengths[at - left].min(right - at) } else { 0 };
        while at + length < text.len() && text[length] == text[at + length] {
            length += 1;
        }
        if at + length > right {
            (left, right) = (at, at + length);
        }
        lengths[at] = length;
    }
    lengths
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_known_end_is_found() {
        assert_eq!(overlap(b"a\nb\nc\n", b"b\nc\nd\n"), Overlap::Bytes(4));
        assert_eq!(overlap(b"a\nb\nc\n", b"b\nc\n"), Overlap::Bytes(4));
        assert_eq!(overlap(b"b\nc\n", b"a\nb\nc\nd\n"), Overlap::Bytes(6));
        assert_eq!(overlap(b"a\nb\nc\n", b"x\ny\n"), Overlap::None);
        assert_eq!(overlap(b"a\na\na\n", b"a\na\n"), Overlap::Ambiguous);
        assert_eq!(overlap(b"", b"a\n"), Overlap::None);
        assert_eq!(overlap(b"a\n", b""), Overlap::None);
    }

    /// The definition, slowly.
    fn ways(known: &[u8], window: &[u8]) -> Vec<usize> {
        (1..=window.len())
            .filter(|bytes| {
                let common = known.len().min(*bytes);
                common > 0 && window[bytes - common..*bytes] == known[known.len() - common..]
            })
            .collect()
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_definition(known in "[ab]{0,12}", window in "[ab]{0,16}") {
            let (known, window) = (known.as_bytes(), window.as_bytes());
            let expected = match ways(known, window)[..] {
                [] => Overlap::None,
                [bytes] => Overlap::Bytes(bytes),
                _ => Overlap::Ambiguous,
            };
            prop_assert_eq!(overlap(known, window), expected);
        }
    }
}
