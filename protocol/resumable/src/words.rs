//! What is said on an attachment beside the stream: the answer to a dial, and last words.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::core::Writer;

/// Bytes to send, and how many of them have gone.
pub(crate) struct Words {
    bytes: Vec<u8>,
    gone: usize,
}

impl Words {
    pub(crate) const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, gone: 0 }
    }

    /// Says what is left of them.
    pub(crate) fn poll_say(
        &mut self,
        writer: &mut Writer,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(left) = self.bytes.get(self.gone..).filter(|left| !left.is_empty()) {
            match ready!(Pin::new(&mut *writer).poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.gone += count,
            }
        }
        self.bytes = Vec::new();
        Poll::Ready(Ok(()))
    }
}
