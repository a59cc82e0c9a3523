//! Joining: how a device gets its first certificates, or new ones after a long absence.
//!
//! The device makes its Ed25519 key itself; the key serves for SSH and for TLS, and every
//! certificate is issued in both forms. It proves that it holds the key by signing
//! [`PROOF_CONTEXT`] and keying material exported from the TLS connection, so a proof is worth
//! nothing on any other connection.

use serde::{Deserialize, Serialize};

use super::control::Refusal;
use super::{Blob, Message, Text};

/// Comes before the exported keying material in what a join proof signs.
pub const PROOF_CONTEXT: &[u8] = b"tether join proof v1\0";
/// Bytes of keying material exported from the connection.
pub const EXPORTED: usize = 32;

/// From a device without a usable certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinRequest<'a> {
    /// A new device with a join token.
    Token {
        /// The token's secret.
        #[serde(borrow)]
        token: Secret<'a>,
        /// The name the node wants.
        node_name: Text<'a, 64>,
        /// Ed25519 public key (RFC 8032).
        public_key: [u8; 32],
        /// Ed25519 signature.
        proof: Blob<'a, 64>,
    },
    /// A known device whose certificate has expired.
    Return {
        /// Its id.
        node_id: [u8; 16],
        /// Generation of its last certificates.
        generation: u32,
        /// Ed25519 signature by its bound key.
        proof: Blob<'a, 64>,
    },
}

impl Message for JoinRequest<'_> {
    const VARIANTS: u32 = 2;
}

/// A text that must not show up in logs.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret<'a>(#[serde(borrow)] pub Text<'a, 128>);

impl core::fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret")
    }
}

/// The cluster's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinReply<'a> {
    /// Welcome to the cluster.
    #[serde(borrow)]
    Joined(Joined<'a>),
    /// No.
    Refused {
        /// Why.
        reason: Refusal,
        /// One plain sentence.
        text: Text<'a, 256>,
    },
}

impl Message for JoinReply<'_> {
    const VARIANTS: u32 = 2;
}

/// What a device is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined<'a> {
    /// The node's id, for good.
    pub node_id: [u8; 16],
    /// The cluster's time, seconds since the Unix epoch.
    pub time_s: u64,
    /// The cluster's name.
    #[serde(borrow)]
    pub cluster: Text<'a, 64>,
    /// The node's name in the cluster.
    pub node_name: Text<'a, 64>,
    /// Host certificates.
    pub certificates: Certificates<'a>,
    /// Whom to trust.
    pub trust: Trust<'a>,
}

/// Host certificates in both forms, for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates<'a> {
    /// Counts renewals; a second device with the same key is told by it.
    pub generation: u32,
    /// Start of validity, seconds since the Unix epoch.
    pub not_before_s: u64,
    /// End of validity, seconds since the Unix epoch.
    pub not_after_s: u64,
    /// OpenSSH certificate, binary (PROTOCOL.certkeys).
    #[serde(borrow)]
    pub ssh: Blob<'a, 1024>,
    /// X.509 certificate, DER.
    pub x509: Blob<'a, 1024>,
}

/// The CAs' public halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust<'a> {
    /// Counts changes.
    pub serial: u32,
    /// Host CA, X.509, DER.
    #[serde(borrow)]
    pub host_ca_x509: Blob<'a, 1024>,
    /// Host CA's SSH key: Ed25519.
    pub host_ca_ssh: [u8; 32],
    /// User CA's SSH key: Ed25519.
    pub user_ca_ssh: [u8; 32],
}
