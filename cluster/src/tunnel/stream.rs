//! Byte streams of any transport, and frames on them.
//!
//! Data moves in [`Bytes`] chunks: between two QUIC streams no byte is copied on its way through.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use link_ssh::{Ended, Reader, Writer};
use protocol::appetite::Appetite;
use protocol::error::{CloseCode, DecodeError};
use protocol::message::frame::{HEADER, body_length};
use protocol::message::{MAX_FRAME, Message, decode, encode};
use russh::server::Msg;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Most bytes moved at once; larger chunks gain nothing measurable.
const CHUNK: usize = 128 * 1024;

/// Both directions of one stream.
pub struct Stream {
    /// From the peer.
    pub read: ReadHalf,
    /// To the peer.
    pub write: WriteHalf,
}

impl Stream {
    /// A stream of a QUIC connection.
    #[must_use]
    pub fn quic(write: quinn::SendStream, read: quinn::RecvStream) -> Self {
        Self {
            read: ReadHalf::Quic(read),
            write: WriteHalf::Quic(Fair::new(write)),
        }
    }

    /// A channel of an SSH link.
    #[must_use]
    pub fn ssh(read: Reader<Msg>, write: Writer<Msg>, ended: Ended) -> Self {
        Self {
            read: ReadHalf::Ssh(read),
            write: WriteHalf::Ssh(write, ended),
        }
    }

    /// A stream of anything else.
    pub fn io<S: AsyncRead + AsyncWrite + Send + 'static>(stream: S) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            read: ReadHalf::Io(Box::new(read), BytesMut::new()),
            write: WriteHalf::Io(Box::new(write)),
        }
    }
}

/// The receiving half.
pub enum ReadHalf {
    /// Chunks come as they arrived.
    Quic(quinn::RecvStream),
    /// Chunks come as they arrived.
    Ssh(Reader<Msg>),
    /// Chunks are read into a buffer.
    Io(Box<dyn AsyncRead + Send + Unpin>, BytesMut),
}

impl ReadHalf {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// If the stream broke.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Quic(stream) => Ok(stream.read_chunk(CHUNK, true).await?.map(|c| c.bytes)),
            Self::Ssh(reader) => std::future::poll_fn(|cx| reader.poll_chunk(cx)).await,
            Self::Io(stream, buffer) => {
                buffer.reserve(CHUNK / 2);
                let read = stream.read_buf(buffer).await?;
                Ok((read > 0).then(|| buffer.split().freeze()))
            }
        }
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`FrameError`] if the stream ends, breaks, or carries anything else; nothing is allocated
    /// beyond a frame.
    pub async fn frame<'b, T>(&mut self, buffer: &'b mut Vec<u8>) -> Result<T, FrameError>
    where
        T: Message + Deserialize<'b>,
    {
        let mut header = [0; HEADER];
        self.read_exact(&mut header).await?;
        buffer.resize(body_length(header)?, 0);
        self.read_exact(buffer).await?;
        Ok(decode(buffer)?)
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Quic(stream) => AsyncRead::poll_read(Pin::new(stream), cx, buf),
            Self::Ssh(reader) => Pin::new(reader).poll_read(cx, buf),
            Self::Io(stream, _) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

/// The sending half.
pub enum WriteHalf {
    /// Chunks are queued as they are.
    Quic(Fair),
    /// Chunks are cut into packets.
    Ssh(Writer<Msg>, Ended),
    /// Chunks are written.
    Io(Box<dyn AsyncWrite + Send + Unpin>),
}

impl WriteHalf {
    /// Sends bytes, waiting while the peer has no room.
    ///
    /// # Errors
    /// If the stream broke.
    pub async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Quic(fair) => {
                fair.note(bytes.len());
                Ok(fair.stream.write_chunk(bytes).await?)
            }
            Self::Ssh(writer, _) => {
                writer.write_all(&bytes).await?;
                writer.flush().await
            }
            Self::Io(stream) => {
                stream.write_all(&bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// If the message is too large, or the stream broke.
    pub async fn frame<T: Serialize + Sync>(&mut self, message: &T) -> io::Result<()> {
        self.send(frame_bytes(message)?).await
    }

    /// Says that nothing more will come.
    pub async fn finish(&mut self) {
        match self {
            // A stream that is closed already needs no end.
            Self::Quic(fair) => drop(fair.stream.finish()),
            Self::Ssh(writer, _) => drop(writer.shutdown().await),
            Self::Io(stream) => drop(stream.shutdown().await),
        }
    }

    /// Takes the stream back when it is dropped, until it is [kept](Self::keep): over QUIC, what was
    /// lost of it is not sent again then, and the peer does nothing that nobody waits for any more.
    pub const fn try_out(&mut self) {
        self.set_on_trial(true);
    }

    /// The stream ends as any other from now on.
    pub const fn keep(&mut self) {
        self.set_on_trial(false);
    }

    const fn set_on_trial(&mut self, on_trial: bool) {
        if let Self::Quic(fair) = self {
            fair.on_trial = on_trial;
        }
    }

    /// Waits until the peer has everything, or `limit` has passed.
    pub async fn delivered(&mut self, limit: Duration) {
        match self {
            Self::Quic(fair) => {
                drop(tokio::time::timeout(limit, fair.stream.stopped()).await);
            }
            Self::Ssh(_, ended) => drop(tokio::time::timeout(limit, ended.wait()).await),
            Self::Io(_) => {}
        }
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Quic(fair) => {
                let stream = Pin::new(&mut fair.stream);
                let written = ready!(AsyncWrite::poll_write(stream, cx, bytes))?;
                fair.note(written);
                Poll::Ready(Ok(written))
            }
            Self::Ssh(writer, _) => Pin::new(writer).poll_write(cx, bytes),
            Self::Io(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Quic(fair) => Pin::new(&mut fair.stream).poll_flush(cx),
            Self::Ssh(writer, _) => Pin::new(writer).poll_flush(cx),
            Self::Io(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Quic(fair) => Pin::new(&mut fair.stream).poll_shutdown(cx),
            Self::Ssh(writer, _) => Pin::new(writer).poll_shutdown(cx),
            Self::Io(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A stream that steps behind others while it sends in bulk.
pub struct Fair {
    stream: quinn::SendStream,
    appetite: Appetite,
    start: Instant,
    behind: bool,
    on_trial: bool,
}

impl Fair {
    fn new(stream: quinn::SendStream) -> Self {
        Self {
            stream,
            appetite: Appetite::default(),
            start: Instant::now(),
            behind: false,
            on_trial: false,
        }
    }

    fn note(&mut self, bytes: usize) {
        let bulk = self.appetite.sent(bytes, self.start.elapsed());
        if std::mem::replace(&mut self.behind, bulk) != bulk {
            // A stream that is closed already needs no place.
            self.stream.set_priority(-i32::from(bulk)).ok();
        }
    }
}

impl Drop for Fair {
    fn drop(&mut self) {
        if self.on_trial {
            // A stream that is closed already needs no end.
            self.stream.reset(CloseCode::Done.code().into()).ok();
        }
    }
}

/// A message as a whole frame.
///
/// # Errors
/// If it is too large.
pub fn frame_bytes<T: Serialize>(message: &T) -> io::Result<Bytes> {
    let mut buffer = [0; HEADER + MAX_FRAME];
    let frame = encode(message, &mut buffer).map_err(io::Error::other)?;
    Ok(Bytes::copy_from_slice(frame))
}

/// Why no message could be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended or broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bytes are no message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}
