//! Words without IO that every other crate shares: ids, error kinds, the object format and references.

mod error;

pub use error::ErrorKind;
