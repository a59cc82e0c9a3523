//! The store: every fact the cluster has to remember, as revisioned keys and values.
//!
//! Users, roles, tokens, nodes, certificate authorities and locks are items here. A [`Key`] is a
//! path such as `/nodes/ab12`, a value is bytes that the layer above understands (versioned JSON,
//! so that it can be read in an emergency), and each item carries the **revision** of the change
//! that wrote it. [`Backend`] is all that the layers above see. SQLite ([`sqlite::Sqlite`]) is
//! behind it by default; an engine shared by several processes may be, so nothing above may
//! assume that it is the only writer. Who has to read before writing uses
//! [`Backend::compare_and_swap`] and tries again on a conflict.
//!
//! # What holds
//!
//! - A change is answered when it is on disk and not before. An answered change survives a crash.
//! - Revisions come from one counter. It never goes back, neither over a restart nor over a
//!   deletion, so a revision never names two different contents.
//! - A key changes as a whole or not at all. There are no changes of several keys at once.
//! - An item with an expiry is gone from that moment on: it is not read, not compared with and
//!   does not stand in the way of a `create`. A sweep deletes it soon afterwards, and only then
//!   hears a [`Watch`] of it.
//! - A [`Watch`] gives changes in the order of their revisions, each once, or says that it lost
//!   some. It never shows a change that could still be undone.
//!
//! # To follow a range
//!
//! Watch first, then read, then apply what the watch gives on top. An event whose revision is not
//! above that of the item read is old news. On [`Lagged`], read again.
//!
//! # What it never does
//!
//! It never interprets a value, and never shows one in an error, a log or `Debug`, since some are
//! private keys. It never replaces or repairs a file that it does not understand: it refuses it by
//! name.

use std::fmt;
use std::time::SystemTime;

use futures::future::BoxFuture;

pub use self::error::StoreError;
pub use self::key::{Key, MAX_KEY};
pub use self::watch::{Event, Lagged, Watch};

mod error;
mod key;
pub mod sqlite;
mod watch;

/// Largest value in bytes: far above any resource (a role with hundreds of rules has about
/// 20 KiB), and small enough that a full queue of them fits a small server's memory.
pub const MAX_VALUE: usize = 256 * 1024;

/// What a [`Backend`] answers, once it has it.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A revisioned key-value store.
///
/// Writing answers with the revision that the change got. Dropping an answer before it has come
/// does not take the change back.
pub trait Backend: Send + Sync {
    /// The item under `key`, if there is one.
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Item>>;

    /// Writes a new item; [`StoreError::Exists`] if there is one.
    ///
    /// Expiry is kept to the millisecond here and in the other methods.
    fn create<'a>(
        &'a self,
        key: &'a Key,
        value: Vec<u8>,
        expires: Option<SystemTime>,
    ) -> Answer<'a, u64>;

    /// Writes an item, whether or not there was one.
    fn put<'a>(
        &'a self,
        key: &'a Key,
        value: Vec<u8>,
        expires: Option<SystemTime>,
    ) -> Answer<'a, u64>;

    /// Replaces the item of revision `expected`; [`StoreError::Conflict`] if it has another one
    /// by now, [`StoreError::NotFound`] if it is gone.
    fn compare_and_swap<'a>(
        &'a self,
        key: &'a Key,
        expected: u64,
        value: Vec<u8>,
        expires: Option<SystemTime>,
    ) -> Answer<'a, u64>;

    /// Deletes the item, if asked so only at revision `expected`. The errors are those of
    /// [`Backend::compare_and_swap`].
    fn delete<'a>(&'a self, key: &'a Key, expected: Option<u64>) -> Answer<'a, ()>;

    /// Up to `limit` items at and below `prefix` in the order of their keys, from the first one
    /// behind `after`. A page shorter than `limit` is the last one.
    fn range<'a>(
        &'a self,
        prefix: &'a Key,
        after: Option<&'a Key>,
        limit: usize,
    ) -> Answer<'a, Vec<Item>>;

    /// Follows all changes at and below `prefix` that are answered after this is.
    fn watch<'a>(&'a self, prefix: &'a Key) -> Answer<'a, Watch>;
}

/// A key with what is stored under it.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// Where it is stored.
    pub key: Key,
    /// What is stored. Opaque to the store, and perhaps secret.
    pub value: Vec<u8>,
    /// The change that wrote it.
    pub revision: u64,
    /// The moment from which on it is gone.
    pub expires: Option<SystemTime>,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("key", &self.key)
            .field("value", &format_args!("{} bytes", self.value.len()))
            .field("revision", &self.revision)
            .field("expires", &self.expires)
            .finish()
    }
}
