//! From this host to the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::attempts::Attempts;
use super::route::choose;
use super::stream::{CRC32, Trouble, ask, port};
use super::{BucketUrls, CHUNK_BYTES, Freight, Progress, Route, TransferError, ValueKey, crc32};
use crate::client::segment;
use crate::pool::Lane;
use crate::runner::Runner;
use crate::transport::Call;
use crate::{RayError, Result};

/// How often the cluster may refuse one chunk as damaged.
const DAMAGES_MAX: u32 = 3;
/// While the cluster checks and writes one chunk, it receives the next.
const LANES: usize = 4;
/// Of an object's file in a package. Ray takes six times as much, but both sides would hold it.
const PACKAGE_BYTES: u64 = 16 << 20;
/// How long the runner may think before it says that it still imports.
const WAIT_SECONDS: u32 = 10;

/// What the runner has of a value.
#[derive(Deserialize)]
struct Upload {
    state: String,
    #[serde(default)]
    received: u64,
}

impl Runner {
    /// Sends an object's file to the owner of a run; it becomes the value `key` there. Once is enough for a cluster:
    /// what is there already isn't sent again.
    ///
    /// `owner` is made by the cluster where there is none yet, with `info` about its run. A transfer that breaks goes on
    /// where the runner says.
    ///
    /// # Errors
    /// - [`TransferError::Cluster`]: the cluster can't be reached, or refuses.
    /// - [`TransferError::Near`]: the object can't be read.
    /// - [`TransferError::OutOfReach`], [`TransferError::Damaged`].
    #[expect(clippy::too_many_arguments, reason = "each of them is another thing")]
    pub async fn send<F: Freight>(
        &self,
        freight: Arc<F>,
        owner: &str,
        key: &str,
        info: &Value,
        route: Route,
        urls: Option<&BucketUrls>,
        progress: &Progress,
    ) -> Result<ValueKey, TransferError<F::Error>> {
        let sending = Sending {
            runner: self,
            action: format!("send value `{key}` to `{owner}`"),
            path: format!("/v1/uploads/{}/{}", segment(owner), segment(key)),
            file_bytes: freight.file_bytes(),
            freight,
            progress,
        };
        progress.set(0, sending.file_bytes);
        let route = choose(self, route, sending.file_bytes, urls.is_some(), &sending.action).await?;
        let generation = match route {
            Route::Dashboard => sending.by_packages(owner, key, info).await?,
            Route::Bucket => {
                let url = urls.map(|urls| urls.get.as_str()).unwrap_or_default();
                sending.by_bucket(url, info).await?
            }
            Route::Auto | Route::Port => sending.by_port(info).await?,
        };
        progress.set(sending.file_bytes, sending.file_bytes);
        Ok(ValueKey { owner: owner.to_owned(), generation, key: key.to_owned() })
    }
}

struct Sending<'a, F: Freight> {
    runner: &'a Runner,
    action: String,
    /// `/v1/uploads/…` of this value.
    path: String,
    file_bytes: u64,
    freight: Arc<F>,
    progress: &'a Progress,
}

impl<F: Freight> Sending<'_, F> {
    async fn by_port(&self, info: &Value) -> Result<String, TransferError<F::Error>> {
        let patience = self.runner.client().transport.settings.patience;
        let mut attempts = Attempts::new(&self.action, self.runner.client().address(), patience);
        let mut reached = 0;
        loop {
            let upload = self.begin(info).await?;
            if upload.state != "there" && upload.state != "importing" && upload.received < self.file_bytes {
                if upload.received > reached {
                    reached = upload.received;
                    attempts.advance();
                }
                self.progress.set(upload.received, self.file_bytes);
                match self.put_chunks(upload.received).await {
                    Ok(()) => {}
                    Err(Stop::Near(error)) => return Err(error),
                    Err(Stop::Theirs(Trouble::Lasting(error))) => return Err(error.into()),
                    Err(Stop::Theirs(Trouble::Passing(source) | Trouble::Gone(source))) => {
                        attempts.failed(source).await?;
                        continue;
                    }
                }
            }
            match self.finish(&json!({"kind": "port"}), info).await {
                // The runner has begun anew, and with it the upload.
                Err(error @ RayError::Runner { status: 404 | 409 | 410, .. }) => attempts.failed(error.into()).await?,
                finished => return Ok(finished?),
            }
        }
    }

    /// Sends everything from `start` on, by several connections.
    async fn put_chunks(&self, start: u64) -> Result<(), Stop<F::Error>> {
        let next = AtomicU64::new(start - start % CHUNK_BYTES);
        let stopped = AtomicBool::new(false);
        let lane = || async {
            let mut buffer = BytesMut::new();
            while !stopped.load(Ordering::Relaxed) {
                let offset = next.fetch_add(CHUNK_BYTES, Ordering::Relaxed);
                if offset >= self.file_bytes {
                    break;
                }
                match self.put_chunk(offset, buffer).await {
                    Ok(spare) => buffer = spare,
                    Err(stop) => {
                        stopped.store(true, Ordering::Relaxed);
                        return Err(stop);
                    }
                }
            }
            Ok(())
        };
        let lanes = futures_util::future::join_all((0..LANES).map(|_| lane())).await;
        lanes.into_iter().collect()
    }

    /// Sends one chunk, and again where it arrives damaged. Answers the buffer for the next.
    async fn put_chunk(&self, offset: u64, buffer: BytesMut) -> Result<BytesMut, Stop<F::Error>> {
        let end = (offset + CHUNK_BYTES).min(self.file_bytes);
        let (bytes, crc) = self.read(offset, end, buffer).await.map_err(Stop::Near)?;
        let path = format!("{}?offset={offset}&total={}", self.path, self.file_bytes);
        let mark = HeaderValue::from_str(&format!("{crc:08x}")).map_err(|source| Trouble::Passing(source.into()))?;
        for _ in 0..DAMAGES_MAX {
            let port = port(self.runner).await?;
            let answer = ask(&port, &Method::PUT, &path, &[(CRC32, mark.clone())], bytes.clone()).await;
            let response = match answer {
                Ok(response) => response,
                Err(source) => {
                    self.runner.doubt(&port).await;
                    return Err(Trouble::Passing(source).into());
                }
            };
            let (parts, body) = response.into_parts();
            let text = body.collect().await.map_err(Trouble::Passing)?;
            let status = parts.status.as_u16();
            if parts.status.is_success() {
                self.progress.add(end - offset);
                return Ok(bytes.try_into_mut().unwrap_or_default());
            }
            let answer: Value = serde_json::from_slice(&text).unwrap_or_default();
            let error = RayError::from_runner(&self.action, self.runner.client().address(), status, &answer);
            match (status, error.kind()) {
                (_, airfreight_core::ErrorKind::Corrupt) => {}
                (401 | 404 | 408 | 409 | 410 | 500..=599, _) => return Err(Trouble::Passing(error.into()).into()),
                _ => return Err(Trouble::Lasting(error).into()),
            }
        }
        Err(Stop::Near(TransferError::Damaged { action: self.action.clone(), offset, attempts: DAMAGES_MAX }))
    }

    /// Through the dashboard alone: into the cluster's table of packages, from where the runner takes them.
    async fn by_packages(&self, owner: &str, key: &str, info: &Value) -> Result<String, TransferError<F::Error>> {
        let upload = self.ask_upload(Method::GET, &self.path, None).await?;
        let (mut names, mut marks) = (Vec::new(), Vec::new());
        if upload.state != "there" && upload.state != "importing" {
            let mut hash = [0; 16];
            hash.copy_from_slice(&Sha256::digest(format!("{owner}\0{key}"))[..16]);
            let hash = u128::from_be_bytes(hash);
            let mut buffer = BytesMut::new();
            let mut offset = 0;
            while offset < self.file_bytes {
                let end = (offset + PACKAGE_BYTES).min(self.file_bytes);
                let (bytes, crc) = self.read(offset, end, buffer).await?;
                let name = format!("afval_{}_{hash:032x}_{}", self.runner.id(), names.len());
                self.put_package(&name, bytes.clone()).await?;
                buffer = bytes.try_into_mut().unwrap_or_default();
                self.progress.add(end - offset);
                names.push(name);
                marks.push(crc);
                offset = end;
            }
        }
        Ok(self.finish(&json!({"kind": "kv", "names": names, "crc32": marks}), info).await?)
    }

    async fn put_package(&self, name: &str, bytes: Bytes) -> Result<()> {
        let transport = &self.runner.client().transport;
        let path = format!("/api/packages/gcs/{}", segment(name));
        let mut put = Call::new(Method::PUT, path.clone(), Lane::Bulk, self.action.clone());
        put.body = Some((bytes, "application/octet-stream"));
        transport.ask(&put).await?;
        // Asking makes Ray forget it after ten minutes, should nobody ever take it.
        transport.ask(&Call::get(path, Lane::Ordinary, self.action.clone())).await?;
        Ok(())
    }

    async fn by_bucket(&self, url: &str, info: &Value) -> Result<String, TransferError<F::Error>> {
        let (mut marks, mut buffer) = (Vec::new(), BytesMut::new());
        let mut offset = 0;
        while offset < self.file_bytes {
            let end = (offset + CHUNK_BYTES).min(self.file_bytes);
            let (bytes, crc) = self.read(offset, end, buffer).await?;
            buffer = bytes.try_into_mut().unwrap_or_default();
            marks.push(crc);
            offset = end;
        }
        let from = json!({"kind": "url", "url": url, "chunk": CHUNK_BYTES, "crc32": marks});
        Ok(self.finish(&from, info).await?)
    }

    /// Has room made for it, if nothing has come yet.
    async fn begin(&self, info: &Value) -> Result<Upload> {
        let body = json!({"nbytes": self.file_bytes, "info": info});
        self.ask_upload(Method::POST, &format!("{}/begin", self.path), Some(&body)).await
    }

    async fn ask_upload(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Upload> {
        let (status, answer) = self.runner.request(method, path, body).await?;
        if status >= 400 {
            return Err(RayError::from_runner(&self.action, self.runner.client().address(), status, &answer));
        }
        serde_json::from_value(answer).map_err(|source| self.unreadable(source.into()))
    }

    /// Lets the owner take what has arrived. Answers its generation.
    async fn finish(&self, from: &Value, info: &Value) -> Result<String> {
        let body = json!({"nbytes": self.file_bytes, "from": from, "info": info});
        let path = format!("{}/finish?wait={WAIT_SECONDS}", self.path);
        loop {
            let (status, answer) = self.runner.request(Method::POST, &path, Some(&body)).await?;
            if status >= 400 {
                return Err(RayError::from_runner(&self.action, self.runner.client().address(), status, &answer));
            }
            if answer.get("state").and_then(Value::as_str) == Some("there") {
                let generation = answer.get("generation").and_then(Value::as_str);
                return generation.map(str::to_owned).ok_or_else(|| self.unreadable("it names no generation".into()));
            }
        }
    }

    /// Reads a part of the file, with its checksum.
    async fn read(&self, start: u64, end: u64, spare: BytesMut) -> Result<(Bytes, u32), TransferError<F::Error>> {
        let freight = Arc::clone(&self.freight);
        let read = tokio::task::spawn_blocking(move || {
            let bytes = freight.read(start, end, spare)?;
            let crc = crc32(&bytes);
            Ok((bytes, crc))
        });
        read.await
            .map_err(|source| RayError::Internal {
                what: format!("cannot {}: reading broke down: {source}", self.action),
            })?
            .map_err(TransferError::Near)
    }

    fn unreadable(&self, source: crate::error::Source) -> RayError {
        let address = self.runner.client().address().to_owned();
        RayError::Unreadable { action: self.action.clone(), address, source }
    }
}

/// Why sending stopped.
enum Stop<E: std::error::Error + Send + Sync + 'static> {
    Theirs(Trouble),
    Near(TransferError<E>),
}

impl<E: std::error::Error + Send + Sync + 'static> From<Trouble> for Stop<E> {
    fn from(trouble: Trouble) -> Self {
        Self::Theirs(trouble)
    }
}
