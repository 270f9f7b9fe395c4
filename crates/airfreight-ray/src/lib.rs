//! A client of Ray's Jobs API, for Ray 2.9 and later, that needs no Ray.
//!
//! ```no_run
//! use airfreight_ray::{Client, Settings, Submission};
//!
//! # async fn run() -> airfreight_ray::Result<()> {
//! let client = Client::new(Settings::new("http://ray-head:8265"))?;
//! let submitted = client.submit(Submission::new("python train.py")).await?;
//! let job = client.job(&submitted.submission_id).await?;
//! println!("{:?}", job.map(|job| job.status()));
//! # Ok(())
//! # }
//! ```
//!
//! A dashboard freezes for everybody when a hundred connections to it are busy. So a process opens at most
//! [`CONNECTIONS_MAX`] to a cluster, however many clients, tasks and logs there are in it, and keeps some of them free
//! for calls that must not wait (`pool`).

mod address;
mod client;
mod cluster;
mod credentials;
mod cursor;
mod error;
mod job;
mod json_text;
mod listing;
mod logs;
mod package;
mod pool;
mod runner;
mod runtime_env;
mod settings;
mod submission;
mod tail;
mod transport;
mod values;
mod watch;

pub use airfreight_http::{Identity, Trust};
pub use client::{Client, Stopped, Submitted};
pub use cluster::{Cluster, RayVersion};
pub use cursor::{Cursor, NoCursor};
pub use error::{RayError, Sent};
pub use job::{Job, JobStatus};
pub use logs::{Lines, LogStream};
pub use runner::{CallId, Ready, Runner, RunnerOptions, Transport, runner_id, runner_of};
pub use settings::Settings;
pub use submission::Submission;
pub use tail::is_control;
pub use values::{BucketUrls, DASHBOARD_BYTES_MAX, Freight, Landing, Progress, Route, TransferError, ValueKey};
pub use watch::{Event, Follow, Watch, Watcher};

/// The most connections that a process has open to one cluster at a time, its nodes' agents included.
pub const CONNECTIONS_MAX: usize = 8;

/// What comes of work on a Ray cluster.
pub type Result<T, E = RayError> = std::result::Result<T, E>;
