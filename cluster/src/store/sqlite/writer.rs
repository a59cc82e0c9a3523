//! The writing thread: batches, the counter of revisions, and the sweep.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::Clock;
use super::change::{Change, Effect};
use super::row::{Millis, Revision, failure};
use super::worker::{Jobs, Next, Reply};
use crate::store::watch::Watchers;
use crate::store::{Event, Item, Key, StoreError};

/// Changes in one transaction. Beyond some dozens the share of the disk's wait that each one
/// bears hardly falls, while the first one waits for all the others.
const BATCH: usize = 128;

/// Deletions in one transaction of the sweep, so that changes come through between.
const SWEEP: usize = 256;

/// Sweeps that are left out after one that failed: a full disk gives a line a minute in the log.
const PATIENCE: u32 = 60;

pub(super) struct Request {
    pub(super) change: Change,
    pub(super) reply: Reply<u64>,
}

/// When to do what nobody asks for.
pub(super) struct Pace {
    pub(super) clock: Clock,
    pub(super) sweep_every: Duration,
}

pub(super) struct Writer {
    path: PathBuf,
    connection: Connection,
    /// The last one given. Not taken back when a transaction fails.
    revision: u64,
}

/// What became of one change: the engine did its part, so a refusal concerns it alone.
type Outcome = Result<Event, StoreError>;

/// Works until the requests end.
pub(super) fn run(mut writer: Writer, requests: &Jobs<Request>, watchers: &Watchers, pace: &Pace) {
    let mut next_sweep = Instant::now() + pace.sweep_every;
    loop {
        match requests.next_before(next_sweep) {
            Next::Job(first) => {
                let rest = requests.queued().take(BATCH - 1);
                let batch = std::iter::once(first).chain(rest).collect();
                writer.answer(batch, watchers, (pace.clock)().into());
            }
            Next::DeadlinePassed => {}
            Next::Closed => break,
        }
        if next_sweep <= Instant::now() {
            next_sweep = Instant::now() + writer.tidy(watchers, pace);
        }
    }
    writer.close();
}

impl Writer {
    pub(super) fn new(path: &Path, connection: Connection) -> Result<Self, StoreError> {
        let revision = connection
            .query_row(
                "SELECT value FROM counter WHERE name = 'revision'",
                [],
                |row| row.get(0),
            )
            .map_err(|error| failure(path, &error))?;
        let Revision(revision) = revision;
        Ok(Self {
            path: path.to_owned(),
            connection,
            revision,
        })
    }

    fn answer(&mut self, requests: Vec<Request>, watchers: &Watchers, now: Millis) {
        let (changes, replies): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|r| (r.change, r.reply)).unzip();
        let outcomes = match self.commit(changes, now) {
            Ok(outcomes) => outcomes,
            Err(error) => vec![Err(error); replies.len()],
        };
        let answers: Vec<_> = outcomes
            .iter()
            .map(|outcome| outcome.as_ref().map(Event::revision).map_err(Clone::clone))
            .collect();
        watchers.publish(outcomes.into_iter().flatten());
        for (reply, answer) in replies.into_iter().zip(answers) {
            // Nobody may wait for it any more. The change has happened all the same.
            let _ = reply.send(answer);
        }
    }

    /// Makes all changes that are allowed, in their order, or none if the engine fails.
    fn commit(&mut self, changes: Vec<Change>, now: Millis) -> Result<Vec<Outcome>, StoreError> {
        self.transact(now, |batch| {
            changes
                .into_iter()
                .map(|change| batch.apply(change))
                .collect()
        })
    }

    /// Deletes what has expired, and tells how long to wait until the next time.
    fn tidy(&mut self, watchers: &Watchers, pace: &Pace) -> Duration {
        match self.transact((pace.clock)().into(), |batch| batch.sweep()) {
            Ok(events) => {
                let more = events.len() == SWEEP;
                watchers.publish(events);
                if more {
                    Duration::ZERO
                } else {
                    pace.sweep_every
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot delete expired items");
                pace.sweep_every * PATIENCE
            }
        }
    }

    fn transact<T>(
        &mut self,
        now: Millis,
        work: impl FnOnce(&mut Batch<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let revision = &mut self.revision;
        self.connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                let before = *revision;
                let mut batch = Batch {
                    transaction,
                    revision,
                    now,
                };
                let result = work(&mut batch)?;
                batch.finish(before)?;
                Ok(result)
            })
            .map_err(|error| failure(&self.path, &error))
    }

    /// Folds the write-ahead log into the file. If that fails, the next start does it.
    fn close(self) {
        let folded = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .and_then(|()| self.connection.close().map_err(|(_, error)| error));
        if let Err(error) = folded {
            let error = failure(&self.path, &error);
            tracing::warn!(%error, "cannot close the store cleanly");
        }
    }
}

/// A transaction. The engine's failures end it, refusals of single changes do not.
struct Batch<'a> {
    transaction: Transaction<'a>,
    revision: &'a mut u64,
    now: Millis,
}

impl Batch<'_> {
    fn apply(&mut self, change: Change) -> rusqlite::Result<Outcome> {
        let Change {
            key,
            expected,
            effect,
        } = change;
        let found = self.live_revision(&key)?;
        if let Err(refusal) = expected.check(&key, found) {
            return Ok(Err(refusal));
        }
        let event = match effect {
            Effect::Put { value, expires } => self.put(key, value, expires.map(Millis::from))?,
            Effect::Delete => self.delete(key)?,
        };
        Ok(Ok(event))
    }

    fn live_revision(&self, key: &Key) -> rusqlite::Result<Option<u64>> {
        const SQL: &str = "SELECT revision FROM item
            WHERE key = ?1 AND (expires IS NULL OR expires > ?2)";
        self.transaction
            .prepare_cached(SQL)?
            .query_row(params![key, self.now], |row| row.get(0))
            .map(|Revision(revision)| revision)
            .optional()
    }

    fn put(
        &mut self,
        key: Key,
        value: Vec<u8>,
        expires: Option<Millis>,
    ) -> rusqlite::Result<Event> {
        const SQL: &str = "INSERT INTO item (key, value, revision, expires)
            VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (key) DO UPDATE SET
                value = excluded.value, revision = excluded.revision, expires = excluded.expires";
        let revision = self.next_revision();
        self.transaction.prepare_cached(SQL)?.execute(params![
            key,
            value,
            Revision(revision),
            expires
        ])?;
        Ok(Event::Put(Item {
            key,
            value,
            revision,
            expires: expires.map(Into::into),
        }))
    }

    fn delete(&mut self, key: Key) -> rusqlite::Result<Event> {
        let revision = self.next_revision();
        self.transaction
            .prepare_cached("DELETE FROM item WHERE key = ?1")?
            .execute([&key])?;
        Ok(Event::Deleted { key, revision })
    }

    fn sweep(&mut self) -> rusqlite::Result<Vec<Event>> {
        let keys: Vec<Key> = self
            .transaction
            .prepare_cached("SELECT key FROM item WHERE expires <= ?1 ORDER BY expires LIMIT ?2")?
            .query_map(params![self.now, SWEEP as i64], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        keys.into_iter().map(|key| self.delete(key)).collect()
    }

    fn next_revision(&mut self) -> u64 {
        *self.revision += 1;
        *self.revision
    }

    fn finish(self, before: u64) -> rusqlite::Result<()> {
        if *self.revision != before {
            self.transaction
                .prepare_cached("UPDATE counter SET value = ?1 WHERE name = 'revision'")?
                .execute([Revision(*self.revision)])?;
        }
        self.transaction.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::Expectation;
    use super::super::schema;
    use super::*;

    fn writer(path: &Path) -> Writer {
        let mut connection = Connection::open(path).expect("opens");
        connection.busy_timeout(Duration::ZERO).expect("sets");
        schema::STORE
            .migrate(path, &mut connection)
            .expect("migrates");
        Writer::new(path, connection).expect("a writer")
    }

    fn put(text: &str, size: usize) -> Change {
        let effect = Effect::Put {
            value: vec![7; size],
            expires: None,
        };
        let key = text.parse().expect("a key");
        Change {
            key,
            expected: Expectation::None,
            effect,
        }
    }

    #[test]
    fn a_full_disk_fails_a_batch_as_a_whole_and_the_next_one_may_fit() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        let mut writer = writer(&path);
        writer
            .connection
            .pragma_update(None, "max_page_count", 50)
            .expect("sets");
        let full = writer.commit(
            vec![put("/a", 9), put("/b", 250_000), put("/c", 9)],
            Millis(0),
        );
        assert_eq!(full, Err(StoreError::Full { path }));
        let given = writer.revision;
        let outcomes = writer.commit(vec![put("/a", 9), put("/c", 9)], Millis(0));
        let revisions = outcomes
            .expect("fits")
            .into_iter()
            .map(|o| o.expect("writes").revision());
        assert!(revisions.eq([given + 1, given + 2]));
    }

    #[test]
    fn a_file_that_someone_else_writes_to_is_named_as_busy() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        let mut writer = writer(&path);
        let other = Connection::open(&path).expect("opens");
        other.execute_batch("BEGIN IMMEDIATE").expect("begins");
        let busy = writer.commit(vec![put("/a", 9)], Millis(0));
        assert_eq!(busy, Err(StoreError::Busy { path }));
        other.execute_batch("ROLLBACK").expect("ends");
        assert!(writer.commit(vec![put("/a", 9)], Millis(0)).is_ok());
    }
}
