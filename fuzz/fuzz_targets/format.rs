//! Any bytes as an object's header and footer: an error, or parts that lie within the file and apart from each other.

#![no_main]

use airfreight_core::format::{Footer, HEADER_BYTES, Header, checksum};
use libfuzzer_sys::{Corpus, fuzz_target};

const HEADER_LEN: usize = HEADER_BYTES as usize;
const CRC_OFFSET: usize = 120;

fuzz_target!(|input: (bool, u64, &[u8])| -> Corpus {
    let (mend, mut actual_bytes, bytes) = input;
    let Some((header, footer)) = bytes.split_first_chunk::<HEADER_LEN>() else { return Corpus::Reject };
    let mut header = *header;
    if mend {
        // Magic, version, lengths that fit and checksums are no riddle: what comes after them is looked at, too.
        header[..16].copy_from_slice(b"AFREIGHT\x01\x00\x00\x00\x80\x00\x00\x00");
        header[10] = bytes[10] & 1;
        header[43..48].fill(0);
        header[56] &= 0xc0;
        header[59..64].fill(0);
        let table_offset = u64::from_le_bytes(*header[56..].first_chunk().expect("eight bytes"));
        let count = (footer.len() / 16).min(usize::from(bytes[64]));
        let metadata = footer.len() - count * 16;
        header[64..68].copy_from_slice(&u32::try_from(count).expect("short").to_le_bytes());
        header[68..72].copy_from_slice(&u32::try_from(metadata).expect("short").to_le_bytes());
        let file_bytes = table_offset + footer.len() as u64;
        header[32..40].copy_from_slice(&file_bytes.to_le_bytes());
        actual_bytes = actual_bytes.max(file_bytes);
        header[88..96].copy_from_slice(&checksum(footer).to_le_bytes());
        let crc = checksum(&header[..CRC_OFFSET]);
        header[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
    }
    let Ok(header) = Header::decode(&header, actual_bytes) else { return Corpus::Keep };
    assert!(header.file_bytes <= actual_bytes);
    assert!(HEADER_BYTES + header.stream_bytes <= header.table_offset && header.table_offset <= header.file_bytes);
    if let Ok(footer) = Footer::decode(&header, footer) {
        let mut end = HEADER_BYTES + header.stream_bytes;
        for entry in footer.entries {
            assert!(entry.offset() >= end && entry.offset() % 64 == 0);
            end = entry.offset() + entry.bytes();
            assert!(end <= header.table_offset);
        }
    }
    Corpus::Keep
});
