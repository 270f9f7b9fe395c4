//! A connection on which an object's bytes go out from the pages of its file, uncopied.
//!
//! The kernel sends such pages as they are when they leave, or, between network namespaces of one machine, when they are
//! read. By then the object may have been deleted and its pages used again. So only those are sent this way who compare
//! what they get with its checksum.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use airfreight_core::format::HEADER_LEN;
use airfreight_store::{Object, Store, TierKind};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, open};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Less is copied as fast.
pub(crate) const DIRECT_BYTES_MIN: u64 = 256 << 10;

/// An object in memory, and its file.
pub(crate) struct Pages {
    object: Arc<Object>,
    file: OwnedFd,
}

impl Pages {
    /// `None` where the file can't be had, or isn't in memory: then its bytes are copied.
    pub(crate) fn of(store: &Store, object: &Arc<Object>) -> Option<Arc<Self>> {
        if object.kind() != TierKind::Memory {
            return None;
        }
        let path = store.path().join("objects").join(object.name().to_string());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = open(path, flags, Mode::empty()).ok()?;
        // From here on it isn't used again for another object; which one it is is looked at after that.
        flock(&file, FlockOperation::NonBlockingLockShared).ok()?;
        let mut head = [0; HEADER_LEN];
        let is_same = rustix::io::pread(&file, &mut head, 0) == Ok(HEADER_LEN)
            && object.file().starts_with(&head)
            && usize::try_from(fstat(&file).ok()?.st_size) == Ok(object.len());
        is_same.then(|| Arc::new(Self { object: Arc::clone(object), file }))
    }

    /// Where in the file these bytes lie, if they are the object's.
    fn offset_of(&self, bytes: &[u8]) -> Option<u64> {
        let offset = bytes.as_ptr().addr().checked_sub(self.object.as_ptr().addr())?;
        let is_inside = offset.checked_add(bytes.len()).is_some_and(|end| end <= self.object.len());
        is_inside.then_some(offset as u64)
    }
}

/// What of a connection's answer lies in pages. It lives as long as the answer does.
#[derive(Clone, Default)]
pub(crate) struct Sending(Arc<Mutex<Weak<Pages>>>);

impl Sending {
    pub(crate) fn set(&self, pages: &Arc<Pages>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(pages);
    }

    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Weak::new();
    }

    fn now(&self) -> Option<Arc<Pages>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }
}

/// A TCP connection that knows objects' bytes when it is to write them.
pub(crate) struct Direct {
    stream: TcpStream,
    sending: Sending,
}

impl Direct {
    pub(crate) fn new(stream: TcpStream, sending: Sending) -> Self {
        Self { stream, sending }
    }

    fn poll_send(&self, cx: &mut Context<'_>, pages: &Pages, offset: u64, len: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut offset = offset;
                Ok(rustix::fs::sendfile(&self.stream, &pages.file, Some(&mut offset), len)?)
            });
            match sent {
                // It was ready a moment ago.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

impl AsyncWrite for Direct {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut slices = slices;
        if let Some(pages) = self.sending.now() {
            let is_page = |slice: &IoSlice<'_>| !slice.is_empty() && pages.offset_of(slice).is_some();
            let first = slices.iter().position(|slice| !slice.is_empty()).unwrap_or_default();
            if let Some((slice, offset)) = slices.get(first).and_then(|slice| Some((slice, pages.offset_of(slice)?))) {
                match ready!(self.poll_send(cx, &pages, offset, slice.len())) {
                    // The kernel can't do that here.
                    Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::NOSYS)) => {
                        self.sending.end();
                    }
                    other => return Poll::Ready(other),
                }
            } else if let Some(count) = slices.iter().position(is_page) {
                slices = &slices[..count];
            }
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Direct {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}
