//! Join tokens. The secret itself is never stored: a token's name is taken from its hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Spec, labels};

/// What a join token grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// What may join with it.
    pub r#type: TokenType,
    /// Labels put on whatever joins; they outweigh the agent's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How often it can still be used; unlimited until it expires if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_left: Option<u32>,
    /// SHA-256 of the secret, hex.
    pub secret_sha256: String,
}

/// Kinds of things that join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenType {
    /// A machine that offers SSH.
    Node,
}

impl Spec for TokenSpec {
    const KIND: &'static str = "token";
    const ROOM: &'static str = "tokens";

    fn check(&self, _name: &str) -> Result<(), String> {
        self.labels
            .iter()
            .try_for_each(|(key, value)| labels::check(key, value))
    }
}
