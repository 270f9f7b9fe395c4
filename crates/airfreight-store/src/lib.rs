//! Objects on this host: sealed immutable files in shared memory, on a disk where that is small or full.
//!
//! No daemon and no index: the directory is the index, each file describes itself, and every process that uses the
//! store keeps it in order. Locks are the kernel's and die with their holder. Format and rules:
//! `docs/design/object.md`.
//!
//! ```
//! use airfreight_store::{Access, Options, Store};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("store");
//! let store = Store::open(&Options { path: Some(path), ..Options::default() })?;
//! let mut writer = store.create()?;
//! writer.write(b"a stream")?;
//! let name = writer.seal(&[b"a buffer"], r#"{"type": "example"}"#)?;
//!
//! let object = store.get(name, Access::ReadOnly)?;
//! assert_eq!(object.stream(), b"a stream");
//! assert_eq!(object.buffer(0), Some(&b"a buffer"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arrival;
mod copied;
mod copy;
mod crash;
mod error;
mod file;
mod ledger;
mod location;
mod pool;
mod read;
mod receive;
mod remove;
mod room;
mod scan;
mod spill;
mod store;
mod sweep;
mod sys;
mod temp;
mod tier;
mod write;

pub use arrival::Turn;
pub use crash::CRASH_POINTS;
#[doc(hidden)]
pub use crash::passage;
pub use error::StoreError;
pub use file::ObjectFile;
pub use location::{Location, SHARED_MEMORY_BYTES_MIN, default_spill_path, huge_pages, huge_pages_on_request};
pub use read::{Description, Object};
pub use receive::{Payload, Receiver, Window};
pub use room::Moved;
pub use store::{CAPACITY_BYTES_MIN, DEFAULT_TTL, Options, Stamp, Stat, Store, Usage};
pub use sweep::Collected;
pub use sys::Access;
pub use tier::TierKind;
pub use write::Writer;
