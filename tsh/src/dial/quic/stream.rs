//! A QUIC stream as a duplex stream whose shutdown means something.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use protocol::error::CloseCode;
use quinn::{RecvStream, SendStream, StoppedError, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send>>;

/// Both halves of a stream. Shutting it down waits until the proxy has everything, so that the
/// connection may be closed behind it.
pub(crate) struct Stream {
    send: SendStream,
    receive: RecvStream,
    stopped: Option<Stopped>,
    on_trial: bool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({})", self.send.id())
    }
}

impl Stream {
    pub(super) const fn new(send: SendStream, receive: RecvStream) -> Self {
        Self {
            send,
            receive,
            stopped: None,
            on_trial: false,
        }
    }

    /// Takes it back when it is dropped, until it is [kept](Self::keep): what was lost of it is not
    /// sent again then, and the proxy does nothing that nobody waits for any more.
    pub(crate) const fn try_out(&mut self) {
        self.on_trial = true;
    }

    /// It ends as any other from now on.
    pub(crate) const fn keep(&mut self) {
        self.on_trial = false;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.on_trial {
            // One that has ended already needs no end.
            let _ = self.send.reset(CloseCode::Done.code().into());
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().receive).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.get_mut().send), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is written is sent as soon as congestion allows.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { send, stopped, .. } = self.get_mut();
        let stopped = stopped.get_or_insert_with(|| {
            // A stream that the proxy has stopped cannot be finished; that is what comes below.
            let _ = send.finish();
            Box::pin(send.stopped())
        });
        stopped
            .as_mut()
            .poll(cx)
            .map(|done| done.map(drop).map_err(io::Error::other))
    }
}
