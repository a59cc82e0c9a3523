//! What the agent keeps, in one folder: the only place it writes to.
//!
//! | file | holds |
//! | --- | --- |
//! | `node.key` | the device's Ed25519 key (RFC 8410), made here and never sent |
//! | `node.state` | the cluster's address, and what the cluster gave: ids, certificates, trust |
//! | `agent.sock` | where the running agent answers `status` and `restart` |
//!
//! A file is replaced as a whole: written beside the old one, synced, renamed. Whatever moment the
//! power fails at, the old or the new file is there. The folder itself is locked while an agent
//! uses it, so that nothing has to be written for the lock.

mod atomic;
pub(crate) mod key;
pub(crate) mod membership;

use std::fs::{DirBuilder, File, Metadata, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use key::DeviceKey;
use membership::Membership;

const KEY: &str = "node.key";
const STATE: &str = "node.state";
const SOCKET: &str = "agent.sock";

/// The largest file that is read; what the agent writes is a few KiB.
const MAX_FILE: u64 = 64 * 1024;

/// The folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DataDir(PathBuf);

/// Held while an agent uses the folder; the kernel lets go when the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    folder: File,
}

impl Lock {
    /// The lock goes along with its descriptor, into copies of this process, too.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

impl DataDir {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }

    /// Makes the folder if it does not exist; only its owner may look into a new one.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        let made = || -> io::Result<()> {
            if self.0.is_dir() {
                return Ok(());
            }
            if let Some(parent) = self.0.parent() {
                std::fs::create_dir_all(parent)?;
            }
            DirBuilder::new().mode(0o700).create(&self.0)
        };
        made().with_context(|| format!("cannot make the folder {}", self.0.display()))
    }

    /// Whether users other than the owner may look into the folder.
    pub(crate) fn is_open_to_others(&self) -> bool {
        std::fs::metadata(&self.0).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
    }

    /// Keeps every other agent out; with the lock of the program before this one, if it is of this
    /// folder.
    pub(crate) fn lock(&self, inherited: Option<OwnedFd>) -> anyhow::Result<Lock> {
        let shown = self.0.display();
        let open = || File::open(&self.0).with_context(|| format!("cannot open {shown}"));
        let folder = match inherited.map(File::from) {
            Some(folder) if self.is(&folder) => folder,
            _ => open()?,
        };
        match folder.try_lock() {
            Ok(()) => Ok(Lock { folder }),
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another tether-agent uses {shown}; stop it first, or choose another --data-dir"
                )
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {shown}"))
            }
        }
    }

    /// Whether an agent uses the folder. To lock it would be to keep one out that is about to start.
    pub(crate) fn is_in_use(&self) -> bool {
        let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        let number = std::fs::metadata(&self.0).map(|found| found.ino().to_string());
        number.is_ok_and(|number| locks.lines().any(|line| locks_file(line, &number)))
    }

    fn is(&self, folder: &File) -> bool {
        let number = |found: Metadata| (found.dev(), found.ino());
        let here = std::fs::metadata(&self.0).map(number);
        here.is_ok_and(|here| folder.metadata().is_ok_and(|there| number(there) == here))
    }

    /// Whether a file can be written now; asked before a join token is spent.
    pub(crate) fn check_writable(&self) -> anyhow::Result<()> {
        atomic::probe(&self.0).with_context(|| format!("cannot write into {}", self.0.display()))
    }

    /// The device's key, if there is one.
    pub(crate) fn key(&self) -> anyhow::Result<Option<DeviceKey>> {
        let path = self.0.join(KEY);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let key = DeviceKey::from_pkcs8(bytes).with_context(|| path.display().to_string())?;
        Ok(Some(key))
    }

    /// Stores a key that was just made.
    pub(crate) fn store_key(&self, key: &DeviceKey) -> anyhow::Result<()> {
        self.write(KEY, key.pkcs8())
    }

    /// What the cluster gave, if this device has joined one.
    pub(crate) fn membership(&self) -> anyhow::Result<Option<Membership>> {
        let path = self.0.join(STATE);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let membership = Membership::decode(&bytes).with_context(|| path.display().to_string())?;
        Ok(Some(membership))
    }

    /// Stores what the cluster gave.
    pub(crate) fn store_membership(&self, membership: &Membership) -> anyhow::Result<()> {
        let bytes = membership
            .encode()
            .context("the state does not fit its file")?;
        self.write(STATE, &bytes)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        atomic::replace(&self.0, name, bytes)
            .with_context(|| format!("cannot write {}", self.0.join(name).display()))
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(File::open(path)?, MAX_FILE), &mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Whether a line of `/proc/locks` is of a lock as [`DataDir::lock`] takes it, on the file of this
/// number: `1: FLOCK ADVISORY WRITE 77 fe:00:4711 0 EOF`.
fn locks_file(line: &str, number: &str) -> bool {
    let mut words = line.split_ascii_whitespace().skip(1);
    let kind = words.next();
    let file = words.nth(3).and_then(|file| file.rsplit(':').next());
    kind == Some("FLOCK") && file == Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, DataDir) {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::new(parent.path().join("deep/data"));
        dir.create().unwrap();
        (parent, dir)
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_the_owner_may_look() {
        let (_parent, dir) = folder();
        dir.store_key(&DeviceKey::generate().unwrap()).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
        assert_eq!(mode(&dir.path().join(KEY)), 0o600);
        assert!(!dir.is_open_to_others());
    }

    #[test]
    fn a_key_is_read_back() {
        let (_parent, dir) = folder();
        assert!(dir.key().unwrap().is_none());
        let key = DeviceKey::generate().unwrap();
        dir.store_key(&key).unwrap();
        assert_eq!(dir.key().unwrap().unwrap().public(), key.public());
    }

    #[test]
    fn a_torn_key_is_named() {
        let (_parent, dir) = folder();
        let path = dir.path().join(KEY);
        let whole = DeviceKey::generate().unwrap().pkcs8().to_vec();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = format!("{:#}", dir.key().unwrap_err());
            assert!(error.contains("node.key"), "{error}");
        }
    }

    #[test]
    fn one_agent_per_folder() {
        let (_parent, dir) = folder();
        assert!(!dir.is_in_use());
        let lock = dir.lock(None).unwrap();
        assert!(dir.is_in_use());
        let error = dir.lock(None).unwrap_err().to_string();
        assert!(error.contains("another tether-agent"), "{error}");
        // Another program in the same process goes on with it.
        let same = lock.as_fd().try_clone_to_owned().unwrap();
        drop(lock);
        let lock = dir.lock(Some(same)).unwrap();
        assert!(dir.lock(None).is_err());
        drop(lock);
        let strange = File::open("/").unwrap().into();
        let _lock = dir.lock(Some(strange)).unwrap();
        assert!(dir.lock(None).is_err());
    }

    #[test]
    fn a_state_file_that_is_none_is_named() {
        let (_parent, dir) = folder();
        assert!(dir.membership().unwrap().is_none());
        std::fs::write(dir.path().join(STATE), b"hello").unwrap();
        let error = format!("{:#}", dir.membership().unwrap_err());
        assert!(error.contains("node.state"), "{error}");
    }
}
