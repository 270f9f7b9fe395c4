//! From the cluster to this host.

use airfreight_core::{ErrorKind, chain};

use super::attempts::Attempts;
use super::export::{Export, export, forget, value_bytes};
use super::lines::Lines;
use super::put::{Arrival, Course};
use super::route::choose;
use super::stream::{Place, Trouble};
use super::{BucketUrls, Landing, Progress, Route, TransferError, ValueKey};
use crate::runner::Runner;
use crate::{RayError, Result};

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
        let mut made = match export(self, value, route, urls, &action).await {
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
            let read = match route {
                Route::Dashboard => self.read_log(&made, &mut line_bytes, &mut arrival).await,
                _ => self.read_ranges(&made, urls.filter(|_| route == Route::Bucket), &mut arrival).await,
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
                    made = export(self, value, route, urls, &action).await?;
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

    /// Reads the first run of missing chunks. What comes damaged stays missing.
    async fn read_ranges<L: Landing>(
        &self,
        made: &Export,
        urls: Option<&BucketUrls>,
        arrival: &mut Arrival<L>,
    ) -> Result<(), Stop<L::Error>> {
        let place = match urls {
            Some(urls) => Place::url(&urls.get, self).map_err(Trouble::Lasting)?,
            None => Place::Port { runner: self.clone(), path: format!("/v1/exports/{}/data", made.id) },
        };
        let Some(run) = arrival.chunks.missing() else { return Ok(()) };
        let (start, end) = (arrival.chunks.offset(run.start), arrival.chunks.end(run.end - 1));
        let mut body = place.open(start, end).await?;
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
