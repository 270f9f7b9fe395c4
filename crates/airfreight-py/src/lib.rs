//! The Python door to the store, imported as `airfreight._store`. One file per Python class, and no decisions: those
//! are in the core, or Airflow's.

mod buffer;
mod error;
mod object;
mod reference;
mod store;
mod texts;
mod writer;

use pyo3::prelude::*;

#[pymodule]
mod _store {
    #[pymodule_export]
    use crate::object::Object;
    #[pymodule_export]
    use crate::reference::{key_fingerprint, sign_reference, verify_reference};
    #[pymodule_export]
    use crate::store::Store;
    #[pymodule_export]
    use crate::texts::{fill_texts, pack_texts};
    #[pymodule_export]
    use crate::writer::Writer;
}
