//! Durable copies: objects of the store in S3, Google Cloud Storage, Azure, or a directory that outlives the host.
//!
//! What lies in a bucket is the object's file, byte for byte, with the checksum of its payload in its header
//! (`docs/design/object.md`). It is sent straight from the store's pages and received straight into a file, in parts
//! and several at a time, so neither way needs memory that grows with the object.
//!
//! ```no_run
//! use airfreight_bucket::{Bucket, Settings};
//!
//! # async fn run(store: airfreight_store::Store, name: airfreight_core::ObjectName)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let bucket = Bucket::open(&Settings::new("s3://models/airfreight"))?;
//! let copied = bucket.put_object(&store, name, "dag/run/task/object").await?;
//! bucket.get_object(&store, name, "dag/run/task/object", Some(copied)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Credentials, signatures, parts and retries are the `object_store` crate's. Its requests go over hyper and rustls,
//! which the Ray client uses as well (`connect`), rather than over a second HTTP client.

mod bucket;
mod connect;
mod crash;
mod download;
mod error;
mod location;
mod providers;
mod queue;
mod settings;
mod told;
mod upload;

pub use bucket::{Bucket, Copied, Entry};
pub use crash::CRASH_POINTS;
pub use error::BucketError;
pub use http::Method;
pub use location::{Location, Provider};
pub use queue::{Begun, Claim, Note, Queue, Queued, QueuedObject};
pub use settings::Settings;

/// What comes of work with a bucket.
pub type Result<T, E = BucketError> = std::result::Result<T, E>;
