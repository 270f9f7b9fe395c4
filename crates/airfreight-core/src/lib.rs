//! Words without IO that every other crate shares: ids, error kinds, the object format and references.

mod array;
mod error;
pub mod format;
mod id;
mod reference;

pub use array::PlainArray;
pub use error::{ErrorKind, chain};
pub use id::{InvalidName, ObjectId, ObjectName};
pub use reference::{ReferenceError, key_fingerprint, sign_reference, verify_reference};
