//! A connection whose other end must read: one that takes nothing of what is sent to it for too long is broken off.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Pieces that are no larger together are written as one: to copy them costs less than to have the kernel gather them.
const ONE_PIECE: usize = 1024;

/// A stream, every write to which must get on within a limit. Nothing is timed while writes do.
pub(crate) struct Patience<S> {
    stream: S,
    limit: Duration,
    /// Set from the first write that has to wait until one gets on.
    waits: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Patience<S> {
    pub(crate) fn new(stream: S, limit: Duration) -> Self {
        Patience { stream, limit, waits: false, timer: None }
    }

    /// Passes on what became of a write, or gives up.
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = false;
            return written;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limit)));
        if !std::mem::replace(&mut self.waits, true) {
            timer.as_mut().reset(Instant::now() + self.limit);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        if slices.len() > 1 && bytes <= ONE_PIECE {
            let mut piece = [0; ONE_PIECE];
            let mut rest = &mut piece[..];
            for slice in slices {
                let (place, after) = rest.split_at_mut(slice.len());
                place.copy_from_slice(slice);
                rest = after;
            }
            return self.poll_write(cx, &piece[..bytes]);
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(cx, ended)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn small_pieces_arrive_as_one_and_in_order() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(4 * ONE_PIECE);
            let mut ours = Patience::new(ours, Duration::from_secs(30));
            let long = vec![7; ONE_PIECE];
            for pieces in [[&b"head"[..], b"", b"body"], [b"1", &long, b"2"]] {
                let slices = pieces.map(IoSlice::new);
                let whole = pieces.concat();
                assert_eq!(ours.write_vectored(&slices).await.unwrap(), whole.len());
                let mut seen = vec![0; whole.len()];
                theirs.read_exact(&mut seen).await.unwrap();
                assert_eq!(seen, whole);
            }
        });
    }

    #[test]
    fn a_reader_may_be_slow_but_not_stop() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(8);
            let mut ours = Patience::new(ours, Duration::from_millis(50));
            let read = async {
                let mut seen = [0; 24];
                theirs.read_exact(&mut seen).await.unwrap();
                seen
            };
            let (written, seen) = futures::future::join(ours.write_all(&[7; 24]), read).await;
            written.unwrap();
            assert_eq!(seen, [7; 24]);
            // Now nobody reads: eight bytes fit, the ninth never will.
            let stuck = tokio::time::timeout(Duration::from_secs(30), ours.write_all(&[7; 9])).await.unwrap();
            assert_eq!(stuck.unwrap_err().kind(), io::ErrorKind::TimedOut);
        });
    }
}
