//! Breaks a store on purpose: workers that can be killed, content that shows a wrong byte, and a check of what is left.
//! And a Ray dashboard without Ray and a Kubernetes API server without Kubernetes, which can be broken as well.
//!
//! Not published. Everything that kills, fills or forks goes through here, so that the Rust tests, the soak and the
//! proof break things in one way.

mod audit;
pub mod chaos;
pub mod dashboard;
mod event;
pub mod fault;
mod fork;
pub mod kube;
mod promise;
mod sample;
mod scratch;
mod script;
mod supervisor;

pub use audit::{Audit, audit, used_bytes};
pub use event::{Event, Reporter};
pub use fork::{Forked, fork};
pub use promise::Promise;
pub use sample::{Sample, Wrong};
pub use scratch::Scratch;
pub use script::Script;
pub use supervisor::{Supervisor, Worker};
