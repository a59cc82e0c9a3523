//! Requests and answers of the API.
//!
//! Answers may gain fields; what is not known is skipped, what may be missing has a default.

use std::collections::BTreeMap;

use protocol::identity::CaPin;
use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;

/// Answer to `GET /v1/ping`.
#[derive(Debug, Deserialize)]
pub(crate) struct Ping {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// The pin of its host CA.
    #[serde(deserialize_with = "pin")]
    pub(crate) ca_pin: CaPin,
}

fn pin<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CaPin, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// `POST /v1/login` and `POST /v1/invite`. Not `Debug`: it holds secrets.
#[derive(Serialize)]
pub(crate) struct LoginRequest<'a> {
    /// The Tether user.
    pub(crate) user: &'a str,
    /// The invite to redeem, for `/v1/invite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) invite: Option<&'a str>,
    /// The password; with an invite, the new one.
    pub(crate) password: &'a str,
    /// The public key to certify: 32 bytes in Base64.
    pub(crate) public_key: &'a str,
    /// How long the certificates should last.
    pub(crate) ttl_s: Option<u64>,
}

/// Answer to both.
#[derive(Debug, Deserialize)]
pub(crate) struct LoginAnswer {
    pub(crate) cluster: String,
    pub(crate) user: String,
    #[serde(default)]
    pub(crate) roles: Vec<String>,
    #[serde(default)]
    pub(crate) logins: Vec<String>,
    pub(crate) ssh_certificate: String,
    pub(crate) x509_certificate: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) expires: OffsetDateTime,
    pub(crate) trust: TrustBundle,
}

/// The cluster's CAs.
#[derive(Debug, Deserialize)]
pub(crate) struct TrustBundle {
    /// Counts the changes.
    #[serde(default)]
    pub(crate) serial: u64,
    /// The host CA's certificate, in PEM.
    pub(crate) host_ca_x509: String,
    /// The host CA's SSH key.
    pub(crate) host_ca_ssh: String,
}

/// Answer to `GET /v1/nodes`.
#[derive(Debug, Deserialize)]
pub(crate) struct Nodes {
    pub(crate) nodes: Vec<Node>,
}

/// One node of the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether it has a link now.
    #[serde(default)]
    pub(crate) online: bool,
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub(crate) last_seen: Option<OffsetDateTime>,
    /// Why it is offline, or was before its present link.
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// The transport of its link.
    #[serde(default)]
    pub(crate) link: Option<String>,
    #[serde(default)]
    pub(crate) addr: Option<String>,
    #[serde(default)]
    pub(crate) agent_version: Option<String>,
    #[serde(default)]
    pub(crate) os: Option<String>,
    #[serde(default)]
    pub(crate) arch: Option<String>,
    #[serde(default)]
    pub(crate) kernel: Option<String>,
    /// The one login of an agent that does not run as root.
    #[serde(default)]
    pub(crate) only_login: Option<String>,
    #[serde(default)]
    pub(crate) rtt_ms: Option<u32>,
    /// Bytes on the wire since its link came up, in both directions.
    #[serde(default)]
    pub(crate) link_bytes: Option<u64>,
    /// What somebody should know or look into: a lock, a copy of its key.
    #[serde(default)]
    pub(crate) problems: Vec<String>,
}

/// Answer to `GET /v1/sessions`.
#[derive(Debug, Deserialize)]
pub(crate) struct OpenSessions {
    pub(crate) sessions: Vec<OpenSession>,
}

/// A session of the user's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenSession {
    /// As in the audit log.
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) node_id: String,
    pub(crate) node: String,
    #[serde(default)]
    pub(crate) login: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) started: OffsetDateTime,
    /// `attached`, or `detached` while it is kept without a client.
    pub(crate) state: String,
    /// Since when it is detached.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub(crate) detached: Option<OffsetDateTime>,
    /// How long it is kept without a client; nothing, if it ends with its link.
    #[serde(default)]
    pub(crate) grace_s: Option<u64>,
    /// How much longer it is kept, if it is detached.
    #[serde(default)]
    pub(crate) left_s: Option<u64>,
}

/// Body of an error.
#[derive(Debug, Deserialize)]
pub(crate) struct ErrorAnswer {
    pub(crate) error: ErrorBody,
}

/// What went wrong.
#[derive(Debug, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) code: String,
    pub(crate) message: String,
}
