//! What an object is called.

use std::fmt;
use std::str::FromStr;

/// 128 random bits, one per write; a rewrite of the same value is another object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId([u8; 16]);

impl ObjectId {
    /// Wraps 16 bytes that the caller drew at random.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand in an object's header.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name under which an object's bytes can be found: its id, or a further hard link to them.
///
/// Written as 32 hexadecimal digits, a link with `-` and 16 more. A name is also a file name, so parsing accepts
/// nothing else: no separators, no dots, no upper case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    id: ObjectId,
    link: Option<u64>,
}

impl ObjectName {
    /// The first name of an object.
    #[must_use]
    pub const fn new(id: ObjectId) -> Self {
        Self { id, link: None }
    }

    /// A further name of the same bytes.
    #[must_use]
    pub const fn with_link(self, link: u64) -> Self {
        Self { id: self.id, link: Some(link) }
    }

    /// The id that the object's header must carry.
    #[must_use]
    pub const fn id(&self) -> ObjectId {
        self.id
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.link {
            None => fmt::Display::fmt(&self.id, f),
            Some(link) => write!(f, "{}-{link:016x}", self.id),
        }
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an object's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an object name: 32 lower-case hexadecimal digits, for a link followed by '-' and 16 more")]
pub struct InvalidName(String);

impl FromStr for ObjectName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // A forged reference may hold anything, so what is echoed is bounded.
        let invalid = || InvalidName(text.chars().take(64).collect());
        let (id, link) = match text.split_once('-') {
            None => (text, None),
            Some((id, link)) => (id, Some(link)),
        };
        let id = hex(id, 32).ok_or_else(invalid)?;
        let link = match link {
            None => None,
            Some(link) => Some(u64::try_from(hex(link, 16).ok_or_else(invalid)?).map_err(|_| invalid())?),
        };
        Ok(Self { id: ObjectId(id.to_be_bytes()), link })
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let plain = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    plain.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_name_round_trips(id: [u8; 16], link: Option<u64>) {
            let mut name = ObjectName::new(ObjectId::from_bytes(id));
            if let Some(link) = link {
                name = name.with_link(link);
            }
            prop_assert_eq!(name.to_string().parse(), Ok(name));
        }

        #[test]
        fn what_parses_is_a_plain_file_name(text: String) {
            if let Ok(name) = text.parse::<ObjectName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }

    #[test]
    fn paths_and_other_spellings_are_refused() {
        let good = "0123456789abcdef0123456789abcdef";
        for bad in [
            "",
            "..",
            "../x",
            &good[1..],
            &good.to_uppercase(),
            &format!("{good}-"),
            &format!("{good}-1"),
            &format!("+{}", &good[1..]),
            &format!("{good}-+123456789abcdef"),
            &format!("{good}/a"),
        ] {
            assert!(bad.parse::<ObjectName>().is_err(), "{bad}");
        }
    }
}
