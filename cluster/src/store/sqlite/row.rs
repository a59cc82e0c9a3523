//! How items look in a table, and how the engine's failures look to the caller.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, Row};

use crate::store::{Item, Key, StoreError};

/// The columns that [`item`] reads.
pub(super) const COLUMNS: &str = "key, value, revision, expires";

/// Milliseconds since 1970, the columns' unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Millis(pub(super) i64);

/// A revision as a column holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Revision(pub(super) u64);

pub(super) fn item(row: &Row<'_>) -> rusqlite::Result<Item> {
    Ok(Item {
        key: row.get(0)?,
        value: row.get(1)?,
        revision: row.get::<_, Revision>(2)?.0,
        expires: row.get::<_, Option<Millis>>(3)?.map(SystemTime::from),
    })
}

/// Names the file in a failure of the engine.
pub(super) fn failure(path: &Path, error: &rusqlite::Error) -> StoreError {
    use rusqlite::Error as E;

    let detail = error.to_string();
    let path = path.to_owned();
    match (error.sqlite_error_code(), error) {
        (Some(ErrorCode::DatabaseCorrupt), _)
        | (_, E::FromSqlConversionFailure(..) | E::InvalidColumnType(..))
        | (_, E::QueryReturnedNoRows) => StoreError::Corrupt { path, detail },
        (Some(ErrorCode::NotADatabase), _) => StoreError::Foreign { path, detail },
        (Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked), _) => StoreError::Busy { path },
        (Some(ErrorCode::DiskFull), _) => StoreError::Full { path },
        _ => StoreError::Io { path, detail },
    }
}

impl From<SystemTime> for Millis {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let millis = since.unwrap_or(Duration::ZERO).as_millis();
        Self(i64::try_from(millis).unwrap_or(i64::MAX))
    }
}

impl From<Millis> for SystemTime {
    fn from(Millis(millis): Millis) -> Self {
        let since = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        Self::UNIX_EPOCH + since
    }
}

impl ToSql for Millis {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for Millis {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self)
    }
}

impl ToSql for Revision {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let revision = i64::try_from(self.0)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(revision.into())
    }
}

impl FromSql for Revision {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let revision = value.as_i64()?;
        u64::try_from(revision)
            .map(Self)
            .map_err(|error| FromSqlError::Other(error.into()))
    }
}

impl ToSql for Key {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.as_str().to_sql()
    }
}

impl FromSql for Key {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let parsed = value.as_str()?.parse();
        parsed.map_err(|error: StoreError| FromSqlError::Other(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_millisecond_and_stay_in_bounds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        assert_eq!(Millis::from(time), Millis(1_700_000_000_123));
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Millis::from(before), Millis(0));
        let last = SystemTime::from(Millis(i64::MAX));
        assert_eq!(
            Millis::from(last + Duration::from_secs(1)),
            Millis(i64::MAX)
        );
    }
}
