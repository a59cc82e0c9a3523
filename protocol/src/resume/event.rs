//! What the ends tell, and why streams end.

use serde::{Deserialize, Serialize};

use super::{Generation, Sizes};

/// What has changed, or should be done. Whatever [`super::Stream::poll_transmit`] gave before is
/// written first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Dial, with what [`super::Client::opening`] gives. Only a client's end says so.
    Dial(Generation),
    /// This attachment is proved, and in use from now on.
    Attached(Generation),
    /// Nothing is heard of the other end; the attachment is kept.
    Stalled,
    /// It is heard again.
    Recovered,
    /// There is no attachment.
    Detached,
    /// Give up an attachment, or the dial that should become one. If there is a reason, say so
    /// first, with [`Reason::frame`].
    Close(Generation, Option<Reason>),
    /// The stream would like to hold so much; or holds no more than that any longer, since it has
    /// given back what it was lent. Answer with [`super::Stream::lend`].
    Wants(Sizes),
    /// The stream is over.
    Ended(End),
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both directions, and both ends know. What has arrived can still be read.
    Clean,
    /// The other end said so.
    Reset(Reason),
    /// This end gave it up.
    GivenUp(Reason),
}

impl End {
    /// What an end that asks later is told.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Clean => Reason::Finished,
            Self::Reset(reason) | Self::GivenUp(reason) => reason,
        }
    }
}

/// Why a stream was reset, or an attachment not accepted. Numbers never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Reason {
    /// One of a newer version.
    Unknown = 0,
    /// Both directions have ended.
    Finished = 1,
    /// There is no such stream: it never was, has ended long ago, or the agent was started anew.
    Gone = 2,
    /// A newer attachment was accepted.
    Stale = 3,
    /// The proof is wrong.
    Proof = 4,
    /// The user, the node or the certificate is locked.
    Locked = 5,
    /// The session has lasted as long as it may.
    Expired = 6,
    /// Nothing was sent for as long as that may be.
    Idle = 7,
    /// The end was alone for too long.
    GraceOver = 8,
    /// Short of memory.
    Memory = 9,
    /// Too many streams, or too many tries; try later.
    Busy = 10,
    /// The program that holds this end is being ended.
    Stopping = 11,
    /// The other end broke the protocol.
    Misbehaved = 12,
    /// The user may no longer do what the session does.
    Denied = 13,
}

impl Reason {
    /// As on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What a peer's code means.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Finished,
            2 => Self::Gone,
            3 => Self::Stale,
            4 => Self::Proof,
            5 => Self::Locked,
            6 => Self::Expired,
            7 => Self::Idle,
            8 => Self::GraceOver,
            9 => Self::Memory,
            10 => Self::Busy,
            11 => Self::Stopping,
            12 => Self::Misbehaved,
            13 => Self::Denied,
            _ => Self::Unknown,
        }
    }

    /// The RESET frame that says so.
    #[must_use]
    pub fn frame(self) -> super::frame::Bytes {
        super::frame::Frame::Reset(self).encode()
    }

    /// Whether a client that is told so when it attaches should try again.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Stale | Self::Busy)
    }
}
