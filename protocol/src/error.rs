//! Whose fault an error is, and what the other end is told about it.

use core::fmt;

/// Why a frame could not be read as a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The frame's length is zero or above [`crate::message::MAX_FRAME`].
    Length,
    /// The variant is newer than this build. The frame can be skipped.
    UnknownVariant,
    /// The bytes do not follow the layout, or exceed a bound.
    Malformed,
    /// Bytes are left over behind the message.
    Trailing,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "frame length out of bounds",
            Self::UnknownVariant => "message of a newer version",
            Self::Malformed => "malformed message",
            Self::Trailing => "bytes behind the message",
        })
    }
}

impl core::error::Error for DecodeError {}

/// A message that does not fit into a frame: the caller exceeded a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeError;

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("message too large for a frame")
    }
}

impl core::error::Error for EncodeError {}

/// Application close codes of QUIC connections (RFC 9000 §19.19). Numbers never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// Nothing went wrong.
    Done = 0,
    /// The peer broke the protocol.
    PeerMisbehaved = 1,
    /// No common version.
    PeerIncompatible = 2,
    /// The peer's identity is not accepted.
    Denied = 3,
    /// A limit here is reached; try later.
    Exhausted = 4,
    /// The cluster shuts down or moves the link elsewhere.
    Draining = 5,
    /// The same node opened a newer link.
    Replaced = 6,
    /// A deadline passed.
    TimedOut = 7,
    /// An error on the closing side.
    Internal = 8,
}

impl CloseCode {
    /// The code as it goes on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The code a peer sent, if this build knows it.
    #[must_use]
    pub const fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            0 => Self::Done,
            1 => Self::PeerMisbehaved,
            2 => Self::PeerIncompatible,
            3 => Self::Denied,
            4 => Self::Exhausted,
            5 => Self::Draining,
            6 => Self::Replaced,
            7 => Self::TimedOut,
            8 => Self::Internal,
            _ => return None,
        })
    }
}

impl From<DecodeError> for CloseCode {
    fn from(_: DecodeError) -> Self {
        Self::PeerMisbehaved
    }
}
