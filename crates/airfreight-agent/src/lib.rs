//! The service of one host: its objects over HTTP, for tasks elsewhere.
//!
//! It works on the store's directory as every task does, with the same locks. When it dies, tasks on this host notice
//! nothing, and those elsewhere read a checkpoint or say what is lost. What can be asked of it: `docs/openapi.yaml`.

mod access;
mod checkpoints;
mod crash;
mod error;
mod index;
mod life;
mod limits;
mod listing;
mod metrics;
mod objects;
mod opened;
mod page;
mod patient;
mod range;
mod routes;
mod send;
mod server;
mod tls;
mod uploads;

pub use access::{Access, Tokens};
pub use crash::CRASH_POINTS;
pub use error::AgentError;
pub use life::{Ask, EVERY_DAG, LifeOptions};
pub use page::AirflowUrl;
pub use server::{Agent, DEFAULT_ADDRESS, Options};
pub use tls::ServerTls;

/// The header with the CRC-64/NVME of a body, in 16 hexadecimal digits.
pub const CHECKSUM_HEADER: &str = "x-airfreight-crc64";
