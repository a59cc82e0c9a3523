//! Roles: what their holders may reach, and for how long.

use protocol::resume::MAX_GRACE;
use serde::{Deserialize, Serialize};

use super::labels::{OneOrMany, Selector};
use super::{Resource, Spec};

/// Written in `logins`, stands for the logins of the user's own traits.
pub const OWN_LOGINS: &str = "{{internal.logins}}";
/// Longest life of a user certificate where no role says otherwise.
pub const DEFAULT_SESSION_TTL_S: u64 = 12 * 3600;

/// What a role allows and denies. A denial by any role outweighs every permission.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSpec {
    /// What holders may do.
    #[serde(default)]
    pub allow: Conditions,
    /// What holders may not do, whatever other roles say.
    #[serde(default)]
    pub deny: Conditions,
    /// Limits.
    #[serde(default)]
    pub options: Options,
}

/// One side of a role.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// OS users. In `deny`, `*` stands for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logins: Vec<String>,
    /// Nodes.
    #[serde(default, skip_serializing_if = "Selector::is_empty")]
    pub node_labels: Selector,
}

/// A role's limits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Longest life of a certificate: `12h`, `30m`.
    #[serde(
        default,
        with = "crate::duration::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_session_ttl: Option<std::time::Duration>,
    /// A session without traffic for this long ends.
    #[serde(
        default,
        with = "crate::duration::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub client_idle_timeout: Option<std::time::Duration>,
    /// How long a session is kept while its link is lost; 0 ends sessions with their links.
    #[serde(
        default,
        with = "crate::duration::option_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub resume_grace: Option<std::time::Duration>,
}

impl Spec for RoleSpec {
    const KIND: &'static str = "role";
    const ROOM: &'static str = "roles";

    fn check(&self, name: &str) -> Result<(), String> {
        for login in &self.allow.logins {
            if login != OWN_LOGINS {
                super::user::check_login(login).map_err(|e| format!("role {name}: {e}"))?;
            }
        }
        if self.options.resume_grace > Some(MAX_GRACE) {
            return Err(format!(
                "role {name}: options.resume_grace must be at most 24h"
            ));
        }
        match self.options.max_session_ttl {
            Some(ttl) if ttl.as_secs() < 60 => Err(format!(
                "role {name}: options.max_session_ttl must be at least 1m"
            )),
            _ => Ok(()),
        }
    }
}

/// The roles every cluster starts with.
#[must_use]
pub fn presets() -> [Resource<RoleSpec>; 3] {
    let everything = || Selector::from([("*".into(), OneOrMany::One("*".into()))]);
    let preset = |name: &str, description: &str, allow| {
        let mut role = Resource::new(
            name,
            RoleSpec {
                allow,
                ..RoleSpec::default()
            },
        );
        role.metadata.description = description.into();
        role
    };
    [
        preset(
            "access",
            "Reach every node with the user's own logins",
            Conditions {
                logins: vec![OWN_LOGINS.into()],
                node_labels: everything(),
            },
        ),
        preset(
            "editor",
            "Change the cluster's configuration",
            Conditions::default(),
        ),
        preset("auditor", "Read the audit log", Conditions::default()),
    ]
}
