//! What a stream is attached to.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use protocol::resume::Generation;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::core::{Carrier, Writer};
use crate::words::Words;

/// A carrier in use, and what is to be said on it beside the stream.
pub(crate) struct Attachment {
    pub(crate) generation: Generation,
    pub(crate) carrier: Carrier,
    /// What is said before anything of the stream, and how much of it has gone.
    pub(crate) preamble: Words,
    /// Something was written since the last flush.
    pub(crate) unflushed: bool,
    pub(crate) closing: Option<Closing>,
}

/// Last words.
pub(crate) struct Closing {
    pub(crate) words: Words,
    /// They must be said by then.
    pub(crate) until: Duration,
}

/// What is left of an attachment after something was sent on it, or not.
pub(crate) enum Sent {
    Open,
    Closed,
}

/// What came of an attempt to receive.
pub(crate) enum Received {
    Nothing,
    Some {
        /// So many bytes went to the application.
        direct: usize,
        /// Nothing more was there, most likely.
        all: bool,
    },
    Closed,
}

impl Attachment {
    pub(crate) fn new(generation: Generation, carrier: Carrier, preamble: Vec<u8>) -> Self {
        Self {
            generation,
            carrier,
            preamble: Words::new(preamble),
            unflushed: false,
            closing: None,
        }
    }

    /// Reads what is there. What came of it, if that is nothing.
    pub(crate) fn read(
        &mut self,
        buffer: &mut ReadBuf<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Received> {
        match Pin::new(&mut self.carrier.reader).poll_read(cx, buffer) {
            Poll::Pending => Err(Received::Nothing),
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => Ok(()),
            Poll::Ready(_) => Err(Received::Closed),
        }
    }

    /// Says the last words; closed once they are said.
    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Sent {
        let Some(closing) = &mut self.closing else {
            return Sent::Open;
        };
        let writer = &mut self.carrier.writer;
        match closing.words.poll_say(writer, cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Sent::Closed,
            Poll::Pending => return Sent::Open,
        }
        match Pin::new(writer).poll_shutdown(cx) {
            Poll::Ready(_) => Sent::Closed,
            Poll::Pending => Sent::Open,
        }
    }
}

/// Writes the first parts that a writer takes.
pub(crate) fn write(
    writer: &mut Writer,
    parts: &[IoSlice<'_>],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if writer.is_write_vectored() {
        return Pin::new(writer).poll_write_vectored(cx, parts);
    }
    let first = parts.iter().find(|part| !part.is_empty());
    Pin::new(writer).poll_write(cx, first.map_or(&[], |part| part))
}
