//! A stream that steps behind others while it sends in bulk.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use protocol::appetite::Appetite;
use quinn::SendStream;
use tokio::io::AsyncWrite;

use crate::clock::Monotonic;

pub(super) struct Fair {
    stream: SendStream,
    appetite: Appetite,
    start: Monotonic,
    behind: bool,
}

impl Fair {
    pub(super) fn new(stream: SendStream) -> Self {
        Self {
            stream,
            appetite: Appetite::default(),
            start: Monotonic::start(),
            behind: false,
        }
    }

    fn note(&mut self, bytes: usize) {
        let bulk = self.appetite.sent(bytes, self.start.now());
        if std::mem::replace(&mut self.behind, bulk) != bulk {
            // A stream that is closed already needs no place.
            let _ = self.stream.set_priority(-i32::from(bulk));
        }
    }
}

impl AsyncWrite for Fair {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(AsyncWrite::poll_write(
            Pin::new(&mut self.stream),
            cx,
            bytes
        ))?;
        self.note(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
