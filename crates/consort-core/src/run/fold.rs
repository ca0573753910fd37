//! What a history says must be listed: the run's row and the rows of its decisions. Whoever lists, checks or repairs asks here.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::questions::{DEADLINE, is_unanswered};
use super::restore::{Damaged, entries_of};
use super::state::{Run, RunState};
use crate::event::{DecisionRequested, Entry, Fact, Record};
use crate::ids::{Millis, RunId, StepKey};
use crate::ports::{DecisionKind, DecisionRow, DecisionState, RunRow};
use crate::workflow::{Action, Workflow};

impl Run {
    /// When the engine must next look at it, as a store keeps it: 0 if it has work in hand, absent if only others can move it.
    pub fn wake_at(&self) -> Option<Millis> {
        match self.state() {
            RunState::Pending | RunState::Running => Some(0),
            _ if self.is_stalled() => Some(0),
            RunState::Waiting => self.next_wake(),
            // What is in progress goes on in a paused run.
            RunState::Paused if self.leases().is_empty() => self.next_wake(),
            RunState::Paused => Some(0),
            RunState::Succeeded | RunState::Failed | RunState::Cancelled => None,
        }
    }

    /// The row under which it is listed.
    pub fn row(&self) -> RunRow {
        let (created_at, updated_at, ended_at) = self.times();
        RunRow {
            id: self.id,
            namespace: self.namespace().clone(),
            workflow: self.workflow().clone(),
            revision: self.revision(),
            state: self.state(),
            sequence: self.sequence(),
            created_at,
            updated_at,
            ended_at,
            wake_at: self.wake_at(),
            parent: self.parent().map(|parent| parent.run),
            project: self.project().map(|project| project.id.clone()),
            labels: self.labels().clone(),
            error: self.error().cloned(),
        }
    }
}

/// A history that is read record by record: the run it makes, and its decisions.
#[derive(Clone, Debug)]
pub struct Fold {
    run: Run,
    decisions: BTreeMap<Uuid, DecisionRow>,
    open: BTreeMap<Uuid, StepKey>,
}

impl Fold {
    /// Begins with a history's first record.
    pub fn begin(id: RunId, definition: Arc<Workflow>, first: &Record) -> Result<Fold, Damaged> {
        let entries = entries_of(first)?;
        let Some(Entry { step: None, fact: Fact::RunStarted(started) }) = entries.first() else {
            return Err(Damaged("it does not begin with RUN.STARTED".into()));
        };
        let run = Run::begin(id, definition, started, first.at);
        let mut fold = Fold { run, decisions: BTreeMap::new(), open: BTreeMap::new() };
        fold.take(&entries[1..], first.at)?;
        Ok(fold)
    }

    /// Adds the next record.
    pub fn add(&mut self, record: &Record) -> Result<(), Damaged> {
        let sequence = self.run.sequence();
        if record.sequence.checked_sub(1) != Some(sequence) {
            return Err(Damaged(format!("event {sequence} is followed by {}", record.sequence)));
        }
        self.take(&entries_of(record)?, record.at)
    }

    /// The run so far.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Its decisions so far, by id.
    pub fn decisions(&self) -> &BTreeMap<Uuid, DecisionRow> {
        &self.decisions
    }

    fn take(&mut self, entries: &[Entry], at: Millis) -> Result<(), Damaged> {
        for entry in entries {
            self.run.apply(entry, at)?;
            let Some(step) = &entry.step else { continue };
            match &entry.fact {
                Fact::DecisionRequested(asked) | Fact::ClarificationRequested { question: asked, .. } => {
                    self.ask(step, asked, at);
                }
                Fact::DecisionAnswered { decision, option, form, by }
                | Fact::ClarificationAnswered { decision, option, form, by } => {
                    self.open.remove(decision);
                    if let Some(row) = self.decisions.get_mut(decision) {
                        row.state = if by == DEADLINE { DecisionState::Expired } else { DecisionState::Answered };
                        row.closed_at = Some(at);
                        row.option = Some(option.clone());
                        row.form.clone_from(form);
                        row.answered_by = Some(by.clone());
                    }
                }
                Fact::StepFailed { error, .. } if is_unanswered(error) => {
                    let asked = self.open.iter().find(|(_, of)| *of == step).map(|(id, _)| *id);
                    if let Some(asked) = asked {
                        self.close(asked, DecisionState::Expired, at);
                    }
                }
                _ => {}
            }
        }
        let asks = |id: &Uuid, step: &StepKey| {
            self.run.unit(step).is_some_and(|unit| unit.asked.as_ref().is_some_and(|asked| asked.decision == *id))
        };
        let gone: Vec<Uuid> = self.open.iter().filter(|(id, step)| !asks(id, step)).map(|(id, _)| *id).collect();
        for decision in gone {
            self.close(decision, DecisionState::Cancelled, at);
        }
        Ok(())
    }

    fn ask(&mut self, step: &StepKey, asked: &DecisionRequested, at: Millis) {
        let place = self.run.place(step);
        let choice = place.is_none_or(|place| matches!(self.run.step(place).action, Action::Decide(_)));
        let row = DecisionRow {
            id: asked.decision,
            namespace: self.run.namespace().clone(),
            run: self.run.id,
            step: step.clone(),
            asked: asked.clone(),
            state: DecisionState::Open,
            created_at: at,
            closed_at: None,
            option: None,
            form: None,
            answered_by: None,
            kind: if choice { DecisionKind::Choice } else { DecisionKind::Clarification },
            project: self.run.project().map(|project| project.id.clone()),
        };
        self.decisions.insert(row.id, row);
        self.open.insert(asked.decision, step.clone());
    }

    fn close(&mut self, decision: Uuid, state: DecisionState, at: Millis) {
        self.open.remove(&decision);
        if let Some(row) = self.decisions.get_mut(&decision) {
            (row.state, row.closed_at) = (state, Some(at));
        }
    }
}

/// How a listed row differs from the fold of its history: the field, what is listed, and what it should be. `child_over` says
/// that a run it waits for is over: then it must be looked at soon, whatever its own timers say.
///
/// Two fields may lag on purpose. A live run's `updated_at` moves only with its state, and `wake_at` may be earlier than the fold's
/// while a child run is over that the engine has not told it of.
pub fn differences(listed: &RunRow, folded: &RunRow, child_over: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, listed: String, folded: String| {
        if listed != folded {
            found.push(format!("it is listed with {what} {listed} and its history says {folded}"));
        }
    };
    differ("state", listed.state.name().into(), folded.state.name().into());
    differ("sequence", listed.sequence.to_string(), folded.sequence.to_string());
    differ("namespace", listed.namespace.to_string(), folded.namespace.to_string());
    let revision = |row: &RunRow| format!("{} {}", row.workflow, row.revision);
    differ("workflow", revision(listed), revision(folded));
    differ("begin", listed.created_at.to_string(), folded.created_at.to_string());
    differ("end", format!("{:?}", listed.ended_at), format!("{:?}", folded.ended_at));
    differ("parent", format!("{:?}", listed.parent), format!("{:?}", folded.parent));
    differ("project", format!("{:?}", listed.project), format!("{:?}", folded.project));
    differ("labels", format!("{:?}", listed.labels), format!("{:?}", folded.labels));
    differ("error", format!("{:?}", listed.error), format!("{:?}", folded.error));
    let lags = !folded.state.is_over() && (folded.created_at..=folded.updated_at).contains(&listed.updated_at);
    if !lags {
        differ("last change", listed.updated_at.to_string(), folded.updated_at.to_string());
    }
    let soon = child_over && listed.wake_at.is_some_and(|at| folded.wake_at.is_none_or(|later| at <= later));
    if !soon {
        let wanted = if child_over { Some(0) } else { folded.wake_at };
        differ("wake-up", format!("{:?}", listed.wake_at), format!("{wanted:?}"));
    }
    found
}
