//! Words without IO that every other crate shares: ids, error kinds, the object format and references.

mod error;
pub mod format;
mod id;
mod reference;

pub use error::{ErrorKind, chain};
pub use id::{InvalidName, ObjectId, ObjectName};
pub use reference::{ReferenceError, key_fingerprint, sign_reference, verify_reference};
