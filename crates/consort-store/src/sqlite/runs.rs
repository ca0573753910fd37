//! Reading runs.

use std::sync::Arc;

use async_trait::async_trait;
use consort_core::event::Record;
use consort_core::ids::{Millis, RunId};
use consort_core::ports::{
    Batch, DecisionQuery, DecisionRow, LogRow, RunQuery, RunRow, RunStore, Snapshot, StoreError, StoredRequest,
    StoredRun,
};
use consort_core::run::RunState;
use rusqlite::Connection;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use super::SqliteStore;
use super::rows::{self, failed, get, log_columns, number, run_columns};
use super::tables::{kind_name, state_name};
use super::writer::cached;

#[async_trait]
impl RunStore for SqliteStore {
    async fn commit(&self, batch: Arc<Batch>) -> Result<(), StoreError> {
        self.commit_batch(batch).await
    }

    async fn last_position(&self) -> Result<u64, StoreError> {
        let query = sqlx::query("SELECT coalesce(max(position), 0) FROM log");
        number(&query.fetch_one(&self.readers).await.map_err(failed)?, 0)
    }

    async fn log_after(&self, position: u64, namespace: &str, limit: u32) -> Result<Vec<(u64, LogRow)>, StoreError> {
        let query = if namespace.is_empty() {
            sqlx::query(concat!("SELECT ", log_columns!(), " FROM log WHERE position > ?1 ORDER BY position LIMIT ?2"))
        } else {
            sqlx::query(concat!(
                "SELECT ",
                log_columns!(),
                " FROM log WHERE position > ?1 AND namespace = ?3 ORDER BY position LIMIT ?2"
            ))
        };
        let query = query.bind(position as i64).bind(i64::from(limit)).bind(namespace);
        read(&query.fetch_all(&self.readers).await.map_err(failed)?, rows::log_row)
    }

    async fn load(&self, run: RunId) -> Result<Option<StoredRun>, StoreError> {
        // The snapshot first: the log behind it only grows, so that the two fit whatever is committed in between.
        let query = sqlx::query("SELECT sequence, hash, body FROM snapshots WHERE run = ?1");
        let row = query.bind(run.0.as_bytes().as_slice()).fetch_optional(&self.readers).await.map_err(failed)?;
        let snapshot = row.map(|row| snapshot(run, &row)).transpose()?;
        let after = snapshot.as_ref().map_or(0, |snapshot| snapshot.sequence);
        let records = self.records(run, after, i64::MAX).await?;
        Ok((snapshot.is_some() || !records.is_empty()).then_some(StoredRun { snapshot, records }))
    }

    async fn records_after(&self, run: RunId, after: u64, limit: u32) -> Result<Vec<Record>, StoreError> {
        self.records(run, after, i64::from(limit)).await
    }

    async fn run(&self, run: RunId) -> Result<Option<RunRow>, StoreError> {
        let query = sqlx::query(concat!("SELECT ", run_columns!(), " FROM runs WHERE id = ?1"));
        let row = query.bind(run.0.as_bytes().as_slice()).fetch_optional(&self.readers).await.map_err(failed)?;
        row.map(|row| rows::run_row(&row)).transpose()
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
        let mut sql = QueryBuilder::<Sqlite>::new(concat!("SELECT ", run_columns!(), " FROM runs WHERE namespace = "));
        sql.push_bind(query.namespace.clone());
        if let Some(workflow) = &query.workflow {
            sql.push(" AND workflow = ").push_bind(workflow.clone());
        }
        if let Some(project) = &query.project {
            sql.push(" AND project = ").push_bind(project.clone());
        }
        if !query.states.is_empty() {
            if query.states.iter().all(|state| matches!(state, RunState::Failed | RunState::Cancelled)) {
                // The words of the partial index, so that it is used.
                sql.push(" AND state IN (6, 7)");
            }
            let mask = query.states.iter().fold(0_i64, |mask, state| mask | 1 << *state as u8);
            sql.push(" AND (1 << state) & ").push_bind(mask).push(" <> 0");
        }
        if let Some((created_at, id)) = query.before {
            sql.push(" AND (created_at, id) < (").push_bind(created_at).push(", ");
            sql.push_bind(id.0.into_bytes().to_vec()).push(")");
        }
        sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(i64::from(query.limit));
        read(&sql.build().fetch_all(&self.readers).await.map_err(failed)?, rows::run_row)
    }

    async fn due(&self, until: Millis, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let query = sqlx::query("SELECT id FROM runs WHERE wake_at <= ?1 ORDER BY wake_at, id LIMIT ?2");
        let found = query.bind(until).bind(i64::from(limit)).fetch_all(&self.readers).await.map_err(failed)?;
        read(&found, |row| rows::uuid(get(row, 0)?).map(RunId))
    }

    async fn request(&self, key: &[u8; 16]) -> Result<Option<StoredRequest>, StoreError> {
        let query = sqlx::query("SELECT key, fingerprint, answer, at FROM requests WHERE key = ?1");
        let row = query.bind(&key[..]).fetch_optional(&self.readers).await.map_err(failed)?;
        row.map(|row| rows::request(&row)).transpose()
    }

    async fn forget_requests(&self, before: Millis, limit: u32) -> Result<u64, StoreError> {
        let sql = "DELETE FROM requests WHERE key IN (SELECT key FROM requests WHERE at < ?1 ORDER BY at LIMIT ?2)";
        let forget = move |connection: &Connection| cached(connection, sql)?.execute([before, limit.into()]);
        Ok(self.writer.transaction(forget).await? as u64)
    }

    async fn decision(&self, id: Uuid) -> Result<Option<DecisionRow>, StoreError> {
        let query = sqlx::query("SELECT body FROM decisions WHERE id = ?1");
        let row = query.bind(id.as_bytes().as_slice()).fetch_optional(&self.readers).await.map_err(failed)?;
        row.map(|row| decision(&row)).transpose()
    }

    async fn decisions(&self, query: &DecisionQuery) -> Result<Vec<DecisionRow>, StoreError> {
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT body FROM decisions WHERE namespace = ");
        sql.push_bind(query.namespace.clone());
        if let Some(run) = query.run {
            sql.push(" AND run = ").push_bind(run.0.into_bytes().to_vec());
        }
        for (column, name) in
            [(" AND state = ", query.state.map(state_name)), (" AND kind = ", query.kind.map(kind_name))]
        {
            let Some(name) = name else { continue };
            sql.push(column);
            if query.run.is_some() {
                // A run has few decisions; its own index is the one to use.
                sql.push_bind(name);
            } else {
                // A literal and not a value, so that the partial indexes of the open ones and of clarifications are used.
                sql.push("'").push(name).push("'");
            }
        }
        if let Some(project) = &query.project {
            sql.push(" AND project = ").push_bind(project.clone());
        }
        if let Some((created_at, id)) = query.before {
            sql.push(" AND (created_at, id) < (").push_bind(created_at).push(", ");
            sql.push_bind(id.into_bytes().to_vec()).push(")");
        }
        sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(i64::from(query.limit));
        read(&sql.build().fetch_all(&self.readers).await.map_err(failed)?, decision)
    }
}

impl SqliteStore {
    async fn records(&self, run: RunId, after: u64, limit: i64) -> Result<Vec<Record>, StoreError> {
        // Begins at the record that contains event `after + 1`, which may begin before it.
        let query = sqlx::query(concat!(
            "SELECT ",
            log_columns!(),
            " FROM log WHERE run = ?1 AND sequence + count - 1 > ?2 AND sequence >= coalesce(\
             (SELECT max(sequence) FROM log WHERE run = ?1 AND sequence <= ?2 + 1), 0) ORDER BY sequence LIMIT ?3"
        ));
        let query = query.bind(run.0.as_bytes().as_slice()).bind(after as i64).bind(limit);
        read(&query.fetch_all(&self.readers).await.map_err(failed)?, rows::record)
    }
}

fn snapshot(run: RunId, row: &SqliteRow) -> Result<Snapshot, StoreError> {
    Ok(Snapshot { run, sequence: number(row, 0)?, hash: rows::hash(get(row, 1)?)?, body: get(row, 2)? })
}

fn decision(row: &SqliteRow) -> Result<DecisionRow, StoreError> {
    rows::json("a decision", get(row, 0)?)
}

/// Decodes all rows.
pub(super) fn read<T>(
    found: &[SqliteRow],
    decode: impl Fn(&SqliteRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    found.iter().map(decode).collect()
}
