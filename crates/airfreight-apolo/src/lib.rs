//! A client of the Apolo platform (formerly neu.ro), that needs no SDK: run jobs, read their logs, wait for them.
//!
//! ```no_run
//! use airfreight_apolo::{Client, JobSpec, Settings};
//! use serde_json::json;
//!
//! # async fn run() -> airfreight_apolo::Result<()> {
//! let client = Client::new(Settings::new("a service account's token")?)?;
//! let spec = JobSpec::from_json(json!({"image": "ubuntu:24.04", "command": "sleep 60", "preset": "cpu-small"}))?;
//! let job = client.create(&spec, None).await?;
//! println!("{} is {}", job.id(), job.status());
//! # Ok(())
//! # }
//! ```
//!
//! To create a job costs money and can't be repeated blindly: a job that carries a tag of its own is looked up by that
//! tag before it is posted again (`client`).

mod client;
mod cursor;
mod error;
mod follow;
mod job;
mod lines;
mod logs;
mod naming;
mod place;
mod settings;
mod spec;
mod transport;
mod watch;

pub use airfreight_http::Trust;
pub use client::{Client, Wanted};
pub use cursor::{Cursor, NoCursor};
pub use error::ApoloError;
pub use job::{Job, JobStatus};
pub use naming::{docker_image, resource_uri};
pub use place::{Cluster, Place};
pub use settings::{DEFAULT_URL, Settings};
pub use spec::JobSpec;
pub use watch::{Event, Follow, Until, Watch};

/// What comes of work on the platform.
pub type Result<T, E = ApoloError> = std::result::Result<T, E>;
