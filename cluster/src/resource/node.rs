//! Nodes: machines that offer SSH, and what is known of them while they are away.

use protocol::identity::NodeId;
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
    /// Name of its join token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Labels from its join token.
    #[serde(default)]
    pub token_labels: Labels,
    /// Generation of the newest certificates.
    pub generation: u32,
    /// Whether a device has shown them.
    #[serde(default = "yes")]
    pub generation_shown: bool,
    /// Where they were asked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_from: Option<String>,
    /// Another device with this node's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<Copy>,
    /// First join.
    #[serde(with = "time::serde::rfc3339")]
    pub joined: OffsetDateTime,
}

/// Another device with a node's key, as it was last turned away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub refused: OffsetDateTime,
    /// From where it came.
    pub addr: String,
}

/// A copy that still exists shows itself within the life of its certificates; one that has not for
/// longer is taken for gone.
const COPY_SHOWN: time::Duration = time::Duration::days(7);

impl NodeSpec {
    /// What somebody should look into, in a few words.
    #[must_use]
    pub fn problem(&self, now: OffsetDateTime) -> Option<String> {
        let copy = self
            .copy
            .as_ref()
            .filter(|c| now - c.refused < COPY_SHOWN)?;
        Some(format!(
            "another device uses its key: {} was turned away",
            copy.addr
        ))
    }
}

const fn yes() -> bool {
    true
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
    /// Id of its connection, in hex, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<String>,
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

/// A node's certificate has its name and its full name, `name.cluster`, as hosts: neither may be
/// somebody else's.
///
/// # Errors
/// A sentence that names it and says whose it is.
pub fn check_not_taken(name: &str, cluster: &str, public_host: &str) -> Result<(), String> {
    let bare = |host: &str| host.trim_end_matches('.').to_ascii_lowercase();
    let (wanted, cluster, host) = (bare(name), bare(cluster), bare(public_host));
    let whose = if [&cluster, &host].contains(&&wanted) || format!("{wanted}.{cluster}") == host {
        "is the cluster's own"
    } else if wanted.ends_with(&format!(".{cluster}")) {
        "is the full name of another node"
    } else if wanted.parse::<NodeId>().is_ok() {
        "has the form of a node's id"
    } else if wanted == "localhost" {
        "is every machine's own"
    } else {
        return Ok(());
    };
    Err(format!(
        "node name {name:?} {whose}; choose another one with --node-name"
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_nobody_elses_name() {
        let check = |name| check_not_taken(name, "example.net", "gw.example.net");
        for name in [
            "gateway-1",
            "db.site-1",
            "example",
            "net",
            "gw2",
            "my-example.net",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for name in [
            "example.net",
            "Example.NET.",
            "gw.example.net",
            // Its full name would be the proxy's.
            "gw",
            "gateway-1.example.net",
            "a.b.EXAMPLE.net.",
            "01010101-0101-0101-0101-010101010101",
            "localhost",
        ] {
            let refused = check(name).unwrap_err();
            assert!(refused.contains(name), "{refused}");
        }
    }
}
