//! Uploads that wait for this host's agent: a file each, in the directory of the store whose objects they are of.
//!
//! A file is written under a name that nobody lists and gets its own by a rename, so whenever its writer is killed there
//! is an upload or none. It goes when all that it asks for is done; who does it looks at what is there already, so doing
//! it a second time sends nothing. It names a bucket and holds no secret: who uploads has credentials of its own.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use airfreight_core::ObjectName;
use airfreight_store::Store;
use serde::{Deserialize, Serialize};

use crate::crash::crash_point;
use crate::{BucketError, Copied, Result};

const FOLDER: &str = "uploads";
const LOCK: &str = "lock";
const VERSION: u32 = 1;
/// A row's members with their keys, and the row; what is longer was not written by us.
const BYTES_MAX: u64 = 64 << 20;
/// What a killed writer has left is as old as this when it is removed; a living one holds its lock long before.
const LEFTOVER_AGE: Duration = Duration::from_mins(1);
/// Ends the name of the file that says which upload in parts was begun.
const BEGUN: &str = ".begun";

/// What is to be done for one XCom row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Queued {
    version: u32,
    /// The bucket, and what every key begins with.
    pub url: String,
    /// The Airflow connection with its credentials; `None`: those of the environment.
    pub conn: Option<String>,
    /// What is copied, in this order.
    pub objects: Vec<QueuedObject>,
    /// What is written when they are there.
    pub newest: Note,
    /// Keys that are deleted after that.
    #[serde(default)]
    pub replaces: Vec<String>,
}

/// An object that is to be copied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueuedObject {
    name: String,
    /// Where to.
    pub key: String,
    nbytes: u64,
    crc64: String,
}

/// An upload in parts: what it takes to abort it when its process was killed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Begun {
    /// The bucket, and what every key begins with.
    pub url: String,
    /// The Airflow connection with its credentials; `None`: those of the environment.
    pub conn: Option<String>,
    /// What it was to become.
    pub key: String,
    /// Its id at the storage.
    pub id: String,
}

/// A few bytes that are written in one piece.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Note {
    /// Where to.
    pub key: String,
    /// What.
    pub text: String,
}

impl Queued {
    /// Reads what [`Queue::add`] is given.
    ///
    /// # Errors
    /// [`BucketError::Queued`] when it is something else.
    pub fn parse(text: &str) -> Result<Self> {
        Self::decode(text.as_bytes(), Path::new(FOLDER))
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        let unusable = |reason: String| BucketError::Queued { path: path.to_owned(), reason };
        let queued: Self = serde_json::from_slice(bytes).map_err(|error| unusable(error.to_string()))?;
        if queued.version != VERSION {
            return Err(unusable(format!("it is of version {}, and this release reads {VERSION}", queued.version)));
        }
        match queued.objects.iter().find(|object| object.read().is_none()) {
            Some(object) => Err(unusable(format!("`{}` is no object", object.name.escape_debug()))),
            None => Ok(queued),
        }
    }

    /// What its objects come to.
    #[must_use]
    pub fn nbytes(&self) -> u64 {
        self.objects.iter().map(|object| object.nbytes).sum()
    }
}

impl QueuedObject {
    /// Which object, and what its copy will be.
    #[must_use]
    pub fn read(&self) -> Option<(ObjectName, Copied)> {
        let crc64 = u64::from_str_radix(&self.crc64, 16).ok()?;
        Some((self.name.parse().ok()?, Copied { nbytes: self.nbytes, crc64 }))
    }
}

/// The uploads of one store.
#[derive(Clone, Debug)]
pub struct Queue {
    folder: PathBuf,
}

/// The right to carry uploads out, which one process has at a time; gone with it.
#[derive(Debug)]
pub struct Claim {
    _lock: fs_err::File,
}

impl Queue {
    /// The queue of a store. Costs nothing; its folder is made with the first upload.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        Self { folder: store.path().join(FOLDER) }
    }

    /// Puts an upload into the queue, in place of one of the same name. Once this returns, it is carried out however
    /// the caller ends.
    ///
    /// # Errors
    /// [`BucketError::File`] when the system refuses; then there is nothing of it.
    pub fn add(&self, name: ObjectName, queued: &Queued) -> Result<()> {
        self.write(&name.to_string(), queued).map_err(self.failed("write", name))
    }

    /// Writes a file under a name that nobody lists, which then gets its own.
    fn write(&self, file_name: &str, content: &impl Serialize) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(content)?;
        self.make_folder().map_err(std::io::Error::other)?;
        let temp = self.folder.join(format!(".{file_name}-{}", std::process::id()));
        let written = (|| {
            let mut file =
                fs_err::OpenOptions::new().write(true).create(true).truncate(true).mode_private().open(&temp)?;
            // Gone with its holder, so it tells what a killed writer has left.
            file.file().lock()?;
            file.write_all(&bytes)?;
            crash_point("queue.temp");
            // Where the store is on a disk, the entry outlives the host as its object does.
            file.sync_all()?;
            crash_point("queue.synced");
            fs_err::rename(&temp, self.folder.join(file_name))?;
            crash_point("queue.named");
            fs_err::File::open(&self.folder)?.sync_all()
        })();
        written.inspect_err(|_| {
            let _ = fs_err::remove_file(&temp);
        })
    }

    /// Notes that an upload in parts was begun, for whoever comes after its process.
    ///
    /// # Errors
    /// [`BucketError::File`].
    pub fn note_begun(&self, name: ObjectName, begun: &Begun) -> Result<()> {
        self.write(&format!("{name}{BEGUN}"), begun).map_err(self.failed("write", name))
    }

    /// The uploads in parts that were begun and may not have ended.
    ///
    /// # Errors
    /// [`BucketError::File`].
    pub fn begun(&self) -> Result<Vec<(ObjectName, Begun)>> {
        let mut found = Vec::new();
        for file_name in self.file_names()? {
            let Some(Ok(name)) = file_name.strip_suffix(BEGUN).map(str::parse::<ObjectName>) else { continue };
            // One that can't be read names nothing that could be ended.
            if let Some(begun) = self.begun_of(name) {
                found.push((name, begun));
            }
        }
        Ok(found)
    }

    /// The upload in parts that was begun for this entry, if any.
    #[must_use]
    pub fn begun_of(&self, name: ObjectName) -> Option<Begun> {
        serde_json::from_slice(&fs_err::read(self.folder.join(format!("{name}{BEGUN}"))).ok()?).ok()
    }

    /// Says that it has ended.
    ///
    /// # Errors
    /// [`BucketError::File`].
    pub fn forget_begun(&self, name: ObjectName) -> Result<()> {
        match fs_err::remove_file(self.folder.join(format!("{name}{BEGUN}"))) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failed("delete", name)(error)),
            _ => Ok(()),
        }
    }

    fn file_names(&self) -> Result<Vec<String>> {
        let failed = |source| BucketError::File { action: "list", path: self.folder.clone(), source };
        match fs_err::read_dir(&self.folder) {
            Ok(listing) => listing
                .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()).map_err(failed))
                .collect(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Takes an upload out of the queue: it is done, or not wanted any more. `false` when it wasn't there.
    ///
    /// # Errors
    /// [`BucketError::File`].
    pub fn remove(&self, name: ObjectName) -> Result<bool> {
        match fs_err::remove_file(self.path(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed("delete", name)(error)),
        }
    }

    /// Whether an upload waits.
    #[must_use]
    pub fn contains(&self, name: ObjectName) -> bool {
        self.path(name).exists()
    }

    /// What waits, the oldest first, with the time since when.
    ///
    /// # Errors
    /// [`BucketError::File`].
    pub fn list(&self) -> Result<Vec<(ObjectName, SystemTime)>> {
        let failed = |source| BucketError::File { action: "list", path: self.folder.clone(), source };
        let listing = match fs_err::read_dir(&self.folder) {
            Ok(listing) => listing,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in listing {
            let entry = entry.map_err(failed)?;
            let file = entry.file_name();
            let file = file.to_str().unwrap_or_default();
            // What goes in the meantime is not listed.
            let Ok(since) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
            if let Ok(name) = file.parse::<ObjectName>() {
                found.push((name, since));
            } else if file.starts_with('.') && since.elapsed().is_ok_and(|age| age > LEFTOVER_AGE) {
                let is_left = fs_err::File::open(entry.path()).is_ok_and(|file| file.file().try_lock().is_ok());
                if is_left {
                    let _ = fs_err::remove_file(entry.path());
                }
            }
        }
        found.sort_unstable_by_key(|(name, since)| (*since, *name));
        Ok(found)
    }

    /// What is to be done; `None` when it has been taken out.
    ///
    /// # Errors
    /// [`BucketError::File`], and [`BucketError::Queued`] when it is damaged or of another release.
    pub fn read(&self, name: ObjectName) -> Result<Option<Queued>> {
        let path = self.path(name);
        let length = match fs_err::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("read", name)(error)),
        };
        if length > BYTES_MAX {
            return Err(BucketError::Queued { path, reason: format!("it has {length} bytes") });
        }
        match fs_err::read(&path) {
            Ok(bytes) => Queued::decode(&bytes, &path).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read", name)(error)),
        }
    }

    /// Where the uploads lie, once there was one. A file comes there by a rename.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// When uploads last came or went; `None` when there never was one.
    #[must_use]
    pub fn changed_at(&self) -> Option<SystemTime> {
        fs_err::metadata(&self.folder).and_then(|metadata| metadata.modified()).ok()
    }

    /// Claims the right to carry uploads out; `None` while another process has it.
    ///
    /// # Errors
    /// [`BucketError::File`].
    pub fn claim(&self) -> Result<Option<Claim>> {
        self.make_folder()?;
        let path = self.folder.join(LOCK);
        let failed = |source| BucketError::File { action: "lock", path: path.clone(), source };
        let lock = fs_err::OpenOptions::new().write(true).create(true).truncate(false).mode_private().open(&path);
        let lock = lock.map_err(failed)?;
        match lock.file().try_lock() {
            Ok(()) => Ok(Some(Claim { _lock: lock })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Whether somebody carries uploads out.
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        matches!(self.claim(), Ok(None))
    }

    fn make_folder(&self) -> Result<()> {
        let made = std::fs::DirBuilder::new().mode(0o700).create(&self.folder);
        match made {
            Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                Err(BucketError::File { action: "create", path: self.folder.clone(), source })
            }
            _ => Ok(()),
        }
    }

    fn path(&self, name: ObjectName) -> PathBuf {
        self.folder.join(name.to_string())
    }

    fn failed(&self, action: &'static str, name: ObjectName) -> impl FnOnce(std::io::Error) -> BucketError {
        let path = self.path(name);
        move |source| BucketError::File { action, path, source }
    }
}

/// Files that nobody else may read.
trait Private {
    fn mode_private(&mut self) -> &mut Self;
}

impl Private for fs_err::OpenOptions {
    fn mode_private(&mut self) -> &mut Self {
        self.options_mut().mode(0o600);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(folder: &Path) -> Store {
        let options = airfreight_store::Options { path: Some(folder.join("store")), ..Default::default() };
        Store::open(&options).unwrap()
    }

    fn seal(store: &Store) -> ObjectName {
        store.create().unwrap().seal(&[b"bytes"], "{}").unwrap()
    }

    fn queued(name: ObjectName) -> String {
        format!(
            r#"{{"version":1,"url":"file:///b","conn":null,"newest":{{"key":"newest","text":"x"}},
            "objects":[{{"name":"{name}","key":"k","nbytes":5,"crc64":"00000000000000ff"}}]}}"#
        )
    }

    #[test]
    fn uploads_wait_in_order_until_they_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let queue = Queue::of(&store);
        assert!(queue.list().unwrap().is_empty() && queue.changed_at().is_none());
        let names = [seal(&store), seal(&store), seal(&store)];
        for name in names {
            queue.add(name, &Queued::parse(&queued(name)).unwrap()).unwrap();
            // Coarser than a file system's clock, which orders them.
            std::thread::sleep(Duration::from_millis(20));
        }
        let listed: Vec<_> = queue.list().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(listed, names);
        assert_eq!(queue.read(names[1]).unwrap().unwrap().nbytes(), 5);
        assert!(queue.remove(names[1]).unwrap());
        assert!(!queue.remove(names[1]).unwrap());
        assert!(queue.read(names[1]).unwrap().is_none() && !queue.contains(names[1]));
        assert_eq!(queue.list().unwrap().len(), 2);
    }

    #[test]
    fn what_a_killed_writer_left_is_no_upload() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let (queue, name) = (Queue::of(&store), seal(&store));
        queue.add(name, &Queued::parse(&queued(name)).unwrap()).unwrap();
        fs_err::rename(queue.path(name), queue.folder.join(format!(".{name}-1"))).unwrap();
        assert!(queue.list().unwrap().is_empty());
    }

    #[test]
    fn damaged_uploads_are_told_from_missing_ones() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let (queue, name) = (Queue::of(&store), seal(&store));
        queue.add(name, &Queued::parse(&queued(name)).unwrap()).unwrap();
        for bad in
            ["", "{}", &queued(name).replace("\"version\":1", "\"version\":2"), &queued(name).replace("00ff", "x")]
        {
            fs_err::write(queue.path(name), bad).unwrap();
            assert!(matches!(queue.read(name), Err(BucketError::Queued { .. })), "{bad}");
        }
    }

    #[test]
    fn one_at_a_time_carries_uploads_out() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::of(&store(folder.path()));
        let claim = queue.claim().unwrap();
        assert!(claim.is_some() && queue.is_claimed() && queue.claim().unwrap().is_none());
        drop(claim);
        assert!(!queue.is_claimed());
    }
}
