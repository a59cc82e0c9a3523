//! Control messages: what an agent and its cluster say to each other on a link's first stream.

use serde::{Deserialize, Serialize};

use super::join::{Certificates, Trust};
use super::version::Versions;
use super::{Labels, Message, Text};

/// From an agent to its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "decoded on the stack, read and dropped; never kept"
)]
pub enum ToCluster<'a> {
    /// The first message of a link.
    #[serde(borrow)]
    Hello(Hello<'a>),
    /// Are you there? Answered by [`ToAgent::HeartbeatAck`].
    Heartbeat {
        /// Counts up from 1 within a link.
        seq: u32,
    },
    /// The node's labels, all of them.
    LabelsChanged(Labels<'a>),
    /// Renew my host certificates; the key stays the same.
    Renew {
        /// Generation of the certificates in use.
        generation: u32,
    },
    /// The agent ends the link on purpose.
    Goodbye,
    /// From now on the agent may be silent this long, then it asks for a sign of life.
    Keepalive {
        /// Seconds of silence.
        interval_s: u16,
    },
    /// The agent is about to open another link, by another transport. This one takes no new dials
    /// then, but keeps the streams it has until they end.
    Moving,
    /// A session that outlives its links is over.
    SessionEnded {
        /// As in the dial that started it.
        session_id: [u8; 16],
    },
    /// Sessions of this user go on that outlived another link. A cluster that was started anew
    /// knows nothing of them; it answers by [`ToAgent::EndUser`] if they may not. Said once for
    /// each user, when a link is up, from version [`NAMES_USERS`](super::version::NAMES_USERS) on.
    Keeps {
        /// As in the dials that started them.
        user: Text<'a, 64>,
    },
}

impl Message for ToCluster<'_> {
    const VARIANTS: u32 = 9;
}

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// Protocol versions the agent speaks.
    pub versions: Versions,
    /// Changes with every boot of the device.
    pub boot_id: [u8; 16],
    /// Release of the agent.
    #[serde(borrow)]
    pub agent_version: Text<'a, 32>,
    /// The machine.
    pub inventory: Inventory<'a>,
    /// Labels, static and from commands.
    pub labels: Labels<'a>,
    /// Set if the agent runs as an ordinary user: the only login it can offer.
    pub only_login: Option<Text<'a, 64>>,
    /// Serial of the trust bundle the agent holds.
    pub trust_serial: u32,
}

/// What kind of machine the agent runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory<'a> {
    /// As `uname -n`.
    #[serde(borrow)]
    pub hostname: Text<'a, 64>,
    /// As `uname -s`.
    pub os: Text<'a, 32>,
    /// As `uname -m`.
    pub arch: Text<'a, 32>,
    /// As `uname -r`.
    pub kernel: Text<'a, 64>,
}

/// From a cluster to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent<'a> {
    /// The link is up.
    #[serde(borrow)]
    Welcome(Welcome<'a>),
    /// Answers [`ToCluster::Heartbeat`].
    HeartbeatAck {
        /// As in the heartbeat.
        seq: u32,
    },
    /// The CAs have changed.
    TrustChanged(Trust<'a>),
    /// New host certificates.
    Renewed(Certificates<'a>),
    /// The cluster is about to go: link again, no sooner than `after_ms`, spread over `spread_ms`.
    Drain {
        /// Milliseconds to wait at least.
        after_ms: u32,
        /// Milliseconds over which agents spread their return.
        spread_ms: u32,
    },
    /// The link, or a renewal, is refused.
    Refused {
        /// Why.
        reason: Refusal,
        /// Seconds to wait before the next try.
        retry_after_s: u32,
        /// One plain sentence.
        text: Text<'a, 256>,
    },
    /// The agent's packets come from another address than before: a NAT on the way forgot its
    /// mapping, or gave another one.
    Rebound {
        /// The new address and port, as the cluster sees them.
        addr: Text<'a, 64>,
    },
    /// A session that outlives its links must end: its user was removed or locked.
    EndSession {
        /// As in the dial that started it.
        session_id: [u8; 16],
    },
    /// All sessions of a user that outlive their links must end: the user was removed or locked.
    /// For agents from version [`NAMES_USERS`](super::version::NAMES_USERS) on.
    EndUser {
        /// As in the dials that started them.
        user: Text<'a, 64>,
    },
}

impl Message for ToAgent<'_> {
    const VARIANTS: u32 = 9;
}

/// The cluster's answer to a Hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome<'a> {
    /// Protocol version of this link.
    pub version: u16,
    /// The cluster's time, seconds since the Unix epoch.
    pub time_s: u64,
    /// The cluster's name.
    #[serde(borrow)]
    pub cluster: Text<'a, 64>,
    /// The node's name in the cluster.
    pub node_name: Text<'a, 64>,
    /// Seconds of silence after which the agent sends a heartbeat.
    pub keepalive_s: u16,
}

/// Why a node was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// No common protocol version.
    Version,
    /// The node was removed; it must join anew.
    Removed,
    /// The node is locked.
    Locked,
    /// Too many handshakes at once.
    Busy,
    /// The cluster made an error.
    Internal,
    /// The key is in use by another device.
    Cloned,
    /// The join token is unknown, expired or used up.
    Token,
    /// The proof does not fit the key.
    Proof,
    /// Something in the request is not acceptable.
    Invalid,
}
