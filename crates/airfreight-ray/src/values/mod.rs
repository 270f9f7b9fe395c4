//! Values between this host and a cluster, as the files of objects.
//!
//! | way | carries | how |
//! | --- | --- | --- |
//! | the runner's own port | any size | ranges and chunks over HTTP, resumed after cuts |
//! | the dashboard alone | up to 256 MiB | from the cluster as a log of base64 lines, to it as packages |
//! | a bucket | any size | the cluster writes or reads it with a presigned URL |
//!
//! Every chunk has a checksum; one that doesn't match is asked for again and never written. Where an object's bytes
//! come from, or go to, is behind [`Freight`] and [`Landing`]: this crate knows no store. A side holds a few chunks of
//! 4 MiB, whatever the size of the value.

mod attempts;
mod chunks;
mod error;
mod export;
mod fetch;
mod lines;
mod put;
mod route;
mod send;
mod stream;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use airfreight_http::Trust;
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

pub use self::error::TransferError;

/// The most that is carried by the dashboard alone, whose memory all of it passes.
pub const DASHBOARD_BYTES_MAX: u64 = 256 << 20;
/// What is sent, checked and written at a time.
pub(crate) const CHUNK_BYTES: u64 = 4 << 20;

/// A value in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueKey {
    /// The name of the actor that owns it.
    pub owner: String,
    /// Which life of that actor.
    pub generation: String,
    /// What the owner calls it.
    pub key: String,
}

impl ValueKey {
    /// The id of the object that the value becomes wherever it arrives.
    #[must_use]
    pub fn object_id(&self) -> [u8; 16] {
        let digest = Sha256::digest(format!("{}\0{}\0{}", self.owner, self.generation, self.key));
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        id
    }
}

impl fmt::Display for ValueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value `{}` of `{}`", self.key, self.owner)
    }
}

/// Which way a value takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// The port where it can be reached, else the dashboard for what it carries, else the bucket where there is one.
    #[default]
    Auto,
    /// The runner's own port.
    Port,
    /// The dashboard's port.
    Dashboard,
    /// A bucket.
    Bucket,
}

/// Presigned URLs of one place in a bucket.
#[derive(Clone)]
pub struct BucketUrls {
    /// Where the cluster writes, and with which headers.
    pub put: Option<String>,
    /// Sent with what the cluster writes.
    pub headers: Vec<(String, String)>,
    /// Where it is read.
    pub get: String,
    /// Whose certificates are trusted when it is read from here.
    pub verify: Trust,
    /// The proxy on the way there from here, instead of what the environment says.
    pub proxy: Option<String>,
}

impl fmt::Debug for BucketUrls {
    /// Whoever has these URLs has the object.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketUrls").finish_non_exhaustive()
    }
}

/// How far a transfer has got; for others to look at.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<(AtomicU64, AtomicU64)>);

impl Progress {
    /// Bytes that are where they shall be, and how many there are in all; 0 while that isn't known.
    #[must_use]
    pub fn get(&self) -> (u64, u64) {
        let total_bytes = self.0.1.load(Ordering::Relaxed);
        // What was sent twice counts once.
        (self.0.0.load(Ordering::Relaxed).min(total_bytes), total_bytes)
    }

    fn set(&self, done_bytes: u64, total_bytes: u64) {
        self.0.0.store(done_bytes, Ordering::Relaxed);
        self.0.1.store(total_bytes, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) {
        self.0.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Where an object's file arrives. Called outside of the runtime's threads; may block.
pub trait Landing: Send + Sync + 'static {
    /// Why it can't be written.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Writes verified bytes to their place. Chunks come in any order, and perhaps twice.
    ///
    /// # Errors
    /// The place's own.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// An object's file that is sent. Called outside of the runtime's threads; may block.
pub trait Freight: Send + Sync + 'static {
    /// Why it can't be read.
    type Error: std::error::Error + Send + Sync + 'static;

    /// How long the file is.
    fn file_bytes(&self) -> u64;

    /// The bytes `start..end`.
    ///
    /// Where they have to be copied, `spare` is the place; whoever has them already leaves it alone.
    ///
    /// # Errors
    /// The file's own.
    fn read(&self, start: u64, end: u64, spare: BytesMut) -> Result<Bytes, Self::Error>;
}

/// CRC-32 as zlib computes it, which Python has everywhere.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    u32::try_from(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_zlibs() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_objects_id_is_told_by_the_value() {
        let value = ValueKey { owner: "o".into(), generation: "g".into(), key: "k".into() };
        let hex = format!("{:032x}", u128::from_be_bytes(value.object_id()));
        // python -c 'import hashlib; print(hashlib.sha256(b"o\0g\0k").hexdigest()[:32])'
        assert_eq!(hex, "26e1bc07939c78cebfa73844a068b5cf");
    }
}
