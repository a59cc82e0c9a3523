//! Sessions, as the process that carries them writes them down for the one after it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Spec;

/// A session that is open. Written in batches, so it may lag behind. What a later release adds is
/// passed over: a session is not worth more than going back to this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// Its id in the audit log, in hex.
    pub id: String,
    /// The Tether user.
    pub user: String,
    /// Which of those who have had that name.
    pub user_id: u64,
    /// The node's id.
    pub node: String,
    /// The node's name.
    pub hostname: String,
    /// OS user, if the client has said.
    pub login: String,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started: OffsetDateTime,
    /// Bytes to the node until it was last detached.
    pub sent: u64,
    /// Bytes from the node until then.
    pub received: u64,
    /// Seconds that it is kept without its client; nothing, if it ends with its stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_s: Option<u64>,
    /// Seconds that the agent keeps it without a stream, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_agent_s: Option<u64>,
    /// Since when nobody is attached, if that is so.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub detached: Option<OffsetDateTime>,
    /// It is to end, and its agent may not know.
    #[serde(default)]
    pub ends: bool,
}

impl Spec for SessionSpec {
    const KIND: &'static str = "session";
    const ROOM: &'static str = "sessions";

    fn check(&self, _name: &str) -> Result<(), String> {
        Ok(())
    }
}
