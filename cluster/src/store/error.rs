//! What can go wrong, and with which key or file.

use std::io;
use std::path::{Path, PathBuf};

use super::{Key, MAX_KEY, MAX_VALUE};

/// Why the store refused or failed. Names the key or the file that it is about, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The key is taken.
    #[error("{key} exists already")]
    Exists {
        /// The key that is taken.
        key: Key,
    },
    /// Nothing is stored under the key.
    #[error("{key} does not exist")]
    NotFound {
        /// The key without an item.
        key: Key,
    },
    /// Someone else was faster.
    #[error("{key} was changed meanwhile: it is at revision {found}, not {expected}")]
    Conflict {
        /// The contended key.
        key: Key,
        /// The revision that the caller had seen.
        expected: u64,
        /// The revision that is stored.
        found: u64,
    },
    /// The value exceeds [`MAX_VALUE`].
    #[error("the value for {key} has {size} bytes, the limit is {MAX_VALUE}")]
    TooLarge {
        /// The key it was meant for.
        key: Key,
        /// The size of the value in bytes.
        size: usize,
    },
    /// A text that is not a key.
    #[error("{key:?} is not a key: {detail}")]
    BadKey {
        /// The text, cut to a key's length.
        key: String,
        /// The rule it breaks.
        detail: &'static str,
    },
    /// The file is, or once was, what it should be, and is damaged.
    #[error("{path} is corrupt: {detail}")]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where the damage shows.
        detail: String,
    },
    /// The file is something else.
    #[error("{path} is not this file of Tether: {detail}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        detail: String,
    },
    /// The file was written by a newer version.
    #[error("{path} has schema version {found}, this version knows {known}: a newer one wrote it")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The version of its schema.
        found: u32,
        /// The newest version that this build knows.
        known: u32,
    },
    /// Someone else uses the file.
    #[error("{path} is in use by another process")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The disk or the quota is full.
    #[error("no space left to write {path}")]
    Full {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The operating system or the engine failed.
    #[error("{path}: {detail}")]
    Io {
        /// The file it was about.
        path: PathBuf,
        /// What was reported.
        detail: String,
    },
    /// The store has stopped.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn bad_key(text: &str, detail: &'static str) -> Self {
        let key = text.chars().take(MAX_KEY).collect();
        Self::BadKey { key, detail }
    }

    pub(super) fn corrupt(path: &Path, detail: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            detail: detail.into(),
        }
    }

    pub(super) fn foreign(path: &Path, detail: impl Into<String>) -> Self {
        Self::Foreign {
            path: path.to_owned(),
            detail: detail.into(),
        }
    }

    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io {
                path,
                detail: error.to_string(),
            },
        }
    }
}
