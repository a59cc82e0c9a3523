//! Everything that can happen to the agent, in one queue: the loop in [`crate::link`] has no other
//! source of events but time.

use std::sync::Arc;

use nix::unistd::Pid;
use protocol::message::control::Refusal;
use protocol::resume::StreamId;

use super::dial::Request;
use super::restart::Asked;
use super::transport::{Fault, Stream, Transport};
use crate::labels::Labels;
use crate::network::Network;
use crate::state::membership::Membership;
use crate::status::Query;

/// Inputs that wait while one is handled. Each may hold a frame, so this bounds memory, too.
pub(crate) const QUEUE: usize = 16;

/// Something happened.
pub(crate) enum Input {
    /// Something happened to a connection.
    Connection {
        /// Which one; what comes late from one that was given up is dropped.
        number: u32,
        news: News,
    },
    /// An SSH session is over.
    SessionEnded {
        /// Number of the connection that carried it, if it was bound to one.
        connection: Option<u32>,
    },
    /// A stream that outlives its links is over.
    StreamEnded { id: StreamId },
    /// Nobody will ask for one any more.
    StreamForgotten { id: StreamId },
    /// The labels have changed.
    Labels(Labels),
    /// The way to the cluster is another one, or more is known of it.
    Network(Network),
    /// Somebody asks for the status.
    Query(Query),
    /// Somebody asks for a restart.
    Restart(Option<Asked>),
    /// The agent can restart, or the reason why it cannot.
    Ready {
        ready: Result<(), String>,
        asked: Option<Asked>,
    },
    /// A stream that an older process keeps is over.
    KeptElsewhere { keeper: Pid, id: StreamId },
    /// An older process has ended.
    KeeperGone { keeper: Pid },
    /// Some child of this process has ended.
    ChildEnded,
    /// The system asks the agent to end.
    Stop,
}

/// What happened to a connection.
pub(crate) enum News {
    /// It is open, and so is its control stream.
    Opened {
        transport: Arc<dyn Transport>,
        control: Stream,
    },
    /// It could not be opened, or has ended.
    Ended(Fault),
    /// The cluster gave new certificates to a node that was away too long.
    CameBack(Box<Membership>),
    /// The cluster gave none.
    TurnedAway { reason: Refusal, text: String },
    /// A control message came in.
    Frame(Vec<u8>),
    /// The cluster dials.
    Dialled(Box<Request>),
}
