//! Dials: requests to open a stream to a resource.
//!
//! A user's client sends a [`ClientRequest`]; the proxy decides and sends the agent a
//! [`LinkRequest`] with everything it needs to know, so that one dial costs one trip over the
//! cellular link. Both are answered by a [`DialReply`]; behind it, the stream carries the bytes
//! of the resource's own protocol.

use serde::{Deserialize, Serialize};

use super::{Message, Text};

/// Logins that one dial can carry.
pub const MAX_LOGINS: usize = 32;

/// From a user's client to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientRequest<'a> {
    /// A stream to a node's SSH server.
    Ssh {
        /// Node name, `name.cluster` or node id.
        #[serde(borrow)]
        target: Text<'a, 128>,
        /// OS user, if known; lets the proxy say at once that it is not allowed.
        login: Option<Text<'a, 64>>,
    },
}

impl Message for ClientRequest<'_> {
    const VARIANTS: u32 = 1;
}

/// From the proxy to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkRequest<'a> {
    /// A stream to the agent's SSH server.
    #[serde(borrow)]
    Ssh(DialHeader<'a>),
}

impl Message for LinkRequest<'_> {
    const VARIANTS: u32 = 1;
}

/// The proxy's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialHeader<'a> {
    /// Names the session in the audit log.
    pub session_id: [u8; 16],
    /// The cluster's time, seconds since the Unix epoch.
    pub time_s: u64,
    /// The Tether user.
    #[serde(borrow)]
    pub user: Text<'a, 64>,
    /// Fingerprint of the certificate the proxy saw; see [`crate::identity::Fingerprint`].
    pub fingerprint: [u8; 32],
    /// OS users the user may become on this node.
    pub logins: heapless::Vec<Text<'a, 64>, MAX_LOGINS>,
    /// What may be opened.
    pub permits: Permits,
    /// The user's address as the proxy saw it: `ip port`.
    pub client_addr: Text<'a, 64>,
    /// Seconds without traffic after which the session ends; 0 for never.
    pub idle_timeout_s: u32,
    /// Seconds after which the session ends; 0 for never.
    pub max_session_s: u32,
}

/// Kinds of channels and requests a session may use, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permits(pub u16);

impl Permits {
    /// A shell or a command.
    pub const SESSION: Self = Self(1);
    /// A terminal.
    pub const PTY: Self = Self(1 << 1);
    /// Everything this version knows.
    pub const ALL: Self = Self(0b11);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn allows(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Answer to a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DialReply<'a> {
    /// The stream is open.
    Accepted,
    /// It is not.
    Refused {
        /// Why.
        reason: DialRefusal,
        /// One plain sentence, with what to do next.
        #[serde(borrow)]
        text: Text<'a, 512>,
    },
}

impl Message for DialReply<'_> {
    const VARIANTS: u32 = 2;
}

/// Why a dial was refused. The numbers are stable; `tsh` turns them into exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DialRefusal {
    /// No node has that name.
    UnknownNode,
    /// Several nodes have that name.
    AmbiguousName,
    /// The node has no live link.
    Offline,
    /// A role does not allow the login, or the node.
    Denied,
    /// The user, node or certificate is locked, or the user was removed.
    Locked,
    /// A limit is reached.
    Busy,
    /// The agent cannot offer that login.
    LoginUnavailable,
    /// Something broke on the way.
    Internal,
}
