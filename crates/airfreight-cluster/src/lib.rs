//! Ray clusters on Kubernetes, through the objects of the KubeRay operator: neither `kubectl` nor `helm` is needed.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use airfreight_cluster::{Access, Clusters, Manifest};
//!
//! # async fn run(description: serde_json::Value) -> Result<(), airfreight_cluster::ClusterError> {
//! let clusters = Clusters::connect(&Access::default()).await?;
//! let manifest = Manifest::new(description)?;
//! let minutes = Duration::from_mins(10);
//! let (cluster, _) = clusters.apply(&manifest, false, None, minutes).await?;
//! clusters.wait_ready(&cluster.namespace, &cluster.name, minutes, |saying| println!("{}", saying.line)).await?;
//! let forward = clusters.forward(&cluster.namespace, &cluster.name, 8265, 0).await?;
//! println!("the dashboard is at http://{}", forward.address());
//! # Ok(())
//! # }
//! ```
//!
//! Two things decide how a cluster is written. `workerGroupSpecs` is one list to Kubernetes: to send it again would undo
//! what the autoscaler has done since, so an object is sent only when its description has changed, with the live numbers
//! of workers put in. And its `state` never goes back once it was `ready`, so the conditions are what counts.

mod access;
mod api;
mod attempt;
mod clusters;
mod error;
mod forward;
mod jobs;
mod kind;
mod manifest;
mod objects;
mod operator;
mod reasons;
mod watch;
mod ways;

pub use access::{Access, Place};
pub use attempt::Attempt;
pub use clusters::{Clusters, Known, Outcome, Standing};
pub use error::ClusterError;
pub use forward::Forward;
pub use jobs::JobEnd;
pub use kind::Kind;
pub use manifest::Manifest;
pub use objects::{Applied, Objects};
pub use operator::Operator;
pub use watch::Saying;
pub use ways::{DASHBOARD_PORT, Way, WayKind};
