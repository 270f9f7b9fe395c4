//! Directories for one test's store, in shared memory, gone with the test.

use std::path::{Path, PathBuf};

use airfreight_store::{Options, Store, StoreError};
use tempfile::TempDir;

/// A store's directory and spill directory of its own.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Removes the folder; the process that made it does.
    _folder: Option<TempDir>,
}

impl Scratch {
    /// Makes a folder in shared memory, or in the temporary directory where there is none.
    ///
    /// # Errors
    /// When neither can be written.
    pub fn new() -> std::io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("airfreight-test-")
            .tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())?;
        Ok(Self { path: folder.path().to_owned(), _folder: Some(folder) })
    }

    /// The folder of another process's scratch.
    #[must_use]
    pub fn of(path: PathBuf) -> Self {
        Self { path, _folder: None }
    }

    /// The folder that holds both directories.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The store's directory; made by the first [`Self::open`].
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        self.path().join("store")
    }

    /// The spill directory; made on first need.
    #[must_use]
    pub fn spill_path(&self) -> PathBuf {
        self.path().join("spill")
    }

    /// Options for these directories; nothing is spilled.
    #[must_use]
    pub fn options(&self, capacity_bytes: u64) -> Options {
        Options {
            path: Some(self.store_path()),
            capacity_bytes: Some(capacity_bytes),
            spill_path: Some(self.spill_path()),
            spill_capacity_bytes: Some(0),
            pool_bytes: Some(capacity_bytes / 2),
            ..Options::default()
        }
    }

    /// As [`Self::options`], with room to spill.
    #[must_use]
    pub fn options_with_spill(&self, capacity_bytes: u64, spill_capacity_bytes: u64) -> Options {
        Options { spill_capacity_bytes: Some(spill_capacity_bytes), ..self.options(capacity_bytes) }
    }

    /// Opens a store without a spill disk.
    ///
    /// # Errors
    /// The store's.
    pub fn open(&self, capacity_bytes: u64) -> Result<Store, StoreError> {
        Store::open(&self.options(capacity_bytes))
    }
}
