//! An object's file on its way into a bucket.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use airfreight_core::ObjectName;
use airfreight_core::format::{FormatError, HEADER_LEN, Header, checksum};
use airfreight_store::{Access, Object, Store, StoreError};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum_combine};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::multipart::MultipartStore;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, path::Path};

use crate::crash::crash_point;
use crate::told::Told;
use crate::{BucketError, Copied, Provider, Result};

/// What goes in one piece; also the least that a part has. S3 wants 5 MiB.
pub(crate) const PART_BYTES: u64 = 8 << 20;
/// S3 takes 10,000 parts, Google the same, Azure more.
const PARTS_MAX: u64 = 9_000;
/// Parts under way at a time. They are slices of the mapping, so this costs connections and no memory.
pub(crate) const STREAMS_MAX: usize = 8;

/// An object's file as it stands in a bucket: as in the store, with the checksum of the payload in its header.
pub(crate) struct Cargo {
    head: Bytes,
    rest: Bytes,
    pub(crate) copied: Copied,
}

/// Keeps the object open for as long as a part of it is under way.
struct Rest(Object);

impl AsRef<[u8]> for Rest {
    fn as_ref(&self) -> &[u8] {
        self.0.file().get(HEADER_LEN..).unwrap_or_default()
    }
}

impl Cargo {
    /// Opens an object and computes the checksums that go with it. Reads the object once.
    pub(crate) fn open(store: &Store, name: ObjectName) -> Result<Self> {
        let object = store.get(name, Access::ReadOnly)?;
        let corrupt = |source| StoreError::Corrupt { name, store: store.path().to_owned(), source };
        let file = object.file();
        let nbytes = file.len() as u64;
        let head = file.first_chunk().ok_or(corrupt(FormatError::Magic))?;
        let header = Header::decode(head, nbytes).map_err(corrupt)?;
        let rest = Bytes::from_owner(Rest(object));
        let payload_bytes = usize::try_from(header.table_offset).unwrap_or(usize::MAX).saturating_sub(HEADER_LEN);
        let payload_crc = checksum(rest.get(..payload_bytes).ok_or(corrupt(FormatError::Magic))?);
        if header.payload_crc.is_some_and(|expected| expected != payload_crc) {
            return Err(corrupt(FormatError::PayloadChecksum).into());
        }
        let head = Header { payload_crc: Some(payload_crc), ..header }.encode();
        let combine = |first, second, bytes| checksum_combine(CrcAlgorithm::Crc64Nvme, first, second, bytes);
        let crc64 = combine(checksum(&head), payload_crc, payload_bytes as u64);
        let crc64 = combine(crc64, header.footer_crc, header.footer_bytes());
        Ok(Self { head: Bytes::copy_from_slice(&head), rest, copied: Copied { nbytes, crc64 } })
    }

    fn part(&self, range: Range<u64>) -> PutPayload {
        let index = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        let (start, end) = (index(range.start), index(range.end));
        let head = self.head.slice(start.min(HEADER_LEN)..end.min(HEADER_LEN));
        let rest = self.rest.slice(start.saturating_sub(HEADER_LEN)..end.saturating_sub(HEADER_LEN));
        [head, rest].into_iter().filter(|piece| !piece.is_empty()).collect()
    }

    /// The checksum that Google keeps.
    fn crc32c(&self) -> u32 {
        let mut digest = crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi);
        digest.update(&self.head);
        digest.update(&self.rest);
        u32::try_from(digest.finalize()).unwrap_or_default()
    }
}

/// The ranges of equal length that a file is cut into.
pub(crate) fn parts(nbytes: u64, from: u64) -> impl Iterator<Item = Range<u64>> {
    let step = nbytes.div_ceil(PARTS_MAX).next_multiple_of(1 << 20).max(PART_BYTES);
    (from..nbytes)
        .step_by(usize::try_from(step).unwrap_or(usize::MAX))
        .map(move |start| start..nbytes.min(start + step))
}

/// Is told the id of an upload in parts before any part is sent.
pub(crate) type OnBegun<'a> = &'a (dyn Fn(&str) -> Result<()> + Send + Sync);

/// One upload.
pub(crate) struct Upload<'a> {
    pub(crate) store: &'a Arc<dyn ObjectStore>,
    /// `None` where there are no ids.
    pub(crate) multipart: Option<&'a Arc<dyn MultipartStore>>,
    pub(crate) provider: Provider,
    /// Replace nothing.
    pub(crate) conditional: bool,
    pub(crate) path: &'a Path,
    /// How many bytes have arrived.
    pub(crate) progress: &'a AtomicU64,
    pub(crate) begun: Option<OnBegun<'a>>,
}

impl Upload<'_> {
    /// Sends the file; an object that was there already stays.
    pub(crate) async fn send(&self, cargo: &Cargo) -> Result<(), VerifyError> {
        if cargo.copied.nbytes <= PART_BYTES {
            let mode = if self.conditional { PutMode::Create } else { PutMode::Overwrite };
            self.store.put_opts(self.path, cargo.part(0..cargo.copied.nbytes), PutOptions::from(mode)).await?;
            self.progress.fetch_add(cargo.copied.nbytes, Ordering::Relaxed);
            return Ok(());
        }
        match self.multipart {
            Some(multipart) => self.send_parts(multipart, cargo).await,
            None => Ok(self.send_file(cargo).await?),
        }
    }

    /// In parts that belong together by an id, which another process can abort.
    async fn send_parts(&self, multipart: &Arc<dyn MultipartStore>, cargo: &Cargo) -> Result<(), VerifyError> {
        let id = multipart.create_multipart(self.path).await?;
        crash_point("upload.begun");
        let (id, path) = (&id, self.path);
        let told = self.begun.map_or(Ok(()), |begun| begun(id));
        let sent = async {
            told?;
            let parts: Vec<_> = stream::iter(parts(cargo.copied.nbytes, 0).enumerate())
                .map(|(index, range)| async move {
                    let bytes = range.end - range.start;
                    let part = multipart.put_part(path, id, index, cargo.part(range)).await?;
                    self.progress.fetch_add(bytes, Ordering::Relaxed);
                    crash_point("upload.part");
                    Ok::<_, object_store::Error>(part)
                })
                .buffered(STREAMS_MAX)
                .try_collect()
                .await?;
            crash_point("upload.sent");
            multipart.complete_multipart(path, id, parts).await?;
            crash_point("upload.completed");
            Ok(())
        };
        let sent: Result<(), VerifyError> = sent.await;
        if sent.is_err() {
            // What it costs if this fails, too: parts that nobody sees, until whoever was told the id aborts them, or
            // the bucket's own rule removes them.
            let _ = multipart.abort_multipart(path, id).await;
        }
        sent
    }

    /// Into a file of a directory, which gets its name when all is there.
    async fn send_file(&self, cargo: &Cargo) -> object_store::Result<()> {
        let mut upload = self.store.put_multipart(self.path).await?;
        crash_point("upload.begun");
        let sent = stream::iter(parts(cargo.copied.nbytes, 0))
            .map(|range| {
                let (bytes, part) = (range.end - range.start, upload.put_part(cargo.part(range)));
                async move {
                    part.await?;
                    self.progress.fetch_add(bytes, Ordering::Relaxed);
                    crash_point("upload.part");
                    Ok(())
                }
            })
            .buffer_unordered(STREAMS_MAX)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await;
        crash_point("upload.sent");
        let done = match sent {
            Ok(()) => upload.complete().await.map(|_| crash_point("upload.completed")),
            Err(error) => Err(error),
        };
        if done.is_err() {
            let _ = upload.abort().await;
        }
        done
    }

    /// Compares what the storage holds now with what was sent.
    ///
    /// Length and checksum as the storage tells them; where it tells no checksum, the bytes are read back.
    pub(crate) async fn verify(&self, cargo: &Cargo, place: &str) -> Result<(), VerifyError> {
        let options = object_store::GetOptions { head: true, ..Default::default() };
        let found = self.store.get_opts(self.path, options).await?;
        let Copied { nbytes, crc64 } = cargo.copied;
        let differs = |reason: String| Err(BucketError::Altered { place: place.to_owned(), reason }.into());
        if found.meta.size != nbytes {
            return differs(format!("it has {} bytes there, and {nbytes} were sent", found.meta.size));
        }
        let told = found.extensions.get::<Told>().copied().unwrap_or_default();
        let same = match told {
            Told { crc64: Some(theirs), .. } => theirs == crc64,
            Told { crc32c: Some(theirs), .. } if self.provider == Provider::Gcs => theirs == cargo.crc32c(),
            Told { .. } => self.read_back().await? == crc64,
        };
        if same { Ok(()) } else { differs("its checksum is another one".to_owned()) }
    }

    async fn read_back(&self) -> object_store::Result<u64> {
        let mut bytes = self.store.get(self.path).await?.into_stream();
        let mut checksum = airfreight_core::format::Checksum::new();
        while let Some(piece) = bytes.try_next().await? {
            checksum.update(&piece);
        }
        Ok(checksum.finish())
    }
}

/// The storage failed, or what it holds is wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error(transparent)]
    Storage(#[from] object_store::Error),
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_file_and_are_few() {
        for nbytes in [0, 1, PART_BYTES, PART_BYTES + 1, 10 << 30, 5 << 40] {
            let mut end = 0;
            let mut count = 0;
            for part in parts(nbytes, 0) {
                assert_eq!(part.start, end);
                assert!(part.end - part.start >= PART_BYTES || part.end == nbytes);
                end = part.end;
                count += 1;
            }
            assert_eq!(end, nbytes);
            assert!(count <= 10_000, "{count}");
        }
    }
}
