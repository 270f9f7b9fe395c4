//! An object's file as bytes, for whoever sends it elsewhere.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use airfreight_core::ObjectName;
use airfreight_core::format::{Checksum, Footer, FormatError, HEADER_BYTES, HEADER_LEN, Header};

use crate::error::{Result, StoreError};
use crate::read::{Timing, pin, read_exact, with_footer};
use crate::store::Inner;
use crate::sys::{Access, Body, Mapping};
use crate::tier::{Tier, TierKind};

const CHECK_BYTES: usize = 1 << 20;

/// The bytes of a sealed object's file; they stay readable until it is dropped, whatever happens to its name.
pub struct ObjectFile {
    header: Header,
    /// What stands in the place of the file's own header.
    head: Option<[u8; HEADER_LEN]>,
    /// Carries the shared lock that keeps the pages from being reused.
    fd: OwnedFd,
    kind: TierKind,
    /// Its pages, once somebody has asked for them; `None` where they can't be had.
    body: OnceLock<Option<Body>>,
    describes: Box<dyn Fn(rustix::io::Errno) -> StoreError + Send + Sync>,
}

impl ObjectFile {
    /// The object's first name: what it is called wherever it arrives.
    #[must_use]
    pub fn name(&self) -> ObjectName {
        ObjectName::new(self.header.id)
    }

    /// Where the object ends.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.header.file_bytes
    }

    /// Stream and buffers, without padding.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.header.payload_bytes
    }

    /// Fills `bytes` with what stands at `offset`.
    ///
    /// # Errors
    /// [`StoreError::Io`]: the system refused, or the object ends before that.
    pub fn read(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.file_bytes()) {
            return Err((self.describes)(rustix::io::Errno::INVAL));
        }
        read_exact(&self.fd, bytes, offset).map_err(&self.describes)?;
        if let (Some(head), Ok(offset)) = (&self.head, usize::try_from(offset))
            && let Some(head) = head.get(offset..)
        {
            let shared = head.len().min(bytes.len());
            bytes[..shared].copy_from_slice(&head[..shared]);
        }
        Ok(())
    }

    /// All of it, where it lies in memory: whoever sends it needs no copy. `None` on a disk, whose errors would end the
    /// process, and where the header is not the file's own.
    #[must_use]
    pub fn in_memory(&self) -> Option<&[u8]> {
        if self.kind != TierKind::Memory || self.head.is_some() {
            return None;
        }
        let body = self.body.get_or_init(|| {
            let len = usize::try_from(self.file_bytes()).ok()?;
            // Without it, reading still works.
            Mapping::object(self.fd.as_fd(), len, Access::ReadOnly).ok().map(Body::Mapped)
        });
        body.as_ref().map(Body::bytes)
    }

    /// The file with its payload's checksum in its header, as it stands in buckets. Reads all of it, unless the checksum
    /// is there already.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn with_checksum(mut self) -> Result<Self> {
        if self.header.payload_crc.is_none() {
            self.header.payload_crc = Some(self.payload_checksum()?);
            self.head = Some(self.header.encode());
        }
        Ok(self)
    }
}

impl Inner {
    pub(crate) fn file(&self, name: ObjectName) -> Result<ObjectFile> {
        let mut damaged = None;
        for tier in self.tiers() {
            match file_in(tier, name) {
                Ok(Some(file)) => return Ok(file),
                Ok(None) => {}
                // Another tier may have a good copy.
                Err(error @ StoreError::Corrupt { .. }) => damaged = Some(error),
                Err(error) => return Err(error),
            }
        }
        if self.memory.is_removed() {
            return Err(StoreError::Removed { path: self.memory.path.clone() });
        }
        Err(damaged.unwrap_or(StoreError::NotFound { name, store: self.memory.path.clone() }))
    }
}

fn file_in(tier: &Tier, name: ObjectName) -> Result<Option<ObjectFile>> {
    let Some(pinned) = pin(tier, name, Timing::Use)? else { return Ok(None) };
    let corrupt = |source| StoreError::Corrupt { name, store: tier.path.clone(), source };
    let path = tier.object_path(name);
    let describes = move |errno| StoreError::io("read", path.clone())(errno);
    with_footer(&pinned, |footer| Footer::decode(&pinned.header, footer).map(drop))
        .map_err(&describes)?
        .map_err(corrupt)?;
    let file = ObjectFile {
        header: pinned.header,
        head: None,
        fd: pinned.fd,
        kind: tier.kind,
        body: OnceLock::new(),
        describes: Box::new(describes),
    };
    // As for every reader: what was on a disk is verified each time.
    if let Some(expected) = file.header.payload_crc
        && tier.kind != TierKind::Memory
        && file.payload_checksum()? != expected
    {
        return Err(corrupt(FormatError::PayloadChecksum));
    }
    Ok(Some(file))
}

impl ObjectFile {
    fn payload_checksum(&self) -> Result<u64> {
        let mut checksum = Checksum::new();
        let mut buffer = vec![0; CHECK_BYTES];
        let mut offset = HEADER_BYTES;
        while offset < self.header.table_offset {
            let want = buffer.len().min(usize::try_from(self.header.table_offset - offset).unwrap_or(usize::MAX));
            self.read(&mut buffer[..want], offset)?;
            checksum.update(&buffer[..want]);
            offset += want as u64;
        }
        Ok(checksum.finish())
    }
}
