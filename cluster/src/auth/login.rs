//! Logging in: a password or an invite against user certificates.
//!
//! A wrong password and an unknown user get the same answer after the same work. After repeated
//! failures a name is locked out for a while, whether it exists or not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use protocol::identity::Fingerprint;
use serde_json::json;
use time::OffsetDateTime;

use super::Secret;
use super::access;
use super::ca::{Authorities, Issued, UserSubject, peer, ssh_key};
use super::credential::{Credentials, Turn, check_password};
use super::locks::Locks;
use crate::audit::{Audit, Event, code};
use crate::resource::role::RoleSpec;
use crate::resource::user::UserSpec;
use crate::resource::{Resource, Resources};

/// Shortest life of a certificate that can be asked for.
const MIN_TTL: Duration = Duration::from_secs(60);

/// The login half of the auth service. Cheap to clone.
#[derive(Clone)]
pub struct Login {
    /// Keys to sign with.
    pub authorities: Arc<Authorities>,
    /// Users and roles.
    pub resources: Resources,
    /// Passwords and invites.
    pub credentials: Credentials,
    /// Who is locked.
    pub locks: Locks,
    /// Where it is written down.
    pub audit: Audit,
}

/// What somebody wants to log in with.
pub struct Attempt {
    /// The Tether user.
    pub user: String,
    /// A password, or the one to set by an invite.
    pub password: Secret,
    /// An invite to redeem.
    pub invite: Option<Secret>,
    /// Raw Ed25519 key to certify.
    pub public_key: [u8; 32],
    /// Wished life of the certificates.
    pub ttl: Option<Duration>,
    /// Where the attempt comes from.
    pub addr: String,
}

/// What a login gives.
pub struct LoggedIn {
    /// Certificates in both forms.
    pub issued: Issued,
    /// Names of the user's roles.
    pub roles: Vec<String>,
    /// Logins in the certificate.
    pub logins: Vec<String>,
}

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Wrong password or unknown user; which one is not told.
    #[error("wrong user name or password")]
    BadCredentials,
    /// Too many failures.
    #[error(
        "too many failed attempts; try again in 15 minutes, or have an administrator run `tctl users reset`"
    )]
    LockedOut,
    /// An administrator has locked the user.
    #[error("{0}")]
    Locked(String),
    /// The invite is not the user's pending one.
    #[error(
        "this invite is not valid; it may have been used or have expired: ask for a new one (`tctl users reset`)"
    )]
    BadInvite,
    /// The new password is too short or too long.
    #[error("{0}")]
    WeakPassword(String),
    /// The user's roles name no login.
    #[error("your roles allow no login on any node; ask an administrator for a role or for logins")]
    NoLogins,
    /// The key or the ttl makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Something broke here.
    #[error("the cluster made an error; its log says more")]
    Internal(#[from] anyhow::Error),
}

impl Login {
    /// Checks an attempt and issues certificates; either way the audit log says so.
    ///
    /// Once it is checked, it is checked to the end: who hangs up to guess again has failed.
    ///
    /// # Errors
    /// As [`LoginError`] says.
    pub async fn log_in(&self, attempt: Attempt) -> Result<LoggedIn, LoginError> {
        let turn = self.credentials.turn(&attempt.user).await?;
        let login = self.clone();
        let checked = tokio::spawn(async move { login.attempt(attempt, turn).await });
        checked.await.context("a login was cut short")?
    }

    async fn attempt(&self, attempt: Attempt, turn: Turn) -> Result<LoggedIn, LoginError> {
        let (user, addr) = (attempt.user.clone(), attempt.addr.clone());
        let fingerprint = peer::fingerprint(&ssh_key(attempt.public_key));
        let result = self.check_and_issue(attempt, turn).await;
        let event = match &result {
            Ok(logged_in) => success(logged_in, fingerprint),
            Err(e) => Event::new(code::LOGIN_FAILED).field("error", e.to_string()),
        };
        let event = event.user(&user).field("addr.remote", addr);
        if result.is_ok() {
            self.audit.require(event).await.context("a login")?;
            tracing::info!(user, "logged in");
        } else {
            self.audit.refused(event).await;
        }
        result
    }

    async fn check_and_issue(&self, attempt: Attempt, turn: Turn) -> Result<LoggedIn, LoginError> {
        if self.credentials.locked_out(&attempt.user).await? {
            return Err(LoginError::LockedOut);
        }
        let user = match self.authenticate(&attempt, &turn).await {
            Err(error @ (LoginError::BadCredentials | LoginError::BadInvite)) => {
                self.credentials.count_failure(&attempt.user).await?;
                return Err(error);
            }
            other => other?,
        };
        self.credentials.forget_failures(&attempt.user).await?;
        drop(turn);
        self.issue(&user, &attempt).await
    }

    async fn authenticate(
        &self,
        attempt: &Attempt,
        turn: &Turn,
    ) -> Result<Resource<UserSpec>, LoginError> {
        let (mut credential, revision) = self.credentials.get(&attempt.user).await?;
        let Some(code) = &attempt.invite else {
            let fits = self
                .credentials
                .verify(turn, &credential, attempt.password.clone())
                .await?;
            return match self.user(&attempt.user).await? {
                // Only who knows the password learns of a lock.
                Some(user) if fits => self.not_locked(user),
                _ => Err(LoginError::BadCredentials),
            };
        };
        let pending = credential
            .invite
            .take()
            .filter(|i| i.expires > OffsetDateTime::now_utc());
        let fits = pending.is_some_and(|i| same(&i.sha256, &code.sha256()));
        let user = self
            .user(&attempt.user)
            .await?
            .filter(|_| fits)
            .ok_or(LoginError::BadInvite)?;
        let user = self.not_locked(user)?;
        check_password(&attempt.password).map_err(LoginError::WeakPassword)?;
        credential.password = Some(turn.hash(attempt.password.clone()).await?);
        // Compare-and-swap: of two who redeem it at once, one is told that it was used.
        match self
            .credentials
            .put(&attempt.user, &credential, revision)
            .await
        {
            Ok(()) => Ok(user),
            Err(_) => Err(LoginError::BadInvite),
        }
    }

    fn not_locked(&self, user: Resource<UserSpec>) -> Result<Resource<UserSpec>, LoginError> {
        let locks = self.locks.read();
        match locks.of_user(user.name(), OffsetDateTime::now_utc()) {
            Some(lock) => {
                let who = format!("the user {}", user.name());
                Err(LoginError::Locked(lock.spec.locked(&who)))
            }
            None => Ok(user),
        }
    }

    async fn issue(
        &self,
        user: &Resource<UserSpec>,
        attempt: &Attempt,
    ) -> Result<LoggedIn, LoginError> {
        let roles = roles_of(&self.resources, user).await?;
        let logins = access::principals(&roles, &user.spec.traits);
        if logins.is_empty() {
            return Err(LoginError::NoLogins);
        }
        let cap = access::max_session_ttl(&roles);
        let ttl = attempt.ttl.unwrap_or(cap).min(cap);
        if ttl < MIN_TTL {
            return Err(LoginError::Invalid("the shortest ttl is one minute".into()));
        }
        let subject = UserSubject {
            name: user.name(),
            id: user.spec.id,
            principals: &logins,
            roles: &user.spec.roles,
            public_key: attempt.public_key,
            ttl,
        };
        let issued = self.authorities.issue_user(&subject)?;
        Ok(LoggedIn {
            issued,
            roles: user.spec.roles.clone(),
            logins,
        })
    }

    async fn user(&self, name: &str) -> Result<Option<Resource<UserSpec>>, LoginError> {
        match self.resources.find(name).await {
            Ok(user) => Ok(user),
            // A name that cannot be a key cannot be a user.
            Err(crate::resource::ResourceError::Invalid(_)) => Ok(None),
            Err(e) => Err(LoginError::Internal(e.into())),
        }
    }
}

/// The roles a user holds; a role that no longer exists grants nothing.
///
/// # Errors
/// If the store fails.
pub async fn roles_of(
    resources: &Resources,
    user: &Resource<UserSpec>,
) -> anyhow::Result<Vec<RoleSpec>> {
    let mut roles = Vec::new();
    for name in &user.spec.roles {
        match resources.find::<RoleSpec>(name).await? {
            Some(role) => roles.push(role.spec),
            None => {
                tracing::warn!(user = user.name(), role = %name, "user has a role that is gone")
            }
        }
    }
    Ok(roles)
}

fn success(logged_in: &LoggedIn, fingerprint: Fingerprint) -> Event {
    let expires = OffsetDateTime::from(logged_in.issued.not_after);
    Event::new(code::LOGIN)
        .field("fingerprint", hex::encode(fingerprint.0))
        .field("cert_expires", crate::audit::rfc3339(expires))
        .field("logins", json!(logged_in.logins))
}

/// Compares in a time that does not depend on where the texts differ.
pub(crate) fn same(a: &str, b: &str) -> bool {
    #[allow(
        deprecated,
        reason = "the replacement needs another crate for the same comparison"
    )]
    ring::constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}
