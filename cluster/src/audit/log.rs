//! Where events are kept: one writer thread over an SQLite file.

use std::path::Path;
use std::thread;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};

use super::Event;
use super::refusals::Refusals;
use crate::store::StoreError;
use crate::store::sqlite::file;
use crate::store::sqlite::schema::Format;

/// Events waiting to be written; whoever records more waits.
const QUEUE: usize = 256;
/// "TAUD". Before there were versions, the table was there already.
const FORMAT: Format = Format {
    application: 0x5441_5544,
    steps: &["
        CREATE TABLE IF NOT EXISTS events (
            seq INTEGER PRIMARY KEY,
            time INTEGER NOT NULL,
            event TEXT NOT NULL
        ) STRICT;
    "],
};
/// Most events one search gives.
const MAX_FOUND: usize = 10_000;

/// Why the audit log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file is damaged, foreign or of a newer version, or cannot be read.
    #[error("audit log {0}")]
    File(#[from] StoreError),
    /// No thread could be started.
    #[error("audit log: {0}")]
    Thread(std::io::Error),
}

/// An event was not written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written; the cluster's own log says why")]
pub struct Unwritten;

enum Job {
    Record {
        event: Event,
        done: oneshot::Sender<bool>,
    },
    Find {
        limit: usize,
        found: oneshot::Sender<Result<Vec<Value>, String>>,
    },
}

/// The audit log. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    jobs: mpsc::Sender<Job>,
    pub(super) refusals: Refusals,
}

impl Audit {
    /// Opens the log, or makes it.
    ///
    /// # Errors
    /// If the file is foreign, damaged, or cannot be written.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let connection = file::open(path, &FORMAT)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name("audit".into())
            .spawn(move || work(&connection, queue))
            .map_err(AuditError::Thread)?;
        let refusals = Refusals::default();
        Ok(Self { jobs, refusals })
    }

    /// Writes down what has happened, and returns when that is done or has failed, which the
    /// cluster's own log says.
    pub async fn record(&self, event: Event) {
        self.require(event).await.ok();
    }

    /// Writes down what must not happen without its trace.
    ///
    /// # Errors
    /// If it is not written; the cluster's own log says why.
    pub async fn require(&self, event: Event) -> Result<(), Unwritten> {
        let (done, written) = oneshot::channel();
        let job = Job::Record { event, done };
        self.jobs.send(job).await.map_err(|_| Unwritten)?;
        match written.await {
            Ok(true) => Ok(()),
            _ => Err(Unwritten),
        }
    }

    /// The newest events, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn newest(&self, limit: usize) -> Result<Vec<Value>, String> {
        let (found, answer) = oneshot::channel();
        let closed = || "the audit log is closed".to_owned();
        let limit = limit.min(MAX_FOUND);
        self.jobs
            .send(Job::Find { limit, found })
            .await
            .map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

fn work(connection: &Connection, mut queue: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(QUEUE);
    while let Some(first) = queue.blocking_recv() {
        batch.push(first);
        while let Ok(more) = queue.try_recv() {
            batch.push(more);
            if batch.len() == QUEUE {
                break;
            }
        }
        serve(connection, &mut batch);
    }
}

/// Writes all waiting events in one transaction, then answers.
fn serve(connection: &Connection, batch: &mut Vec<Job>) {
    let mut events = Vec::new();
    let mut searches = Vec::new();
    for job in batch.drain(..) {
        match job {
            Job::Record { event, done } => events.push((seal(event), done)),
            Job::Find { limit, found } => searches.push((limit, found)),
        }
    }
    let sealed = events.iter().map(|(sealed, _)| sealed);
    let written = match events.is_empty() {
        true => Ok(()),
        false => write(connection, sealed),
    };
    if let Err(error) = &written {
        tracing::error!(%error, "audit events could not be written; they are in this log only");
    }
    for (_, done) in events {
        done.send(written.is_ok()).ok();
    }
    for (limit, found) in searches {
        found
            .send(find(connection, limit).map_err(|e| e.to_string()))
            .ok();
    }
}

fn seal(event: Event) -> (i64, Value) {
    let now = OffsetDateTime::now_utc();
    let sealed = event.seal(&hex::encode(rand::random::<[u8; 16]>()), now);
    tracing::info!(target: "audit", "{sealed}");
    (now.unix_timestamp(), sealed)
}

/// All of them or none. What is begun is taken back, or it would be in the way of what follows.
fn write<'a>(
    connection: &Connection,
    events: impl Iterator<Item = &'a (i64, Value)>,
) -> rusqlite::Result<()> {
    let behavior = TransactionBehavior::Immediate;
    let transaction = Transaction::new_unchecked(connection, behavior)?;
    let mut insert =
        connection.prepare_cached("INSERT INTO events (time, event) VALUES (?1, ?2)")?;
    for (time, event) in events {
        insert.execute(params![time, event.to_string()])?;
    }
    drop(insert);
    transaction.commit()
}

fn find(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<Value>> {
    let mut rows =
        connection.prepare_cached("SELECT event FROM events ORDER BY seq DESC LIMIT ?1")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let events: Vec<String> = rows
        .query_map([limit], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(events
        .iter()
        .rev()
        .filter_map(|text| serde_json::from_str(text).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::super::code;
    use super::*;

    fn event() -> Event {
        Event::new(code::LOGIN)
    }

    /// A closed log with some events in it.
    fn filled(path: &Path) {
        let connection = file::open(path, &FORMAT).unwrap();
        let events: Vec<_> = (0..100)
            .map(|_| seal(event().user(&"x".repeat(500))))
            .collect();
        write(&connection, events.iter()).unwrap();
        connection.close().unwrap();
    }

    fn refused(path: &Path) -> StoreError {
        let before = std::fs::read(path).unwrap();
        let error = Audit::open(path).err().unwrap();
        assert!(std::fs::read(path).unwrap() == before, "altered");
        match error {
            AuditError::File(error) => error,
            AuditError::Thread(error) => StoreError::io(path, &error),
        }
    }

    #[test]
    fn a_log_that_is_emptied_damaged_or_too_new_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.db");
        filled(&path);
        let whole = std::fs::read(&path).unwrap();
        for page in 1..whole.len() / 4096 {
            let mut damaged = whole.clone();
            damaged[page * 4096..][..64].fill(0xa5);
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(refused(&path), StoreError::Corrupt { .. }));
        }
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(refused(&path), StoreError::Corrupt { .. }));
        std::fs::write(&path, &whole).unwrap();
        let newer = Connection::open(&path).unwrap();
        newer.pragma_update(None, "user_version", 2).unwrap();
        newer.close().unwrap();
        let newer = |error| {
            matches!(
                error,
                StoreError::TooNew {
                    found: 2,
                    known: 1,
                    ..
                }
            )
        };
        assert!(newer(refused(&path)));
    }

    #[tokio::test]
    async fn a_log_from_before_there_were_versions_keeps_its_events() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.db");
        filled(&path);
        let older = Connection::open(&path).unwrap();
        older.pragma_update(None, "user_version", 0).unwrap();
        older.close().unwrap();
        let audit = Audit::open(&path).unwrap();
        audit.require(event()).await.unwrap();
        assert_eq!(audit.newest(1000).await.unwrap().len(), 101);
    }

    #[tokio::test]
    async fn what_is_not_written_is_not_acknowledged_and_stands_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.db");
        let audit = Audit::open(&path).unwrap();
        let other = Connection::open(&path).unwrap();
        let full =
            "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(FAIL, 'full'); END";
        other.execute_batch(full).unwrap();
        assert_eq!(audit.require(event()).await, Err(Unwritten));
        audit.record(event()).await;
        other.execute_batch("DROP TRIGGER full").unwrap();
        audit.require(event()).await.unwrap();
        assert_eq!(audit.newest(10).await.unwrap().len(), 1);
    }
}
