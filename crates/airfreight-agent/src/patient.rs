//! A connection that is given up when nothing has moved on it for too long, in either direction.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Bytes in both directions, with patience.
pub(crate) struct Patient<S> {
    bytes: S,
    silence_max: Duration,
    moved_at: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    pub(crate) fn new(bytes: S, silence_max: Duration) -> Self {
        Self { bytes, silence_max, moved_at: Instant::now(), alarm: Box::pin(sleep(silence_max)) }
    }

    /// Notes that something has moved; while nothing does, waits for the alarm.
    fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.moved_at = Instant::now();
            return polled;
        }
        // The alarm is set anew when it rings and not with every byte.
        while self.alarm.as_mut().poll(cx).is_ready() {
            let due = self.moved_at + self.silence_max;
            if due <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(due);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.bytes).poll_read(cx, buffer);
        self.watch(cx, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.bytes).poll_write(cx, bytes);
        self.watch(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.bytes).poll_write_vectored(cx, slices);
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.bytes.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.bytes).poll_flush(cx);
        // Flushing when there is nothing to flush is always ready, and is no movement.
        if polled.is_ready() { polled } else { self.watch(cx, polled) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.bytes).poll_shutdown(cx);
        if polled.is_ready() { polled } else { self.watch(cx, polled) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::sleep;

    use super::*;

    const SILENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection_and_any_movement_prolongs_it() {
        let (near, mut far) = duplex(16);
        let mut near = Patient::new(near, SILENCE);
        for _ in 0..5 {
            let (read, _) = tokio::join!(near.read_u8(), async {
                sleep(SILENCE * 9 / 10).await;
                far.write_all(b"x").await
            });
            assert_eq!(read.unwrap(), b'x');
        }
        let error = near.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_given_up() {
        let (near, _far) = duplex(16);
        let mut near = Patient::new(near, SILENCE);
        let error = near.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
