//! The reading thread.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::row::{COLUMNS, Millis, failure, item};
use super::worker::{Jobs, Reply};
use super::{Clock, file, schema};
use crate::store::{Item, Key, StoreError};

pub(super) enum Query {
    Get {
        key: Key,
        reply: Reply<Option<Item>>,
    },
    Range {
        prefix: Key,
        after: Option<Key>,
        limit: usize,
        reply: Reply<Vec<Item>>,
    },
}

pub(super) struct Reader {
    path: PathBuf,
    connection: Connection,
    clock: Clock,
}

impl Reader {
    pub(super) fn new(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let connection = file::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // The engine opens its files at their first use. If it cannot, say so now.
        schema::version(path, &connection)?;
        Ok(Self {
            path: path.to_owned(),
            connection,
            clock,
        })
    }

    pub(super) fn run(self, queries: &Jobs<Query>) {
        while let Some(query) = queries.next() {
            // An answer that nobody waits for any more is dropped.
            match query {
                Query::Get { key, reply } => drop(reply.send(self.named(self.get(&key)))),
                Query::Range {
                    prefix,
                    after,
                    limit,
                    reply,
                } => {
                    let page = self.range(&prefix, after.as_ref(), limit);
                    drop(reply.send(self.named(page)));
                }
            }
        }
    }

    fn get(&self, key: &Key) -> rusqlite::Result<Option<Item>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM item WHERE key = ?1 AND (expires IS NULL OR expires > ?2)"
        );
        self.connection
            .prepare_cached(&sql)?
            .query_row(params![key, self.now()], item)
            .optional()
    }

    /// The prefix's own item and the items below it are two stretches of the index: siblings
    /// such as `/nodes-old` lie between `/nodes` and `/nodes/ab12`.
    fn range(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> rusqlite::Result<Vec<Item>> {
        let mut page = Vec::new();
        if limit > 0 && after.is_none_or(|after| after < prefix) {
            page.extend(self.get(prefix)?);
        }
        let start = format!("{prefix}/");
        // The character behind the slash.
        let end = format!("{prefix}0");
        let start = after.map_or(start.as_str(), |after| start.as_str().max(after.as_str()));
        let left = i64::try_from(limit - page.len()).unwrap_or(i64::MAX);
        let sql = format!(
            "SELECT {COLUMNS} FROM item
             WHERE key > ?1 AND key < ?2 AND (expires IS NULL OR expires > ?3)
             ORDER BY key LIMIT ?4"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        for row in statement.query_map(params![start, end, self.now(), left], item)? {
            page.push(row?);
        }
        Ok(page)
    }

    fn now(&self) -> Millis {
        (self.clock)().into()
    }

    fn named<T>(&self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| failure(&self.path, &error))
    }
}
