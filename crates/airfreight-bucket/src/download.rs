//! A checkpoint on its way into the store: ranges side by side, each where it belongs, verified before anyone sees it.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use airfreight_core::format::{Checksum, FormatError};
use airfreight_store::{Receiver, StoreError};
use crc_fast::{CrcAlgorithm, checksum_combine};
use futures_util::{TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};

use crate::upload::{STREAMS_MAX, parts};
use crate::{BucketError, Copied, Result};

/// What is gathered before it is written: large enough for huge pages, and all the memory that a stream takes.
const BLOCK_BYTES: u64 = 4 << 20;

/// One download.
pub(crate) struct Download<'a> {
    pub(crate) store: &'a Arc<dyn ObjectStore>,
    pub(crate) path: &'a Path,
    /// How many bytes have arrived.
    pub(crate) progress: &'a AtomicU64,
}

/// The storage failed, or we did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Storage(#[from] object_store::Error),
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

/// An object in a bucket, at one moment.
pub(crate) struct Source {
    pub(crate) nbytes: u64,
    e_tag: Option<String>,
}

impl Download<'_> {
    /// What there is.
    pub(crate) async fn look(&self) -> object_store::Result<Source> {
        let found = self.store.get_opts(self.path, GetOptions { head: true, ..GetOptions::default() }).await?;
        Ok(Source { nbytes: found.meta.size, e_tag: found.meta.e_tag })
    }

    /// Reads all of it and returns its checksum.
    pub(crate) async fn read(&self, source: &Source, target: &Arc<Receiver>) -> Result<Copied, FetchError> {
        let sums = Mutex::new(Vec::new());
        stream::iter(parts(source.nbytes, 0).map(Ok::<_, FetchError>))
            .try_for_each_concurrent(STREAMS_MAX, |range| {
                let sums = &sums;
                async move {
                    let crc64 = self.read_range(source, range.clone(), target).await?;
                    sums.lock().unwrap_or_else(PoisonError::into_inner).push((range, crc64));
                    Ok(())
                }
            })
            .await?;
        let mut sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        sums.sort_unstable_by_key(|(range, _)| range.start);
        let combine = |whole, (range, crc64): &(Range<u64>, u64)| {
            checksum_combine(CrcAlgorithm::Crc64Nvme, whole, *crc64, range.end - range.start)
        };
        Ok(Copied { nbytes: source.nbytes, crc64: sums.iter().fold(Checksum::new().finish(), combine) })
    }

    /// Cuts are mended below: the client asks again for what is missing, and only of the same object.
    async fn read_range(&self, source: &Source, range: Range<u64>, target: &Arc<Receiver>) -> Result<u64, FetchError> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: source.e_tag.clone(),
            ..GetOptions::default()
        };
        let mut bytes = self.store.get_opts(self.path, options).await?.into_stream();
        let mut checksum = Checksum::new();
        let mut offset = range.start;
        let mut block = Vec::new();
        while let Some(piece) = bytes.try_next().await? {
            checksum.update(&piece);
            self.progress.fetch_add(piece.len() as u64, Ordering::Relaxed);
            let mut rest = &piece[..];
            while !rest.is_empty() {
                if block.capacity() == 0 {
                    block.reserve_exact(usize::try_from(BLOCK_BYTES.min(range.end - offset)).unwrap_or(0));
                }
                let room = (block.capacity() - block.len()).clamp(1, rest.len());
                block.extend_from_slice(&rest[..room]);
                rest = &rest[room..];
                if block.len() == block.capacity() {
                    let length = block.len() as u64;
                    block = write(target, offset, block).await?;
                    offset += length;
                }
            }
        }
        if !block.is_empty() {
            let length = block.len() as u64;
            write(target, offset, block).await?;
            offset += length;
        }
        if offset != range.end {
            let source = FormatError::Truncated { expected_bytes: range.end, actual_bytes: offset };
            return Err(BucketError::Corrupt { place: self.path.to_string(), source }.into());
        }
        Ok(checksum.finish())
    }
}

/// Writes a block, where waiting for the kernel holds nobody up, and gives its memory back for the next.
async fn write(target: &Arc<Receiver>, offset: u64, mut block: Vec<u8>) -> Result<Vec<u8>, FetchError> {
    let target = Arc::clone(target);
    let written = tokio::task::spawn_blocking(move || {
        let written = target.write(offset, &block);
        block.clear();
        written.map(|()| block)
    });
    match written.await {
        Ok(written) => Ok(written.map_err(BucketError::from)?),
        Err(stopped) => Err(BucketError::Store(StoreError::Io {
            action: "write what arrived into",
            path: "the store".into(),
            source: stopped.into(),
        })
        .into()),
    }
}
