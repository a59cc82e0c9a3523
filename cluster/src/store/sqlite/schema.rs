//! The tables, and how a file of an older version gets them.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::row::failure;
use crate::store::StoreError;

/// A kind of file.
pub(crate) struct Format {
    /// Marks it, in the header's application id.
    pub(crate) application: u32,
    /// What turns version n of the schema into version n + 1. A step that has shipped never changes.
    pub(crate) steps: &'static [&'static str],
}

/// The store: "Tthr".
pub(super) const STORE: Format = Format {
    application: 0x5474_6872,
    steps: STEPS,
};

/// A rowid table, since values are larger than what an index page holds well.
const STEPS: &[&str] = &["
    CREATE TABLE item (
        key TEXT PRIMARY KEY NOT NULL,
        value BLOB NOT NULL,
        revision INTEGER NOT NULL,
        expires INTEGER
    ) STRICT;
    CREATE INDEX item_by_expiry ON item (expires) WHERE expires IS NOT NULL;
    CREATE TABLE counter (
        name TEXT PRIMARY KEY NOT NULL,
        value INTEGER NOT NULL
    ) STRICT;
    INSERT INTO counter VALUES ('revision', 0);
"];

impl Format {
    /// Refuses a schema that this build does not know.
    pub(super) fn check_version(&self, path: &Path, found: u32) -> Result<(), StoreError> {
        let known = known(self.steps);
        if found > known {
            let path = path.to_owned();
            return Err(StoreError::TooNew { path, found, known });
        }
        Ok(())
    }

    /// Brings the file to the newest version, or leaves it as it is.
    pub(super) fn migrate(
        &self,
        path: &Path,
        connection: &mut Connection,
    ) -> Result<(), StoreError> {
        let found = version(path, connection)?;
        run(connection, found, self.steps).map_err(|error| failure(path, &error))
    }
}

/// The version as the engine sees it, with what is still in the write-ahead log.
pub(super) fn version(path: &Path, connection: &Connection) -> Result<u32, StoreError> {
    connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| failure(path, &error))
}

fn run(connection: &mut Connection, found: u32, steps: &[&str]) -> rusqlite::Result<()> {
    let pending = steps.iter().skip(found as usize);
    if pending.len() == 0 {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in pending {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known(steps))?;
    transaction.commit()
}

fn known(steps: &[&str]) -> u32 {
    u32::try_from(steps.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(connection: &Connection) -> Vec<String> {
        let mut statement = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            .expect("prepares");
        let names = statement.query_map([], |row| row.get(0)).expect("queries");
        names.collect::<Result<_, _>>().expect("reads")
    }

    #[test]
    fn an_empty_file_gets_every_step_and_a_second_run_does_nothing() {
        let mut connection = Connection::open_in_memory().expect("opens");
        for _ in 0..2 {
            let done = STORE.migrate(Path::new("store"), &mut connection);
            done.expect("migrates");
            assert_eq!(tables(&connection), ["counter", "item"]);
            assert_eq!(version(Path::new("store"), &connection), Ok(known(STEPS)));
        }
    }

    #[test]
    fn an_older_file_gets_the_steps_it_lacks_and_keeps_its_rows() {
        let mut connection = Connection::open_in_memory().expect("opens");
        let steps = [
            "CREATE TABLE old (a INTEGER) STRICT; INSERT INTO old VALUES (7);",
            "ALTER TABLE old RENAME TO new;",
            "ALTER TABLE new ADD COLUMN b INTEGER;",
        ];
        run(&mut connection, 0, &steps[..1]).expect("the first version");
        run(&mut connection, 1, &steps).expect("migrates");
        let row = connection.query_row("SELECT a, b FROM new", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        });
        assert_eq!(row, Ok((7, None::<i64>)));
        assert_eq!(version(Path::new("store"), &connection), Ok(3));
    }

    #[test]
    fn a_step_that_fails_leaves_the_file_as_it_was() {
        let mut connection = Connection::open_in_memory().expect("opens");
        let steps = ["CREATE TABLE a (a INTEGER) STRICT;", "CREATE TABLE a (b);"];
        run(&mut connection, 0, &steps).expect_err("the table is there already");
        assert_eq!(tables(&connection), [""; 0]);
        assert_eq!(version(Path::new("store"), &connection), Ok(0));
    }
}
