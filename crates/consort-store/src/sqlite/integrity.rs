//! Everything that can be proved about a data folder.

use consort_core::ports::StoreError;
use futures::TryStreamExt;

use super::SqliteStore;
use super::rows::{failed, get, uuid};
use crate::integrity::{Integrity, Walk};

/// Rows that contradict each other, each by the id of a run.
const CONTRADICTIONS: [(&str, &str); 5] = [
    ("is listed but has no event", "SELECT id FROM runs WHERE NOT EXISTS (SELECT 1 FROM log WHERE log.run = runs.id)"),
    (
        "has events but is not listed",
        "SELECT run FROM log WHERE run IS NOT NULL AND sequence = 1 AND NOT EXISTS (SELECT 1 FROM runs WHERE id = log.run) \
         AND NOT EXISTS (SELECT 1 FROM leaving WHERE leaving.run = log.run)",
    ),
    (
        "has a snapshot that is not the end of one of its records",
        "SELECT run FROM snapshots AS s WHERE NOT EXISTS (SELECT 1 FROM log WHERE log.run = s.run \
         AND log.sequence <= s.sequence AND log.sequence + log.count - 1 = s.sequence AND log.hash = s.hash)",
    ),
    (
        "is asked for by a decision but is not listed",
        "SELECT run FROM decisions WHERE NOT EXISTS (SELECT 1 FROM runs WHERE id = decisions.run)",
    ),
    (
        "belongs to a project that is not there",
        "SELECT id FROM runs WHERE project IS NOT NULL AND NOT EXISTS \
         (SELECT 1 FROM projects WHERE namespace = runs.namespace AND id = runs.project)",
    ),
];

impl SqliteStore {
    /// Checks the database file, the log (dense, chained, readable), what is derived from it, and the bytes of every blob.
    /// Reads everything once and keeps little in memory. Damage is reported, not an error; an error means that the check
    /// could not be made.
    pub async fn integrity(&self) -> Result<Integrity, StoreError> {
        let report = Walk { store: self, shelf: Some(self), folds: None, progress: &mut |_| {} }.check().await?;
        self.check_rest(report).await
    }

    /// Checks everything but the log.
    pub(super) async fn check_rest(&self, mut report: Integrity) -> Result<Integrity, StoreError> {
        self.check_file(&mut report).await?;
        for (what, sql) in CONTRADICTIONS {
            let mut found = sqlx::query(sql).fetch(&self.readers);
            while let Some(row) = found.try_next().await.map_err(failed)? {
                report.problem(format!("run {} {what}", uuid(get(&row, 0)?)?));
            }
        }
        self.blobs.verify(report).await
    }

    async fn check_file(&self, report: &mut Integrity) -> Result<(), StoreError> {
        let check = sqlx::query_scalar("PRAGMA integrity_check(100)").fetch_all(&self.readers).await;
        let lines: Vec<String> = match check.map_err(failed) {
            Ok(lines) => lines,
            Err(StoreError::Corrupt(message)) => vec![message],
            Err(other) => return Err(other),
        };
        for line in lines.into_iter().filter(|line| line != "ok") {
            report.problem(format!("the database file: {line}"));
        }
        Ok(())
    }
}
