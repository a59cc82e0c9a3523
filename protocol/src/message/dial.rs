//! Dials: requests to open a stream to a resource.
//!
//! A user's client sends a [`ClientRequest`]; the proxy decides and sends the agent a
//! [`LinkRequest`] with everything it needs to know, so that one dial costs one trip over the
//! cellular link. Both are answered by a [`DialReply`]; behind it, the stream carries the bytes
//! of the resource's own protocol.
//!
//! A stream that should outlive its links is asked for with `Resumable` on both ways: at its start,
//! and each time the client comes back to it. The proxy decides as for any dial, and hands the
//! opening on as it is. See [`crate::resume`].

use serde::{Deserialize, Serialize};

use super::{Blob, Message, Text};

/// Logins that one dial can carry.
pub const MAX_LOGINS: usize = 32;

/// Bytes of an opening at most. The largest of this version, OPEN, takes 58.
pub const MAX_OPENING: usize = 128;

/// The first frame of a resumable stream; see [`crate::resume::frame::Opening`]. It may hold a
/// secret: the proxy reads no more of it than whether it starts a stream, and which.
pub type OpeningBytes<'a> = Blob<'a, MAX_OPENING>;

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
    /// A resumable stream to a node's SSH server: a new one, or one that there is.
    Resumable {
        /// As for [`ClientRequest::Ssh`]. Best a node id: names can change while a stream lives.
        target: Text<'a, 128>,
        /// As for [`ClientRequest::Ssh`].
        login: Option<Text<'a, 64>>,
        /// For the agent.
        opening: OpeningBytes<'a>,
    },
}

impl Message for ClientRequest<'_> {
    const VARIANTS: u32 = 2;
}

/// From the proxy to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkRequest<'a> {
    /// A stream to the agent's SSH server.
    #[serde(borrow)]
    Ssh(DialHeader<'a>),
    /// A resumable stream to the agent's SSH server.
    Resumable(ResumableDial<'a>),
}

impl Message for LinkRequest<'_> {
    const VARIANTS: u32 = 2;
}

/// A dial of a stream that outlives its links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumableDial<'a> {
    /// As for any dial, decided anew each time. Its session id is the id of the stream.
    #[serde(borrow)]
    pub header: DialHeader<'a>,
    /// Seconds that the ends keep the stream alone, as the user's roles say. What the start of the
    /// stream said counts.
    pub grace_s: u32,
    /// As the client sent it.
    pub opening: OpeningBytes<'a>,
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
    /// Which node it is that was asked for by name. Another reply follows. From the proxy to a client
    /// that asks for a resumable stream: when it comes back, the name may be another's.
    Named {
        /// Its id.
        node: [u8; 16],
    },
}

impl Message for DialReply<'_> {
    const VARIANTS: u32 = 3;
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
    /// No resumable stream can be had at present: dial plainly. Only an answer to a dial that asked
    /// for one.
    NotResumable,
}
