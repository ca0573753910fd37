//! What can be wrong with a batch before any store has seen it.

use std::collections::HashSet;

use consort_core::ports::{Batch, LogRow};

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
    None
}

/// The message for a batch whose rows do not follow the log's last one.
pub(crate) fn gap(first_position: u64, last_position: u64) -> String {
    format!("the log ends at position {last_position}, but the batch begins at {first_position}")
}
