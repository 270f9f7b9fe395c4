//! What one client may take: the bounds that keep a slow, broken or hostile one from harming others.

use std::time::Duration;

/// Connections at a time; more wait in the system's queue.
pub(crate) const CONNECTIONS_MAX: usize = 1024;
/// All headers of a request together; what is read in one go is no more either.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// How many headers a request may have.
pub(crate) const HEADERS_MAX: usize = 64;
/// A request's headers are there by then, from the first byte that a connection is open or free.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(15);
/// A connection on which nothing has moved for so long is closed.
pub(crate) const SILENCE_MAX: Duration = Duration::from_mins(1);
/// A TLS handshake is over by then.
pub(crate) const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Objects that may arrive at a time; each takes [`BLOCK_BYTES`] of memory.
pub(crate) const UPLOADS_MAX: usize = 4;
/// An upload may take a minute, and a second more for each of these many bytes: whoever is slower holds room for nothing.
pub(crate) const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;
/// What is gathered before it is written.
pub(crate) const BLOCK_BYTES: usize = 4 << 20;
/// A longer answer carries no checksum: computing it first would keep its reader waiting.
pub(crate) const CHECKED_BYTES_MAX: u64 = 64 << 20;
/// The form in which a token comes.
pub(crate) const FORM_BYTES_MAX: usize = 16 << 10;
/// Objects on one page of a listing, at most and by default.
pub(crate) const PAGE_MAX: usize = 1000;
pub(crate) const PAGE_DEFAULT: usize = 100;
