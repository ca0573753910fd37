//! Small transactions of the keeper, through the one connection that writes.

use consort_core::ports::StoreError;

use crate::sqlite::SqliteStore;
use crate::sqlite::statements::Statement;

/// A value of a statement.
pub(super) enum Value {
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
    /// Nothing where text may stand.
    NoText,
    /// Nothing where a number may stand.
    NoNumber,
    /// Nothing where bytes may stand.
    NoBytes,
}

impl Value {
    pub(super) fn bytes(bytes: &[u8]) -> Value {
        Value::Bytes(bytes.to_vec())
    }

    pub(super) fn maybe_text(text: Option<impl Into<String>>) -> Value {
        text.map_or(Value::NoText, |text| Value::Text(text.into()))
    }

    pub(super) fn maybe_number(number: Option<i64>) -> Value {
        number.map_or(Value::NoNumber, Value::Number)
    }
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
        let statements = changes.into_iter().map(|Change { sql, values }| {
            Statement::new(sql, |into| {
                for value in values {
                    match value {
                        Value::Number(number) => into.add(number),
                        Value::Text(text) => into.add(text),
                        Value::Bytes(bytes) => into.add(bytes),
                        Value::NoText => into.add(None::<String>),
                        Value::NoNumber => into.add(None::<i64>),
                        Value::NoBytes => into.add(None::<Vec<u8>>),
                    }
                }
            })
        });
        Ok(self.write(statements.collect()).await?.changed)
    }
}
