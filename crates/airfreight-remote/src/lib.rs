//! The Python door to what runs elsewhere, imported as `airfreight._remote`. One file per Python class, and no
//! decisions: those are in the clients, or Airflow's.
//!
//! Airflow forks, signals and ends its processes without ceremony, so this door keeps three rules. Everything that
//! lives is made on first use and anew in a forked process (`process`). Whoever waits lets go of the interpreter and
//! comes back for signals (`wait`). And no thread of ours ever enters Python: an asyncio loop is woken through a socket
//! (`bridge`), so an interpreter that is going away has nothing to fear from us.

mod agent;
mod apolo;
mod bridge;
mod bucket;
mod client;
mod error;
mod event;
mod forward;
mod json;
mod kube;
mod process;
mod queue;
mod runner;
mod store;
mod values;
mod wait;
mod watch;

use pyo3::prelude::*;

#[pymodule]
mod _remote {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::agent::Agent;
    #[pymodule_export]
    use crate::apolo::ApoloClient;
    #[pymodule_export]
    use crate::bucket::Bucket;
    #[pymodule_export]
    use crate::client::RayClient;
    #[pymodule_export]
    use crate::forward::KubeForward;
    #[pymodule_export]
    use crate::kube::KubeClusters;
    #[pymodule_export]
    use crate::queue::UploadQueue;
    #[pymodule_export]
    use crate::runner::RayRunner;
    #[pymodule_export]
    use crate::watch::Watch;

    /// A watch is the same class, whatever it watches.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("CallWatch", module.py().get_type::<Watch>())?;
        module.add("ApoloWatch", module.py().get_type::<Watch>())?;
        module.add("KubeWatch", module.py().get_type::<Watch>())
    }
}
