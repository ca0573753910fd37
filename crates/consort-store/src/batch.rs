//! What can be wrong with a batch before any store has seen it.

use std::collections::HashSet;

use consort_core::ports::{Batch, Conflict, LogRow};
use uuid::Uuid;

/// What a batch says twice although it can be true once only. A ledger that builds such a batch has a mistake that trying
/// again does not cure, so it is no conflict with somebody else.
pub(crate) fn contradiction(batch: &Batch) -> Option<String> {
    let mut keys = HashSet::new();
    for request in &batch.requests {
        if !keys.insert(request.key) {
            return Some(format!("the batch uses request key {} twice", hex::encode(request.key)));
        }
    }
    let mut sequences = HashSet::new();
    for row in &batch.log {
        if let LogRow::Run(record) = row
            && !sequences.insert((record.run, record.sequence))
        {
            return Some(format!("the batch has event {} of run {} twice", record.sequence, record.run));
        }
    }
    let mut created = HashSet::new();
    for run in &batch.created {
        if !created.insert(run.id) {
            return Some(format!("the batch creates run {} twice", run.id));
        }
    }
    let mut projects = HashSet::new();
    for project in &batch.new_projects {
        if !projects.insert((&project.namespace, &project.id)) {
            return Some(format!("the batch creates project {} of {} twice", project.id, project.namespace));
        }
    }
    let mut signals = HashSet::new();
    for signal in &batch.signals {
        if !signals.insert(signal.id) {
            return Some(format!("the batch has signal {} twice", signal.id));
        }
    }
    None
}

/// Whether anything was taken.
pub(crate) fn is_conflict(conflict: &Conflict) -> bool {
    !conflict.requests.is_empty() || !conflict.runs.is_empty() || !conflict.projects.is_empty()
}

/// The message for a batch with a signal that is there already. Its id is a new one each time, so nobody else can have
/// taken it and trying again cures nothing.
pub(crate) fn known_signal(id: Uuid) -> String {
    format!("signal {id} is there already")
}

/// The message for a batch whose rows do not follow the log's last one.
pub(crate) fn gap(first_position: u64, last_position: u64) -> String {
    format!("the log ends at position {last_position}, but the batch begins at {first_position}")
}
