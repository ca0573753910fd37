//! Committing a batch, and what a refused one collided with.

use std::collections::HashSet;

use consort_core::event::Record;
use consort_core::ids::RunId;
use consort_core::ports::{Batch, Conflict, LogRow, ProjectRow, RunRow, SignalRow, StoreError};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use super::statements::{Bulk, Statement, Values};
use super::writer::Refused;
use super::{SqliteStore, joined, rows};
use crate::batch;

/// Statements that look taken keys up.
pub(super) struct Taken {
    requests: Bulk,
    sequences: Bulk,
    runs: Bulk,
    projects: Bulk,
    signals: Bulk,
}

impl Taken {
    pub(super) fn new() -> Taken {
        Taken {
            requests: Bulk::new(
                "SELECT key, fingerprint, answer, at FROM (VALUES",
                1,
                ") AS v JOIN requests ON requests.key = v.column1",
            ),
            sequences: Bulk::new(
                "SELECT log.run FROM (VALUES",
                2,
                ") AS v JOIN log ON log.run = v.column1 AND log.sequence = v.column2",
            ),
            runs: Bulk::new("SELECT runs.id FROM (VALUES", 1, ") AS v JOIN runs ON runs.id = v.column1"),
            projects: Bulk::new(
                "SELECT p.namespace, p.id FROM (VALUES",
                2,
                ") AS v JOIN projects AS p ON p.namespace = v.column1 AND p.id = v.column2",
            ),
            signals: Bulk::new("SELECT s.id FROM (VALUES", 1, ") AS v JOIN signals AS s ON s.id = v.column1"),
        }
    }

    /// What of a batch is taken: by others, and so a conflict.
    async fn conflict(&self, readers: &SqlitePool, batch: &Batch) -> Result<Conflict, StoreError> {
        let mut conflict = Conflict::default();
        let lookups = self.requests.statements(&batch.requests, |request, values| values.add(&request.key[..]));
        for row in fetch(readers, lookups).await? {
            conflict.requests.push(rows::request(&row)?);
        }
        let records: Vec<&Record> = batch
            .log
            .iter()
            .filter_map(|row| match row {
                LogRow::Run(record) => Some(record),
                LogRow::Published(_) => None,
            })
            .collect();
        let mut lookups = self.sequences.statements(&records, |record, values| {
            values.add(record.run.0.as_bytes().as_slice());
            values.add(record.sequence as i64);
        });
        let created = |run: &RunRow, values: &mut Values| values.add(run.id.0.as_bytes().as_slice());
        lookups.extend(self.runs.statements(&batch.created, created));
        for row in fetch(readers, lookups).await? {
            let run = RunId(rows::uuid(rows::get(&row, 0)?)?);
            if !conflict.runs.contains(&run) {
                conflict.runs.push(run);
            }
        }
        let lookups = self.projects.statements(&batch.new_projects, |project: &ProjectRow, values| {
            values.add(project.namespace.clone());
            values.add(project.id.clone());
        });
        for row in fetch(readers, lookups).await? {
            conflict.projects.push((rows::text(&row, 0)?, rows::text(&row, 1)?));
        }
        Ok(conflict)
    }

    /// The first signal of a batch that is there already.
    async fn signal<'b>(&self, readers: &SqlitePool, batch: &'b Batch) -> Result<Option<&'b SignalRow>, StoreError> {
        let lookups =
            self.signals.statements(&batch.signals, |signal, values| values.add(signal.id.as_bytes().as_slice()));
        let mut known = HashSet::new();
        for row in fetch(readers, lookups).await? {
            known.insert(rows::uuid(rows::get(&row, 0)?)?);
        }
        Ok(batch.signals.iter().find(|signal| known.contains(&signal.id)))
    }
}

impl SqliteStore {
    /// [`consort_core::ports::RunStore::commit`].
    pub(super) async fn commit_batch(&self, batch: &Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        if !batch.blobs.is_empty() {
            self.blobs.put(batch.blobs.clone()).await?;
        }
        let statements = self.tables.statements(batch);
        let (first_position, rows) = (batch.first_position, batch.log.len() as u64);
        let writer = self.writer.clone();
        // In a task of its own: a caller who stops waiting does not stop it half-way.
        let task =
            tokio::spawn(async move { writer.lock_owned().await.append(first_position, rows, statements).await });
        match joined(task.await) {
            Ok(()) => Ok(()),
            Err(Refused::Failed(error)) => Err(error),
            Err(refused) => Err(self.explain(batch, &refused).await?),
        }
    }

    /// Finds out what a batch collided with.
    async fn explain(&self, batch: &Batch, refused: &Refused) -> Result<StoreError, StoreError> {
        if let Some(contradiction) = batch::contradiction(batch) {
            return Ok(StoreError::Corrupt(contradiction));
        }
        let conflict = self.taken.conflict(&self.readers, batch).await?;
        if batch::is_conflict(&conflict) {
            return Ok(StoreError::Conflict(conflict));
        }
        if let Refused::Gap { last_position } = refused {
            return Ok(StoreError::Corrupt(batch::gap(batch.first_position, *last_position)));
        }
        if let Some(signal) = self.taken.signal(&self.readers, batch).await? {
            return Ok(StoreError::Corrupt(batch::known_signal(signal.id)));
        }
        // Nothing is taken any more: what was has been forgotten since, and trying again helps as after any conflict.
        Ok(StoreError::Conflict(conflict))
    }
}

/// What the statements find, in any order.
pub(super) async fn fetch(readers: &SqlitePool, lookups: Vec<Statement>) -> Result<Vec<SqliteRow>, StoreError> {
    let mut found = Vec::new();
    for Statement { sql, values } in lookups {
        found.extend(sqlx::query_with(sql, values.0).fetch_all(readers).await.map_err(rows::failed)?);
    }
    Ok(found)
}
