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

    /// What the first use of a process would have to do. Done here, tasks inherit it from the process that they are
    /// forked from: the first checksum asks the processor what it can, which is slow on a virtual machine, and a class
    /// that isn't exported is made when it is needed.
    #[pymodule_init]
    #[expect(clippy::unnecessary_wraps, reason = "as the macro wants it")]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.py().get_type::<crate::buffer::Slice>();
        let mut checksum = airfreight_core::format::Checksum::new();
        checksum.update(&[0; 1024]);
        let _ = checksum.finish();
        Ok(())
    }
}
