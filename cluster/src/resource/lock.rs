//! Locks: who or what is shut out until further notice.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Spec;

/// Longest message: it travels to agents in one frame, with a sentence around it.
const MAX_MESSAGE: usize = 160;

/// Shuts a node or a user out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockSpec {
    /// Whom it shuts out.
    pub target: Target,
    /// Shown to whoever is shut out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it was made.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub created_at: Option<OffsetDateTime>,
}

/// Whom a lock is for: one of these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// A user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A node's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
}

impl LockSpec {
    /// What somebody is told who meets it.
    #[must_use]
    pub fn locked(&self, who: &str) -> String {
        match self.message.as_str() {
            "" => format!("{who} is locked"),
            message => format!("{who} is locked: {message}"),
        }
    }
}

impl Spec for LockSpec {
    const KIND: &'static str = "lock";
    const ROOM: &'static str = "locks";

    fn check(&self, name: &str) -> Result<(), String> {
        match (&self.target.user, &self.target.server_id) {
            (Some(user), None) => super::user::check_name(user)?,
            (None, Some(id)) => drop(
                id.parse::<protocol::identity::NodeId>()
                    .map_err(|e| format!("lock {name}: target.server_id: {e}"))?,
            ),
            _ => {
                return Err(format!(
                    "lock {name}: target must name either a user or a server_id"
                ));
            }
        }
        if self.message.len() > MAX_MESSAGE || self.message.chars().any(char::is_control) {
            return Err(format!(
                "lock {name}: the message may have up to {MAX_MESSAGE} bytes, in one line"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(user: Option<&str>, server_id: Option<&str>, message: &str) -> LockSpec {
        LockSpec {
            target: Target {
                user: user.map(Into::into),
                server_id: server_id.map(Into::into),
            },
            message: message.into(),
            created_at: None,
        }
    }

    #[test]
    fn a_lock_has_one_target_and_a_short_message() {
        let id = "00112233-4455-6677-8899-aabbccddeeff";
        assert_eq!(lock(Some("ann"), None, "on leave").check("l"), Ok(()));
        assert_eq!(lock(None, Some(id), "").check("l"), Ok(()));
        for wrong in [
            lock(None, None, ""),
            lock(Some("ann"), Some(id), ""),
            lock(None, Some("gateway-1"), ""),
            lock(Some("a/b"), None, ""),
            lock(Some("ann"), None, "two\nlines"),
            lock(Some("ann"), None, &"x".repeat(161)),
        ] {
            assert!(wrong.check("l").is_err(), "{wrong:?}");
        }
    }
}
