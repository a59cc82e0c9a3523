//! A stream that can be cut from outside: russh gives no handle on the task that serves a
//! connection, and one that waits for a dead peer would wait for as long as TCP does.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Debug, Default)]
struct State {
    cut: bool,
    moved: u64,
    /// Of the one task that uses the stream.
    waker: Option<Waker>,
}

/// Cuts a [`Wire`].
#[derive(Debug, Clone, Default)]
pub struct Cutter(Arc<Mutex<State>>);

/// See the [module](self).
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    cutter: Cutter,
}

impl Cutter {
    /// From now on the stream fails.
    pub fn cut(&self) {
        let waker = {
            let mut state = self.lock();
            state.cut = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Bytes that went through so far, in both directions.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.lock().moved
    }

    fn note(&self, bytes: usize) {
        let mut state = self.lock();
        state.moved = state
            .moved
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        let mut state = self.lock();
        if state.cut {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Wire<S> {
    /// Wraps a stream that one task uses.
    pub fn new(stream: S) -> (Self, Cutter) {
        let cutter = Cutter::default();
        let wire = Self {
            stream,
            cutter: cutter.clone(),
        };
        (wire, cutter)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.cutter.check(cx)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.cutter
            .note(buffer.filled().len().saturating_sub(before));
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.cutter.check(cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.cutter.note(*bytes);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cutter.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cutter.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_reader_and_a_writer_that_wait_are_woken() {
        let (here, _there) = tokio::io::duplex(8);
        let (mut wire, cutter) = Wire::new(here);
        let reading = tokio::spawn(async move { wire.read_u8().await.unwrap_err().kind() });
        let (here, _there) = tokio::io::duplex(8);
        let (mut wire, other) = Wire::new(here);
        let writing =
            tokio::spawn(async move { wire.write_all(&[0; 9]).await.unwrap_err().kind() });
        tokio::task::yield_now().await;
        cutter.cut();
        other.cut();
        assert_eq!(reading.await.unwrap(), io::ErrorKind::ConnectionAborted);
        assert_eq!(writing.await.unwrap(), io::ErrorKind::ConnectionAborted);
    }
}
