//! Bringing back what an archive holds.

use async_trait::async_trait;
use consort_core::event::Record;
use consort_core::ids::RunId;
use consort_core::ports::{DecisionRow, RunRow, RunStore, StoreError, WorkflowRow, WorkflowStore};
use serde::Serialize;
use uuid::Uuid;

use super::IDENTITY;
use super::change::{Change, Value, bytes, change, maybe_number, maybe_text};
use super::ranges::{erase, fill, spans};
use crate::archive::{Piece, Shelf};
use crate::sqlite::SqliteStore;
use crate::sqlite::tables::{kind_name, project_state_name, state_name};

#[async_trait]
impl Shelf for SqliteStore {
    async fn adopt(&self, identity: Uuid, end: u64) -> Result<(), StoreError> {
        let last = self.last_position().await?;
        let mut changes: Vec<Change> = Vec::new();
        if last == 0 {
            let values = [Value::Text(IDENTITY.into()), Value::Text(identity.to_string())];
            changes.push(change("INSERT OR REPLACE INTO marks (name, value) VALUES (?1, ?2)", values));
        }
        if end > last {
            changes.push(change("DELETE FROM erased WHERE first > ?1", [Value::Integer(last as i64)]));
            changes.extend(erase(last + 1, end));
        }
        self.change(changes).await.map(drop)
    }

    async fn restore(&self, piece: Piece) -> Result<(), StoreError> {
        let changes = match piece {
            Piece::Workflow(row) => {
                if self.workflow(&row.namespace, &row.id, Some(row.revision)).await?.is_some() {
                    return Ok(());
                }
                vec![workflow(&row)]
            }
            Piece::Rows { run, rows, over } => {
                let large = over.is_none() || consort_core::keep::KeepStore::is_leaving(self, run).await?;
                let mut changes = Vec::new();
                if large && over.is_none() {
                    let sql = "INSERT OR IGNORE INTO leaving (run) VALUES (?1)";
                    changes.push(change(sql, [bytes(run.0.as_bytes())]));
                }
                log_rows(&mut changes, run, rows);
                if let Some(over) = over {
                    let (row, decisions) = *over;
                    changes.push(run_row(&row));
                    changes.extend(decisions.iter().map(decision_row));
                    if large {
                        changes.push(change("DELETE FROM leaving WHERE run = ?1", [bytes(run.0.as_bytes())]));
                    }
                }
                changes
            }
            Piece::Event(position, event) => {
                let mut changes: Vec<Change> = fill(position, position).into();
                changes.push(change(
                    "INSERT INTO log (position, namespace, at, body) VALUES (?1, ?2, ?3, ?4)",
                    [
                        Value::Integer(position as i64),
                        Value::Text(event.namespace.to_string()),
                        Value::Integer(event.timestamp),
                        Value::Blob(json(&*event).into_bytes()),
                    ],
                ));
                changes
            }
            Piece::Signal(signal) => vec![change(
                "INSERT OR IGNORE INTO signals (id, namespace, type, project, created_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                [
                    bytes(signal.id.as_bytes()),
                    Value::Text(signal.namespace.to_string()),
                    Value::Text(signal.signal.kind.clone()),
                    maybe_text(signal.project.as_deref()),
                    Value::Integer(signal.created_at),
                    Value::Text(json(&*signal)),
                ],
            )],
            Piece::Letter(letter) => {
                return consort_core::ports::DeadLetterStore::bury(self, &[*letter]).await;
            }
            Piece::Project(project) => vec![change(
                "INSERT OR IGNORE INTO projects (namespace, id, uid, state, created_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                [
                    Value::Text(project.namespace.to_string()),
                    Value::Text(project.id.to_string()),
                    bytes(project.uid.as_bytes()),
                    Value::Text(project_state_name(project.state).into()),
                    Value::Integer(project.created_at),
                    Value::Text(json(&*project)),
                ],
            )],
        };
        self.change(changes).await.map(drop)
    }

    fn is_alone(&self) -> bool {
        self.kept.alone
    }
}

/// A revision whose workflow counts as deleted, so that nothing starts by itself because it came back.
fn workflow(row: &WorkflowRow) -> Change {
    change(
        "INSERT OR IGNORE INTO workflows (namespace, id, revision, digest, created_at, created_by, deleted, source, triggers) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8)",
        [
            Value::Text(row.namespace.to_string()),
            Value::Text(row.id.to_string()),
            Value::Integer(row.revision as i64),
            Value::Text(row.digest.clone()),
            Value::Integer(row.created_at),
            Value::Text(row.created_by.clone()),
            Value::Text(row.source.clone()),
            Value::Integer(i64::from(row.triggers)),
        ],
    )
}

fn log_rows(changes: &mut Vec<Change>, run: RunId, rows: Vec<(u64, Record)>) {
    let positions: Vec<u64> = rows.iter().map(|(position, _)| *position).collect();
    changes.extend(spans(&positions).into_iter().flat_map(|(first, last)| fill(first, last)));
    for (position, record) in rows {
        let root = if record.root == run { Value::Null } else { bytes(record.root.0.as_bytes()) };
        changes.push(change(
            "INSERT INTO log (position, namespace, run, root, sequence, count, at, hash, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            [
                Value::Integer(position as i64),
                Value::Text(record.namespace.to_string()),
                bytes(run.0.as_bytes()),
                root,
                Value::Integer(record.sequence as i64),
                Value::Integer(i64::from(record.count)),
                Value::Integer(record.at),
                bytes(&record.hash),
                Value::Blob(record.body),
            ],
        ));
    }
}

/// Writes a run's row, whatever was there.
pub(super) fn run_row(run: &RunRow) -> Change {
    change(
        "INSERT OR REPLACE INTO runs (id, namespace, workflow, revision, state, created_at, updated_at, ended_at, wake_at, \
         parent, labels, error, project) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        [
            bytes(run.id.0.as_bytes()),
            Value::Text(run.namespace.to_string()),
            Value::Text(run.workflow.to_string()),
            Value::Integer(run.revision as i64),
            Value::Integer(run.state as i64),
            Value::Integer(run.created_at),
            Value::Integer(run.updated_at),
            maybe_number(run.ended_at),
            maybe_number(run.wake_at),
            run.parent.map_or(Value::Null, |parent| bytes(parent.0.as_bytes())),
            maybe_text((!run.labels.is_empty()).then(|| json(&run.labels))),
            maybe_text(run.error.as_ref().map(json)),
            maybe_text(run.project.as_deref()),
        ],
    )
}

/// Writes a decision's row, whatever was there.
pub(super) fn decision_row(decision: &DecisionRow) -> Change {
    change(
        "INSERT OR REPLACE INTO decisions (id, namespace, run, state, created_at, body, kind, project) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        [
            bytes(decision.id.as_bytes()),
            Value::Text(decision.namespace.to_string()),
            bytes(decision.run.0.as_bytes()),
            Value::Text(state_name(decision.state).into()),
            Value::Integer(decision.created_at),
            Value::Text(json(decision)),
            Value::Text(kind_name(decision.kind).into()),
            maybe_text(decision.project.as_deref()),
        ],
    )
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("these types have string keys only")
}
