//! What an end tells of itself.

use std::fmt;
use std::io;

use protocol::resume::{End, Reason};
use tokio::time::Instant;

/// How a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Attached to the other end.
    Attached,
    /// Kept, without the other end.
    Lost {
        /// Since when nothing is heard.
        since: Instant,
        /// When it is given up.
        until: Instant,
    },
    /// Over.
    Ended(End),
}

/// Why a stream gives no more: inside the [`io::Error`] that its application gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken(pub End);

impl Broken {
    /// The reason in an error that the stream gave.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }

    pub(crate) fn error(end: End) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionReset, Self(end))
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.reason() {
            Reason::Finished => "the session is over",
            Reason::Gone => "the node's agent was started anew, and the session has ended with it",
            Reason::Locked => "locked",
            Reason::Expired => "the session has lasted as long as it may",
            Reason::Idle => "the session was idle for too long",
            Reason::GraceOver => "the link was lost for too long",
            Reason::Memory => "the node is short of memory",
            Reason::Busy => "the node keeps too many sessions",
            Reason::Stopping => "the node's agent was stopped",
            Reason::Denied => "your roles no longer allow this session",
            Reason::Misbehaved | Reason::Proof | Reason::Stale | Reason::Unknown => {
                "the session could not be continued"
            }
        })
    }
}

impl std::error::Error for Broken {}
