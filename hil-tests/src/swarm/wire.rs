//! Frames on QUIC streams.

use anyhow::{Result, bail};
use protocol::message::frame::{HEADER, body_length};
use protocol::message::{MAX_FRAME, Message, decode, encode};
use quinn::{RecvStream, SendStream};
use serde::{Deserialize, Serialize};

/// Sends a message.
pub(super) async fn send<T: Serialize>(stream: &mut SendStream, message: &T) -> Result<()> {
    let frame = {
        let mut buffer = [0; HEADER + MAX_FRAME];
        encode(message, &mut buffer)?.to_vec()
    };
    Ok(stream.write_all(&frame).await?)
}

/// Reads one message from a stream of which nobody gives up the reading.
pub(super) async fn receive<'b, T>(stream: &mut RecvStream, buffer: &'b mut Vec<u8>) -> Result<T>
where
    T: Message + Deserialize<'b>,
{
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    buffer.resize(body_length(header)?, 0);
    stream.read_exact(buffer).await?;
    Ok(decode(buffer)?)
}

/// Reads frames in a way that `select!` may interrupt: what has arrived is kept.
pub(super) struct Frames {
    stream: RecvStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Frames {
    pub(super) const fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            filled: 0,
        }
    }

    /// The next frame's body.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>> {
        loop {
            let wanted = match self.buffer.first_chunk::<HEADER>() {
                Some(header) if self.filled >= HEADER => HEADER + body_length(*header)?,
                _ => HEADER,
            };
            if self.filled == wanted && wanted > HEADER {
                self.filled = 0;
                let body = self.buffer.get(HEADER..wanted).unwrap_or_default();
                let body = body.to_vec();
                // An idle agent should not keep room for its largest frame.
                self.buffer = Vec::new();
                return Ok(body);
            }
            self.buffer.resize(wanted, 0);
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            match self.stream.read(room).await? {
                Some(read) => self.filled += read,
                None => bail!("the control stream ended"),
            }
        }
    }
}
