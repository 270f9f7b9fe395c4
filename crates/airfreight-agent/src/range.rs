//! Which part of an object a request asks for, and under which conditions (RFC 9110, sections 13 and 14).

use std::ops::Range;

use http::HeaderMap;
use http::header::{AsHeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};

/// What to answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Whole,
    Part(Range<u64>),
    /// There is nothing of what was asked for.
    Unsatisfiable,
    /// It isn't the object that was meant.
    Another,
    /// The client has it already.
    Unmodified,
}

/// What a request's headers ask of an object with this length and entity tag.
pub(crate) fn wanted(headers: &HeaderMap, length: u64, e_tag: &str) -> Wanted {
    let text = |name| one(headers, name);
    if text(IF_MATCH).is_some_and(|tags| !matches(tags, e_tag, false)) {
        return Wanted::Another;
    }
    if text(IF_NONE_MATCH).is_some_and(|tags| matches(tags, e_tag, true)) {
        return Wanted::Unmodified;
    }
    let Some(range) = text(RANGE) else { return Wanted::Whole };
    if headers.contains_key(IF_RANGE) && text(IF_RANGE) != Some(e_tag) {
        return Wanted::Whole;
    }
    parse(range, length)
}

/// A header that stands there once, as text.
fn one(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().unwrap_or("?").trim();
    // Several of them are a list, which no two of ours would be.
    Some(if values.next().is_some() { "?" } else { value })
}

fn matches(tags: &str, e_tag: &str, weakly: bool) -> bool {
    tags.split(',').map(str::trim).any(|tag| {
        let tag = if weakly { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
        tag == "*" || tag == e_tag
    })
}

/// One range of bytes. What is no range, of another unit, or several, is as if it weren't there.
fn parse(text: &str, length: u64) -> Wanted {
    let Some((unit, range)) = text.split_once('=') else { return Wanted::Whole };
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || range.contains(',') {
        return Wanted::Whole;
    }
    let part = match (number(first), number(last)) {
        (Number::None, Number::Is(suffix)) => length.saturating_sub(suffix)..length,
        (Number::Is(first), Number::None) => first..length,
        (Number::Is(first), Number::Is(last)) if first <= last => first..length.min(last.saturating_add(1)),
        _ => return Wanted::Whole,
    };
    if part.is_empty() { Wanted::Unsatisfiable } else { Wanted::Part(part) }
}

enum Number {
    None,
    Is(u64),
    Bad,
}

fn number(text: &str) -> Number {
    match text.trim() {
        "" => Number::None,
        // More than fits is more than there is.
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Number::Is(digits.parse().unwrap_or(u64::MAX)),
        _ => Number::Bad,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAG: &str = "\"abc\"";

    fn ask(headers: &[(&'static str, &str)]) -> Wanted {
        let headers = headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        wanted(&headers.collect(), 1000, TAG)
    }

    #[test]
    fn ranges_are_understood_bounded_or_ignored() {
        for (text, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=0-999", Wanted::Part(0..1000)),
            ("Bytes = 10 - 19", Wanted::Part(10..20)),
            ("bytes=990-5000", Wanted::Part(990..1000)),
            ("bytes=990-", Wanted::Part(990..1000)),
            ("bytes=-10", Wanted::Part(990..1000)),
            ("bytes=-5000", Wanted::Part(0..1000)),
            ("bytes=0-99999999999999999999999", Wanted::Part(0..1000)),
            ("bytes=1000-", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=-1-2", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
            ("bytes 0-1", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(ask(&[("range", text)]), expected, "{text}");
        }
    }

    #[test]
    fn conditions_come_before_ranges() {
        let part = ("range", "bytes=0-9");
        for (condition, expected) in [
            (("if-match", TAG), Wanted::Part(0..10)),
            (("if-match", "\"x\", \"abc\""), Wanted::Part(0..10)),
            (("if-match", "*"), Wanted::Part(0..10)),
            (("if-match", "\"x\""), Wanted::Another),
            (("if-match", "W/\"abc\""), Wanted::Another),
            (("if-none-match", TAG), Wanted::Unmodified),
            (("if-none-match", "W/\"abc\""), Wanted::Unmodified),
            (("if-none-match", "\"x\""), Wanted::Part(0..10)),
            (("if-range", TAG), Wanted::Part(0..10)),
            (("if-range", "\"x\""), Wanted::Whole),
            (("if-range", "Sat, 21 Nov 2026 10:00:00 GMT"), Wanted::Whole),
        ] {
            assert_eq!(ask(&[part, condition]), expected, "{condition:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_asks_for_more_than_there_is(text in "[ -~]{0,40}|bytes=[0-9]{0,22}-[0-9]{0,22}", length: u64) {
            if let Ok(value) = http::HeaderValue::try_from(text)
                && let Wanted::Part(part) =
                    wanted(&[(RANGE, value)].into_iter().collect(), length, TAG)
            {
                prop_assert!(part.start < part.end && part.end <= length);
            }
        }
    }
}
