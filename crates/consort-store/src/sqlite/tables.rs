//! A batch as statements.

use std::collections::{HashMap, HashSet};

use consort_core::event::{Failure, Published, Record};
use consort_core::ids::{Millis, RunId};
use consort_core::ports::{
    Batch, DecisionKind, DecisionRow, DecisionState, LogRow, ProjectRow, ProjectState, RunRow, RunUpdate, SignalRow,
    Snapshot, StoredRequest,
};
use serde::Serialize;

use super::marks::Marks;
use super::statements::{Bulk, Statement, Values};

/// One statement family per table.
pub(super) struct Tables {
    log: Bulk,
    created: Bulk,
    updated: Bulk,
    wake: Bulk,
    snapshots: Bulk,
    decisions: Bulk,
    requests: Bulk,
    new_projects: Bulk,
    projects: Bulk,
    signals: Bulk,
    pub(super) marks: Marks,
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
                 parent, labels, error, project) VALUES",
                13,
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
                "INSERT OR REPLACE INTO decisions (id, namespace, run, state, created_at, body, kind, project) VALUES",
                8,
                "",
            ),
            requests: Bulk::new("INSERT INTO requests (key, fingerprint, answer, at) VALUES", 4, ""),
            new_projects: Bulk::new("INSERT INTO projects (namespace, id, uid, state, created_at, body) VALUES", 6, ""),
            projects: Bulk::new(
                "INSERT OR REPLACE INTO projects (namespace, id, uid, state, created_at, body) VALUES",
                6,
                "",
            ),
            signals: Bulk::new("INSERT INTO signals (id, namespace, type, project, created_at, body) VALUES", 6, ""),
            marks: Marks::new(),
        }
    }

    pub(super) fn statements(&self, batch: &Batch) -> Vec<Statement> {
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
        all.extend(self.new_projects.statements(&batch.new_projects, add_project));
        all.extend(self.projects.statements(&batch.projects, add_project));
        all.extend(self.signals.statements(&batch.signals, add_signal));
        all.extend(self.marks.statements(&batch.marks));
        all
    }
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
    values.add(run.project.clone());
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
    values.add(kind_name(decision.kind));
    values.add(decision.project.clone());
}

fn add_request(request: &StoredRequest, values: &mut Values) {
    values.add(&request.key[..]);
    values.add(&request.fingerprint[..]);
    values.add(&request.answer[..]);
    values.add(request.at);
}

fn add_project(project: &ProjectRow, values: &mut Values) {
    values.add(project.namespace.clone());
    values.add(project.id.clone());
    values.add(project.uid.as_bytes().as_slice());
    values.add(project_state_name(project.state));
    values.add(project.created_at);
    values.add(json(project));
}

fn add_signal(signal: &SignalRow, values: &mut Values) {
    values.add(signal.id.as_bytes().as_slice());
    values.add(signal.namespace.clone());
    values.add(signal.signal.kind.as_str());
    values.add(signal.project.clone());
    values.add(signal.created_at);
    values.add(json(signal));
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
