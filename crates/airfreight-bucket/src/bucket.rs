//! A bucket, and what can be done with it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use airfreight_core::ObjectName;
use airfreight_core::format::FormatError;
use airfreight_store::{Payload, Store, StoreError};
use futures_util::TryStreamExt as _;
use http::Method;
use jiff::Timestamp;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};

use crate::crash::crash_point;
use crate::download::{Download, FetchError};
use crate::location::{Location, Provider};
use crate::providers::{Opened, open};
use crate::upload::{Cargo, OnBegun, Upload, VerifyError};
use crate::{BucketError, Result, Settings};

/// A bucket, or the part of one that begins with a prefix. Clones are cheap and share their connections.
#[derive(Clone)]
pub struct Bucket {
    location: Location,
    store: Arc<dyn ObjectStore>,
    signer: Option<Arc<dyn Signer>>,
    multipart: Option<Arc<dyn MultipartStore>>,
    conditional: bool,
}

/// What lies in a bucket of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Length of the whole file.
    pub nbytes: u64,
    /// CRC-64/NVME of the whole file.
    pub crc64: u64,
}

/// One key of a listing.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key, without the bucket's prefix.
    pub key: String,
    /// Its length.
    pub nbytes: u64,
    /// When it was written.
    pub modified_at: Timestamp,
}

impl Bucket {
    /// Prepares a bucket; nothing is asked of it yet.
    ///
    /// # Errors
    /// [`BucketError::Url`], [`BucketError::Option`] and [`BucketError::Certificate`] tell what can't be used.
    pub fn open(settings: &Settings) -> Result<Self> {
        let location = Location::parse(&settings.url)?;
        let Opened { store, signer, multipart, conditional } = open(&location, settings)?;
        Ok(Self { location, store, signer, multipart, conditional })
    }

    /// Where it is.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Copies an object's file into the bucket and makes sure that it is there as it was sent.
    ///
    /// The file goes from the store's pages, in parts of 8 MiB and more, eight at a time; cuts and throttling are tried
    /// again. An object that is there already and is the same is success.
    ///
    /// # Errors
    /// [`BucketError::Altered`] when the bucket holds something else afterwards, [`BucketError::Conflict`] when another
    /// object has the key, [`BucketError::Store`] when this host doesn't have it; and what the storage refuses.
    pub async fn put_object(&self, store: &Store, name: ObjectName, key: &str) -> Result<Copied> {
        self.put_object_watched(store, name, key, &AtomicU64::new(0)).await
    }

    /// As [`Self::put_object`]; `progress` counts the bytes that have arrived.
    ///
    /// # Errors
    /// As [`Self::put_object`].
    pub async fn put_object_watched(
        &self,
        store: &Store,
        name: ObjectName,
        key: &str,
        progress: &AtomicU64,
    ) -> Result<Copied> {
        let cargo = self.cargo(store, name, key).await?;
        let path = self.location.path(key)?;
        self.send(&cargo, key, &self.upload(&path, progress, None)).await
    }

    /// As [`Self::put_object`], for who may have done it before and not know: it is looked for first, and `false` says
    /// that nothing had to be sent.
    ///
    /// `begun` is told the id of an upload in parts before any part is sent; when it fails, nothing is.
    ///
    /// # Errors
    /// As [`Self::put_object`].
    pub async fn complete_object(
        &self,
        store: &Store,
        name: ObjectName,
        key: &str,
        begun: OnBegun<'_>,
    ) -> Result<(Copied, bool)> {
        let cargo = self.cargo(store, name, key).await?;
        let path = self.location.path(key)?;
        let progress = AtomicU64::new(0);
        let upload = self.upload(&path, &progress, Some(begun));
        match upload.verify(&cargo, &self.location.url(key)).await {
            Ok(()) => Ok((cargo.copied, false)),
            Err(VerifyError::Storage(error)) => match self.failed("verify", key, &error) {
                BucketError::NotFound { .. } => Ok((self.send(&cargo, key, &upload).await?, true)),
                error => Err(error),
            },
            Err(VerifyError::Bucket(_)) => Ok((self.send(&cargo, key, &upload).await?, true)),
        }
    }

    /// Length and checksum that an object's copy in a bucket will have. Reads the object once.
    ///
    /// # Errors
    /// [`BucketError::Store`] when this host doesn't have it whole.
    pub fn checksum(store: &Store, name: ObjectName) -> Result<Copied> {
        Ok(Cargo::open(store, name)?.copied)
    }

    async fn cargo(&self, store: &Store, name: ObjectName, key: &str) -> Result<Cargo> {
        let store = store.clone();
        let opened = tokio::task::spawn_blocking(move || Cargo::open(&store, name)).await;
        opened.map_err(|error| self.broken("write", key, &error))?
    }

    /// Removes what an upload of this key has left whose process was killed: its parts, by the id that was told, or in a
    /// directory its temporary files. Only for who knows that nobody else is at it.
    ///
    /// # Errors
    /// What the storage refuses. That there is nothing is success.
    pub async fn abandon(&self, key: &str, id: Option<&str>) -> Result<()> {
        let path = self.location.path(key)?;
        if let (Some(multipart), Some(id)) = (&self.multipart, id) {
            let aborted = multipart.abort_multipart(&path, &id.to_owned()).await;
            return match aborted.map_err(|error| self.failed("abort the upload of", key, &error)) {
                Err(BucketError::NotFound { .. }) => Ok(()),
                other => other,
            };
        }
        if self.location.provider == Provider::File {
            let file = self.location.directory().join(key);
            let removed = tokio::task::spawn_blocking(move || remove_staged(&file)).await;
            return removed.map_err(|error| self.broken("delete", key, &error))?;
        }
        Ok(())
    }

    fn upload<'a>(&'a self, path: &'a Path, progress: &'a AtomicU64, begun: Option<OnBegun<'a>>) -> Upload<'a> {
        let Self { store, multipart, conditional, .. } = self;
        let (multipart, provider) = (multipart.as_ref(), self.location.provider);
        Upload { store, multipart, provider, conditional: *conditional, path, progress, begun }
    }

    async fn send(&self, cargo: &Cargo, key: &str, upload: &Upload<'_>) -> Result<Copied> {
        let place = self.location.url(key);
        let sent = match upload.send(cargo).await {
            // The answer to an attempt before this one was lost; or it is another's, which the comparison tells.
            Err(VerifyError::Storage(
                object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. },
            )) => Err(()),
            Err(VerifyError::Storage(error)) => return Err(self.failed("write", key, &error)),
            Err(VerifyError::Bucket(error)) => return Err(error),
            Ok(()) => Ok(()),
        };
        match (upload.verify(cargo, &place).await, sent) {
            (Ok(()), _) => {
                crash_point("upload.verified");
                Ok(cargo.copied)
            }
            (Err(VerifyError::Bucket(BucketError::Altered { .. })), Err(())) => Err(BucketError::Conflict { place }),
            (Err(VerifyError::Bucket(error)), _) => {
                // Nobody should find it. Whether that works changes nothing of what is told.
                let _ = self.store.delete(upload.path).await;
                Err(error)
            }
            (Err(VerifyError::Storage(error)), _) => Err(self.failed("verify", key, &error)),
        }
    }

    /// Copies a checkpoint into the store under `name`, verified before anybody can see it.
    ///
    /// Eight ranges at a time are written to where they belong. An object that is in the store already is success.
    ///
    /// # Errors
    /// [`BucketError::NotFound`], [`BucketError::Corrupt`] when the bytes are not the object's or not those that
    /// `expected` names, [`BucketError::Store`] when the store has no room; and what the storage refuses.
    pub async fn get_object(
        &self,
        store: &Store,
        name: ObjectName,
        key: &str,
        expected: Option<Copied>,
    ) -> Result<Copied> {
        self.get_object_watched(store, name, key, expected, &AtomicU64::new(0)).await
    }

    /// As [`Self::get_object`]; `progress` counts the bytes that have arrived.
    ///
    /// # Errors
    /// As [`Self::get_object`].
    pub async fn get_object_watched(
        &self,
        store: &Store,
        name: ObjectName,
        key: &str,
        expected: Option<Copied>,
        progress: &AtomicU64,
    ) -> Result<Copied> {
        let path = self.location.path(key)?;
        let place = self.location.url(key);
        let damaged = |source| BucketError::Corrupt { place: place.clone(), source };
        let download = Download { store: &self.store, path: &path, progress };
        let source = download.look().await.map_err(|error| self.failed("read", key, &error))?;
        if let Some(expected) = expected.filter(|expected| expected.nbytes != source.nbytes) {
            return Err(damaged(FormatError::Truncated {
                expected_bytes: expected.nbytes,
                actual_bytes: source.nbytes,
            }));
        }
        // Room is made without the others' having to wait for it.
        let reserved = {
            let store = store.clone();
            tokio::task::spawn_blocking(move || store.receive(name, source.nbytes).map(|room| (room, source)))
        };
        let (receiver, source) = match reserved.await.map_err(|error| self.broken("read", key, &error))? {
            Err(StoreError::Damaged { source, .. }) => return Err(damaged(source)),
            other => other?,
        };
        let receiver = Arc::new(receiver);
        let copied = download.read(&source, &receiver).await.map_err(|error| match error {
            FetchError::Storage(error) => self.failed("read", key, &error),
            FetchError::Bucket(BucketError::Corrupt { source, .. }) => damaged(source),
            FetchError::Bucket(error) => error,
        })?;
        if expected.is_some_and(|expected| expected != copied) {
            return Err(damaged(FormatError::PayloadChecksum));
        }
        // Compared with what its sender computed, or by the store with what stands in its header.
        let payload = if expected.is_some() { Payload::Verified } else { Payload::Unverified };
        let sealed = tokio::task::spawn_blocking(move || {
            Arc::into_inner(receiver)
                .map_or(Err(StoreError::Internal("a download went on after its end")), |whole| whole.seal(payload))
        });
        match sealed.await.map_err(|error| self.broken("read", key, &error))? {
            Ok(_) => Ok(copied),
            Err(StoreError::Damaged { source, .. }) => Err(damaged(source)),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a few bytes in one piece, in place of what was there.
    ///
    /// # Errors
    /// What the storage refuses.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        let path = self.location.path(key)?;
        let options = PutOptions::from(PutMode::Overwrite);
        let put = self.store.put_opts(&path, bytes.into(), options).await;
        put.map(drop).map_err(|error| self.failed("write", key, &error))
    }

    /// Reads a few bytes; `None` where there is no such key.
    ///
    /// # Errors
    /// [`BucketError::Corrupt`] when there are more than `bytes_max`; and what the storage refuses.
    pub async fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let path = self.location.path(key)?;
        let failed = |error| match self.failed("read", key, &error) {
            BucketError::NotFound { .. } => Ok(None),
            error => Err(error),
        };
        let found = match self.store.get(&path).await {
            Ok(found) => found,
            Err(error) => return failed(error),
        };
        if found.meta.size > bytes_max {
            let source = FormatError::Layout("it is longer than anything of its kind");
            return Err(BucketError::Corrupt { place: self.location.url(key), source });
        }
        match found.bytes().await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) => failed(error),
        }
    }

    /// The length of a key; `None` where there is none.
    ///
    /// # Errors
    /// What the storage refuses.
    pub async fn size(&self, key: &str) -> Result<Option<u64>> {
        match self.store.head(&self.location.path(key)?).await.map_err(|error| self.failed("read", key, &error)) {
            Ok(found) => Ok(Some(found.size)),
            Err(BucketError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every key below `prefix`, in no order that one should rely on.
    ///
    /// # Errors
    /// What the storage refuses.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let below = self.location.path(prefix.trim_end_matches('/'))?;
        let below = (!below.as_ref().is_empty()).then_some(below);
        let failed = |error| self.failed("list", prefix, &error);
        let listed: Vec<_> = self.store.list(below.as_ref()).try_collect().await.map_err(failed)?;
        let entry = |meta: object_store::ObjectMeta| Entry {
            key: self.location.key_of(&meta.location),
            nbytes: meta.size,
            modified_at: Timestamp::from_second(meta.last_modified.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH),
        };
        Ok(listed.into_iter().map(entry).collect())
    }

    /// Deletes a key. `false` where the storage says that there was none; S3 doesn't tell.
    ///
    /// # Errors
    /// What the storage refuses.
    pub async fn delete(&self, key: &str) -> Result<bool> {
        let path = self.location.path(key)?;
        match self.store.delete(&path).await.map_err(|error| self.failed("delete", key, &error)) {
            Ok(()) => Ok(true),
            Err(BucketError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A URL that lets its holder do one thing with one key, for so long, without any credentials.
    ///
    /// # Errors
    /// [`BucketError::Unsupported`] for directories, and where the credentials can't sign; [`BucketError::Unsignable`].
    pub async fn sign(&self, method: Method, key: &str, valid: Duration) -> Result<String> {
        let Some(signer) = &self.signer else {
            return Err(BucketError::Unsupported { action: "sign a URL for", place: self.location.url(key) });
        };
        let url = signer.signed_url(method, &self.location.path(key)?, valid).await;
        let url = url.map_err(|error| self.failed("sign a URL for", key, &error))?;
        // The crate signs the path as the URL has it; Azure compares with what that stands for.
        if self.location.provider == Provider::Azure && url.path().contains('%') {
            return Err(BucketError::Unsignable { place: self.location.url(key) });
        }
        Ok(url.into())
    }

    fn failed(&self, action: &'static str, key: &str, error: &object_store::Error) -> BucketError {
        BucketError::from_storage(action, &self.location.url(key), &self.location, error)
    }

    fn broken(&self, action: &'static str, key: &str, error: &tokio::task::JoinError) -> BucketError {
        BucketError::Unavailable { action, place: self.location.url(key), reason: error.to_string() }
    }
}

/// Removes the temporary files of a file in a directory: `name#1`, `name#2`, ...
fn remove_staged(file: &std::path::Path) -> Result<()> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    let failed = |action| move |source| BucketError::File { action, path: file.to_owned(), source };
    let listing = match fs_err::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        listing => listing.map_err(failed("list the folder of"))?,
    };
    for entry in listing {
        let entry = entry.map_err(failed("list the folder of"))?;
        let found = entry.file_name();
        let number = found.to_str().and_then(|found| found.strip_prefix(name)?.strip_prefix('#'));
        if number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())) {
            fs_err::remove_file(entry.path()).map_err(failed("delete what was left of"))?;
        }
    }
    Ok(())
}
