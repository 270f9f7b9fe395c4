//! Ways to others over HTTP: whom we trust, who we are, proxies, TCP.
//!
//! What a request means, and which failures may be tried again, is its sender's affair.

mod connect;
mod error;
mod tls;

pub use connect::{Connector, Route, Stream};
pub use error::{TlsError, causes};
pub use tls::{Identity, Trust, authorities, certificates, config, is_tls, private_key};
