//! Where events are kept: one writer thread over an SQLite file.

use std::path::{Path, PathBuf};
use std::thread;

use rusqlite::{Connection, params};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};

use super::Event;

/// Events waiting to be written; whoever records more waits.
const QUEUE: usize = 256;
/// "TAUD", so that another program's file is never taken for ours.
const APPLICATION_ID: i32 = 0x5441_5544;
/// Most events one search gives.
const MAX_FOUND: usize = 10_000;

/// Why the audit log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// SQLite refused.
    #[error("audit log {}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file is something else.
    #[error("{} is not an audit log of Tether; move it away, it is left as it is", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// No thread could be started.
    #[error("audit log: {0}")]
    Thread(std::io::Error),
}

enum Job {
    Record {
        event: Event,
        done: oneshot::Sender<()>,
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
}

impl Audit {
    /// Opens the log, or makes it.
    ///
    /// # Errors
    /// If the file is foreign, damaged, or cannot be written.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let connection = open(path)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name("audit".into())
            .spawn(move || work(&connection, queue))
            .map_err(AuditError::Thread)?;
        Ok(Self { jobs })
    }

    /// Writes an event down, and returns when that is done.
    pub async fn record(&self, event: Event) {
        let (done, written) = oneshot::channel();
        if self.jobs.send(Job::Record { event, done }).await.is_ok() {
            // An error here means that the log is gone, which `work` has reported.
            written.await.ok();
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

fn open(path: &Path) -> Result<Connection, AuditError> {
    let failed = |source| AuditError::Sqlite {
        path: path.to_owned(),
        source,
    };
    crate::files::create_private(path).map_err(AuditError::Thread)?;
    let connection = Connection::open(path).map_err(failed)?;
    let id: i32 = connection
        .pragma_query_value(None, "application_id", |r| r.get(0))
        .map_err(failed)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))
        .map_err(failed)?;
    if id != APPLICATION_ID && (id != 0 || tables > 0) {
        return Err(AuditError::Foreign {
            path: path.to_owned(),
        });
    }
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA application_id = {APPLICATION_ID};
             CREATE TABLE IF NOT EXISTS events (
                 seq INTEGER PRIMARY KEY,
                 time INTEGER NOT NULL,
                 event TEXT NOT NULL
             ) STRICT;"
        ))
        .map_err(failed)?;
    Ok(connection)
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
    let mut written = Vec::new();
    let mut searches = Vec::new();
    let in_transaction = connection.execute_batch("BEGIN IMMEDIATE").is_ok();
    for job in batch.drain(..) {
        match job {
            Job::Record { event, done } => {
                write(connection, event);
                written.push(done);
            }
            Job::Find { limit, found } => searches.push((limit, found)),
        }
    }
    if in_transaction && let Err(error) = connection.execute_batch("COMMIT") {
        tracing::error!(%error, "audit events could not be written; they are in this log only");
    }
    for done in written {
        done.send(()).ok();
    }
    for (limit, found) in searches {
        found
            .send(find(connection, limit).map_err(|e| e.to_string()))
            .ok();
    }
}

fn write(connection: &Connection, event: Event) {
    let now = OffsetDateTime::now_utc();
    let sealed = event.seal(&hex::encode(rand::random::<[u8; 16]>()), now);
    tracing::info!(target: "audit", "{sealed}");
    let row = params![now.unix_timestamp(), sealed.to_string()];
    if let Err(error) = connection.execute("INSERT INTO events (time, event) VALUES (?1, ?2)", row)
    {
        tracing::error!(%error, "an audit event could not be written; it is in this log only");
    }
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
