//! From events to state: the only code that changes a run.

use std::sync::Arc;

use super::restore::Damaged;
use super::state::{Items, Lease, Place, Run, RunState, StepState, Unit};
use crate::event::{Entry, Fact};
use crate::ids::Millis;

impl Run {
    /// Applies one event. An error means that the history was not written by [`Run::decide`]; the run must then not be used.
    pub fn apply(&mut self, entry: &Entry, at: Millis) -> Result<(), Damaged> {
        match &entry.step {
            None => self.apply_to_run(&entry.fact, at)?,
            Some(key) => {
                let place = self.place(key).ok_or_else(|| Damaged(format!("there is no step `{key}`")))?;
                self.apply_to_step(place, &entry.fact, at)?;
            }
        }
        self.s.sequence += 1;
        self.s.updated_at = at;
        if !self.s.state.is_over() {
            self.s.state = self.live_state();
        }
        Ok(())
    }

    fn live_state(&self) -> RunState {
        if self.s.paused {
            RunState::Paused
        } else if self.d.active > 0 {
            RunState::Running
        } else if self.d.blocked > 0 {
            RunState::Waiting
        } else if self.s.steps.iter().all(|s| s.unit.state == StepState::Created) {
            RunState::Pending
        } else {
            RunState::Running
        }
    }

    fn apply_to_run(&mut self, fact: &Fact, at: Millis) -> Result<(), Damaged> {
        match fact {
            Fact::RunPaused { .. } => self.s.paused = true,
            Fact::RunResumed => self.s.paused = false,
            Fact::SignalReceived { .. } => {}
            Fact::RunCancelled { .. } => {
                self.cancel_rest(at)?;
                self.end(RunState::Cancelled, at);
            }
            Fact::RunFailed { error, .. } => {
                self.cancel_rest(at)?;
                self.s.error = Some(error.clone());
                self.end(RunState::Failed, at);
            }
            Fact::RunSucceeded { output } => {
                self.s.output = Some(output.clone());
                self.end(RunState::Succeeded, at);
            }
            Fact::RunRetried { steps } => self.revive(steps, at)?,
            other => return Err(Damaged(format!("{} must name a step", other.event_type()))),
        }
        Ok(())
    }

    fn apply_to_step(&mut self, place: Place, fact: &Fact, at: Millis) -> Result<(), Damaged> {
        use StepState::{Blocked, Done, Failed, InProgress, Ready, Skipped};
        match fact {
            Fact::StepScheduled { attempt, input, .. } => {
                self.change(place, Ready)?;
                self.set_timer(place, None);
                let unit = self.at_mut(place);
                if *attempt > unit.attempt {
                    unit.tries += 1;
                }
                unit.attempt = *attempt;
                if input.is_some() {
                    unit.input.clone_from(input);
                }
            }
            Fact::StepLeased { worker, session, token, .. } => {
                self.change(place, InProgress)?;
                let deadline = self.step(place).timeout.map(|t| at + t.as_millis() as Millis);
                self.set_timer(place, deadline);
                let unit = self.at_mut(place);
                unit.started_at.get_or_insert(at);
                unit.lease = Some(Lease { worker: worker.clone(), session: session.clone(), token: *token });
            }
            Fact::StepLeaseLost { .. } => {
                self.change(place, Blocked)?;
                self.set_timer(place, None);
                self.at_mut(place).lease = None;
            }
            Fact::StepReported { .. } => self.at_mut(place).reports += 1,
            Fact::StepSucceeded { token, output, .. } => {
                self.change(place, Done)?;
                let unit = self.at_mut(place);
                unit.output = Some(output.clone());
                unit.honoured = token.or(unit.honoured);
                self.over(place, at);
            }
            Fact::StepRetryScheduled { token, error, at: retry_at, .. } => {
                self.change(place, Blocked)?;
                self.set_timer(place, Some(*retry_at));
                let unit = self.at_mut(place);
                unit.error = Some(error.clone());
                unit.honoured = token.or(unit.honoured);
                unit.lease = None;
            }
            Fact::StepFailed { token, error, .. } => {
                self.change(place, Failed)?;
                let unit = self.at_mut(place);
                unit.error = Some(error.clone());
                unit.honoured = token.or(unit.honoured);
                self.over(place, at);
            }
            Fact::StepSkipped { .. } => {
                self.change(place, Skipped)?;
                self.over(place, at);
            }
            Fact::StepExpanded { items, list } => {
                self.expand(place, *items, list.clone(), at)?;
            }
            Fact::WaitStarted { until } => {
                self.change(place, Blocked)?;
                self.set_timer(place, Some(*until));
                self.at_mut(place).started_at.get_or_insert(at);
            }
            Fact::DecisionRequested(asked) => {
                self.change(place, Blocked)?;
                let timeout = self.step(place).timeout.map(|t| at + t.as_millis() as Millis);
                self.set_timer(place, [asked.deadline, timeout].into_iter().flatten().min());
                let unit = self.at_mut(place);
                unit.attempt += 1;
                unit.started_at.get_or_insert(at);
                unit.asked = Some(Box::new(asked.clone()));
            }
            Fact::DecisionAnswered { .. } => self.at_mut(place).asked = None,
            Fact::ChildStarted { child, .. } => {
                self.change(place, Blocked)?;
                let timeout = self.step(place).timeout.map(|t| at + t.as_millis() as Millis);
                self.set_timer(place, timeout);
                let unit = self.at_mut(place);
                unit.attempt += 1;
                unit.started_at.get_or_insert(at);
                unit.child = Some(*child);
            }
            other => return Err(Damaged(format!("{} is not about a step", other.event_type()))),
        }
        Ok(())
    }

    /// Moves a unit to a state, through the states between that one event passes, each hop checked against the table.
    fn change(&mut self, place: Place, to: StepState) -> Result<(), Damaged> {
        use StepState::{Blocked, Created, Done, InProgress, Ready};
        let from = self.at(place).state;
        let between: &[StepState] = match (from, to) {
            // What the mesh performs itself is ready and in progress for no time at all.
            (Created | Blocked, Done) => &[Ready, InProgress],
            (Created | Blocked, InProgress) => &[Ready],
            (Ready, Done) => &[InProgress],
            _ => &[],
        };
        let mut now = from;
        for next in between.iter().copied().chain([to]) {
            if !now.may_become(next) {
                let key = self.key(place);
                return Err(Damaged(format!("step `{key}` cannot go from {} to {}", now.name(), next.name())));
            }
            now = next;
        }
        if from == Created {
            self.begun(place);
        }
        self.count(place, from, false);
        self.count(place, to, true);
        self.at_mut(place).state = to;
        Ok(())
    }

    /// Keeps the counters of active and blocked units; a `for_each` step as a whole counts as neither.
    fn count(&mut self, place: Place, state: StepState, enters: bool) {
        if place.item.is_none() && self.s.steps[place.step].items.is_some() {
            return;
        }
        let counter = match state {
            StepState::Ready | StepState::InProgress => &mut self.d.active,
            StepState::Blocked => &mut self.d.blocked,
            _ => return,
        };
        if enters { *counter += 1 } else { *counter -= 1 }
    }

    fn set_timer(&mut self, place: Place, timer: Option<Millis>) {
        if let Some(old) = std::mem::replace(&mut self.at_mut(place).timer, timer) {
            self.d.timers.remove(&(old, place));
        }
        if let Some(new) = timer {
            self.d.timers.insert((new, place));
        }
    }

    /// What follows when a unit is over: its needs are met for others, or the next item may begin.
    fn over(&mut self, place: Place, at: Millis) {
        self.set_timer(place, None);
        let unit = self.at_mut(place);
        unit.lease = None;
        unit.asked = None;
        unit.child = None;
        unit.input = None;
        unit.started_at.get_or_insert(at);
        unit.ended_at = Some(at);
        let step = place.step;
        if place.item.is_some() {
            *self.d.in_hand.entry(step).or_default() -= 1;
            *self.d.items_over.entry(step).or_default() += 1;
            self.d.refill.insert(step);
            return;
        }
        self.d.left -= 1;
        self.d.refill.remove(&step);
        self.d.lists.remove(&step);
        if matches!(self.at(place).state, StepState::Done | StepState::Skipped) {
            let definition = Arc::clone(&self.definition);
            for &dependent in &definition.steps[step].dependents {
                self.d.needs_left[dependent] -= 1;
                if self.d.needs_left[dependent] == 0 {
                    self.d.runnable.insert(dependent);
                }
            }
        }
    }

    fn expand(&mut self, place: Place, items: u32, list: crate::Data, at: Millis) -> Result<(), Damaged> {
        self.change(place, StepState::InProgress)?;
        // From here on the items count, not the step.
        self.d.active -= 1;
        self.at_mut(place).started_at.get_or_insert(at);
        let units = vec![Unit::default(); items as usize];
        self.s.steps[place.step].items = Some(Items { list, units });
        self.d.todo.insert(place.step, (0..items).collect());
        self.d.refill.insert(place.step);
        Ok(())
    }

    /// What has begun need not be begun.
    fn begun(&mut self, place: Place) {
        match place.item {
            None => drop(self.d.runnable.remove(&place.step)),
            Some(item) => {
                if let Some(todo) = self.d.todo.get_mut(&place.step) {
                    todo.remove(&item);
                }
                *self.d.in_hand.entry(place.step).or_default() += 1;
            }
        }
    }

    fn cancel_rest(&mut self, at: Millis) -> Result<(), Damaged> {
        for step in 0..self.s.steps.len() {
            let items = self.s.steps[step].items.as_ref().map_or(0, |i| i.units.len() as u32);
            let places = (0..items).map(|n| Place { step, item: Some(n) }).chain([Place { step, item: None }]);
            for place in places {
                if self.at(place).state.is_over() {
                    continue;
                }
                self.change(place, StepState::Cancelled)?;
                self.set_timer(place, None);
                let unit = self.at_mut(place);
                unit.lease = None;
                unit.asked = None;
                unit.child = None;
                unit.ended_at = Some(at);
            }
        }
        Ok(())
    }

    fn end(&mut self, state: RunState, at: Millis) {
        self.s.state = state;
        self.s.ended_at = Some(at);
        self.s.deadline = None;
        self.s.paused = false;
    }

    /// Gives failed and cancelled units of these steps a new life.
    fn revive(&mut self, steps: &[Arc<str>], at: Millis) -> Result<(), Damaged> {
        for id in steps {
            let step = *self.definition.index.get(id).ok_or_else(|| Damaged(format!("there is no step `{id}`")))?;
            let run = &mut self.s.steps[step];
            let reborn = |unit: &mut Unit| {
                if matches!(unit.state, StepState::Failed | StepState::Cancelled) {
                    *unit = Unit { attempt: unit.attempt, honoured: unit.honoured, ..Unit::default() };
                }
            };
            reborn(&mut run.unit);
            if let Some(items) = &mut run.items {
                items.units.iter_mut().for_each(reborn);
                run.unit.state = StepState::InProgress;
            }
        }
        self.s.state = RunState::Running;
        self.s.error = None;
        self.s.ended_at = None;
        self.s.deadline = self.definition.timeout.map(|t| at + t.as_millis() as Millis);
        self.derive();
        Ok(())
    }
}
