//! What a storage tells of an object that it holds: its length, and the checksums it computed itself.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;

/// Amazon's CRC-64/NVME, big-endian in base64.
const CRC64: &str = "x-amz-checksum-crc64nvme";
/// Whether that is of the whole object or of its parts' checksums.
const CRC64_OF: &str = "x-amz-checksum-type";
/// Google's `crc32c=…,md5=…`.
const HASHES: &str = "x-goog-hash";

/// The checksums that came with an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) crc64: Option<u64>,
    pub(crate) crc32c: Option<u32>,
}

impl Told {
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let is_whole = text(CRC64_OF).is_none_or(|of| of == "FULL_OBJECT");
        let hashes = headers.get_all(HASHES).iter().filter_map(|value| value.to_str().ok());
        let crc32c = hashes.flat_map(|value| value.split(',')).find_map(|one| one.trim().strip_prefix("crc32c="));
        Self {
            crc64: text(CRC64).filter(|_| is_whole).and_then(bytes).map(u64::from_be_bytes),
            crc32c: crc32c.and_then(bytes).map(u32::from_be_bytes),
        }
    }
}

fn bytes<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn checksums_are_read_as_both_storages_write_them() {
        let amazon = headers(&[(CRC64, "AAAAAAAAAQI="), (CRC64_OF, "FULL_OBJECT")]);
        assert_eq!(Told::read(&amazon), Told { crc64: Some(0x102), crc32c: None });
        let google = headers(&[(HASHES, "md5=AAAA,crc32c=AAABAg==")]);
        assert_eq!(Told::read(&google), Told { crc64: None, crc32c: Some(0x102) });
    }

    #[test]
    fn a_checksum_of_checksums_and_nonsense_are_none() {
        assert_eq!(Told::read(&headers(&[(CRC64, "AAAAAAAAAQI="), (CRC64_OF, "COMPOSITE")])), Told::default());
        assert_eq!(Told::read(&headers(&[(CRC64, "AQI="), (HASHES, "crc32c=?")])), Told::default());
    }
}
