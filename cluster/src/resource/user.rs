//! Users: their roles and traits. Passwords and invites are kept apart, in `auth`, so that no
//! listing can show them.

use serde::{Deserialize, Serialize};

use super::Spec;

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// Tells this person from an earlier one of the same name: certificates are for one of them.
    /// Zero if a cluster made the user that knew no such ids.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub id: u64,
    /// Names of roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Facts about the person that roles refer to.
    #[serde(default)]
    pub traits: Traits,
}

/// Facts about a user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traits {
    /// OS users that `{{internal.logins}}` stands for.
    #[serde(default)]
    pub logins: Vec<String>,
}

impl UserSpec {
    /// An id for somebody new.
    #[must_use]
    pub fn new_id() -> u64 {
        rand::random_range(1..=u64::MAX)
    }
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(id: &u64) -> bool {
    *id == 0
}

impl Spec for UserSpec {
    const KIND: &'static str = "user";
    const ROOM: &'static str = "users";

    fn check(&self, name: &str) -> Result<(), String> {
        check_name(name)?;
        self.traits
            .logins
            .iter()
            .try_for_each(|login| check_login(login))
    }
}

/// User names go into certificates, URIs and logs.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with('-') || !name.chars().all(allowed) {
        return Err(format!(
            "user name {name:?}: expected 1 to 64 letters, digits or . _ @ + -, not starting with -"
        ));
    }
    Ok(())
}

/// An OS user's name, as `useradd` takes it, and a little wider.
///
/// # Errors
/// A sentence that names the login.
pub fn check_login(login: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-$".contains(c);
    if login.is_empty() || login.len() > 32 || login.starts_with('-') || !login.chars().all(allowed)
    {
        return Err(format!(
            "login {login:?}: expected 1 to 32 letters, digits or . _ - $, not starting with -"
        ));
    }
    Ok(())
}
