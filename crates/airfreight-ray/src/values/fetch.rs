//! From the cluster to this host.

use airfreight_core::{ErrorKind, chain};
use bytes::BytesMut;
use futures_util::{StreamExt, stream};

use super::attempts::Attempts;
use super::export::{Export, export, forget, value_bytes};
use super::lines::Lines;
use super::put::{Arrival, Course, Spare};
use super::route::choose;
use super::stream::{Place, Trouble};
use super::{BucketUrls, Landing, Progress, Route, TransferError, ValueKey};
use crate::runner::Runner;
use crate::{RayError, Result};

/// How many chunks come from the runner's own port at a time: while it sums one, it sends another.
const LANES: usize = 2;
/// A value that vanishes so often while it is read isn't worth another export.
const EXPORTS_MAX: u32 = 5;

impl Runner {
    /// Fetches a value's object file into what `reserve` makes for its length. Everything that was written is verified.
    ///
    /// `file_bytes` is about how long the file is, where the caller knows, so that the route can be chosen without
    /// asking. A transfer that breaks goes on where it was, as long as something arrives within the client's patience.
    ///
    /// # Errors
    /// - [`TransferError::Cluster`]: [`RayError::Runner`] of the kind `Lost` when the value is gone, or the cluster
    ///   can't be reached.
    /// - [`TransferError::Near`]: there is no room here, or it can't be written.
    /// - [`TransferError::OutOfReach`], [`TransferError::Damaged`].
    pub async fn fetch<L: Landing>(
        &self,
        value: &ValueKey,
        file_bytes: Option<u64>,
        route: Route,
        urls: Option<&BucketUrls>,
        progress: &Progress,
        reserve: impl Fn(u64) -> Result<L, L::Error> + Clone + Send + 'static,
    ) -> Result<L, TransferError<L::Error>> {
        let action = format!("fetch {value}");
        let file_bytes = match file_bytes {
            None if route == Route::Auto => value_bytes(self, value, &action).await?,
            known => known,
        };
        let route = choose(self, route, file_bytes.unwrap_or(0), urls.is_some(), &action).await?;
        let mut made = match export(self, value, route, urls, false, &action).await {
            Err(error) if route == Route::Dashboard && error.kind() == ErrorKind::Full => {
                return Err(TransferError::OutOfReach { action, obstacle: chain(&error) });
            }
            made => made?,
        };
        let mut arrival = Arrival::new(made.chunks.clone(), land(&made, &reserve).await?, &action, progress.clone());
        let patience = self.client().transport.settings.patience;
        let mut attempts = Attempts::new(&action, self.client().address(), patience);
        let mut exports = 1;
        let mut line_bytes = None;
        while arrival.chunks.missing().is_some() {
            let read = match (route, urls) {
                (Route::Dashboard, _) => self.read_log(&made, &mut line_bytes, &mut arrival).await,
                (Route::Bucket, Some(urls)) => self.read_url(urls, &mut arrival).await,
                _ => self.read_chunks(&made, &mut arrival).await,
            };
            let settled = arrival.settle().await;
            if arrival.has_advanced() {
                attempts.advance();
            }
            settled?;
            match read {
                Ok(()) => {}
                Err(Stop::Near(error)) => return Err(error),
                Err(Stop::Theirs(Trouble::Lasting(error))) => return Err(error.into()),
                Err(Stop::Theirs(Trouble::Passing(source))) => attempts.failed(source).await?,
                Err(Stop::Theirs(Trouble::Gone(source))) => {
                    exports += 1;
                    if exports > EXPORTS_MAX {
                        let address = self.client().address().to_owned();
                        return Err(RayError::Cut { what: action, address, bytes: progress.get().0, source }.into());
                    }
                    attempts.failed(source).await?;
                    // Computed anew, the value may be another: what is here is kept only if it is the same.
                    made = export(self, value, route, urls, arrival.chunks.has_some(), &action).await?;
                    if made.chunks.file_bytes() == arrival.chunks.file_bytes() {
                        arrival.renew(made.chunks.clone());
                    } else {
                        let landing = land(&made, &reserve).await?;
                        arrival = Arrival::new(made.chunks.clone(), landing, &action, progress.clone());
                    }
                }
            }
        }
        forget(self, &made).await;
        arrival.finish()
    }

    /// Reads the missing chunks from the runner's own port. What comes damaged stays missing.
    async fn read_chunks<L: Landing>(&self, made: &Export, arrival: &mut Arrival<L>) -> Result<(), Stop<L::Error>> {
        let place = &Place::Port { runner: self.clone(), path: format!("/v1/exports/{}/data", made.id) };
        let missing = arrival.chunks.all_missing();
        let wanted: Vec<_> =
            missing.into_iter().map(|index| (index, arrival.chunks.offset(index), arrival.chunks.end(index))).collect();
        let spare = &arrival.spare.clone();
        let mut reads = stream::iter(wanted)
            .map(|(index, start, end)| async move {
                let (bytes, crc32) = read_chunk(place, start, end, spare).await?;
                Ok::<_, Trouble>((index, crc32, bytes))
            })
            .buffer_unordered(LANES);
        loop {
            tokio::select! {
                settled = arrival.settle_one(), if arrival.is_writing() => settled.map_err(Stop::Near)?,
                read = reads.next(), if !arrival.is_busy() => match read {
                    None => return Ok(()),
                    Some(read) => {
                        let (index, crc32, bytes) = read?;
                        arrival.put(index, arrival.chunks.crc32(index).unwrap_or(crc32), bytes);
                    }
                },
            }
        }
    }

    /// Reads the first run of missing chunks from a URL. What comes damaged stays missing.
    async fn read_url<L: Landing>(&self, urls: &BucketUrls, arrival: &mut Arrival<L>) -> Result<(), Stop<L::Error>> {
        let place = Place::url(urls, self).map_err(Trouble::Lasting)?;
        let Some(run) = arrival.chunks.missing() else { return Ok(()) };
        let (start, end) = (arrival.chunks.offset(run.start), arrival.chunks.end(run.end - 1));
        let (mut body, _) = place.open(start, end).await?;
        let mut course = Course::at(start);
        while course.position() < end {
            let bytes = body.chunk().await.map_err(Trouble::Passing)?;
            let bytes = bytes.ok_or_else(|| Trouble::Passing("the answer ended too early".into()))?;
            course.take(arrival, &bytes).await.map_err(Stop::Near)?;
        }
        // Its end is read, too, so that the connection serves others.
        let _ = body.chunk().await;
        Ok(())
    }

    /// Reads the file of lines from the first one that is needed.
    async fn read_log<L: Landing>(
        &self,
        made: &Export,
        line_bytes: &mut Option<u64>,
        arrival: &mut Arrival<L>,
    ) -> Result<(), Stop<L::Error>> {
        let (Some(node_id), Some(file)) = (&made.node_id, &made.file) else {
            let what = "an export for the dashboard names no file".to_owned();
            return Err(Trouble::Lasting(RayError::Internal { what }).into());
        };
        let Some(run) = arrival.chunks.missing() else { return Ok(()) };
        let end = arrival.chunks.end(run.end - 1);
        // Ray counts a file's lines from its end. All but the last are of one length, which the first one tells.
        let (first, part) = match *line_bytes {
            None => (0, crate::Lines::All),
            Some(line_bytes) => {
                let first = arrival.chunks.offset(run.start) / line_bytes;
                let lines = arrival.chunks.file_bytes().div_ceil(line_bytes) - first;
                (first * line_bytes, crate::Lines::Last(u32::try_from(lines).unwrap_or(u32::MAX)))
            }
        };
        let log = self.client().log_file(node_id, file, part).await;
        let mut log = log.map_err(|error| match error {
            RayError::NotFound { .. } => Trouble::Gone(error.into()),
            other => Trouble::Lasting(other),
        })?;
        let (mut lines, mut course) = (Lines::default(), Course::at(first));
        while course.position() < end {
            let text = log.chunk().await.map_err(|error| Trouble::Passing(error.into()))?;
            let text = text.ok_or_else(|| Trouble::Passing("the file of lines ended too early".into()))?;
            let mut decoded = Vec::new();
            let pushed = lines.push(&text, |bytes| decoded.push(bytes));
            for bytes in decoded {
                line_bytes.get_or_insert(bytes.len() as u64);
                course.take(arrival, &bytes).await.map_err(Stop::Near)?;
            }
            pushed.map_err(Trouble::Passing)?;
        }
        Ok(())
    }
}

/// Reads one chunk, and the checksum that it should have.
async fn read_chunk(place: &Place, start: u64, end: u64, spare: &Spare) -> Result<(BytesMut, u32), Trouble> {
    let len = usize::try_from(end - start).unwrap_or(usize::MAX);
    let (mut body, crc32) = place.open(start, end).await?;
    let crc32 = crc32.ok_or_else(|| Trouble::Passing("the answer names no checksum".into()))?;
    let mut bytes = spare.take(len);
    while let Some(part) = body.chunk().await.map_err(Trouble::Passing)? {
        if bytes.len() + part.len() > len {
            return Err(Trouble::Passing("the answer is longer than what was asked for".into()));
        }
        bytes.extend_from_slice(&part);
    }
    if bytes.len() < len {
        return Err(Trouble::Passing("the answer ended too early".into()));
    }
    Ok((bytes, crc32))
}

/// Makes room for an export, which may take a while.
async fn land<L: Landing>(
    made: &Export,
    reserve: &(impl Fn(u64) -> Result<L, L::Error> + Clone + Send + 'static),
) -> Result<L, TransferError<L::Error>> {
    let (reserve, file_bytes) = (reserve.clone(), made.chunks.file_bytes());
    let landing = tokio::task::spawn_blocking(move || reserve(file_bytes)).await;
    landing
        .map_err(|source| RayError::Internal { what: format!("cannot make room: {source}") })?
        .map_err(TransferError::Near)
}

/// Why reading stopped.
enum Stop<E: std::error::Error + Send + Sync + 'static> {
    Theirs(Trouble),
    Near(TransferError<E>),
}

impl<E: std::error::Error + Send + Sync + 'static> From<Trouble> for Stop<E> {
    fn from(trouble: Trouble) -> Self {
        Self::Theirs(trouble)
    }
}
