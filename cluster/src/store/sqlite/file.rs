//! Opening a file: only a sound one is touched, everything else is refused as it is.
//!
//! A new file is prepared under another name and then renamed, so under its own name there is
//! never a half-made one, and an empty file is damage and no beginning. What the header tells is
//! read without the engine, which would otherwise fold a foreign write-ahead log into its file.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::row::failure;
use super::schema::{self, Format};
use crate::store::StoreError;

/// How long to wait for a shell or a backup that looks into the file. They hold it for moments,
/// and what waits here is every request behind.
const BUSY: Duration = Duration::from_secs(5);

/// SQLite's file format, section 1.3.
const MAGIC: &[u8] = b"SQLite format 3\0";
const HEADER: usize = 100;

/// Takes the lock that keeps a second process out. It lasts as long as the file is open.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let lock_path = beside(path, ".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|error| StoreError::io(&lock_path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Busy {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(StoreError::io(&lock_path, &error)),
    }
}

/// The writer's connection to a file that is checked and up to date. The store's lock has to be held.
pub(crate) fn open(path: &Path, format: &Format) -> Result<Connection, StoreError> {
    if !path
        .try_exists()
        .map_err(|error| StoreError::io(path, &error))?
    {
        create(path, format)?;
    }
    inspect(path, format)?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    let failed = |error| failure(path, &error);
    connection.set_db_config(keep_log, true).map_err(failed)?;
    format.check_version(path, schema::version(path, &connection)?)?;
    check(path, &connection)?;
    durable(path, &connection)?;
    format.migrate(path, &mut connection)?;
    connection.set_db_config(keep_log, false).map_err(failed)?;
    Ok(connection)
}

/// A connection without the engine's own locks: each is used by one thread.
pub(super) fn connect(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .and_then(|connection| connection.busy_timeout(BUSY).map(|()| connection))
        .map_err(|error| failure(path, &error))
}

/// Every commit waits until the disk has it.
fn durable(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .map_err(|error| failure(path, &error))?;
    if mode != "wal" {
        let detail = "this file system does not support a write-ahead log".to_owned();
        return Err(StoreError::Io {
            path: path.to_owned(),
            detail,
        });
    }
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(|error| failure(path, &error))
}

fn create(path: &Path, format: &Format) -> Result<(), StoreError> {
    if fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0) {
        return Err(StoreError::corrupt(
            path,
            "it is missing, but its write-ahead log is there",
        ));
    }
    let draft = beside(path, ".new");
    for leftover in ["", "-journal", "-wal", "-shm"] {
        remove(&beside(&draft, leftover))?;
    }
    prepare(&draft, format)?;
    fs::rename(&draft, path)
        .and_then(|()| File::open(folder(path))?.sync_all())
        .map_err(|error| StoreError::io(path, &error))
}

/// A file of schema version 0, on disk.
fn prepare(draft: &Path, format: &Format) -> Result<(), StoreError> {
    let file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(draft)
        .map_err(|error| StoreError::io(draft, &error))?;
    let connection = connect(draft, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let failed = |error| failure(draft, &error);
    connection
        .pragma_update(None, "application_id", format.application)
        .map_err(failed)?;
    durable(draft, &connection)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    file.sync_all()
        .map_err(|error| StoreError::io(draft, &error))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io(path, &error)),
        _ => Ok(()),
    }
}

/// Reads the header without the engine.
fn inspect(path: &Path, format: &Format) -> Result<(), StoreError> {
    let mut header = Vec::with_capacity(HEADER);
    File::open(path)
        .and_then(|file| file.take(HEADER as u64).read_to_end(&mut header))
        .map_err(|error| StoreError::io(path, &error))?;
    if header.is_empty() {
        return Err(StoreError::corrupt(path, "it is empty"));
    }
    let magic = header.get(..MAGIC.len().min(header.len()));
    if !magic.is_some_and(|magic| MAGIC.starts_with(magic)) {
        return Err(StoreError::foreign(path, "it is not an SQLite database"));
    }
    let (Some(application), Some(version)) = (word(&header, 68), word(&header, 60)) else {
        return Err(StoreError::corrupt(path, "its header is cut short"));
    };
    if application != format.application {
        let detail = format!("it is an SQLite database of application {application:#010x}");
        return Err(StoreError::foreign(path, detail));
    }
    format.check_version(path, version)
}

fn word(header: &[u8], at: usize) -> Option<u32> {
    let bytes = header.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// Has the engine look at every page.
fn check(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = connection
        .pragma_query_value(None, "quick_check", |row| row.get(0))
        .map_err(|error| failure(path, &error))?;
    match verdict.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::corrupt(path, verdict)),
    }
}

fn beside(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
