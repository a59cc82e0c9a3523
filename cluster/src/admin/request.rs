//! What `tctl` can ask for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::resource::token::TokenType;

/// One request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The cluster in a few lines.
    Status,
    /// Make a user.
    UserAdd(UserAdd),
    /// Change roles or logins.
    UserUpdate(UserUpdate),
    /// Void the password and make a new invite.
    UserReset {
        /// Who.
        name: String,
        /// Seconds until the invite lapses.
        ttl_s: Option<u64>,
    },
    /// Remove a user and end their sessions.
    UserRemove {
        /// Who.
        name: String,
    },
    /// All users.
    UserList,
    /// Make a join token.
    TokenAdd(TokenAdd),
    /// All tokens, without their secrets.
    TokenList,
    /// Remove a token.
    TokenRemove {
        /// Its name.
        name: String,
    },
    /// All nodes.
    NodeList,
    /// Remove a node and end its sessions.
    NodeRemove {
        /// Name or id.
        target: String,
    },
    /// Shut somebody or something out.
    LockAdd(LockAdd),
    /// All locks.
    LockList,
    /// Remove a lock.
    LockRemove {
        /// Its name.
        name: String,
    },
    /// Remove all locks of a target.
    Unlock(LockTarget),
    /// Resources of a kind, or one of them.
    Get {
        /// The kind's word.
        kind: String,
        /// Its name.
        name: Option<String>,
    },
    /// Write a resource.
    Create {
        /// The whole resource.
        resource: Value,
        /// Whether it may replace one of the same name.
        force: bool,
    },
    /// Remove a resource.
    Remove {
        /// The kind's word.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The CAs' public halves.
    AuthExport,
    /// The newest audit events.
    AuditList {
        /// How many.
        limit: usize,
    },
}

/// A user to make.
#[derive(Debug, Serialize, Deserialize)]
pub struct UserAdd {
    /// Who.
    pub name: String,
    /// Roles.
    pub roles: Vec<String>,
    /// Logins.
    pub logins: Vec<String>,
    /// Password; an invite is made if absent.
    pub password: Option<Password>,
    /// Seconds until the invite lapses.
    pub ttl_s: Option<u64>,
}

/// What to change of a user; what is absent stays.
#[derive(Debug, Serialize, Deserialize)]
pub struct UserUpdate {
    /// Who.
    pub name: String,
    /// New roles.
    pub roles: Option<Vec<String>>,
    /// New logins.
    pub logins: Option<Vec<String>>,
}

/// A token to make.
#[derive(Debug, Serialize, Deserialize)]
pub struct TokenAdd {
    /// What may join.
    pub r#type: TokenType,
    /// Labels for whatever joins.
    pub labels: BTreeMap<String, String>,
    /// Seconds until it expires.
    pub ttl_s: u64,
    /// How often it can be used.
    pub uses: Option<u32>,
}

/// A lock to make.
#[derive(Debug, Serialize, Deserialize)]
pub struct LockAdd {
    /// Whom to shut out.
    pub target: LockTarget,
    /// What they are told.
    pub message: String,
    /// Seconds until it goes away by itself.
    pub ttl_s: Option<u64>,
}

/// Whom a lock is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockTarget {
    /// A user's name.
    User(String),
    /// A node's name or id.
    Node(String),
}

/// A password on its way over the socket.
#[derive(Serialize, Deserialize, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
