//! Places that loops must find again.

use async_trait::async_trait;
use consort_core::ports::{Mark, MarkStore, StoreError};
use rusqlite::{Connection, params};
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::rows::{failed, get};
use super::runs::read;
use super::writer::cached;

/// Writes marks, inside a transaction. The last mark of a name counts.
pub(super) fn write(connection: &Connection, marks: &[Mark]) -> rusqlite::Result<()> {
    for mark in marks {
        match &mark.value {
            Some(value) => {
                let mut set = cached(connection, "INSERT OR REPLACE INTO marks (name, value) VALUES (?1, ?2)")?;
                set.execute(params![mark.name, value])?;
            }
            None => {
                cached(connection, "DELETE FROM marks WHERE name = ?1")?.execute([&mark.name])?;
            }
        }
    }
    Ok(())
}

#[async_trait]
impl MarkStore for SqliteStore {
    async fn marks(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<Mark>, StoreError> {
        // Names with a prefix stand together, so what follows the last of them is read once at most and left out here. That
        // keeps the prefix literal, and no end of the range need be made up.
        let query =
            sqlx::query("SELECT name, value FROM marks WHERE name >= ?1 AND name IS NOT ?2 ORDER BY name LIMIT ?3");
        let query = query.bind(prefix.max(after)).bind((!after.is_empty()).then_some(after)).bind(i64::from(limit));
        let mut marks = read(&query.fetch_all(&self.readers).await.map_err(failed)?, mark)?;
        marks.truncate(marks.partition_point(|mark| mark.name.starts_with(prefix)));
        Ok(marks)
    }

    async fn set_marks(&self, marks: &[Mark]) -> Result<(), StoreError> {
        if marks.is_empty() {
            return Ok(());
        }
        let marks = marks.to_vec();
        self.writer.transaction(move |connection| write(connection, &marks)).await
    }
}

fn mark(row: &SqliteRow) -> Result<Mark, StoreError> {
    Ok(Mark { name: get(row, 0)?, value: get(row, 1)? })
}
