//! The store as its callers see it, on real files.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::{Options, Sqlite};
use crate::store::{Key, StoreError};

mod expiry;
mod files;
mod model;
mod operations;
mod watching;

/// A folder with a store, and a clock that stands still until it is moved.
struct Bench {
    folder: TempDir,
    now: Arc<Mutex<SystemTime>>,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            now: Arc::new(Mutex::new(
                SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            )),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    fn options(&self) -> Options {
        let now = self.now.clone();
        Options {
            clock: Arc::new(move || *now.lock().expect("no panic")),
            ..Options::default()
        }
    }

    fn try_open(&self) -> Result<Sqlite, StoreError> {
        Sqlite::open(&self.path(), self.options())
    }

    fn open(&self) -> Sqlite {
        self.try_open().expect("opens")
    }

    fn now(&self) -> SystemTime {
        *self.now.lock().expect("no panic")
    }

    fn advance(&self, by: Duration) {
        *self.now.lock().expect("no panic") += by;
    }
}

fn key(text: &str) -> Key {
    text.parse().expect("a key")
}
