//! Rows of the database as values, and the driver's errors as ours.

use std::collections::BTreeMap;
use std::sync::Arc;

use consort_core::event::Record;
use consort_core::ids::RunId;
use consort_core::ports::{DeadLetter, LogRow, RunRow, StoreError, StoredRequest, WorkflowRow};
use consort_core::run::RunState;
use serde::de::DeserializeOwned;
use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};
use uuid::Uuid;

/// SQLite's primary result codes for a file that is not what it should be.
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_NOTADB: i32 = 26;

/// What an error of the driver means to a caller.
#[allow(clippy::needless_pass_by_value)] // so that it fits `map_err`
pub(super) fn failed(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(DatabaseError::code).and_then(|code| code.parse::<i32>().ok());
    // The low byte is the primary code; the rest refines it.
    match code.map(|code| code & 0xff) {
        Some(SQLITE_CORRUPT | SQLITE_NOTADB) => StoreError::Corrupt(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// The value of a column.
pub(super) fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    column: usize,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// A column that is never negative.
pub(super) fn number(row: &SqliteRow, column: usize) -> Result<u64, StoreError> {
    let value: i64 = get(row, column)?;
    u64::try_from(value).map_err(|_| StoreError::Corrupt(format!("{value} in column {column} is negative")))
}

/// A column that is never negative and never large.
fn small(row: &SqliteRow, column: usize) -> Result<u32, StoreError> {
    let value = number(row, column)?;
    u32::try_from(value).map_err(|_| StoreError::Corrupt(format!("{value} in column {column} is too large")))
}

pub(super) fn uuid(bytes: &[u8]) -> Result<Uuid, StoreError> {
    Uuid::from_slice(bytes).map_err(|error| StoreError::Corrupt(format!("an id is damaged: {error}")))
}

pub(super) fn hash<const N: usize>(bytes: &[u8]) -> Result<[u8; N], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Corrupt(format!("a hash has {} bytes instead of {N}", bytes.len())))
}

pub(super) fn json<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Corrupt(format!("{what} cannot be read: {error}")))
}

pub(super) fn text(row: &SqliteRow, column: usize) -> Result<Arc<str>, StoreError> {
    get::<&str>(row, column).map(Arc::from)
}

fn optional_text(row: &SqliteRow, column: usize) -> Result<Option<Arc<str>>, StoreError> {
    get::<Option<&str>>(row, column).map(|text| text.map(Arc::from))
}

/// A column with the number of a run's state.
pub(super) fn run_state(row: &SqliteRow, column: usize) -> Result<RunState, StoreError> {
    let state = number(row, column)?;
    u8::try_from(state)
        .ok()
        .and_then(RunState::from_number)
        .ok_or_else(|| StoreError::Corrupt(format!("{state} is not the number of a run state")))
}

fn run_id(row: &SqliteRow, column: usize) -> Result<RunId, StoreError> {
    uuid(get(row, column)?).map(RunId)
}

/// Columns of `log` that [`log_row`] reads.
macro_rules! log_columns {
    () => {
        "position, namespace, run, root, sequence, count, at, hash, body"
    };
}
pub(super) use log_columns;

/// A row of the log with its position.
pub(super) fn log_row(row: &SqliteRow) -> Result<(u64, LogRow), StoreError> {
    let position = number(row, 0)?;
    let damaged = |error| match error {
        StoreError::Corrupt(message) => StoreError::Corrupt(format!("position {position} of the log: {message}")),
        other => other,
    };
    let run: Option<&[u8]> = get(row, 2).map_err(damaged)?;
    let decoded = match run {
        Some(_) => record(row).map(LogRow::Run),
        None => get(row, 8).and_then(|body| json("the event", body)).map(LogRow::Published),
    };
    decoded.map(|decoded| (position, decoded)).map_err(damaged)
}

/// A row of the log that belongs to a run.
pub(super) fn record(row: &SqliteRow) -> Result<Record, StoreError> {
    let run = run_id(row, 2)?;
    let root: Option<&[u8]> = get(row, 3)?;
    let (sequence, count) = (number(row, 4)?, number(row, 5)?);
    if sequence == 0 || count == 0 || count > u64::from(u32::MAX) {
        return Err(StoreError::Corrupt(format!("a record of run {run} has {count} events from number {sequence} on")));
    }
    Ok(Record {
        run,
        namespace: text(row, 1)?,
        root: root.map(uuid).transpose()?.map_or(run, RunId),
        sequence,
        count: count as u32,
        at: get(row, 6)?,
        hash: hash(get(row, 7)?)?,
        body: get(row, 8)?,
    })
}

/// Columns of `runs` that [`run_row`] reads; the sequence comes from the log, where it cannot be wrong.
macro_rules! run_columns {
    () => {
        "id, namespace, workflow, revision, state, created_at, updated_at, ended_at, wake_at, parent, labels, error, \
         project, coalesce((SELECT sequence + count - 1 FROM log WHERE log.run = runs.id ORDER BY sequence DESC LIMIT 1), 0)"
    };
}
pub(super) use run_columns;

pub(super) fn run_row(row: &SqliteRow) -> Result<RunRow, StoreError> {
    let parent: Option<&[u8]> = get(row, 9)?;
    let labels: Option<&str> = get(row, 10)?;
    let error: Option<&str> = get(row, 11)?;
    Ok(RunRow {
        id: run_id(row, 0)?,
        namespace: text(row, 1)?,
        workflow: text(row, 2)?,
        revision: number(row, 3)?,
        state: run_state(row, 4)?,
        sequence: number(row, 13)?,
        created_at: get(row, 5)?,
        updated_at: get(row, 6)?,
        ended_at: get(row, 7)?,
        wake_at: get(row, 8)?,
        parent: parent.map(uuid).transpose()?.map(RunId),
        project: optional_text(row, 12)?,
        labels: labels.map_or(Ok(BTreeMap::new()), |text| json("the labels of a run", text.as_bytes()))?,
        error: error.map(|text| json("the error of a run", text.as_bytes())).transpose()?,
    })
}

/// From `key, fingerprint, answer, at`.
pub(super) fn request(row: &SqliteRow) -> Result<StoredRequest, StoreError> {
    Ok(StoredRequest {
        key: hash(get(row, 0)?)?,
        fingerprint: hash(get(row, 1)?)?,
        answer: get(row, 2)?,
        at: get(row, 3)?,
    })
}

/// Columns of `workflows` that [`workflow`] reads.
macro_rules! workflow_columns {
    () => {
        "namespace, id, revision, source, digest, created_at, created_by, triggers"
    };
}
pub(super) use workflow_columns;

pub(super) fn workflow(row: &SqliteRow) -> Result<WorkflowRow, StoreError> {
    Ok(WorkflowRow {
        namespace: text(row, 0)?,
        id: text(row, 1)?,
        revision: number(row, 2)?,
        source: get(row, 3)?,
        digest: get(row, 4)?,
        created_at: get(row, 5)?,
        created_by: get(row, 6)?,
        triggers: get(row, 7)?,
    })
}

/// Columns of `dead_letters` that [`dead_letter`] reads.
macro_rules! dead_letter_columns {
    () => {
        "id, namespace, event, reason, at, of_group, attempts, position, number"
    };
}
pub(super) use dead_letter_columns;

pub(super) fn dead_letter(row: &SqliteRow) -> Result<DeadLetter, StoreError> {
    let position: Option<i64> = get(row, 7)?;
    let place = match position {
        Some(_) => Some((number(row, 7)?, small(row, 8)?)),
        None => None,
    };
    Ok(DeadLetter {
        id: uuid(get(row, 0)?)?,
        namespace: text(row, 1)?,
        event: get(row, 2)?,
        reason: get(row, 3)?,
        at: get(row, 4)?,
        group: optional_text(row, 5)?,
        attempts: small(row, 6)?,
        place,
    })
}
