//! Committing a batch, and what a refused one collided with.

use std::sync::Arc;

use consort_core::ports::{Batch, Conflict, LogRow, StoreError, StoredRequest};
use rusqlite::{Connection, OptionalExtension, params};

use super::writer::{Refused, cached};
use super::{SqliteStore, tables};
use crate::batch;

impl SqliteStore {
    /// [`consort_core::ports::RunStore::commit`].
    pub(super) async fn commit_batch(&self, batch: Arc<Batch>) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        if !batch.blobs.is_empty() {
            self.blobs.put(batch.blobs.clone()).await?;
        }
        let write = self.writer.with(move |desk| {
            let rows = batch.log.len() as u64;
            match desk.append(batch.first_position, rows, |connection| tables::write(connection, &batch)) {
                Ok(()) => Ok(()),
                Err(Refused::Failed(error)) => Err(error),
                Err(refused) => Err(desk.read(|connection| explain(connection, &batch, &refused))?),
            }
        });
        write.await?
    }
}

/// Finds out what a batch collided with.
fn explain(connection: &Connection, batch: &Batch, refused: &Refused) -> Result<StoreError, StoreError> {
    if let Some(contradiction) = batch::contradiction(batch) {
        return Ok(StoreError::Corrupt(contradiction));
    }
    let conflict = conflict(connection, batch).map_err(Refused::from)?;
    if batch::is_conflict(&conflict) {
        return Ok(StoreError::Conflict(conflict));
    }
    if let Refused::Gap { last_position } = refused {
        return Ok(StoreError::Corrupt(batch::gap(batch.first_position, *last_position)));
    }
    for signal in &batch.signals {
        let mut known = cached(connection, "SELECT 1 FROM signals WHERE id = ?1").map_err(Refused::from)?;
        if known.exists([signal.id.as_bytes().as_slice()]).map_err(Refused::from)? {
            return Ok(StoreError::Corrupt(batch::known_signal(signal.id)));
        }
    }
    // Nothing is taken any more: what was has been forgotten since, and trying again helps as after any conflict.
    Ok(StoreError::Conflict(conflict))
}

/// What of a batch is taken: by others, and so a conflict.
fn conflict(connection: &Connection, batch: &Batch) -> rusqlite::Result<Conflict> {
    let mut conflict = Conflict::default();
    let mut requests = cached(connection, "SELECT key, fingerprint, answer, at FROM requests WHERE key = ?1")?;
    for request in &batch.requests {
        let stored = requests.query_row([&request.key[..]], |row| {
            let (key, fingerprint, answer, at) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            Ok(StoredRequest { key, fingerprint, answer, at })
        });
        conflict.requests.extend(stored.optional()?);
    }
    let mut sequences = cached(connection, "SELECT 1 FROM log WHERE run = ?1 AND sequence = ?2")?;
    for row in &batch.log {
        if let LogRow::Run(record) = row
            && !conflict.runs.contains(&record.run)
            && sequences.exists(params![record.run.0.as_bytes().as_slice(), record.sequence as i64])?
        {
            conflict.runs.push(record.run);
        }
    }
    let mut runs = cached(connection, "SELECT 1 FROM runs WHERE id = ?1")?;
    for run in &batch.created {
        if !conflict.runs.contains(&run.id) && runs.exists([run.id.0.as_bytes().as_slice()])? {
            conflict.runs.push(run.id);
        }
    }
    let mut projects = cached(connection, "SELECT 1 FROM projects WHERE namespace = ?1 AND id = ?2")?;
    for project in &batch.new_projects {
        if projects.exists([&project.namespace, &project.id])? {
            conflict.projects.push((project.namespace.clone(), project.id.clone()));
        }
    }
    Ok(conflict)
}
