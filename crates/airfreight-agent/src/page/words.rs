//! Sizes, counts and times, as people read them.

use bytesize::ByteSize;
use jiff::Timestamp;
use maud::{Markup, html};

/// `96.1 MiB`.
pub(super) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// `5,000,000`.
pub(super) fn count(number: u64) -> String {
    grouped(&number.to_string())
}

/// Digits in groups of three; what is no whole number stays as it is.
pub(super) fn grouped(digits: &str) -> String {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits.to_owned();
    }
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 object`, `2 objects`.
pub(super) fn plural(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

pub(super) fn timestamp(ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(ns)).unwrap_or_default()
}

/// `14 min ago`; the moment itself is in the markup.
pub(super) fn ago(now: Timestamp, then: Timestamp) -> Markup {
    moment(then, &format!("{} ago", span(now.as_second().saturating_sub(then.as_second()))))
}

/// `in 6 d`, or `any moment`.
pub(super) fn until(now: Timestamp, then: Timestamp) -> Markup {
    let seconds = then.as_second().saturating_sub(now.as_second());
    let words = if seconds > 0 { format!("in {}", span(seconds)) } else { "any moment".to_owned() };
    moment(then, &words)
}

/// `2026-01-31 12:00:00 UTC`.
pub(super) fn written(at: Timestamp) -> String {
    format!("{at:.0}").replace('T', " ").replace('Z', " UTC")
}

fn moment(at: Timestamp, words: &str) -> Markup {
    html! { time datetime=(format!("{at:.0}")) title=(written(at)) { (words) } }
}

/// A length of time in one unit.
fn span(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_words_agree() {
        let grouped_all = ["0", "999", "1000", "5000000", "1.5", "-3", ""].map(grouped);
        assert_eq!(grouped_all, ["0", "999", "1,000", "5,000,000", "1.5", "-3", ""]);
        assert_eq!((plural(1, "object"), plural(1200, "object")), ("1 object".into(), "1,200 objects".into()));
    }

    #[test]
    fn times_say_when_and_how_long() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let text = ago(at(10_000), at(9_400)).into_string();
        assert_eq!(text, r#"<time datetime="1970-01-01T02:36:40Z" title="1970-01-01 02:36:40 UTC">10 min ago</time>"#);
        assert!(until(at(0), at(7200)).into_string().contains("in 2 h"));
        assert!(until(at(9), at(7)).into_string().contains("any moment"));
    }
}
