//! A stream whose writer does not wait.
//!
//! russh does not read while it writes. If both ends wait to write, and all that lies between is
//! full, they wait for ever. What the stream does not take at once is kept here instead, and sent
//! as the connection is read on. Channels send only while little is kept ([`Gate`]), so beyond that
//! only russh's own answers are added. Whoever does not ask the gate needs bounds of its own: in a
//! session, SSH's windows.
//!
//! It starts only when it is told to: who is at the other end may not be known before.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Channels wait while so much is kept: with what the kernel holds, enough to fill a line, and
/// little enough that what is typed does not wait behind it for long.
const ENOUGH: usize = 256 << 10;
/// Writing waits after all when so much is kept: only a peer that asks and does not read gets here.
const LIMIT: usize = 4 << 20;
/// Room that an idle connection may keep.
const IDLE: usize = 16 << 10;

/// Tells channels whether they may send. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    keeping: bool,
    shut: bool,
    waiting: Vec<Waker>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Backlog<S> {
    stream: S,
    kept: VecDeque<u8>,
    /// Whether the stream may hold bytes back until it is flushed.
    unflushed: bool,
    gate: Gate,
}

impl Gate {
    /// From now on writing does not wait.
    pub fn keep(&self) {
        self.lock().keeping = true;
    }

    fn limit(&self) -> usize {
        if self.lock().keeping { LIMIT } else { 0 }
    }

    /// Ready while there is room.
    pub fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.shut {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|w| w.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn set(&self, shut: bool) {
        let waiting = {
            let mut state = self.lock();
            state.shut = shut;
            if shut {
                return;
            }
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> Backlog<S> {
    /// Wraps a stream.
    pub fn new(stream: S) -> (Self, Gate) {
        let gate = Gate::default();
        let backlog = Self {
            stream,
            kept: VecDeque::new(),
            unflushed: false,
            gate: gate.clone(),
        };
        (backlog, gate)
    }

    /// Sends what is kept. Ready when nothing is left.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.kept.len();
        let drained = self.poll_drain_all(cx);
        if before >= ENOUGH && self.kept.len() < ENOUGH {
            self.gate.set(false);
        }
        drained
    }

    fn poll_drain_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let (front, _) = self.kept.as_slices();
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, front))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.kept.drain(..sent);
        }
        if self.kept.capacity() > IDLE {
            self.kept = VecDeque::new();
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

    fn keep(&mut self, bytes: &[u8]) {
        let before = self.kept.len();
        self.kept.extend(bytes);
        if before < ENOUGH && self.kept.len() >= ENOUGH {
            self.gate.set(true);
        }
    }
}

impl<S> Drop for Backlog<S> {
    /// Nothing will ever be sent any more; whoever waits to is to find out.
    fn drop(&mut self) {
        self.gate.set(false);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Backlog<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Backlog<S> {
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
        let limit = this.gate.limit();
        let room = limit.saturating_sub(this.kept.len()).min(bytes.len());
        match bytes.get(..room) {
            // The stream below knows when to wake us.
            None | Some([]) => Poll::Pending,
            Some(fits) => {
                this.keep(fits);
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
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i % 251) as u8).collect()
    }

    #[tokio::test]
    async fn two_ends_that_write_before_they_read_do_not_wait_for_ever() {
        let (here, mut there) = tokio::io::duplex(1024);
        let sent = pattern(1 << 20);
        let (mut here, gate) = Backlog::new(here);
        gate.keep();
        here.write_all(&sent).await.unwrap();
        here.flush().await.unwrap();
        let shut = poll_fn(|cx| Poll::Ready(gate.poll_open(cx).is_pending())).await;
        assert!(shut, "channels may send on");
        let other = sent.clone();
        let peer = tokio::spawn(async move {
            there.write_all(&other).await.unwrap();
            let mut got = vec![0; other.len()];
            there.read_exact(&mut got).await.unwrap();
            (got, there)
        });
        let opened = tokio::spawn(async move { poll_fn(|cx| gate.poll_open(cx)).await });
        let mut got = vec![0; sent.len()];
        here.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent);
        // Nobody writes any more; reading alone sends what is kept.
        let reading = tokio::spawn(async move {
            let read = here.read_u8().await;
            (read, here)
        });
        opened.await.unwrap();
        let (got, mut there) = peer.await.unwrap();
        assert_eq!(got, sent);
        there.write_u8(7).await.unwrap();
        let (read, here) = reading.await.unwrap();
        assert_eq!(read.unwrap(), 7);
        assert!(here.kept.capacity() <= IDLE, "{}", here.kept.capacity());
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let (here, _there) = tokio::io::duplex(1024);
        let (mut here, gate) = Backlog::new(here);
        let bytes = pattern(1 << 16);
        assert_eq!(fill(&mut here, &bytes).await, 1024);
        gate.keep();
        assert_eq!(fill(&mut here, &bytes).await, LIMIT);
    }

    #[tokio::test]
    async fn order_is_kept_across_what_is_kept() {
        let (here, mut there) = tokio::io::duplex(7);
        let (mut here, gate) = Backlog::new(here);
        gate.keep();
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

    #[tokio::test]
    async fn whoever_waits_for_a_stream_that_goes_is_woken() {
        let (here, _there) = tokio::io::duplex(1024);
        let (mut here, gate) = Backlog::new(here);
        gate.keep();
        fill(&mut here, &pattern(1 << 16)).await;
        let waiting = tokio::spawn(async move { poll_fn(|cx| gate.poll_open(cx)).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(here);
        waiting.await.unwrap();
    }

    /// Writes until it would have to wait.
    async fn fill(stream: &mut Backlog<tokio::io::DuplexStream>, bytes: &[u8]) -> usize {
        let mut taken = 0;
        poll_fn(|cx| {
            while let Poll::Ready(sent) = Pin::new(&mut *stream).poll_write(cx, bytes) {
                taken += sent.unwrap();
            }
            Poll::Ready(())
        })
        .await;
        taken
    }
}
