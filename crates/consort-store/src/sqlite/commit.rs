//! A batch as statements, and what a refused one collided with.

use std::collections::{HashMap, HashSet};

use consort_core::event::{Failure, Published, Record};
use consort_core::ids::{Millis, RunId};
use consort_core::ports::{
    Batch, Conflict, DecisionRow, DecisionState, LogRow, RunRow, RunUpdate, Snapshot, StoreError, StoredRequest,
};
use serde::Serialize;
use sqlx::SqlitePool;

use super::statements::{Bulk, Statement, Values};
use super::writer::Refused;
use super::{SqliteStore, joined, rows};
use crate::batch;

/// One statement family per table, and those that look taken keys up.
pub(super) struct Tables {
    log: Bulk,
    created: Bulk,
    updated: Bulk,
    wake: Bulk,
    snapshots: Bulk,
    decisions: Bulk,
    requests: Bulk,
    taken_requests: Bulk,
    taken_sequences: Bulk,
    taken_runs: Bulk,
}

impl Tables {
    pub(super) fn new() -> Tables {
        Tables {
            log: Bulk::new(
                "INSERT INTO log (position, namespace, run, root, sequence, count, at, hash, body) VALUES",
                9,
                "",
            ),
            created: Bulk::new(
                "INSERT INTO runs (id, namespace, workflow, revision, state, created_at, updated_at, ended_at, wake_at, \
                 parent, labels, error) VALUES",
                12,
                "",
            ),
            updated: Bulk::new(
                "UPDATE runs SET state = v.column2, updated_at = v.column3, ended_at = v.column4, \
                 wake_at = v.column5, error = v.column6 FROM (VALUES",
                6,
                ") AS v WHERE runs.id = v.column1",
            ),
            wake: Bulk::new(
                "UPDATE runs SET wake_at = v.column2 FROM (VALUES",
                2,
                ") AS v WHERE runs.id = v.column1 AND (runs.wake_at IS NULL OR runs.wake_at > v.column2)",
            ),
            snapshots: Bulk::new("INSERT OR REPLACE INTO snapshots (run, sequence, hash, body) VALUES", 4, ""),
            decisions: Bulk::new(
                "INSERT OR REPLACE INTO decisions (id, namespace, run, state, created_at, body) VALUES",
                6,
                "",
            ),
            requests: Bulk::new("INSERT INTO requests (key, fingerprint, answer, at) VALUES", 4, ""),
            taken_requests: Bulk::new(
                "SELECT key, fingerprint, answer, at FROM (VALUES",
                1,
                ") AS v JOIN requests ON requests.key = v.column1",
            ),
            taken_sequences: Bulk::new(
                "SELECT log.run FROM (VALUES",
                2,
                ") AS v JOIN log ON log.run = v.column1 AND log.sequence = v.column2",
            ),
            taken_runs: Bulk::new("SELECT runs.id FROM (VALUES", 1, ") AS v JOIN runs ON runs.id = v.column1"),
        }
    }

    fn statements(&self, batch: &Batch) -> Vec<Statement> {
        let positioned: Vec<_> = (batch.first_position..).zip(&batch.log).collect();
        // One statement changes a run once: the last update and the earliest wake-up count.
        let (updated, wake) = (newest_updates(&batch.updated), earliest_wakes(&batch.wake));
        let mut all = self.log.statements(&positioned, |(position, row), values| match row {
            LogRow::Run(record) => add_record(values, *position, record),
            LogRow::Published(event) => add_published(values, *position, event),
        });
        all.extend(self.created.statements(&batch.created, add_run));
        all.extend(self.updated.statements(&updated, |update, values| add_update(values, update)));
        all.extend(self.wake.statements(&wake, |(run, at), values| {
            values.add(run.0.as_bytes().as_slice());
            values.add(*at);
        }));
        all.extend(self.snapshots.statements(&batch.snapshots, add_snapshot));
        all.extend(self.decisions.statements(&batch.decisions, add_decision));
        all.extend(self.requests.statements(&batch.requests, add_request));
        all
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
        let conflict = taken(&self.tables, &self.readers, batch).await?;
        if let Refused::Gap { last_position } = refused
            && conflict.requests.is_empty()
            && conflict.runs.is_empty()
        {
            return Ok(StoreError::Corrupt(batch::gap(batch.first_position, *last_position)));
        }
        // If nothing is taken any more, what was has been forgotten since, and trying again helps as after any conflict.
        Ok(StoreError::Conflict(conflict))
    }
}

async fn taken(tables: &Tables, readers: &SqlitePool, batch: &Batch) -> Result<Conflict, StoreError> {
    let mut conflict = Conflict::default();
    let lookups = tables.taken_requests.statements(&batch.requests, |request, values| values.add(&request.key[..]));
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
    let mut lookups = tables.taken_sequences.statements(&records, |record, values| {
        values.add(record.run.0.as_bytes().as_slice());
        values.add(record.sequence as i64);
    });
    let created = |run: &RunRow, values: &mut Values| values.add(run.id.0.as_bytes().as_slice());
    lookups.extend(tables.taken_runs.statements(&batch.created, created));
    for row in fetch(readers, lookups).await? {
        let run = RunId(rows::uuid(rows::get(&row, 0)?)?);
        if !conflict.runs.contains(&run) {
            conflict.runs.push(run);
        }
    }
    Ok(conflict)
}

async fn fetch(readers: &SqlitePool, lookups: Vec<Statement>) -> Result<Vec<sqlx::sqlite::SqliteRow>, StoreError> {
    let mut found = Vec::new();
    for Statement { sql, values } in lookups {
        found.extend(sqlx::query_with(sql, values.0).fetch_all(readers).await.map_err(rows::failed)?);
    }
    Ok(found)
}

fn newest_updates(updates: &[RunUpdate]) -> Vec<&RunUpdate> {
    let mut seen = HashSet::new();
    updates.iter().rev().filter(|update| seen.insert(update.id)).collect()
}

fn earliest_wakes(wakes: &[(RunId, Millis)]) -> Vec<(RunId, Millis)> {
    let mut earliest = HashMap::new();
    for (run, at) in wakes {
        earliest.entry(*run).and_modify(|known: &mut Millis| *known = (*known).min(*at)).or_insert(*at);
    }
    earliest.into_iter().collect()
}

fn add_record(values: &mut Values, position: u64, record: &Record) {
    let root = (record.root != record.run).then(|| record.root.0.as_bytes().as_slice());
    values.add(position as i64);
    values.add(record.namespace.clone());
    values.add(record.run.0.as_bytes().as_slice());
    values.add(root);
    values.add(record.sequence as i64);
    values.add(i64::from(record.count));
    values.add(record.at);
    values.add(&record.hash[..]);
    values.add(&record.body[..]);
}

fn add_published(values: &mut Values, position: u64, event: &Published) {
    values.add(position as i64);
    values.add(event.namespace.clone());
    values.add(None::<&[u8]>);
    values.add(None::<&[u8]>);
    values.add(None::<i64>);
    values.add(None::<i64>);
    values.add(event.timestamp);
    values.add(None::<&[u8]>);
    values.add(json(event).into_bytes());
}

fn add_run(run: &RunRow, values: &mut Values) {
    values.add(run.id.0.as_bytes().as_slice());
    values.add(run.namespace.clone());
    values.add(run.workflow.clone());
    values.add(run.revision as i64);
    values.add(i64::from(run.state as u8));
    values.add(run.created_at);
    values.add(run.updated_at);
    values.add(run.ended_at);
    values.add(run.wake_at);
    values.add(run.parent.as_ref().map(|parent| parent.0.as_bytes().as_slice()));
    values.add((!run.labels.is_empty()).then(|| json(&run.labels)));
    values.add(error(run.error.as_ref()));
}

fn add_update(values: &mut Values, update: &RunUpdate) {
    values.add(update.id.0.as_bytes().as_slice());
    values.add(i64::from(update.state as u8));
    values.add(update.updated_at);
    values.add(update.ended_at);
    values.add(update.wake_at);
    values.add(error(update.error.as_ref()));
}

fn add_snapshot(snapshot: &Snapshot, values: &mut Values) {
    values.add(snapshot.run.0.as_bytes().as_slice());
    values.add(snapshot.sequence as i64);
    values.add(&snapshot.hash[..]);
    values.add(&snapshot.body[..]);
}

fn add_decision(decision: &DecisionRow, values: &mut Values) {
    values.add(decision.id.as_bytes().as_slice());
    values.add(decision.namespace.clone());
    values.add(decision.run.0.as_bytes().as_slice());
    values.add(state_name(decision.state));
    values.add(decision.created_at);
    values.add(json(decision));
}

fn add_request(request: &StoredRequest, values: &mut Values) {
    values.add(&request.key[..]);
    values.add(&request.fingerprint[..]);
    values.add(&request.answer[..]);
    values.add(request.at);
}

fn error(error: Option<&Failure>) -> Option<String> {
    error.map(json)
}

/// The name of a decision's state in its column.
pub(super) fn state_name(state: DecisionState) -> &'static str {
    match state {
        DecisionState::Open => "open",
        DecisionState::Answered => "answered",
        DecisionState::Expired => "expired",
        DecisionState::Cancelled => "cancelled",
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("these types have string keys only")
}
