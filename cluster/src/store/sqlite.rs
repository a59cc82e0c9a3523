//! The store in one SQLite file.
//!
//! One thread writes and one reads, each with its own connection and a bounded queue before it.
//! The writer takes what is queued together into one transaction, since what a change costs is
//! the wait for the disk and not its bytes, and answers after the commit. It then tells the
//! watches, so their order is the order of the revisions.
//!
//! Beside `<path>` lie SQLite's `<path>-wal` and `<path>-shm` while the store is open, and
//! `<path>.lock`, which keeps a second process out.

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::{FutureExt, TryFutureExt};

use self::change::{Change, Effect, Expectation};
use self::reader::{Query, Reader};
use self::worker::Worker;
use self::writer::{Pace, Request, Writer};
use super::watch::Watchers;
use super::{Answer, Backend, Key, MAX_VALUE, StoreError, Watch};

mod change;
pub(crate) mod file;
mod reader;
mod row;
pub(crate) mod schema;
#[cfg(test)]
mod tests;
mod worker;
mod writer;

/// Requests that wait for a thread. Enough that the writer always finds a full batch behind the
/// one that it waits for, and 64 MiB if every one were as large as can be.
const QUEUE: usize = 256;

/// What [`Options::sweep_every`] is kept within.
const SWEEPS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);

/// Tells the time, for what expires.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What can be chosen about a store.
#[derive(Clone)]
pub struct Options {
    /// The system's clock, or one that a test sets.
    pub clock: Clock,
    /// How often expired items are deleted, between a millisecond and a day. One second is as
    /// soon as anyone looks again, and costs one look into an index.
    pub sweep_every: Duration,
    /// Events that a watch holds before it lags. 1,024 are several full batches of the writer;
    /// watches share the events, so it costs each 48 KiB.
    pub watch_depth: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemTime::now),
            sweep_every: Duration::from_secs(1),
            watch_depth: 1024,
        }
    }
}

/// A [`Backend`] in a file of its own.
///
/// Dropping it blocks until what is queued is done, folds the write-ahead log into the file and
/// lets go of the lock.
// The order of the fields is the order in which they are dropped.
pub struct Sqlite {
    reader: Worker<Query>,
    writer: Worker<Request>,
    watchers: Arc<Watchers>,
    _lock: File,
}

impl Sqlite {
    /// Opens the store at `path` and checks it as a whole, or makes a new one if there is no
    /// file. The folder has to exist. Blocks meanwhile.
    ///
    /// Whatever else is found there is refused and left as it is: [`StoreError::Corrupt`],
    /// [`StoreError::Foreign`], [`StoreError::TooNew`], or [`StoreError::Busy`] if another
    /// process has it open.
    pub fn open(path: &Path, options: Options) -> Result<Self, StoreError> {
        let lock = file::lock(path)?;
        let connection = file::open(path, &schema::STORE)?;
        let watchers = Arc::new(Watchers::new(options.watch_depth));
        let writer = Writer::new(path, connection)?;
        let reader = Reader::new(path, options.clock.clone())?;
        let pace = Pace {
            clock: options.clock,
            sweep_every: options.sweep_every.clamp(*SWEEPS.start(), *SWEEPS.end()),
        };
        let published = watchers.clone();
        let spawned = |error| StoreError::io(path, &error);
        Ok(Self {
            writer: Worker::spawn("store-writer", QUEUE, move |requests| {
                writer::run(writer, &requests, &published, &pace);
            })
            .map_err(spawned)?,
            reader: Worker::spawn("store-reader", QUEUE, move |queries| {
                reader.run(&queries);
            })
            .map_err(spawned)?,
            watchers,
            _lock: lock,
        })
    }

    fn write<'a>(&'a self, key: &'a Key, expected: Expectation, effect: Effect) -> Answer<'a, u64> {
        async move {
            if let Effect::Put { value, .. } = &effect
                && value.len() > MAX_VALUE
            {
                return Err(StoreError::TooLarge {
                    key: key.clone(),
                    size: value.len(),
                });
            }
            let change = Change {
                key: key.clone(),
                expected,
                effect,
            };
            self.writer.ask(|reply| Request { change, reply }).await
        }
        .boxed()
    }
}

impl Backend for Sqlite {
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<super::Item>> {
        let key = key.clone();
        self.reader.ask(|reply| Query::Get { key, reply }).boxed()
    }

    fn create<'a>(
        &'a self,
        key: &'a Key,
        value: Vec<u8>,
        expires: Option<SystemTime>,
    ) -> Answer<'a, u64> {
        self.write(key, Expectation::Absent, Effect::Put { value, expires })
    }

    fn put<'a>(
        &'a self,
        key: &'a Key,
        value: Vec<u8>,
        expires: Option<SystemTime>,
    ) -> Answer<'a, u64> {
        self.write(key, Expectation::None, Effect::Put { value, expires })
    }

    fn compare_and_swap<'a>(
        &'a self,
        key: &'a Key,
        expected: u64,
        value: Vec<u8>,
        expires: Option<SystemTime>,
    ) -> Answer<'a, u64> {
        let expected = Expectation::Revision(expected);
        self.write(key, expected, Effect::Put { value, expires })
    }

    fn delete<'a>(&'a self, key: &'a Key, expected: Option<u64>) -> Answer<'a, ()> {
        let expected = expected.map_or(Expectation::Present, Expectation::Revision);
        let deleted = self.write(key, expected, Effect::Delete);
        deleted.map_ok(drop).boxed()
    }

    fn range<'a>(
        &'a self,
        prefix: &'a Key,
        after: Option<&'a Key>,
        limit: usize,
    ) -> Answer<'a, Vec<super::Item>> {
        let (prefix, after) = (prefix.clone(), after.cloned());
        self.reader
            .ask(move |reply| Query::Range {
                prefix,
                after,
                limit,
                reply,
            })
            .boxed()
    }

    fn watch<'a>(&'a self, prefix: &'a Key) -> Answer<'a, Watch> {
        futures::future::ready(Ok(self.watchers.watch(prefix.clone()))).boxed()
    }
}
