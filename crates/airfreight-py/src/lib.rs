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
    use pyo3::prelude::*;

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

    /// The first checksum of a process asks the processor what it can, which is slow on a virtual machine. Asked for
    /// here, tasks inherit the answer from the process that they are forked from.
    #[pymodule_init]
    #[expect(clippy::unnecessary_wraps, reason = "as the macro wants it")]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        let mut checksum = airfreight_core::format::Checksum::new();
        checksum.update(&[0; 1024]);
        let _ = checksum.finish();
        Ok(())
    }
}
