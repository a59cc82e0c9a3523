//! A stream whose writer does not wait.
//!
//! The SSH session is one loop that reads and writes. While it waits to write, it does not read;
//! if the node's session does the same, and all that lies between is full, both wait for ever.
//! SSH's windows bound what either may have under way, so the cure is a place for one window on
//! one side: what the stream does not take at once is kept here, and sent as it reads on.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Kept at most; beyond it writing waits after all. Twice what SSH servers give as a window.
const LIMIT: usize = 4 << 20;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Elastic<S> {
    stream: S,
    kept: VecDeque<u8>,
    /// Whether the stream may hold bytes back until it is flushed.
    unflushed: bool,
}

impl<S: AsyncWrite + Unpin> Elastic<S> {
    /// Wraps a stream.
    pub(crate) const fn new(stream: S) -> Self {
        Self {
            stream,
            kept: VecDeque::new(),
            unflushed: false,
        }
    }

    /// Sends what is kept. Ready when nothing is left.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let (front, _) = self.kept.as_slices();
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, front))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.kept.drain(..sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is kept, here and in the stream. Ready when nothing is left.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Elastic<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unflushed {
            // An error of the writing half is met again by whoever writes next.
            let _ = this.poll_out(cx);
        }
        Pin::new(&mut this.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Elastic<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.unflushed = true;
        if this.poll_drain(cx)?.is_ready()
            && let Poll::Ready(sent) = Pin::new(&mut this.stream).poll_write(cx, bytes)?
        {
            return Poll::Ready(Ok(sent));
        }
        let room = LIMIT.saturating_sub(this.kept.len()).min(bytes.len());
        match bytes.get(..room) {
            // The stream above knows when to wake us.
            None | Some([]) => Poll::Pending,
            Some(fits) => {
                this.kept.extend(fits);
                Poll::Ready(Ok(room))
            }
        }
    }

    /// Does not wait for what is kept: that is the point.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = self.get_mut().poll_out(cx)?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Bytes that tell their position.
    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i % 251) as u8).collect()
    }

    #[tokio::test]
    async fn two_ends_that_write_before_they_read_do_not_wait_for_ever() {
        let (here, mut there) = tokio::io::duplex(1024);
        let sent = pattern(1 << 20);
        let mut here = Elastic::new(here);
        here.write_all(&sent).await.unwrap();
        here.flush().await.unwrap();
        let other = sent.clone();
        let peer = tokio::spawn(async move {
            there.write_all(&other).await.unwrap();
            let mut got = vec![0; other.len()];
            there.read_exact(&mut got).await.unwrap();
            got
        });
        let mut got = vec![0; sent.len()];
        here.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent);
        here.shutdown().await.unwrap();
        assert_eq!(peer.await.unwrap(), sent);
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let (here, _there) = tokio::io::duplex(1024);
        let mut here = Elastic::new(here);
        let mut taken = 0;
        let bytes = pattern(1 << 16);
        let full = async {
            loop {
                taken += here.write(&bytes).await.unwrap();
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_millis(50), full).await;
        assert!(waited.is_err());
        assert_eq!(taken, LIMIT + 1024);
    }

    #[tokio::test]
    async fn order_is_kept_across_the_buffer() {
        let (here, mut there) = tokio::io::duplex(7);
        let mut here = Elastic::new(here);
        let sent = pattern(5000);
        for chunk in sent.chunks(13) {
            here.write_all(chunk).await.unwrap();
        }
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            there.read_to_end(&mut got).await.unwrap();
            got
        });
        here.shutdown().await.unwrap();
        assert_eq!(reader.await.unwrap(), sent);
    }
}
