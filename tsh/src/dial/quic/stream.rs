//! A QUIC stream as a duplex stream whose shutdown means something.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use quinn::{RecvStream, SendStream, StoppedError, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send>>;

/// Both halves of a stream. Shutting it down waits until the proxy has everything, so that the
/// connection may be closed behind it.
pub(crate) struct Stream {
    send: SendStream,
    receive: RecvStream,
    stopped: Option<Stopped>,
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
