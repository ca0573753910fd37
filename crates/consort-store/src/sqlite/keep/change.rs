//! Small transactions of the keeper, through the one connection that writes.

use consort_core::ports::StoreError;
use rusqlite::params_from_iter;
pub(super) use rusqlite::types::Value;

use crate::sqlite::SqliteStore;
use crate::sqlite::writer::cached;

pub(super) fn bytes(bytes: &[u8]) -> Value {
    Value::Blob(bytes.to_vec())
}

pub(super) fn maybe_text(text: Option<impl Into<String>>) -> Value {
    text.map_or(Value::Null, |text| Value::Text(text.into()))
}

pub(super) fn maybe_number(number: Option<i64>) -> Value {
    number.map_or(Value::Null, Value::Integer)
}

/// A statement with its values.
pub(super) struct Change {
    sql: &'static str,
    values: Vec<Value>,
}

pub(super) fn change(sql: &'static str, values: impl Into<Vec<Value>>) -> Change {
    Change { sql, values: values.into() }
}

impl SqliteStore {
    /// Makes changes in one durable transaction; how many rows changed.
    pub(super) async fn change(&self, changes: Vec<Change>) -> Result<u64, StoreError> {
        let make = move |connection: &rusqlite::Connection| {
            let mut changed = 0;
            for Change { sql, values } in changes {
                changed += cached(connection, sql)?.execute(params_from_iter(values))? as u64;
            }
            Ok(changed)
        };
        self.writer.transaction(make).await
    }
}
