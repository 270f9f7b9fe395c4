//! Bodies that arrive piece by piece, or not quite.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::answer::Body;
use super::fault::Fault;
use super::text::{CHUNK_BYTES, Text};

/// A part of a text, in pieces of 64 KiB.
pub(super) struct Pieces {
    text: Text,
    at: u64,
    /// What stands before each piece.
    prefix: &'static [u8],
    /// Whether the receiver is told the length beforehand.
    sized: bool,
}

impl Pieces {
    pub(super) fn sized(text: Text, from: u64) -> Body {
        Self { text, at: from, prefix: b"", sized: true }.boxed_unsync()
    }

    pub(super) fn chunked(text: Text, from: u64, prefix: &'static [u8]) -> Body {
        Self { text, at: from, prefix, sized: false }.boxed_unsync()
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let end = self.text.len().min(self.at + CHUNK_BYTES as u64);
        if self.at == end {
            return Poll::Ready(None);
        }
        let piece = self.text.read(self.at..end);
        self.at = end;
        if self.prefix.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let mut prefixed = BytesMut::with_capacity(self.prefix.len() + piece.len());
        prefixed.put(self.prefix);
        prefixed.put(piece);
        Poll::Ready(Some(Ok(Frame::data(prefixed.freeze()))))
    }

    fn size_hint(&self) -> SizeHint {
        if self.sized { SizeHint::with_exact(self.text.len() - self.at) } else { SizeHint::default() }
    }
}

/// A body to which a fault happens; its announced length stays what it was.
pub(super) struct Faulty {
    body: Body,
    size: SizeHint,
    /// How much may still pass, and whether the connection closes then or falls silent.
    left: Option<(u64, End)>,
    corrupt: bool,
    /// Whether what passed has had the time to reach the socket: an error makes hyper drop what it still holds.
    flushed: bool,
}

#[derive(Clone, Copy)]
enum End {
    Cut,
    Stall,
}

impl Faulty {
    /// The body, with what the fault does to bodies.
    pub(super) fn of(body: Body, fault: &Fault) -> Body {
        let cut = fault.cut_after_bytes.map(|bytes| (bytes, End::Cut));
        let left = cut.or(fault.stall_after_bytes.map(|bytes| (bytes, End::Stall)));
        if left.is_none() && !fault.corrupt {
            return body;
        }
        let size = body.size_hint();
        Self { body, size, left, corrupt: fault.corrupt, flushed: false }.boxed_unsync()
    }

    fn end(&mut self, end: End, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match end {
            // Nobody will ever wake this; the connection ends it when the client hangs up.
            End::Stall => Poll::Pending,
            End::Cut if self.flushed => Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into()))),
            End::Cut => {
                self.flushed = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl HttpBody for Faulty {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some((0, end)) = self.left {
            return self.end(end, cx);
        }
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)?) else {
            // The body was shorter than the place where it should break.
            return self.left.map_or(Poll::Ready(None), |(_, end)| self.end(end, cx));
        };
        let Ok(mut data) = frame.into_data() else { return Poll::Ready(None) };
        if self.corrupt && !data.is_empty() {
            let mut damaged = BytesMut::from(data);
            let middle = damaged.len() / 2;
            damaged[middle] = 0;
            data = damaged.freeze();
            self.corrupt = false;
        }
        if let Some((left, end)) = self.left {
            data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            self.left = Some((left - data.len() as u64, end));
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}
