//! Objects of other hosts, fetched from their agents into this host's store.
//!
//! An object travels once to a host, however many of its tasks ask for it: one fetches, the others wait for what it
//! brings. Blocks come side by side, each is compared with its sender's checksum before it counts, and what is cut is
//! asked for again.

mod agent;
mod error;
mod fetch;

pub use agent::{Agent, Settings};
pub use airfreight_http::{Identity, TlsError};
pub use error::ClientError;
pub use fetch::{Fetched, Progress};

pub(crate) type Result<T, E = ClientError> = std::result::Result<T, E>;
