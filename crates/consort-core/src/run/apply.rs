//! From events to state: the only code that changes a run.

mod lives;

use std::sync::Arc;
use std::time::Duration;

use super::MAX_ITEMS;
use super::restore::Damaged;
use super::state::{Clarified, Clock, Failing, Items, Lease, Place, Run, RunState, StepState, Unit};
use crate::data::Data;
use crate::event::{DecisionRequested, Entry, Fact, LeaseLoss};
use crate::ids::Millis;
use crate::workflow::Action;

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
        self.s.sequence = self.s.sequence.saturating_add(1);
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
            Fact::SignalReceived { signal, payload } => {
                self.s.signals.entry(signal.clone()).or_default().push_back(payload.clone());
            }
            Fact::RunCompensating { step, error, goto } => {
                let (step, error, goto) = (step.clone(), error.clone(), goto.clone());
                self.s.failing = Some(Failing { step, error, goto });
                self.cancel_rest(at, Run::counts)?;
                self.derive();
            }
            Fact::RunCancelled { .. } => {
                self.cancel_rest(at, |_, _| false)?;
                self.end(RunState::Cancelled, at);
            }
            Fact::RunFailed { error, .. } => {
                self.cancel_rest(at, |_, _| false)?;
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
                self.change(place, Ready, at)?;
                self.set_timer(place, None);
                let unit = self.at_mut(place);
                if *attempt > unit.attempt {
                    unit.lost = 0;
                    unit.calls = 0;
                    unit.tries = unit.tries.saturating_add(1);
                }
                unit.attempt = *attempt;
                if input.is_some() {
                    unit.input.clone_from(input);
                }
            }
            Fact::StepLeased { worker, session, token, .. } => {
                self.change(place, InProgress, at)?;
                let deadline = later(at, self.step(place).timeout);
                self.set_timer(place, deadline);
                let unit = self.at_mut(place);
                unit.started_at.get_or_insert(at);
                unit.lease = Some(Lease { worker: worker.clone(), session: session.clone(), token: *token });
            }
            Fact::StepLeaseLost { reason, .. } => {
                self.change(place, Blocked, at)?;
                self.set_timer(place, None);
                let unit = self.at_mut(place);
                unit.lease = None;
                unit.lost = unit.lost.saturating_add(u32::from(*reason != LeaseLoss::Released));
            }
            Fact::ModelCalled(call) => {
                self.s.calls.get_or_insert_default().take(call);
                let unit = self.at_mut(place);
                unit.calls = unit.calls.saturating_add(1);
            }
            Fact::OperationBegan(_) | Fact::OperationCalled(_) => {
                let unit = self.at_mut(place);
                unit.calls = unit.calls.saturating_add(1);
            }
            Fact::StepReported { .. } => {
                let unit = self.at_mut(place);
                unit.reports = unit.reports.saturating_add(1);
            }
            Fact::StepSucceeded { token, output, .. } => {
                self.change(place, Done, at)?;
                let unit = self.at_mut(place);
                unit.output = Some(output.clone());
                unit.honoured = token.or(unit.honoured);
                if let Some(signal) = unit.signal.take() {
                    self.d.awaiting.remove(&place);
                    let waiting = self
                        .s
                        .signals
                        .get_mut(&signal)
                        .ok_or_else(|| Damaged(format!("there is no signal `{signal}`")))?;
                    waiting.pop_front();
                    if waiting.is_empty() {
                        self.s.signals.remove(&signal);
                    }
                }
                self.over(place, at);
            }
            Fact::StepRetryScheduled { token, error, at: retry_at, .. } => {
                self.block(place, at)?;
                self.set_timer(place, Some(*retry_at));
                let unit = self.at_mut(place);
                unit.error = Some(error.clone());
                unit.honoured = token.or(unit.honoured);
                unit.lease = None;
                unit.child = None;
            }
            Fact::StepFailed { token, error, .. } => {
                if place.item.is_none() {
                    self.cancel_items(place.step, at)?;
                }
                self.change(place, Failed, at)?;
                let unit = self.at_mut(place);
                unit.error = Some(error.clone());
                unit.honoured = token.or(unit.honoured);
                // What a `while` had come to is kept for those who go on without it.
                if place.item.is_none() && self.step(place).repeat.is_some() {
                    let mut last = self.s.steps[place.step].items.iter().flat_map(|items| &items.units).rev();
                    self.at_mut(place).output = last.find_map(|unit| unit.output.clone());
                }
                self.over(place, at);
            }
            Fact::StepSkipped { .. } => {
                self.change(place, Skipped, at)?;
                self.over(place, at);
            }
            Fact::StepExpanded { items, list } => {
                self.expand(place, *items, list.clone(), at)?;
            }
            Fact::WaitStarted { until } => {
                self.change(place, Blocked, at)?;
                self.set_timer(place, Some(*until));
                self.at_mut(place).started_at.get_or_insert(at);
            }
            Fact::StepIterated { iteration } => self.iterate(place, *iteration, at)?,
            Fact::SignalAwaited { signal, until } => {
                self.change(place, Blocked, at)?;
                self.set_timer(place, *until);
                self.d.awaiting.insert(place);
                let unit = self.at_mut(place);
                unit.started_at.get_or_insert(at);
                unit.signal = Some(signal.clone());
            }
            Fact::DecisionRequested(asked) => {
                self.ask(place, asked, at)?;
                let unit = self.at_mut(place);
                unit.attempt = unit.attempt.saturating_add(1);
            }
            Fact::ClarificationRequested { question, token, .. } => {
                self.ask(place, question, at)?;
                let unit = self.at_mut(place);
                unit.questions = unit.questions.saturating_add(1);
                unit.honoured = token.or(unit.honoured);
            }
            Fact::DecisionAnswered { .. } => self.at_mut(place).asked = None,
            Fact::ClarificationAnswered { decision, option, form, by } => {
                self.set_timer(place, None);
                let unit = self.at_mut(place);
                let asked = unit.asked.take().filter(|asked| asked.decision == *decision);
                let title = asked.ok_or_else(|| Damaged(format!("nobody asked question {decision}")))?.title;
                let (option, form, by) = (option.clone(), form.clone(), by.clone());
                unit.clarified.push(Clarified { decision: *decision, title, option, form, by });
                self.d.resume.insert(place);
            }
            Fact::EventEmitted { .. } => {}
            Fact::ChildStarted { child, token, .. } => {
                self.block(place, at)?;
                let worker = matches!(self.step(place).action, Action::Agent { .. });
                let timeout = later(at, self.step(place).timeout.filter(|_| !worker));
                self.set_timer(place, timeout);
                let unit = self.at_mut(place);
                if !worker {
                    unit.attempt = unit.attempt.saturating_add(1);
                    unit.tries = unit.tries.saturating_add(1);
                }
                unit.started_at.get_or_insert(at);
                unit.lease = None;
                unit.honoured = token.or(unit.honoured);
                unit.child = Some(*child);
            }
            other => return Err(Damaged(format!("{} is not about a step", other.event_type()))),
        }
        Ok(())
    }

    fn ask(&mut self, place: Place, asked: &DecisionRequested, at: Millis) -> Result<(), Damaged> {
        self.block(place, at)?;
        let worker = matches!(self.step(place).action, Action::Agent { .. });
        let timeout = later(at, self.step(place).timeout.filter(|_| !worker));
        self.set_timer(place, [asked.deadline, timeout].into_iter().flatten().min());
        let unit = self.at_mut(place);
        unit.started_at.get_or_insert(at);
        unit.lease = None;
        unit.asked = Some(Box::new(asked.clone()));
        unit.asked_at = Some(at);
        Ok(())
    }

    /// Makes a unit wait; what waited for something else waits on.
    fn block(&mut self, place: Place, at: Millis) -> Result<(), Damaged> {
        if self.at(place).state == StepState::Blocked {
            self.d.resume.remove(&place);
            return Ok(());
        }
        self.change(place, StepState::Blocked, at)
    }

    /// Moves a unit to a state, through the states between that one event passes, each hop checked against the table.
    fn change(&mut self, place: Place, to: StepState, at: Millis) -> Result<(), Damaged> {
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
            self.begun(place, at);
        }
        if from == Blocked {
            self.d.resume.remove(&place);
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
            self.d.timers.remove(&(old, place, Clock::Timer));
        }
        if let Some(new) = timer {
            self.d.timers.insert((new, place, Clock::Timer));
        }
    }

    fn set_limit(&mut self, place: Place, limit: Option<Millis>) {
        if let Some(old) = std::mem::replace(&mut self.at_mut(place).limit, limit) {
            self.d.timers.remove(&(old, place, Clock::Limit));
        }
        if let Some(new) = limit {
            self.d.timers.insert((new, place, Clock::Limit));
        }
    }

    /// What follows when a unit is over: its needs are met for others, or the next item may begin.
    fn over(&mut self, place: Place, at: Millis) {
        self.set_timer(place, None);
        self.set_limit(place, None);
        self.d.resume.remove(&place);
        self.d.awaiting.remove(&place);
        let unit = self.at_mut(place);
        unit.lease = None;
        unit.asked = None;
        unit.child = None;
        unit.signal = None;
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
        if self.counts(step) {
            self.d.left -= 1;
        }
        self.d.refill.remove(&step);
        self.d.lists.remove(&step);
        if self.fulfils(step) {
            let definition = Arc::clone(&self.definition);
            for &dependent in &definition.steps[step].dependents {
                self.d.needs_left[dependent] -= 1;
                if self.d.needs_left[dependent] == 0 && self.counts(dependent) {
                    self.d.runnable.insert(dependent);
                }
            }
        }
    }

    /// One more iteration of a `while`, as an item that begins when the one before is over.
    fn iterate(&mut self, place: Place, iteration: u32, at: Millis) -> Result<(), Damaged> {
        if iteration == 0 {
            return self.expand(place, 1, Data::null(), at);
        }
        let next = self.s.steps[place.step].items.as_ref().map(|items| items.units.len());
        if place.item.is_some() || next != Some(iteration as usize) || next >= Some(MAX_ITEMS) {
            return Err(Damaged(format!("iteration {iteration} is not the next one")));
        }
        let unit = new_item(&self.s.steps[place.step].unit);
        let items =
            self.s.steps[place.step].items.get_or_insert_with(|| Items { list: Data::null(), units: Vec::new() });
        items.units.push(unit);
        self.d.todo.entry(place.step).or_default().insert(iteration);
        self.d.refill.insert(place.step);
        Ok(())
    }

    fn expand(&mut self, place: Place, items: u32, list: Data, at: Millis) -> Result<(), Damaged> {
        if place.item.is_some() || self.s.steps[place.step].items.is_some() || items as usize > MAX_ITEMS {
            return Err(Damaged(format!("step `{}` cannot get {items} items", self.key(place))));
        }
        self.change(place, StepState::InProgress, at)?;
        // From here on the items count, not the step.
        self.d.active -= 1;
        self.at_mut(place).started_at.get_or_insert(at);
        let units = vec![new_item(self.at(place)); items as usize];
        self.s.steps[place.step].items = Some(Items { list, units });
        self.d.todo.insert(place.step, (0..items).collect());
        self.d.refill.insert(place.step);
        Ok(())
    }

    /// What has begun need not be begun.
    fn begun(&mut self, place: Place, at: Millis) {
        match place.item {
            None => {
                self.d.runnable.remove(&place.step);
                let limit = later(at, self.step(place).limit);
                self.set_limit(place, limit);
            }
            Some(item) => {
                if let Some(todo) = self.d.todo.get_mut(&place.step) {
                    todo.remove(&item);
                }
                *self.d.in_hand.entry(place.step).or_default() += 1;
            }
        }
    }
}

/// A moment some time after another one.
fn later(at: Millis, time: Option<Duration>) -> Option<Millis> {
    time.map(|time| at.saturating_add(time.as_millis() as Millis))
}

/// An item of a step that has not begun.
fn new_item(whole: &Unit) -> Unit {
    Unit { attempt: whole.attempt, questions: whole.questions, ..Unit::default() }
}
