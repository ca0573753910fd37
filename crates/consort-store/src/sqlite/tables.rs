//! A batch as rows.

use consort_core::event::{Failure, Published, Record};
use consort_core::ports::{
    Batch, DecisionKind, DecisionRow, DecisionState, LogRow, ProjectRow, ProjectState, RunRow, RunUpdate, SignalRow,
    Snapshot, StoredRequest,
};
use rusqlite::{CachedStatement, Connection, params};
use serde::Serialize;

use super::marks;
use super::writer::cached;

type Written = rusqlite::Result<()>;

/// Writes a batch, inside a transaction. Where rows name the same thing twice, the later one counts.
pub(super) fn write(connection: &Connection, batch: &Batch) -> Written {
    let to = |sql| cached(connection, sql);
    let mut insert = to("INSERT INTO log (position, namespace, run, root, sequence, count, at, hash, body) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
    for (position, row) in (batch.first_position as i64..).zip(&batch.log) {
        match row {
            LogRow::Run(record) => add_record(&mut insert, position, record)?,
            LogRow::Published(event) => add_published(&mut insert, position, event)?,
        }
    }
    all(&batch.created, add_run, || {
        to(
            "INSERT INTO runs (id, namespace, workflow, revision, state, created_at, updated_at, ended_at, wake_at, parent, \
            labels, error, project) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )
    })?;
    all(&batch.updated, add_update, || {
        to("UPDATE runs SET state = ?2, updated_at = ?3, ended_at = ?4, wake_at = ?5, error = ?6 WHERE id = ?1")
    })?;
    let wake = |update: &mut CachedStatement<'_>, (run, at): &(consort_core::RunId, i64)| {
        update.execute(params![run.0.as_bytes().as_slice(), at]).map(drop)
    };
    all(&batch.wake, wake, || {
        to("UPDATE runs SET wake_at = ?2 WHERE id = ?1 AND ended_at IS NULL AND (wake_at IS NULL OR wake_at > ?2)")
    })?;
    all(&batch.snapshots, add_snapshot, || {
        to("INSERT OR REPLACE INTO snapshots (run, sequence, hash, body) VALUES (?1, ?2, ?3, ?4)")
    })?;
    all(&batch.decisions, add_decision, || {
        to("INSERT OR REPLACE INTO decisions (id, namespace, run, state, created_at, body, kind, project) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
    })?;
    all(&batch.requests, add_request, || {
        to("INSERT INTO requests (key, fingerprint, answer, at) VALUES (?1, ?2, ?3, ?4)")
    })?;
    all(&batch.new_projects, add_project, || {
        to("INSERT INTO projects (namespace, id, uid, state, created_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
    })?;
    all(&batch.projects, add_project, || {
        to("INSERT OR REPLACE INTO projects (namespace, id, uid, state, created_at, body) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
    })?;
    all(&batch.signals, add_signal, || {
        to("INSERT INTO signals (id, namespace, type, project, created_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
    })?;
    marks::write(connection, &batch.marks)
}

/// Executes a statement for each row; it is not even looked up if there are none.
fn all<'c, T>(
    rows: &[T],
    add: impl Fn(&mut CachedStatement<'c>, &T) -> Written,
    statement: impl FnOnce() -> rusqlite::Result<CachedStatement<'c>>,
) -> Written {
    if rows.is_empty() {
        return Ok(());
    }
    let mut statement = statement()?;
    rows.iter().try_for_each(|row| add(&mut statement, row))
}

fn add_record(insert: &mut CachedStatement<'_>, position: i64, record: &Record) -> Written {
    let root = (record.root != record.run).then(|| record.root.0.as_bytes().as_slice());
    let row = params![
        position,
        record.namespace,
        record.run.0.as_bytes().as_slice(),
        root,
        record.sequence as i64,
        record.count,
        record.at,
        &record.hash[..],
        &record.body[..]
    ];
    insert.execute(row).map(drop)
}

fn add_published(insert: &mut CachedStatement<'_>, position: i64, event: &Published) -> Written {
    let (none, body) = (None::<i64>, json(event).into_bytes());
    insert.execute(params![position, event.namespace, none, none, none, none, event.timestamp, none, body]).map(drop)
}

fn add_run(insert: &mut CachedStatement<'_>, run: &RunRow) -> Written {
    let row = params![
        run.id.0.as_bytes().as_slice(),
        run.namespace,
        run.workflow,
        run.revision as i64,
        run.state as u8,
        run.created_at,
        run.updated_at,
        run.ended_at,
        run.wake_at,
        run.parent.as_ref().map(|parent| parent.0.as_bytes().as_slice()),
        (!run.labels.is_empty()).then(|| json(&run.labels)),
        error(run.error.as_ref()),
        run.project
    ];
    insert.execute(row).map(drop)
}

fn add_update(statement: &mut CachedStatement<'_>, update: &RunUpdate) -> Written {
    let row = params![
        update.id.0.as_bytes().as_slice(),
        update.state as u8,
        update.updated_at,
        update.ended_at,
        update.wake_at,
        error(update.error.as_ref())
    ];
    statement.execute(row).map(drop)
}

fn add_snapshot(insert: &mut CachedStatement<'_>, snapshot: &Snapshot) -> Written {
    let run = snapshot.run.0.as_bytes().as_slice();
    insert.execute(params![run, snapshot.sequence as i64, &snapshot.hash[..], &snapshot.body[..]]).map(drop)
}

fn add_decision(insert: &mut CachedStatement<'_>, decision: &DecisionRow) -> Written {
    let row = params![
        decision.id.as_bytes().as_slice(),
        decision.namespace,
        decision.run.0.as_bytes().as_slice(),
        state_name(decision.state),
        decision.created_at,
        json(decision),
        kind_name(decision.kind),
        decision.project
    ];
    insert.execute(row).map(drop)
}

fn add_request(insert: &mut CachedStatement<'_>, request: &StoredRequest) -> Written {
    insert.execute(params![&request.key[..], &request.fingerprint[..], &request.answer[..], request.at]).map(drop)
}

fn add_project(insert: &mut CachedStatement<'_>, project: &ProjectRow) -> Written {
    let row = params![
        project.namespace,
        project.id,
        project.uid.as_bytes().as_slice(),
        project_state_name(project.state),
        project.created_at,
        json(project)
    ];
    insert.execute(row).map(drop)
}

fn add_signal(insert: &mut CachedStatement<'_>, signal: &SignalRow) -> Written {
    let row = params![
        signal.id.as_bytes().as_slice(),
        signal.namespace,
        signal.signal.kind.as_str(),
        signal.project,
        signal.created_at,
        json(signal)
    ];
    insert.execute(row).map(drop)
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

/// The name of a decision's kind in its column.
pub(super) fn kind_name(kind: DecisionKind) -> &'static str {
    match kind {
        DecisionKind::Choice => "choice",
        DecisionKind::Clarification => "clarification",
    }
}

/// The name of a project's state in its column.
pub(super) fn project_state_name(state: ProjectState) -> &'static str {
    match state {
        ProjectState::Active => "active",
        ProjectState::Completed => "completed",
        ProjectState::Stopped => "stopped",
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("these types have string keys only")
}
