//! Passwords and invites: hashed with argon2id, kept apart from the user resource.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::Secret;
use crate::store::{Backend, Key};

/// Each hash takes 19 MiB (the OWASP minimum for argon2id): at most this many at once.
const HASHES_AT_ONCE: usize = 4;
/// Shortest password taken (NIST SP 800-63B §5.1.1.2).
pub const MIN_PASSWORD: usize = 8;
/// Longest password taken: argon2 reads all of it.
pub const MAX_PASSWORD: usize = 256;
/// How long an invite can be redeemed, unless told otherwise.
pub const INVITE_TTL: Duration = Duration::from_secs(24 * 3600);
/// Failures after which a name is locked out, and for how long.
const LOCKOUT: (u32, Duration) = (5, Duration::from_secs(15 * 60));

/// What a user can prove themselves with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Credential {
    /// PHC string of the password.
    #[serde(default)]
    pub password: Option<String>,
    /// A pending invite.
    #[serde(default)]
    pub invite: Option<Invite>,
}

/// A one-time invite.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Invite {
    /// SHA-256 of the code, hex.
    pub sha256: String,
    /// When it lapses.
    #[serde(with = "time::serde::rfc3339")]
    pub expires: time::OffsetDateTime,
}

/// Credentials in the store. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    store: Arc<dyn Backend>,
    hashing: Arc<Semaphore>,
    /// Verified against when there is nothing to verify, so that this takes as long.
    dummy: Arc<str>,
}

impl Credentials {
    /// Credentials kept in `store`.
    ///
    /// # Errors
    /// If hashing does not work at all.
    pub fn new(store: Arc<dyn Backend>) -> Result<Self> {
        let dummy = hash(&Secret::random(""))?.into();
        Ok(Self {
            store,
            hashing: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            dummy,
        })
    }

    /// Reads a user's credential; an empty one if there is none.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn get(&self, user: &str) -> Result<(Credential, Option<u64>)> {
        match self.store.get(&key("credentials", user)?).await? {
            Some(item) => {
                let credential = serde_json::from_slice(&item.value)
                    .with_context(|| format!("the credential of {user} is damaged"))?;
                Ok((credential, Some(item.revision)))
            }
            None => Ok((Credential::default(), None)),
        }
    }

    /// Writes a user's credential, if it still is at `revision`.
    ///
    /// # Errors
    /// If it was changed meanwhile, or the store fails.
    pub async fn put(
        &self,
        user: &str,
        credential: &Credential,
        revision: Option<u64>,
    ) -> Result<()> {
        let key = key("credentials", user)?;
        let bytes = serde_json::to_vec(credential)?;
        match revision {
            Some(seen) => self.store.compare_and_swap(&key, seen, bytes, None).await?,
            None => self.store.create(&key, bytes, None).await?,
        };
        Ok(())
    }

    /// Forgets a user.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn remove(&self, user: &str) -> Result<()> {
        for room in ["credentials", "lockouts"] {
            match self.store.delete(&key(room, user)?, None).await {
                Ok(_) | Err(crate::store::StoreError::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Hashes a password off the async threads.
    ///
    /// # Errors
    /// If hashing fails.
    pub async fn hash(&self, password: Secret) -> Result<String> {
        let _turn = self.hashing.acquire().await?;
        tokio::task::spawn_blocking(move || hash(&password)).await?
    }

    /// Whether the password fits; takes as long when there is none to compare with.
    ///
    /// # Errors
    /// If hashing fails.
    pub async fn verify(&self, credential: &Credential, password: Secret) -> Result<bool> {
        let known = credential.password.is_some();
        let phc = credential
            .password
            .clone()
            .unwrap_or_else(|| self.dummy.to_string());
        let _turn = self.hashing.acquire().await?;
        let fits = tokio::task::spawn_blocking(move || {
            let parsed = PasswordHash::new(&phc).map_err(|e| anyhow!("{e}"))?;
            let fits = Argon2::default().verify_password(password.expose().as_bytes(), &parsed);
            anyhow::Ok(fits.is_ok())
        });
        Ok(fits.await?? && known)
    }

    /// Whether a name is locked out; the same for names that do not exist.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn locked_out(&self, user: &str) -> Result<bool> {
        Ok(self.failures(user).await? >= LOCKOUT.0)
    }

    /// Counts a failure; the count goes away by itself.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn count_failure(&self, user: &str) -> Result<()> {
        let failures = self.failures(user).await?.saturating_add(1);
        let until = SystemTime::now() + LOCKOUT.1;
        let bytes = failures.to_string().into_bytes();
        self.store
            .put(&key("lockouts", user)?, bytes, Some(until))
            .await?;
        Ok(())
    }

    /// A success starts the count over.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn forget_failures(&self, user: &str) -> Result<()> {
        if self.failures(user).await? > 0 {
            self.store
                .put(
                    &key("lockouts", user)?,
                    b"0".to_vec(),
                    Some(SystemTime::now()),
                )
                .await?;
        }
        Ok(())
    }

    async fn failures(&self, user: &str) -> Result<u32> {
        let item = self.store.get(&key("lockouts", user)?).await?;
        Ok(item
            .and_then(|i| std::str::from_utf8(&i.value).ok()?.parse().ok())
            .unwrap_or(0))
    }
}

/// Checks a new password's length.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check_password(password: &Secret) -> Result<(), String> {
    match password.expose().chars().count() {
        n if n < MIN_PASSWORD => Err(format!(
            "a password needs at least {MIN_PASSWORD} characters"
        )),
        n if n > MAX_PASSWORD => Err(format!(
            "a password can have {MAX_PASSWORD} characters at most"
        )),
        _ => Ok(()),
    }
}

/// Any name a stranger sends must make a key, so names are hashed.
fn key(room: &str, user: &str) -> Result<Key> {
    Ok(Key::new(&[room, &Secret::new(user.to_owned()).sha256()])?)
}

fn hash(password: &Secret) -> Result<String> {
    let salt = rand::random::<[u8; 16]>();
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(password.expose().as_bytes(), &salt)
        .map_err(|e| anyhow!("{e}"))?;
    Ok(hash.to_string())
}
