//! What is found under the store's name, and what may happen to it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::{Bench, key};
use crate::store::sqlite::file;
use crate::store::sqlite::schema::STORE;
use crate::store::{Backend, StoreError};

const PAGE: usize = 4096;

/// A closed store with some tables, indexes and overflow pages.
async fn filled() -> Bench {
    let bench = Bench::new();
    let store = bench.open();
    for i in 0..200_usize {
        let path = key(&format!("/nodes/{i}"));
        store
            .put(&path, vec![7; i * 50], None)
            .await
            .expect("writes");
    }
    drop(store);
    bench
}

fn sibling(bench: &Bench, suffix: &str) -> PathBuf {
    bench.folder.path().join(format!("store.db{suffix}"))
}

/// The store is refused, by the name of its file, which stays as it is.
fn refused(bench: &Bench) -> StoreError {
    let before = fs::read(bench.path()).expect("reads");
    let log = fs::read(sibling(bench, "-wal")).ok();
    for _ in 0..2 {
        let error = bench.try_open().err().expect("refused");
        let path = bench.path().display().to_string();
        assert!(error.to_string().contains(&path), "{error}");
        assert!(fs::read(bench.path()).expect("reads") == before, "altered");
    }
    if let Some(log) = log {
        assert!(fs::read(sibling(bench, "-wal")).expect("reads") == log);
    }
    bench.try_open().err().expect("refused")
}

fn corrupt(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt { .. })
}

fn foreign(error: &StoreError) -> bool {
    matches!(error, StoreError::Foreign { .. })
}

/// A database of another program, in the same journal mode and with the same tables.
fn database(path: &Path, application: u32, version: u32) {
    let file = Connection::open(path).expect("opens");
    file.pragma_update(None, "application_id", application)
        .expect("sets");
    file.pragma_update(None, "journal_mode", "WAL")
        .expect("sets");
    file.execute_batch("CREATE TABLE item (key TEXT)")
        .expect("creates");
    file.pragma_update(None, "user_version", version)
        .expect("sets");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_new_store_is_for_its_owner_alone_and_survives_a_restart() {
    let bench = Bench::new();
    let store = bench.open();
    store.put(&key("/a"), vec![1], None).await.expect("writes");
    for suffix in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&sibling(&bench, suffix)), 0o600, "{suffix}");
    }
    drop(store);
    let left = fs::read_dir(bench.folder.path()).expect("lists").count();
    assert_eq!(left, 2, "the file and its lock");
    let item = bench.open().get(&key("/a")).await.expect("reads");
    assert_eq!(item.expect("is there").value, [1]);
}

#[test]
fn the_writer_waits_for_the_disk_and_the_file_is_marked() {
    let bench = Bench::new();
    let writer = file::open(&bench.path(), &STORE).expect("opens");
    let number = |name| writer.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    assert_eq!(number("application_id"), Ok(STORE.application));
    assert_eq!(number("user_version"), Ok(1));
    assert_eq!(number("synchronous"), Ok(2), "FULL");
    let mode = writer.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0));
    assert_eq!(mode.as_deref(), Ok("wal"));
}

#[tokio::test]
async fn a_second_opener_is_refused_while_the_first_one_lives() {
    let bench = Bench::new();
    let store = bench.open();
    let path = bench.path();
    assert_eq!(bench.try_open().err(), Some(StoreError::Busy { path }));
    store
        .put(&key("/a"), vec![], None)
        .await
        .expect("the first one works on");
    drop(store);
    bench.open();
}

#[test]
fn a_folder_that_is_missing_is_named_and_not_made() {
    let mut bench = Bench::new();
    let folder = bench.folder.path().join("missing");
    let path = folder.join("store.db");
    let options = bench.options();
    let error = crate::store::sqlite::Sqlite::open(&path, options)
        .err()
        .expect("refused");
    assert!(error.to_string().contains(&folder.display().to_string()));
    assert!(!folder.exists());
    bench.folder.disable_cleanup(false);
}

#[test]
fn a_folder_in_the_files_place_is_refused() {
    let bench = Bench::new();
    fs::create_dir(bench.path()).expect("makes");
    assert!(matches!(
        bench.try_open().err(),
        Some(StoreError::Io { .. })
    ));
}

#[test]
fn files_of_other_programs_are_refused() {
    let text = Bench::new();
    fs::write(text.path(), "users:\n  - ann\n".repeat(1000)).expect("writes");
    assert!(foreign(&refused(&text)));
    for application in [0, STORE.application + 1] {
        let bench = Bench::new();
        database(&bench.path(), application, 1);
        assert!(foreign(&refused(&bench)), "application {application}");
    }
}

#[test]
fn a_foreign_database_keeps_its_write_ahead_log() {
    let bench = Bench::new();
    let file = Connection::open(bench.path()).expect("opens");
    let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    file.set_db_config(keep_log, true).expect("sets");
    file.pragma_update(None, "journal_mode", "WAL")
        .expect("sets");
    file.execute_batch("CREATE TABLE a (a)").expect("creates");
    drop(file);
    assert!(
        fs::metadata(sibling(&bench, "-wal"))
            .expect("is there")
            .len()
            > 0
    );
    assert!(foreign(&refused(&bench)));
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused() {
    let bench = filled().await;
    let file = Connection::open(bench.path()).expect("opens");
    let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    file.set_db_config(keep_log, true).expect("sets");
    file.pragma_update(None, "user_version", 99).expect("sets");
    drop(file);
    let newer = StoreError::TooNew {
        path: bench.path(),
        found: 99,
        known: 1,
    };
    assert_eq!(refused(&bench), newer, "the version is in the log only");
    drop(
        Connection::open(bench.path())
            .and_then(|file| file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))),
    );
    assert_eq!(refused(&bench), newer, "the version is in the header");
}

#[tokio::test]
async fn a_store_of_version_0_is_brought_up_to_date() {
    let bench = Bench::new();
    let file = Connection::open(bench.path()).expect("opens");
    file.pragma_update(None, "application_id", STORE.application)
        .expect("sets");
    drop(file);
    let store = bench.open();
    assert_eq!(store.put(&key("/a"), vec![], None).await, Ok(1));
}

#[tokio::test]
async fn a_truncated_store_is_refused() {
    let bench = filled().await;
    let whole = fs::read(bench.path()).expect("reads");
    for length in [
        0,
        10,
        99,
        100,
        PAGE,
        PAGE + 1,
        whole.len() / 2,
        whole.len() - PAGE,
    ] {
        fs::write(bench.path(), &whole[..length]).expect("writes");
        assert!(corrupt(&refused(&bench)), "{length} bytes");
    }
}

#[tokio::test]
async fn a_store_with_any_page_destroyed_is_refused() {
    let bench = filled().await;
    let whole = fs::read(bench.path()).expect("reads");
    for page in 1..whole.len() / PAGE {
        let mut damaged = whole.clone();
        for byte in &mut damaged[page * PAGE..][..64] {
            *byte ^= 0xa5;
        }
        fs::write(bench.path(), &damaged).expect("writes");
        assert!(corrupt(&refused(&bench)), "page {page}");
    }
    fs::write(bench.path(), &whole).expect("writes");
    bench.open();
}

#[tokio::test]
async fn damage_under_a_running_store_is_named_when_it_is_met() {
    let bench = filled().await;
    let store = bench.open();
    let mut damaged = fs::read(bench.path()).expect("reads");
    damaged[PAGE..].fill(0xa5);
    fs::write(bench.path(), &damaged).expect("writes");
    let error = store
        .range(&key("/nodes"), None, 1000)
        .await
        .expect_err("refuses");
    assert!(corrupt(&error), "{error}");
}

#[tokio::test]
async fn a_lost_file_whose_log_is_there_is_not_replaced() {
    let bench = Bench::new();
    let log = sibling(&bench, "-wal");
    fs::write(&log, "what was written last").expect("writes");
    assert!(corrupt(&bench.try_open().err().expect("refused")));
    assert!(!bench.path().exists());
    assert_eq!(fs::read(&log).expect("reads"), b"what was written last");
}

#[test]
fn a_creation_that_was_cut_off_is_begun_anew() {
    let bench = Bench::new();
    for suffix in [".new", ".new-journal", ".new-wal"] {
        fs::write(sibling(&bench, suffix), "half").expect("writes");
    }
    bench.open();
    assert!(!sibling(&bench, ".new").exists());
    assert!(!sibling(&bench, ".new-journal").exists());
}
