//! The history checker: holds what clients saw against what the store holds.
//!
//! - What was acknowledged is stored, once; what was refused is not; what is unknown is stored at most once.
//! - A run's events are numbered 1 to n, and each record's hash links to the one before.
//! - A step has one result in each of its lives, and it is the result of the lease in force; tokens only grow.
//! - A run that is over has no step that is not; the fold of a history is what is listed, what is snapshotted and what clients were shown.

mod clients;
mod history;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use consort_core::event::{Entry, Fact};
use consort_core::ids::RunId;
use consort_core::run::{Fold, Run, differences};

use crate::seen::Seen;
use crate::stored::Stored;

/// What a check found, and how much it looked at.
#[derive(Debug, Default)]
pub struct Report {
    /// What is wrong, each in a sentence.
    pub problems: Vec<String>,
    /// Runs.
    pub runs: usize,
    /// Events.
    pub events: usize,
    /// Results of steps.
    pub results: usize,
    /// Leases that ended without an answer.
    pub leases_lost: usize,
    /// Attempts that failed and were repeated.
    pub retries: usize,
}

/// A run's history, read.
struct History {
    entries: Vec<(u64, i64, Entry)>,
    fold: Option<Run>,
    questions: Option<Fold>,
}

/// Checks everything. No problem means: nothing lost, nothing applied twice.
pub fn check(seen: &Seen, stored: &Stored) -> Report {
    let mut report = Report { runs: stored.records.len(), ..Report::default() };
    report.problems.extend(stored.damage.iter().map(|damage| format!("the store says: {damage}")));
    let mut histories = BTreeMap::new();
    for (run, records) in &stored.records {
        let history = history::read(*run, records, stored, &mut report);
        history::check_facts(*run, &history, &mut report);
        check_projection(*run, &history, stored, &mut report);
        histories.insert(*run, history);
    }
    for run in stored.rows.keys().filter(|run| !stored.records.contains_key(run)) {
        report.problems.push(format!("run {run} is listed and has no history"));
    }
    check_decisions(&histories, stored, &mut report);
    check_children(&histories, &mut report);
    clients::check(seen, &histories, stored, &mut report);
    report
}

/// The fold of a history is what is listed and what is snapshotted.
fn check_projection(run: RunId, history: &History, stored: &Stored, report: &mut Report) {
    let Some(row) = stored.rows.get(&run) else {
        report.problems.push(format!("run {run} has a history and is not listed"));
        return;
    };
    let Some(fold) = &history.fold else { return };
    if fold.state().is_over() {
        for (key, unit) in fold.units().filter(|(_, unit)| !unit.state.is_over()) {
            let (state, step) = (fold.state().name(), unit.state.name());
            report.problems.push(format!("run {run} is {state} while step {key} is {step}"));
        }
    }
    let over = |child: &RunId| stored.rows.get(child).is_some_and(|row| row.state.is_over());
    let child_over = fold.children().iter().any(|(_, child)| over(child));
    let found = differences(row, &fold.row(), child_over);
    report.problems.extend(found.into_iter().map(|difference| format!("run {run}: {difference}")));

    let Some(snapshot) = stored.snapshots.get(&run) else { return };
    let later: Vec<_> =
        stored.records[&run].iter().filter(|record| record.sequence > snapshot.sequence).cloned().collect();
    let restored = Run::restore(run, fold.definition().clone(), &snapshot.body, &later);
    match restored {
        Ok(restored) if restored.snapshot() == fold.snapshot() => {}
        Ok(_) => report.problems.push(format!("run {run}: its snapshot and its history lead to different states")),
        Err(damaged) => report.problems.push(format!("run {run}: its snapshot cannot be used: {damaged}")),
    }
}

/// Every question of a history is listed as it stands there, and has at most one answer.
fn check_decisions(histories: &BTreeMap<RunId, History>, stored: &Stored, report: &mut Report) {
    for (run, history) in histories {
        let mut answers: BTreeMap<_, u32> = BTreeMap::new();
        for (_, _, entry) in &history.entries {
            if let Fact::DecisionAnswered { decision, .. } | Fact::ClarificationAnswered { decision, .. } = &entry.fact
            {
                *answers.entry(*decision).or_default() += 1;
            }
        }
        for (id, times) in answers.into_iter().filter(|(_, times)| *times > 1) {
            report.problems.push(format!("run {run}: decision {id} was answered {times} times"));
        }
        let Some(fold) = &history.questions else { continue };
        for (id, folded) in fold.decisions() {
            match stored.decisions.get(id) {
                None => report.problems.push(format!("run {run}: decision {id} is not listed")),
                Some(listed) if listed != folded => {
                    report.problems.push(format!(
                        "run {run}: decision {id} is listed as {:?} with {:?} and its history says {:?} with {:?}",
                        listed.state, listed.option, folded.state, folded.option
                    ));
                }
                Some(_) => {}
            }
        }
    }
}

/// Every child has the parent that started it, and every parent its child.
fn check_children(histories: &BTreeMap<RunId, History>, report: &mut Report) {
    let begun = |parent: &RunId, child: RunId| {
        let entries = histories.get(parent).map_or(&[][..], |history| &history.entries);
        entries
            .iter()
            .filter(|(_, _, entry)| matches!(&entry.fact, Fact::ChildStarted { child: c, .. } if *c == child))
            .count()
    };
    for (run, history) in histories {
        for (_, _, entry) in &history.entries {
            match &entry.fact {
                Fact::RunStarted(started) => {
                    let Some(parent) = &started.parent else { continue };
                    let count = begun(&parent.run, *run);
                    if count != 1 {
                        report.problems.push(format!("run {run} is a child that {} started {count} times", parent.run));
                    }
                }
                Fact::ChildStarted { child, .. } if !histories.contains_key(child) => {
                    report.problems.push(format!("run {run} started child {child}, which is not stored"));
                }
                _ => {}
            }
        }
    }
}
