//! Passwords and invites: hashed with argon2id, kept apart from the user resource.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use super::Secret;
use crate::store::{Backend, Item, Key, StoreError};

/// Each hash takes 19 MiB (the OWASP minimum for argon2id): at most this many at once.
const HASHES_AT_ONCE: usize = 4;
/// Locks that names share. More than turns, so that two people seldom wait for each other.
const NAMES: usize = 64;
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
    names: Arc<Names>,
    /// Verified against when there is nothing to verify, so that this takes as long.
    dummy: Arc<str>,
}

/// The turn of one name. Whoever checks a password holds it from before the failures are looked at
/// until this one is counted, or many who guess at once would all pass the lock-out.
///
/// A hash that is under way cannot be stopped, so it keeps the turn even if nobody waits for it.
#[derive(Clone)]
pub struct Turn {
    _held: Arc<Held>,
}

struct Held {
    _name: OwnedMutexGuard<()>,
    _hashing: OwnedSemaphorePermit,
}

/// A lock for every name, some in common. Nobody can choose with whom.
struct Names {
    random: RandomState,
    locks: Vec<Arc<Mutex<()>>>,
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
            names: Arc::default(),
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

    /// Waits for the turn to check a password of `user`.
    ///
    /// # Errors
    /// Never, as long as there are credentials.
    pub async fn turn(&self, user: &str) -> Result<Turn> {
        // The name first: who guesses at one keeps no turn from those who wait for another.
        let name = self.names.lock(user).await;
        let hashing = Arc::clone(&self.hashing).acquire_owned().await?;
        let held = Held {
            _name: name,
            _hashing: hashing,
        };
        Ok(Turn {
            _held: Arc::new(held),
        })
    }

    /// Hashes a password off the async threads, when there is room for it.
    ///
    /// # Errors
    /// If hashing fails.
    pub async fn hash(&self, password: Secret) -> Result<String> {
        let room = Arc::clone(&self.hashing).acquire_owned().await?;
        calculate(room, move || hash(&password)).await
    }

    /// Whether the password fits; takes as long when there is none to compare with.
    ///
    /// # Errors
    /// If hashing fails.
    pub async fn verify(
        &self,
        turn: &Turn,
        credential: &Credential,
        password: Secret,
    ) -> Result<bool> {
        let known = credential.password.is_some();
        let phc = credential
            .password
            .clone()
            .unwrap_or_else(|| self.dummy.to_string());
        let fits = calculate(turn.clone(), move || {
            let parsed = PasswordHash::new(&phc).map_err(|e| anyhow!("{e}"))?;
            let fits = Argon2::default().verify_password(password.expose().as_bytes(), &parsed);
            Ok(fits.is_ok())
        });
        Ok(fits.await? && known)
    }

    /// Whether a name is locked out; the same for names that do not exist.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn locked_out(&self, user: &str) -> Result<bool> {
        Ok(self.failures(user).await? >= LOCKOUT.0)
    }

    /// Counts a failure; the count goes away by itself. Of many at once, also in other processes,
    /// each counts.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn count_failure(&self, user: &str) -> Result<()> {
        let key = key("lockouts", user)?;
        loop {
            let seen = self.store.get(&key).await?;
            let failures = seen.as_ref().map_or(0, failures).saturating_add(1);
            let bytes = failures.to_string().into_bytes();
            let until = Some(SystemTime::now() + LOCKOUT.1);
            let written = match seen {
                Some(item) => self
                    .store
                    .compare_and_swap(&key, item.revision, bytes, until),
                None => self.store.create(&key, bytes, until),
            };
            match written.await {
                Ok(_) => return Ok(()),
                Err(
                    StoreError::Exists { .. }
                    | StoreError::Conflict { .. }
                    | StoreError::NotFound { .. },
                ) => {}
                Err(e) => return Err(e.into()),
            }
        }
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
        Ok(item.as_ref().map_or(0, failures))
    }
}

impl Turn {
    /// Hashes a new password.
    ///
    /// # Errors
    /// If hashing fails.
    pub async fn hash(&self, password: Secret) -> Result<String> {
        calculate(self.clone(), move || hash(&password)).await
    }
}

impl Default for Names {
    fn default() -> Self {
        Self {
            random: RandomState::new(),
            locks: std::iter::repeat_with(Arc::default).take(NAMES).collect(),
        }
    }
}

impl Names {
    async fn lock(&self, user: &str) -> OwnedMutexGuard<()> {
        let number = self.random.hash_one(user) % NAMES as u64;
        let lock = usize::try_from(number).ok().and_then(|n| self.locks.get(n));
        lock.cloned().unwrap_or_default().lock_owned().await
    }
}

/// Calculates off the async threads. What is `held` is given back at the end of it, and not when
/// somebody stops waiting: the memory is taken until then.
async fn calculate<T, F>(held: impl Send + 'static, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let work = move || {
        let done = work();
        drop(held);
        done
    };
    tokio::task::spawn_blocking(work).await?
}

fn failures(item: &Item) -> u32 {
    let text = std::str::from_utf8(&item.value).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::{Options, Sqlite};
    use futures::FutureExt;

    fn credentials(dir: &tempfile::TempDir) -> Credentials {
        let store = Sqlite::open(&dir.path().join("tether.db"), Options::default()).unwrap();
        Credentials::new(Arc::new(store)).unwrap()
    }

    #[test]
    fn a_hash_that_nobody_waits_for_keeps_its_room_until_it_is_done() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let credentials = credentials(&dir);
            // Nothing is hashed before this is told to.
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || wait.recv());
            let guess = || Secret::new("a guess".into());
            // Some names have to wait for others.
            let turn = |number: u32| credentials.turn(&number.to_string()).now_or_never();
            let mut turns = (0..).filter_map(turn);
            for _ in 0..HASHES_AT_ONCE {
                let turn = turns.next().unwrap().unwrap();
                let none = Credential::default();
                let verify = credentials.verify(&turn, &none, guess()).now_or_never();
                assert!(verify.is_none());
            }
            assert_eq!(credentials.hashing.available_permits(), 0);
            assert!(credentials.hash(guess()).now_or_never().is_none());
            drop(go);
            assert!(busy.await.unwrap().is_err());
            credentials.hash(guess()).await.unwrap();
        });
    }

    #[tokio::test]
    async fn failures_at_once_are_all_counted() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = credentials(&dir);
        let count = |_| credentials.count_failure("ann");
        futures::future::try_join_all((0..20).map(count))
            .await
            .unwrap();
        assert_eq!(credentials.failures("ann").await.unwrap(), 20);
    }
}
