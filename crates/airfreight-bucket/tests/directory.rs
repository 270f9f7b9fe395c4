//! Everything that is no matter of HTTP, against a directory.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use airfreight_bucket::{Bucket, BucketError, Copied, Settings};
use airfreight_core::ErrorKind;
use airfreight_core::format::{HEADER_LEN, Header, checksum};
use airfreight_store::{Access, Options, Store, TierKind};
use tempfile::TempDir;

struct Place {
    folder: TempDir,
    bucket: Bucket,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().join("bucket").display());
        let bucket = Bucket::open(&Settings::new(url)).unwrap();
        Self { folder, bucket }
    }

    fn store(&self, name: &str) -> Store {
        let path = Some(self.folder.path().join(name));
        let spill_path = Some(self.folder.path().join("spill"));
        Store::open(&Options { path, spill_path, capacity_bytes: Some(1 << 30), ..Options::default() }).unwrap()
    }

    fn file(&self, key: &str) -> std::path::PathBuf {
        self.folder.path().join("bucket").join(key)
    }
}

fn payload(nbytes: usize) -> Vec<u8> {
    (0..nbytes).map(|at| u8::try_from((at.wrapping_mul(2_654_435_761) >> 24) & 0xff).unwrap()).collect()
}

#[tokio::test]
async fn an_object_goes_there_and_comes_back_to_another_store() {
    let place = Place::new();
    let (here, there) = (place.store("here"), place.store("there"));
    // In one piece, in one part and a bit, in several parts.
    for nbytes in [0, 5_000, (8 << 20) + 77, 30 << 20] {
        let bytes = payload(nbytes);
        let mut writer = here.create().unwrap();
        writer.write(b"stream").unwrap();
        let name = writer.seal(&[&bytes], r#"{"type": "bytes"}"#).unwrap();

        let copied = place.bucket.put_object(&here, name, "dag/run/task/x").await.unwrap();
        let file = fs_err::read(place.file("dag/run/task/x")).unwrap();
        assert_eq!(copied, Copied { nbytes: file.len() as u64, crc64: checksum(&file) });
        let header = Header::decode(file.first_chunk::<HEADER_LEN>().unwrap(), file.len() as u64).unwrap();
        assert!(header.payload_crc.is_some(), "what leaves memory carries its checksum");

        for expected in [Some(copied), None] {
            let got = place.bucket.get_object(&there, name, "dag/run/task/x", expected).await.unwrap();
            assert_eq!(got, copied);
            let object = there.get(name, Access::ReadOnly).unwrap();
            assert_ne!(object.kind(), TierKind::Spill);
            assert_eq!(object.stream(), b"stream");
            assert_eq!(object.buffer(0), Some(&bytes[..]));
            there.delete(name).unwrap();
        }
        place.bucket.delete("dag/run/task/x").await.unwrap();
    }
}

#[tokio::test]
async fn a_flipped_bit_is_found_wherever_it_is_and_nothing_is_kept() {
    let place = Place::new();
    let (here, there) = (place.store("here"), place.store("there"));
    let mut writer = here.create().unwrap();
    writer.write(b"stream").unwrap();
    let name = writer.seal(&[&payload(20 << 20)], "{}").unwrap();
    let copied = place.bucket.put_object(&here, name, "x").await.unwrap();
    let good = fs_err::read(place.file("x")).unwrap();

    for (at, expected) in
        [(20, None), (200, None), (9 << 20, Some(copied)), (9 << 20, None), (good.len() - 1, Some(copied))]
    {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs_err::write(place.file("x"), &bad).unwrap();
        let error = place.bucket.get_object(&there, name, "x", expected).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{at}: {error}");
        assert!(error.to_string().contains("/bucket/x"), "{error}");
        assert!(!there.contains(name));
    }
    fs_err::write(place.file("x"), &good[..good.len() - 1]).unwrap();
    let error = place.bucket.get_object(&there, name, "x", Some(copied)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "cut: {error}");
    assert_eq!(there.stat().unwrap().unfinished, 0);
}

#[tokio::test]
async fn what_is_there_already_is_compared_and_never_replaced() {
    let place = Place::new();
    let store = place.store("here");
    let name = store.create().unwrap().seal(&[b"small"], "{}").unwrap();
    let first = place.bucket.put_object(&store, name, "x").await.unwrap();
    assert_eq!(place.bucket.put_object(&store, name, "x").await.unwrap(), first, "an answer may have been lost");

    let other = store.create().unwrap().seal(&[b"other"], "{}").unwrap();
    let error = place.bucket.put_object(&store, other, "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test]
async fn pointers_are_small_replaceable_and_may_be_missing() {
    let place = Place::new();
    assert_eq!(place.bucket.get("run/newest", 100).await.unwrap(), None);
    place.bucket.put("run/newest", b"one".to_vec()).await.unwrap();
    place.bucket.put("run/newest", b"two".to_vec()).await.unwrap();
    assert_eq!(place.bucket.get("run/newest", 100).await.unwrap().as_deref(), Some(&b"two"[..]));
    assert!(matches!(place.bucket.get("run/newest", 2).await, Err(BucketError::Corrupt { .. })));

    assert_eq!(place.bucket.size("run/newest").await.unwrap(), Some(3));
    assert_eq!(place.bucket.size("run/none").await.unwrap(), None);
    let listed = place.bucket.list("run").await.unwrap();
    assert_eq!(listed.iter().map(|entry| (entry.key.as_str(), entry.nbytes)).collect::<Vec<_>>(), [("run/newest", 3)]);
    assert!(place.bucket.delete("run/newest").await.unwrap());
    assert!(!place.bucket.delete("run/newest").await.unwrap());
    assert!(place.bucket.list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_missing_checkpoint_and_one_that_cannot_be_signed_are_named() {
    let place = Place::new();
    let store = place.store("here");
    let name = "ab".repeat(16).parse().unwrap();
    let error = place.bucket.get_object(&store, name, "run/none", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().ends_with("/bucket/run/none`"), "{error}");
    let signed = place.bucket.sign(http::Method::GET, "x", std::time::Duration::from_mins(1)).await;
    assert!(matches!(signed, Err(BucketError::Unsupported { .. })));
}
