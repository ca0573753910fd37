//! Places that loops must find again.

use std::collections::HashSet;

use async_trait::async_trait;
use consort_core::ports::{Mark, MarkStore, StoreError};
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::rows::{failed, get};
use super::runs::read;
use super::statements::{Bulk, Statement};

/// How marks are set and removed.
pub(super) struct Marks {
    set: Bulk,
    remove: Bulk,
}

impl Marks {
    pub(super) fn new() -> Marks {
        Marks {
            set: Bulk::new("INSERT OR REPLACE INTO marks (name, value) VALUES", 2, ""),
            remove: Bulk::new("DELETE FROM marks WHERE name IN (VALUES", 1, ")"),
        }
    }

    /// The last mark of a name counts.
    pub(super) fn statements(&self, marks: &[Mark]) -> Vec<Statement> {
        let mut seen = HashSet::new();
        let newest = marks.iter().rev().filter(|mark| seen.insert(mark.name.as_str()));
        let (set, remove): (Vec<&Mark>, Vec<&Mark>) = newest.partition(|mark| mark.value.is_some());
        let mut all = self.set.statements(&set, |mark, values| {
            values.add(mark.name.as_str());
            values.add(mark.value.as_deref());
        });
        all.extend(self.remove.statements(&remove, |mark, values| values.add(mark.name.as_str())));
        all
    }
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
        self.write(self.tables.marks.statements(marks)).await.map(drop)
    }
}

fn mark(row: &SqliteRow) -> Result<Mark, StoreError> {
    Ok(Mark { name: get(row, 0)?, value: get(row, 1)? })
}
