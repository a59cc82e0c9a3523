//! Frames: a big-endian `u16` length, then that many bytes of one postcard-encoded message.

use serde::{Deserialize, Serialize};

use super::Message;
use crate::error::{DecodeError, EncodeError};

/// Largest message, without its length. The largest one sent, a join reply with two certificates
/// and the trust bundle, takes about 2 KiB.
pub const MAX_FRAME: usize = 8192;
/// Bytes before the message.
pub const HEADER: usize = 2;

/// Writes a whole frame into `buffer` (at best `HEADER + MAX_FRAME` long) and gives it back.
///
/// # Errors
/// If the message does not fit.
pub fn encode<'b, T: Serialize>(
    message: &T,
    buffer: &'b mut [u8],
) -> Result<&'b [u8], EncodeError> {
    let end = buffer.len().min(HEADER + MAX_FRAME);
    let body = buffer.get_mut(HEADER..end).ok_or(EncodeError)?;
    let length = self::body(message, body)?.len();
    let header = u16::try_from(length)
        .map_err(|_| EncodeError)?
        .to_be_bytes();
    buffer
        .get_mut(..HEADER)
        .ok_or(EncodeError)?
        .copy_from_slice(&header);
    buffer.get(..HEADER + length).ok_or(EncodeError)
}

/// Writes a message without a length, for what keeps messages apart by itself.
///
/// # Errors
/// If the message does not fit.
pub fn body<'b, T: Serialize>(message: &T, buffer: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
    let body = postcard::to_slice(message, buffer);
    body.map(|body| &*body).map_err(|_| EncodeError)
}

/// The length of the message behind a frame's header.
///
/// # Errors
/// [`DecodeError::Length`] if no message has that length; read nothing more then.
pub fn body_length(header: [u8; HEADER]) -> Result<usize, DecodeError> {
    match usize::from(u16::from_be_bytes(header)) {
        length @ 1..=MAX_FRAME => Ok(length),
        _ => Err(DecodeError::Length),
    }
}

/// Reads a message from a frame's body.
///
/// # Errors
/// As [`DecodeError`] says; only [`DecodeError::UnknownVariant`] may be skipped.
pub fn decode<'a, T: Message + Deserialize<'a>>(body: &'a [u8]) -> Result<T, DecodeError> {
    let (variant, _) =
        postcard::take_from_bytes::<u32>(body).map_err(|_| DecodeError::Malformed)?;
    if variant >= T::VARIANTS {
        return Err(DecodeError::UnknownVariant);
    }
    match postcard::take_from_bytes::<T>(body) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(DecodeError::Trailing),
        Err(_) => Err(DecodeError::Malformed),
    }
}
