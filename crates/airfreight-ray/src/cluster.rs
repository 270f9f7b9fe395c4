//! What a cluster says of itself.

use std::fmt;

/// A version of Ray, as far as this client decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RayVersion {
    /// `2` of `2.54.0`.
    pub major: u32,
    /// `54` of `2.54.0`.
    pub minor: u32,
}

impl RayVersion {
    /// The oldest Ray that this client works with.
    pub const OLDEST: Self = Self { major: 2, minor: 9 };

    /// Reads `2.54.0`, `3.0.0.dev0` and the like.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        Some(Self { major: parts.next()?.parse().ok()?, minor: parts.next()?.parse().ok()? })
    }
}

impl fmt::Display for RayVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a cluster says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its Ray, such as `2.60.0`.
    pub ray_version: String,
    /// The head node's Python, such as `3.11.7`.
    pub python_version: Option<String>,
    /// Changes whenever the head node starts anew; Ray before 2.40 doesn't tell.
    pub session_name: Option<String>,
    /// `disabled` or `token`; Ray before 2.52 knows no authentication and doesn't tell.
    pub authentication: Option<String>,
}
