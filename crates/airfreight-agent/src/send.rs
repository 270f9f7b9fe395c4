//! A part of an object on its way to a client: straight from the store's pages, which it keeps until it is sent.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use airfreight_store::Object;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::metrics::Metrics;

/// What is handed on in one go; counting is as fine as this.
const FRAME_BYTES: usize = 1 << 20;

/// The body of an answer.
pub(crate) struct Outgoing {
    rest: Bytes,
    metrics: Arc<Metrics>,
    began: Instant,
}

struct Part {
    object: Arc<Object>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        self.object.file().get(self.range.clone()).unwrap_or_default()
    }
}

impl Outgoing {
    pub(crate) fn new(object: &Arc<Object>, range: Range<u64>, metrics: &Arc<Metrics>) -> Self {
        let index = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        let part = Part { object: Arc::clone(object), range: index(range.start)..index(range.end) };
        Self { rest: Bytes::from_owner(part), metrics: Arc::clone(metrics), began: Instant::now() }
    }

    /// What is to be sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.rest
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let count = self.rest.len().min(FRAME_BYTES);
        let frame = self.rest.split_to(count);
        self.metrics.sent_bytes.inc_by(count as u64);
        if self.rest.is_empty() {
            self.metrics.send_seconds.observe(self.began.elapsed().as_secs_f64());
        }
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
