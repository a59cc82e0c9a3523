//! What `tether-agent status` shows, and how it gets there.
//!
//! The running agent answers on a socket in its data folder, in the format it is asked for, so
//! that an agent and a `status` of different releases understand each other. Without a running
//! agent, the stored state is shown.

pub(crate) mod command;
mod encoding;
mod render;
pub(crate) mod socket;

use std::str::FromStr;
use std::time::Duration;

use protocol::renewal::due;
use tokio::sync::oneshot;

use crate::network::Network;
use crate::state::membership::Membership;

/// How the status is written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
    Yaml,
}

/// A word that names no format.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoFormat;

impl std::fmt::Display for NoFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("expected text, json or yaml")
    }
}

impl std::error::Error for NoFormat {}

impl FromStr for Format {
    type Err = NoFormat;

    fn from_str(name: &str) -> Result<Self, NoFormat> {
        Ok(match name {
            "text" => Self::Text,
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            _ => return Err(NoFormat),
        })
    }
}

impl Format {
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Yaml => "yaml",
        }
    }
}

/// Somebody asks.
pub(crate) struct Query {
    format: Format,
    reply: oneshot::Sender<String>,
}

impl Query {
    pub(crate) fn answer(self, status: &Status) {
        // One who hung up does not want to know any more.
        let _ = self.reply.send(render::render(status, self.format));
    }
}

/// All there is to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) version: String,
    /// How long the agent has been running; `None` if it is not.
    pub(crate) uptime: Option<Duration>,
    /// Another program is about to take its place.
    pub(crate) restarting: bool,
    /// `None` before the device has joined.
    pub(crate) node: Option<NodeStatus>,
    pub(crate) link: LinkStatus,
    /// `None` if no agent runs that could say.
    pub(crate) network: Option<Network>,
    pub(crate) last_loss: Option<LastLoss>,
    /// Bytes on the wire since the agent started, in both directions.
    pub(crate) spent: u64,
    /// Bytes that a day without sessions costs, if that can be told yet.
    pub(crate) idle_a_day: Option<u64>,
    /// All that go on, wherever.
    pub(crate) sessions: usize,
    /// Bytes that those of this process may take to outlive their links, without what the keepers'
    /// take.
    pub(crate) session_memory: u32,
    /// Processes from before a restart that still keep some of them.
    pub(crate) keepers: Vec<KeeperStatus>,
    pub(crate) only_login: Option<String>,
    /// What somebody should look at, in sentences.
    pub(crate) problems: Vec<String>,
}

/// A process that keeps sessions over a restart of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeeperStatus {
    pub(crate) pid: i32,
    /// Its release.
    pub(crate) version: String,
    pub(crate) sessions: usize,
    /// Bytes that it takes.
    pub(crate) memory: Option<u64>,
}

/// The node and its certificate. Times are since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeStatus {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) cluster: String,
    pub(crate) address: String,
    pub(crate) generation: u32,
    pub(crate) not_before: Duration,
    pub(crate) not_after: Duration,
    pub(crate) renewal: Duration,
    pub(crate) expired: bool,
}

/// The link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkStatus {
    /// No agent runs.
    Stopped,
    /// The device is about to join.
    Joining,
    Waiting {
        retry_in: Duration,
    },
    Connecting,
    Up {
        transport: &'static str,
        /// By the wall clock, since the Unix epoch.
        since: Duration,
        lasting: Duration,
        /// How long the cluster has not answered, if it does not.
        dark: Option<Duration>,
        /// How long ago the cluster was heard last.
        heard: Duration,
        round_trip: Option<Duration>,
        /// The silence after which the cluster is asked for a sign of life.
        keepalive: Option<Duration>,
        sent: u64,
        received: u64,
    },
}

/// Why the last link, or the last try to have one, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastLoss {
    pub(crate) reason: String,
    /// By the wall clock, since the Unix epoch.
    pub(crate) time: Duration,
}

impl NodeStatus {
    /// `address` is the one in use; the configuration may outweigh the stored one.
    pub(crate) fn new(membership: &Membership, address: String, now: Duration) -> Self {
        let certificates = &membership.certificates;
        Self {
            name: membership.node_name.clone(),
            id: membership.node_id.to_string(),
            cluster: membership.cluster.clone(),
            address,
            generation: certificates.generation,
            not_before: certificates.not_before,
            not_after: certificates.not_after,
            renewal: due(certificates.not_before, certificates.not_after),
            expired: now >= certificates.not_after,
        }
    }
}

impl Status {
    /// The status of an agent that does not run, or does not know more yet.
    pub(crate) fn of_stopped() -> Self {
        Self {
            version: crate::VERSION.to_owned(),
            uptime: None,
            restarting: false,
            node: None,
            link: LinkStatus::Stopped,
            network: None,
            last_loss: None,
            spent: 0,
            idle_a_day: None,
            sessions: 0,
            session_memory: 0,
            keepers: Vec::new(),
            only_login: None,
            problems: Vec::new(),
        }
    }
}
