//! The end of what is cancelled, and the new lives after a retry.

use std::sync::Arc;

use super::super::restore::Damaged;
use super::super::state::{Items, Place, Run, RunState, StepState, Unit};
use super::later;
use crate::ids::Millis;
use crate::workflow::OnError;

impl Run {
    /// Cancels every step that is not over, except those to be kept.
    pub(super) fn cancel_rest(&mut self, at: Millis, keep: fn(&Run, usize) -> bool) -> Result<(), Damaged> {
        for step in 0..self.s.steps.len() {
            if keep(self, step) {
                continue;
            }
            self.cancel_items(step, at)?;
            self.cancel(Place { step, item: None }, at)?;
        }
        Ok(())
    }

    /// Cancels the items of a step that are not over.
    pub(super) fn cancel_items(&mut self, step: usize, at: Millis) -> Result<(), Damaged> {
        let items = self.s.steps[step].items.as_ref().map_or(0, |i| i.units.len() as u32);
        for item in 0..items {
            self.cancel(Place { step, item: Some(item) }, at)?;
        }
        self.d.todo.remove(&step);
        self.d.in_hand.remove(&step);
        Ok(())
    }

    fn cancel(&mut self, place: Place, at: Millis) -> Result<(), Damaged> {
        if self.at(place).state.is_over() {
            return Ok(());
        }
        self.change(place, StepState::Cancelled, at)?;
        self.set_timer(place, None);
        self.set_limit(place, None);
        self.d.resume.remove(&place);
        self.d.awaiting.remove(&place);
        let unit = self.at_mut(place);
        unit.lease = None;
        unit.asked = None;
        unit.child = None;
        unit.signal = None;
        unit.ended_at = Some(at);
        if place.item.is_some() {
            *self.d.items_over.entry(place.step).or_default() += 1;
        }
        Ok(())
    }

    pub(super) fn end(&mut self, state: RunState, at: Millis) {
        self.s.state = state;
        self.s.ended_at = Some(at);
        self.s.deadline = None;
        self.s.paused = false;
    }

    /// Gives failed and cancelled units of these steps a new life.
    pub(super) fn revive(&mut self, steps: &[Arc<str>], at: Millis) -> Result<(), Damaged> {
        for id in steps {
            let step = *self.definition.index.get(id).ok_or_else(|| Damaged(format!("there is no step `{id}`")))?;
            let spec = &self.definition.steps[step];
            let run = &mut self.s.steps[step];
            let reborn = |unit: &mut Unit| {
                let lost = match unit.state {
                    _ if spec.compensates.is_some() => true,
                    StepState::Failed => spec.on_error != OnError::Continue,
                    state => state == StepState::Cancelled,
                };
                if lost {
                    let Unit { attempt, honoured, questions, .. } = *unit;
                    *unit = Unit { attempt, honoured, questions, ..Unit::default() };
                }
            };
            reborn(&mut run.unit);
            // A compensation begins anew, and so does a `while` that came to its end without an item to blame.
            let spent = |items: &Items| items.units.iter().all(|unit| unit.state == StepState::Done);
            if let Some(items) = run.items.take_if(|i| spec.compensates.is_some() || spec.repeat.is_some() && spent(i))
            {
                // Names of attempts and questions never repeat, so the new items count on from the old ones.
                let most = |count: fn(&Unit) -> u32| items.units.iter().map(count).max().unwrap_or(0);
                run.unit.attempt = run.unit.attempt.max(most(|unit| unit.attempt));
                run.unit.questions = run.unit.questions.max(most(|unit| unit.questions));
            }
            if let Some(items) = &mut run.items {
                items.units.iter_mut().for_each(reborn);
                run.unit.state = StepState::InProgress;
                run.unit.started_at = Some(at);
                run.unit.limit = later(at, spec.limit);
            }
        }
        self.s.failing = None;
        self.s.state = RunState::Running;
        self.s.error = None;
        self.s.ended_at = None;
        self.s.deadline = later(at, self.definition.timeout);
        self.derive();
        Ok(())
    }
}
