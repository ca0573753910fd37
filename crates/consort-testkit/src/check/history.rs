//! One history by itself: its numbers, its hashes, its leases and its results.

use std::collections::BTreeMap;

use consort_core::event::{Fact, Record, chain};
use consort_core::ids::{RunId, StepKey};
use consort_core::run::{Damaged, Fold, Run};

use super::{History, Report};
use crate::stored::Stored;

/// Reads the records, checks how they hang together, and folds them.
pub(super) fn read(run: RunId, records: &[Record], stored: &Stored, report: &mut Report) -> History {
    let (mut expected, mut hash) = (1, [0; 32]);
    let mut entries = Vec::new();
    for record in records {
        let Record { sequence, count, at, .. } = record;
        if *sequence != expected {
            report.problems.push(format!("run {run}: event {sequence} stands where {expected} should"));
        }
        if chain(&hash, &record.body) != record.hash {
            report.problems.push(format!("run {run}: event {sequence} breaks the chain of hashes"));
        }
        (expected, hash) = (sequence + u64::from(*count), record.hash);
        match record.entries() {
            Ok(found) if found.len() == *count as usize => {
                entries.extend((*sequence..).zip(found).map(|(number, entry)| (number, *at, entry)));
            }
            _ => report.problems.push(format!("run {run}: the record at {sequence} cannot be read as {count} events")),
        }
    }
    report.events += entries.len();
    let fold = stored.rows.get(&run).and_then(|row| {
        let definition = stored.definition(row)?;
        match Run::replay(run, definition, records) {
            Ok(fold) => Some(fold),
            Err(damaged) => {
                report.problems.push(format!("run {run} cannot be replayed: {damaged}"));
                None
            }
        }
    });
    let questions = fold.as_ref().and_then(|fold| questions(run, fold, records).ok());
    History { entries, fold, questions }
}

/// The same history read record by record, for its decisions.
fn questions(run: RunId, fold: &Run, records: &[Record]) -> Result<Fold, Damaged> {
    let (first, later) = records.split_first().ok_or_else(|| Damaged("it is empty".into()))?;
    let mut questions = Fold::begin(run, fold.definition().clone(), first)?;
    later.iter().try_for_each(|record| questions.add(record))?;
    Ok(questions)
}

/// What is known of a step while its history is read.
#[derive(Default)]
struct Step {
    /// The lease in force.
    lease: Option<u64>,
    /// The highest token so far.
    highest: u64,
    /// Whether this life has its result, and whether it is a failure.
    result: Option<bool>,
}

/// Checks leases and results: one result a life, from the lease in force, under tokens that only grow.
pub(super) fn check_facts(run: RunId, history: &History, report: &mut Report) {
    let mut steps: BTreeMap<StepKey, Step> = BTreeMap::new();
    for (sequence, _, entry) in &history.entries {
        let Some(key) = &entry.step else {
            run_fact(&entry.fact, &mut steps);
            continue;
        };
        let step = steps.entry(key.clone()).or_default();
        let mut problem =
            |text: String| report.problems.push(format!("run {run}: event {sequence}: step {key} {text}"));
        match &entry.fact {
            Fact::StepLeased { token, .. } => {
                if *token <= step.highest {
                    problem(format!("got token {token} after {}", step.highest));
                }
                if let Some(held) = step.lease.replace(*token) {
                    problem(format!("was leased while lease {held} was in force"));
                }
                step.highest = step.highest.max(*token);
            }
            Fact::StepLeaseLost { token, .. } => {
                if step.lease.take() != Some(*token) {
                    problem(format!("lost lease {token}, which was not in force"));
                }
                report.leases_lost += 1;
            }
            // A plan or a question ends a lease as an answer does, and is no result.
            Fact::ChildStarted { token: Some(token), .. } | Fact::ClarificationRequested { token: Some(token), .. } => {
                let lease = step.lease.take();
                if lease != Some(*token) {
                    problem(format!("took an answer of lease {token} while {lease:?} was in force"));
                }
            }
            Fact::StepSucceeded { token, .. }
            | Fact::StepFailed { token, .. }
            | Fact::StepRetryScheduled { token, .. } => {
                let lease = step.lease.take();
                if token.is_some() && lease != *token {
                    problem(format!("took an answer of lease {token:?} while {lease:?} was in force"));
                }
                if matches!(entry.fact, Fact::StepRetryScheduled { .. }) {
                    report.retries += 1;
                    continue;
                }
                report.results += 1;
                let failed = matches!(entry.fact, Fact::StepFailed { .. });
                if step.result.replace(failed).is_some() {
                    problem("has a second result".to_owned());
                }
            }
            _ => {}
        }
    }
}

fn run_fact(fact: &Fact, steps: &mut BTreeMap<StepKey, Step>) {
    match fact {
        Fact::RunCancelled { .. } | Fact::RunFailed { .. } | Fact::RunCompensating { .. } => {
            for step in steps.values_mut() {
                step.lease = None;
            }
        }
        // What failed gets a new life; what is done stays.
        Fact::RunRetried { steps: again } => {
            for (_, step) in steps.iter_mut().filter(|(key, _)| again.contains(&key.id)) {
                step.result = step.result.filter(|failed| !failed);
            }
        }
        _ => {}
    }
}
