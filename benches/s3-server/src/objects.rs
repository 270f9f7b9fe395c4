//! Buckets, objects and uploads in parts.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum_combine};
use futures_util::{StreamExt as _, stream};
use s3s::checksum::ChecksumHasher;
use s3s::dto::*;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, TrailingHeaders, s3_error};

type Names = (String, String);

pub(crate) struct Objects(Mutex<State>);

#[derive(Default)]
struct State {
    buckets: Vec<String>,
    objects: HashMap<Names, Stored>,
    uploads: HashMap<String, (Names, BTreeMap<i32, Stored>)>,
    begun: u64,
}

/// Bytes, as they came.
#[derive(Clone, Default)]
struct Stored {
    pieces: Vec<Bytes>,
    nbytes: u64,
    crc64: u64,
}

impl Stored {
    fn e_tag(&self) -> ETag {
        ETag::Strong(format!("{:016x}{:016x}", self.crc64, self.nbytes))
    }

    fn crc64(&self) -> String {
        BASE64_STANDARD.encode(self.crc64.to_be_bytes())
    }

    fn append(&mut self, other: Stored) {
        self.crc64 = checksum_combine(CrcAlgorithm::Crc64Nvme, self.crc64, other.crc64, other.nbytes);
        self.nbytes += other.nbytes;
        self.pieces.extend(other.pieces);
    }

    fn range(&self, start: u64, end: u64) -> Vec<Bytes> {
        let mut at = 0;
        let mut found = Vec::new();
        for piece in &self.pieces {
            let (from, to) = (start.max(at), end.min(at + piece.len() as u64));
            if from < to {
                found.push(piece.slice((from - at) as usize..(to - at) as usize));
            }
            at += piece.len() as u64;
        }
        found
    }
}

/// The checksums of a body as its request's headers have them, each under its header's name.
struct Expected([(&'static str, Option<String>); 5]);

/// Reads a body to its end and compares it with all that is known of it.
async fn read(
    body: Option<StreamingBlob>,
    length: Option<i64>,
    expected: Expected,
    trailers: Option<TrailingHeaders>,
) -> S3Result<Stored> {
    let mut body = body.ok_or_else(|| s3_error!(IncompleteBody))?;
    let mut stored = Stored::default();
    let Expected([crc32, crc32c, sha1, sha256, _]) = &expected;
    // What follows the body is known once it has come: those two are what clients send there.
    let follows = trailers.is_some();
    let mut hasher = ChecksumHasher {
        crc32: (follows || crc32.1.is_some()).then(Default::default),
        crc32c: (follows || crc32c.1.is_some()).then(Default::default),
        sha1: sha1.1.is_some().then(Default::default),
        sha256: sha256.1.is_some().then(Default::default),
        crc64nvme: Some(Default::default()),
    };
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| S3Error::with_source(s3s::S3ErrorCode::IncompleteBody, error))?;
        hasher.update(&piece);
        stored.nbytes += piece.len() as u64;
        stored.pieces.push(piece);
    }
    if length.is_some_and(|length| u64::try_from(length).ok() != Some(stored.nbytes)) {
        return Err(s3_error!(IncompleteBody));
    }
    let found = hasher.finalize();
    let late = trailers.and_then(|trailers| trailers.take());
    let found = [
        found.checksum_crc32,
        found.checksum_crc32c,
        found.checksum_sha1,
        found.checksum_sha256,
        found.checksum_crc64nvme,
    ];
    for ((name, expected), found) in expected.0.into_iter().zip(&found) {
        let late = late.as_ref().and_then(|late| late.get(name)?.to_str().ok().map(str::to_owned));
        for expected in [expected, late].into_iter().flatten() {
            if found.as_ref() != Some(&expected) {
                return Err(s3_error!(BadDigest, "{name} is {found:?} here, and {expected} was announced"));
            }
        }
    }
    let crc64 = found[4].as_deref().and_then(|text| BASE64_STANDARD.decode(text).ok()?.try_into().ok());
    stored.crc64 = crc64.map(u64::from_be_bytes).ok_or_else(|| s3_error!(InternalError))?;
    Ok(stored)
}

macro_rules! expected {
    ($input:expr) => {
        Expected([
            ("x-amz-checksum-crc32", $input.checksum_crc32.take()),
            ("x-amz-checksum-crc32c", $input.checksum_crc32c.take()),
            ("x-amz-checksum-sha1", $input.checksum_sha1.take()),
            ("x-amz-checksum-sha256", $input.checksum_sha256.take()),
            ("x-amz-checksum-crc64nvme", $input.checksum_crc64nvme.take()),
        ])
    };
}

impl Objects {
    pub(crate) fn with_buckets(names: impl Iterator<Item = String>) -> Self {
        Self(Mutex::new(State { buckets: names.collect(), ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, names: &Names) -> S3Result<Stored> {
        self.state().objects.get(names).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }
}

impl State {
    fn put(&mut self, names: Names, stored: Stored, if_none_match: Option<&IfNoneMatch>) -> S3Result<()> {
        if !self.buckets.contains(&names.0) {
            return Err(s3_error!(NoSuchBucket));
        }
        if if_none_match.is_some_and(ETagCondition::is_any) && self.objects.contains_key(&names) {
            return Err(s3_error!(PreconditionFailed));
        }
        self.objects.insert(names, stored);
        Ok(())
    }
}

fn now() -> Option<Timestamp> {
    Some(Timestamp::from(SystemTime::now()))
}

#[async_trait::async_trait]
impl S3 for Objects {
    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let mut input = req.input;
        let expected = expected!(input);
        let stored = read(input.body, input.content_length, expected, req.trailing_headers).await?;
        let (e_tag, crc64) = (stored.e_tag(), stored.crc64());
        self.state().put((input.bucket, input.key), stored, input.if_none_match.as_ref())?;
        let checksum_crc64nvme = Some(crc64);
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(e_tag), checksum_crc64nvme, ..Default::default() }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let CreateMultipartUploadInput { bucket, key, checksum_algorithm, checksum_type, .. } = req.input;
        let mut state = self.state();
        if !state.buckets.contains(&bucket) {
            return Err(s3_error!(NoSuchBucket));
        }
        state.begun += 1;
        let id = state.begun.to_string();
        state.uploads.insert(id.clone(), ((bucket.clone(), key.clone()), BTreeMap::new()));
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(id),
            checksum_algorithm,
            checksum_type,
            ..Default::default()
        }))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let mut input = req.input;
        let expected = expected!(input);
        let told = [expected.0[0].1.clone(), expected.0[1].1.clone()];
        let stored = read(input.body, input.content_length, expected, req.trailing_headers).await?;
        let (e_tag, crc64) = (stored.e_tag(), stored.crc64());
        let mut state = self.state();
        let (_, parts) = state.uploads.get_mut(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        parts.insert(input.part_number, stored);
        let [checksum_crc32, checksum_crc32c] = told;
        let checksum_crc64nvme = Some(crc64);
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(e_tag),
            checksum_crc32,
            checksum_crc32c,
            checksum_crc64nvme,
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let CompleteMultipartUploadInput { bucket, key, upload_id, multipart_upload, if_none_match, .. } = req.input;
        let wanted = multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let mut state = self.state();
        let (names, parts) = state.uploads.get(&upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        if *names != (bucket.clone(), key.clone()) || wanted.is_empty() {
            return Err(s3_error!(InvalidPart));
        }
        let mut whole = Stored::default();
        for part in wanted {
            let found = part.part_number.and_then(|number| parts.get(&number)).ok_or_else(|| s3_error!(InvalidPart))?;
            let is_same = part.e_tag.as_ref().is_none_or(|tag| tag.value() == found.e_tag().value());
            let is_told = part.checksum_crc64nvme.as_ref().is_none_or(|told| *told == found.crc64());
            if !is_same || !is_told {
                return Err(s3_error!(InvalidPart));
            }
            whole.append(found.clone());
        }
        let (e_tag, crc64) = (whole.e_tag(), whole.crc64());
        state.put((bucket.clone(), key.clone()), whole, if_none_match.as_ref())?;
        state.uploads.remove(&upload_id);
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            e_tag: Some(e_tag),
            checksum_crc64nvme: Some(crc64),
            checksum_type: Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.state().uploads.remove(&req.input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let HeadObjectInput { bucket, key, checksum_mode, .. } = req.input;
        let stored = self.find(&(bucket, key))?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: i64::try_from(stored.nbytes).ok(),
            e_tag: Some(stored.e_tag()),
            last_modified: now(),
            checksum_type: checksum_mode.as_ref().map(|_| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
            checksum_crc64nvme: checksum_mode.map(|_| stored.crc64()),
            ..Default::default()
        }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let GetObjectInput { bucket, key, range, checksum_mode, .. } = req.input;
        let stored = self.find(&(bucket, key))?;
        let part = range.map(|range| range.check(stored.nbytes)).transpose()?;
        let (start, end) = part.as_ref().map_or((0, stored.nbytes), |part| (part.start, part.end));
        let pieces = stored.range(start, end);
        let whole = part.is_none() && checksum_mode.is_some();
        Ok(S3Response::new(GetObjectOutput {
            body: Some(StreamingBlob::wrap(stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>)))),
            content_length: i64::try_from(end - start).ok(),
            content_range: part.map(|_| format!("bytes {start}-{}/{}", end - 1, stored.nbytes)),
            e_tag: Some(stored.e_tag()),
            last_modified: now(),
            checksum_type: whole.then(|| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
            checksum_crc64nvme: whole.then(|| stored.crc64()),
            ..Default::default()
        }))
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.state().objects.remove(&(req.input.bucket, req.input.key));
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = req.input;
        let mut state = self.state();
        let deleted = delete.objects.into_iter().map(|object| {
            state.objects.remove(&(bucket.clone(), object.key.clone()));
            DeletedObject { key: Some(object.key), ..Default::default() }
        });
        Ok(S3Response::new(DeleteObjectsOutput { deleted: Some(deleted.collect()), ..Default::default() }))
    }
}
