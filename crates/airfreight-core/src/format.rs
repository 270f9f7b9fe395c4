//! The object format, version 1: what stands where in an object's file. The document is `docs/design/object.md`.

#![allow(clippy::cast_possible_truncation, reason = "64-bit only, which is asserted below")]

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ObjectId;

/// The first eight bytes of every object.
pub const MAGIC: [u8; 8] = *b"AFREIGHT";
/// The version this crate writes, and the highest it reads.
pub const VERSION: u16 = 1;
/// Length of the header.
pub const HEADER_LEN: usize = 128;
/// The same as an offset: where the stream starts.
pub const HEADER_BYTES: u64 = HEADER_LEN as u64;
/// Buffers and the footer start on multiples of this: enough for AVX-512, Arrow and a cache line.
pub const ALIGN: u64 = 64;
/// Payloads up to this length always carry a checksum; it costs a microsecond or two.
pub const CHECKED_PAYLOAD_BYTES_MAX: u64 = 64 * 1024;
/// The most that an object's metadata may take, so that listing stays cheap.
pub const METADATA_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one entry in the buffer table.
pub const ENTRY_BYTES: u64 = 16;

const FLAG_PAYLOAD_CRC: u16 = 1;
const HEADER_CRC_OFFSET: usize = 120;

/// CRC-64/NVME of `bytes`, the checksum that S3 computes natively.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}

/// Computes [`checksum`] over bytes that arrive in parts.
#[derive(Clone)]
pub struct Checksum(crc_fast::Digest);

impl Checksum {
    /// Begins with no bytes seen.
    #[must_use]
    pub fn new() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme))
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    #[must_use]
    pub fn finish(&self) -> u64 {
        self.0.finalize()
    }
}

impl Default for Checksum {
    fn default() -> Self {
        Self::new()
    }
}

/// The header as it stands in the file.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U16,
    flags: U16,
    header_bytes: U32,
    id: [u8; 16],
    file_bytes: U64,
    stream_bytes: U64,
    payload_bytes: U64,
    table_offset: U64,
    buffer_count: U32,
    metadata_bytes: U32,
    created_unix_ns: I64,
    payload_crc: U64,
    footer_crc: U64,
    reserved: [u8; 24],
    header_crc: U64,
}

const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<RawHeader>() as u64 == HEADER_BYTES);
    assert!(offset_of!(RawHeader, id) == 16);
    assert!(offset_of!(RawHeader, file_bytes) == 32);
    assert!(offset_of!(RawHeader, table_offset) == 56);
    assert!(offset_of!(RawHeader, created_unix_ns) == 72);
    assert!(offset_of!(RawHeader, payload_crc) == 80);
    assert!(offset_of!(RawHeader, footer_crc) == 88);
    assert!(offset_of!(RawHeader, header_crc) == HEADER_CRC_OFFSET);
    assert!(size_of::<Entry>() as u64 == ENTRY_BYTES);
    assert!(usize::BITS == 64);
};

/// One entry of the buffer table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Entry {
    offset: U64,
    bytes: U64,
}

impl Entry {
    /// Where the buffer starts, from the beginning of the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset.get()
    }

    /// The buffer's length.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }
}

/// A checked header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The object's id.
    pub id: ObjectId,
    /// Where the object ends.
    pub file_bytes: u64,
    /// Length of the stream.
    pub stream_bytes: u64,
    /// The stream and all buffers, without padding.
    pub payload_bytes: u64,
    /// Start of the footer.
    pub table_offset: u64,
    /// Entries in the buffer table.
    pub buffer_count: u32,
    /// Length of the metadata.
    pub metadata_bytes: u32,
    /// When it was sealed, in nanoseconds since 1970.
    pub created_unix_ns: i64,
    /// Checksum of everything between header and footer, where it was computed.
    pub payload_crc: Option<u64>,
    /// Checksum of table and metadata.
    pub footer_crc: u64,
}

/// Why bytes are not an object of this format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file is shorter than it says, or than a header.
    #[error("it has {actual_bytes} bytes, at least {expected_bytes} are needed")]
    Truncated {
        /// What the header asks for.
        expected_bytes: u64,
        /// What there is.
        actual_bytes: u64,
    },
    /// It doesn't begin like an object.
    #[error("it does not begin with the magic of an object")]
    Magic,
    /// It was written by a later release.
    #[error("it has format version {0}, this release reads up to {VERSION}")]
    Version(u16),
    /// The header's checksum is wrong.
    #[error("the header does not match its checksum")]
    HeaderChecksum,
    /// The footer's checksum is wrong.
    #[error("the footer does not match its checksum")]
    FooterChecksum,
    /// The payload's checksum is wrong.
    #[error("the payload does not match its checksum")]
    PayloadChecksum,
    /// The parts don't fit together.
    #[error("its layout is impossible: {0}")]
    Layout(&'static str),
}

impl Header {
    /// Reads and checks the first [`HEADER_BYTES`] of a file of `actual_bytes`.
    ///
    /// # Errors
    /// Everything that [`FormatError`] lists but the checksums of footer and payload, which need more bytes.
    pub fn decode(bytes: &[u8; HEADER_LEN], actual_bytes: u64) -> Result<Self, FormatError> {
        let raw: RawHeader = zerocopy::transmute!(*bytes);
        if raw.magic != MAGIC {
            return Err(FormatError::Magic);
        }
        // The version comes before the checksum: a later format may keep it elsewhere.
        if raw.version.get() != VERSION {
            return Err(FormatError::Version(raw.version.get()));
        }
        if raw.header_crc.get() != checksum(&bytes[..HEADER_CRC_OFFSET]) {
            return Err(FormatError::HeaderChecksum);
        }
        if u64::from(raw.header_bytes.get()) != HEADER_BYTES || raw.flags.get() & !FLAG_PAYLOAD_CRC != 0 {
            return Err(FormatError::Layout("unknown header length or flags"));
        }
        let header = Self {
            id: ObjectId::from_bytes(raw.id),
            file_bytes: raw.file_bytes.get(),
            stream_bytes: raw.stream_bytes.get(),
            payload_bytes: raw.payload_bytes.get(),
            table_offset: raw.table_offset.get(),
            buffer_count: raw.buffer_count.get(),
            metadata_bytes: raw.metadata_bytes.get(),
            created_unix_ns: raw.created_unix_ns.get(),
            payload_crc: (raw.flags.get() & FLAG_PAYLOAD_CRC != 0).then(|| raw.payload_crc.get()),
            footer_crc: raw.footer_crc.get(),
        };
        header.check_layout()?;
        if header.file_bytes > actual_bytes {
            return Err(FormatError::Truncated { expected_bytes: header.file_bytes, actual_bytes });
        }
        Ok(header)
    }

    fn check_layout(&self) -> Result<(), FormatError> {
        let stream_end = HEADER_BYTES.checked_add(self.stream_bytes);
        if stream_end.is_none_or(|end| end > self.table_offset) || !self.table_offset.is_multiple_of(ALIGN) {
            return Err(FormatError::Layout("the stream does not end before the footer"));
        }
        let footer = u64::from(self.buffer_count) * ENTRY_BYTES + u64::from(self.metadata_bytes);
        if self.table_offset.checked_add(footer) != Some(self.file_bytes) {
            return Err(FormatError::Layout("the footer does not end with the object"));
        }
        if self.metadata_bytes as usize > METADATA_BYTES_MAX {
            return Err(FormatError::Layout("the metadata is too long"));
        }
        Ok(())
    }

    /// The header's bytes, with its checksum.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut raw = RawHeader {
            magic: MAGIC,
            version: VERSION.into(),
            flags: u16::from(self.payload_crc.is_some()).into(),
            header_bytes: (HEADER_BYTES as u32).into(),
            id: *self.id.as_bytes(),
            file_bytes: self.file_bytes.into(),
            stream_bytes: self.stream_bytes.into(),
            payload_bytes: self.payload_bytes.into(),
            table_offset: self.table_offset.into(),
            buffer_count: self.buffer_count.into(),
            metadata_bytes: self.metadata_bytes.into(),
            created_unix_ns: self.created_unix_ns.into(),
            payload_crc: self.payload_crc.unwrap_or(0).into(),
            footer_crc: self.footer_crc.into(),
            reserved: [0; 24],
            header_crc: 0.into(),
        };
        raw.header_crc = checksum(&raw.as_bytes()[..HEADER_CRC_OFFSET]).into();
        zerocopy::transmute!(raw)
    }

    /// Length of the footer: table and metadata.
    #[must_use]
    pub fn footer_bytes(&self) -> u64 {
        self.file_bytes - self.table_offset
    }

    /// Start of the metadata.
    #[must_use]
    pub fn metadata_offset(&self) -> u64 {
        self.file_bytes - u64::from(self.metadata_bytes)
    }
}

/// A checked footer, as it lies in memory: where the buffers are, and the metadata as JSON text.
#[derive(Debug)]
pub struct Footer<'a> {
    /// The buffer table.
    pub entries: &'a [Entry],
    /// A JSON object.
    pub metadata: &'a str,
}

impl<'a> Footer<'a> {
    /// Checks the bytes from `table_offset` to `file_bytes`.
    ///
    /// # Errors
    /// [`FormatError::FooterChecksum`], or [`FormatError::Layout`] where entries overlap or leave the payload.
    pub fn decode(header: &Header, bytes: &'a [u8]) -> Result<Self, FormatError> {
        if bytes.len() as u64 != header.footer_bytes() {
            return Err(FormatError::Truncated {
                expected_bytes: header.footer_bytes(),
                actual_bytes: bytes.len() as u64,
            });
        }
        if checksum(bytes) != header.footer_crc {
            return Err(FormatError::FooterChecksum);
        }
        let (table, metadata) = bytes.split_at(header.buffer_count as usize * ENTRY_BYTES as usize);
        let entries = <[Entry]>::ref_from_bytes(table)
            .map_err(|_| FormatError::Layout("the buffer table has no whole number of entries"))?;
        let mut free_from = HEADER_BYTES + header.stream_bytes;
        let mut payload_bytes = header.stream_bytes;
        for entry in entries {
            let end = entry.offset().checked_add(entry.bytes());
            let fits = end.is_some_and(|end| end <= header.table_offset);
            if !fits || entry.offset() < free_from || !entry.offset().is_multiple_of(ALIGN) {
                return Err(FormatError::Layout("a buffer overlaps its neighbours or leaves the payload"));
            }
            free_from = entry.offset() + entry.bytes();
            payload_bytes += entry.bytes();
        }
        if payload_bytes != header.payload_bytes {
            return Err(FormatError::Layout("the payload's length is not that of stream and buffers"));
        }
        let metadata = str::from_utf8(metadata).map_err(|_| FormatError::Layout("the metadata is not UTF-8"))?;
        Ok(Self { entries, metadata })
    }
}

/// Where everything of a new object goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The buffer table.
    pub entries: Vec<Entry>,
    /// Length of the stream.
    pub stream_bytes: u64,
    /// The stream and all buffers, without padding.
    pub payload_bytes: u64,
    /// Start of the footer.
    pub table_offset: u64,
    /// Where the object ends.
    pub file_bytes: u64,
}

impl Layout {
    /// Places a stream, buffers of these lengths, and metadata.
    ///
    /// # Errors
    /// [`FormatError::Layout`] when the sum passes 2^63 bytes, there are more than 2^32 buffers, or the metadata is
    /// longer than [`METADATA_BYTES_MAX`].
    pub fn new(
        stream_bytes: u64,
        buffers: impl IntoIterator<Item = u64>,
        metadata_bytes: usize,
    ) -> Result<Self, FormatError> {
        const TOO_LONG: FormatError = FormatError::Layout("the object would pass 2^63 bytes");
        if metadata_bytes > METADATA_BYTES_MAX {
            return Err(FormatError::Layout("the metadata is longer than 1 MiB"));
        }
        let aligned = |offset: u64| offset.checked_next_multiple_of(ALIGN).ok_or(TOO_LONG);
        let mut payload_bytes = stream_bytes;
        let mut end = HEADER_BYTES.checked_add(stream_bytes).ok_or(TOO_LONG)?;
        let mut entries = Vec::new();
        for bytes in buffers {
            let offset = aligned(end)?;
            entries.push(Entry { offset: offset.into(), bytes: bytes.into() });
            end = offset.checked_add(bytes).ok_or(TOO_LONG)?;
            payload_bytes = payload_bytes.checked_add(bytes).ok_or(TOO_LONG)?;
        }
        if u32::try_from(entries.len()).is_err() {
            return Err(FormatError::Layout("there are more than 2^32 buffers"));
        }
        let table_offset = aligned(end)?;
        let footer_bytes = entries.len() as u64 * ENTRY_BYTES + metadata_bytes as u64;
        let file_bytes = table_offset.checked_add(footer_bytes).filter(|&end| end < 1 << 63).ok_or(TOO_LONG)?;
        Ok(Self { entries, stream_bytes, payload_bytes, table_offset, file_bytes })
    }

    /// Table and metadata as they stand in the file.
    #[must_use]
    pub fn footer(&self, metadata: &str) -> Vec<u8> {
        let mut footer = Vec::with_capacity(self.entries.len() * ENTRY_BYTES as usize + metadata.len());
        footer.extend_from_slice(self.entries.as_bytes());
        footer.extend_from_slice(metadata.as_bytes());
        footer
    }

    /// The header that goes with it.
    #[must_use]
    pub fn header(&self, id: ObjectId, footer: &[u8], payload_crc: Option<u64>, created_unix_ns: i64) -> Header {
        let table_bytes = self.entries.len() as u64 * ENTRY_BYTES;
        Header {
            id,
            file_bytes: self.file_bytes,
            stream_bytes: self.stream_bytes,
            payload_bytes: self.payload_bytes,
            table_offset: self.table_offset,
            buffer_count: u32::try_from(self.entries.len()).unwrap_or(u32::MAX),
            metadata_bytes: u32::try_from(footer.len() as u64 - table_bytes).unwrap_or(u32::MAX),
            created_unix_ns,
            payload_crc,
            footer_crc: checksum(footer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> (Header, Vec<u8>) {
        let layout = Layout::new(10, [3, 0, 200], 2).unwrap();
        let footer = layout.footer("{}");
        (layout.header(ObjectId::from_bytes([7; 16]), &footer, Some(9), 42), footer)
    }

    proptest! {
        #[test]
        fn every_layout_round_trips(
            stream in 0..1_u64 << 40,
            buffers in prop::collection::vec(0..1_u64 << 40, 0..20),
            metadata in "\\PC{0,50}",
            payload_crc: Option<u64>,
        ) {
            let layout = Layout::new(stream, buffers.iter().copied(), metadata.len()).unwrap();
            let footer = layout.footer(&metadata);
            let header = layout.header(ObjectId::from_bytes([1; 16]), &footer, payload_crc, -5);
            let read = Header::decode(&header.encode(), header.file_bytes).unwrap();
            prop_assert_eq!(read, header);
            let read = Footer::decode(&read, &footer).unwrap();
            prop_assert_eq!(read.metadata, metadata);
            let lengths: Vec<u64> = read.entries.iter().map(Entry::bytes).collect();
            prop_assert_eq!(lengths, buffers);
        }

        #[test]
        fn any_bytes_are_an_error_or_a_consistent_header(bytes: [[u8; 32]; 4]) {
            let mut bytes: [u8; 128] = bytes.as_flattened().try_into().unwrap();
            bytes[..12].copy_from_slice(b"AFREIGHT\x01\x00\x00\x00");
            bytes[12..16].copy_from_slice(&128_u32.to_le_bytes());
            let crc = checksum(&bytes[..120]);
            bytes[120..].copy_from_slice(&crc.to_le_bytes());
            if let Ok(header) = Header::decode(&bytes, u64::MAX) {
                prop_assert!(header.table_offset <= header.file_bytes);
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_header_and_footer_is_noticed() {
        let (header, footer) = sample();
        let good = header.encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bad, header.file_bytes).is_err(), "header bit {bit}");
        }
        for bit in 0..footer.len() * 8 {
            let mut bad = footer.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Footer::decode(&header, &bad).unwrap_err(), FormatError::FooterChecksum);
        }
    }

    #[test]
    fn a_short_file_is_truncated_not_mapped() {
        let (header, _) = sample();
        let error = Header::decode(&header.encode(), header.file_bytes - 1).unwrap_err();
        assert!(matches!(error, FormatError::Truncated { .. }));
    }
}
