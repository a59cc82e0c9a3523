//! What a [`super::Link`] asks for and tells.

use core::time::Duration;

use crate::error::CloseCode;
use crate::message::control::Refusal;
use crate::transport::{Kind, Plan};

/// Which of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that was welcomed.
    Held,
    /// The one that is being made.
    Next,
}

/// What the caller should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a transport as the next connection; answer with [`super::Link::handle_connected`] or
    /// [`super::Link::handle_closed`].
    Connect(Plan),
    /// Tell the cluster on the held connection that another will follow.
    SendMoving,
    /// Send a Hello on the next connection.
    SendHello,
    /// Ask for a sign of life on the held connection.
    SendHeartbeat {
        /// Its number.
        seq: u32,
    },
    /// Tell the cluster how long the held connection may be silent from now on.
    SendKeepalive {
        /// Seconds.
        interval_s: u16,
    },
    /// The held connection's address may have changed: send from the new one.
    Rebind,
    /// The next connection is the held one now. If there was one before, it takes no new dials,
    /// and may go once its streams have ended.
    Promote,
    /// Drop a connection, or the attempt to open one.
    Close(Which, CloseCode),
}

/// What the caller may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The cluster welcomed the agent.
    Up(Kind),
    /// The cluster no longer answers; the link is kept for a while.
    Dark,
    /// It answers again.
    Light,
    /// The link is gone, or could not be made; the next try is after `retry_in`.
    Down {
        /// Why.
        loss: Loss,
        /// Time until the next try.
        retry_in: Duration,
    },
}

/// Why a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The transport could not be opened.
    ConnectFailed,
    /// The transport's handshake took too long.
    ConnectTimedOut,
    /// No answer to the Hello.
    NotWelcomed,
    /// The cluster refused.
    Refused(Refusal),
    /// The transport ended.
    Closed,
    /// The cluster no longer answers.
    Silent,
    /// The cluster asked to come back later.
    Drained,
    /// The cluster broke the protocol.
    PeerMisbehaved,
}
