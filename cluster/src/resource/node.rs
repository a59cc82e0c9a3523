//! Nodes: machines that offer SSH, and what is known of them while they are away.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Spec;
use super::labels::Labels;

/// A machine that has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// What people call it; need not be unique.
    pub hostname: String,
    /// The device's bound key: Ed25519, hex.
    pub public_key: String,
    /// Labels from its join token.
    #[serde(default)]
    pub token_labels: Labels,
    /// Generation of the newest certificates.
    pub generation: u32,
    /// First join.
    #[serde(with = "time::serde::rfc3339")]
    pub joined: OffsetDateTime,
}

impl Spec for NodeSpec {
    const KIND: &'static str = "node";
    const ROOM: &'static str = "nodes";

    fn check(&self, _name: &str) -> Result<(), String> {
        check_hostname(&self.hostname)
    }
}

/// What a node last said of itself. Written in batches, so it may lag behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceSpec {
    /// Last sign of life.
    #[serde(with = "time::serde::rfc3339")]
    pub last_seen: OffsetDateTime,
    /// Why the last link ended; `None` while it is up.
    pub reason: Option<String>,
    /// Why the link before this one ended.
    #[serde(default)]
    pub last_loss: Option<String>,
    /// Kind of the last link.
    pub link: String,
    /// Where it came from.
    pub addr: String,
    /// The node's own labels.
    pub labels: Labels,
    /// Release of the agent.
    pub agent_version: String,
    /// As `uname -s`, `-m`, `-r`.
    pub os: String,
    /// Machine.
    pub arch: String,
    /// Kernel release.
    pub kernel: String,
    /// The only login an agent without root can offer.
    pub only_login: Option<String>,
}

impl Spec for PresenceSpec {
    const KIND: &'static str = "presence";
    const ROOM: &'static str = "presence";

    fn check(&self, _name: &str) -> Result<(), String> {
        Ok(())
    }
}

/// A node's name goes into certificates and SSH command lines.
///
/// # Errors
/// A sentence that names it.
pub fn check_hostname(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty()
        || name.len() > 63
        || name.starts_with(['-', '.'])
        || !name.chars().all(allowed)
    {
        return Err(format!(
            "node name {name:?}: expected 1 to 63 letters, digits or . _ -, not starting with . or -"
        ));
    }
    Ok(())
}
