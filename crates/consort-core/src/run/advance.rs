//! What can begin, begins: steps whose needs are over, items of a `for_each`, iterations of a `while`, what a signal or an answer
//! sets free, and the end of the run.

use std::sync::Arc;

use super::scope::{Round, RunScope};
use super::state::{Place, Run, StepState};
use super::{Context, MAX_ITEMS, Transition};
use crate::data::{Data, Json};
use crate::error::Error;
use crate::event::{Code, Fact, Failure};
use crate::workflow::EvalError;

/// Whether a step or item could begin.
pub(super) enum Begun {
    Yes,
    /// Something is missing; it stays where it was.
    NotYet,
}

impl Run {
    pub(super) fn advance(&mut self, cx: &Context<'_>, t: &mut Transition) -> Result<(), Error> {
        if self.s.paused {
            return Ok(());
        }
        let (mut held, mut waiting) = (Vec::new(), Vec::new());
        loop {
            if self.s.state.is_over() {
                return Ok(());
            }
            if let Some(step) = self.d.runnable.pop_first() {
                if let Begun::NotYet = self.begin_step(step, cx, t)? {
                    held.push(step);
                }
            } else if let Some(place) = self.d.resume.pop_first() {
                if let Begun::NotYet = self.resume(place, cx, t)? {
                    waiting.push(place);
                }
            } else if self.take_signal(cx, t)? {
            } else if let Some(step) = self.d.refill.pop_first() {
                if let Begun::NotYet = self.refill(step, cx, t)? {
                    held.push(step);
                }
            } else {
                break;
            }
        }
        for step in held {
            // A failure elsewhere may have ended it meanwhile.
            if self.s.steps[step].unit.state.is_over() {
                continue;
            }
            if self.s.steps[step].items.is_some() {
                self.d.refill.insert(step);
            } else {
                self.d.runnable.insert(step);
            }
        }
        waiting.retain(|place| self.at(*place).state == StepState::Blocked);
        self.d.resume.extend(waiting);
        match self.s.failing.clone() {
            _ if self.d.left > 0 => Ok(()),
            // The compensation is over.
            Some(failing) => self.fail_run(Some(failing.step), failing.error, cx, t),
            None => self.succeed(cx, t),
        }
    }

    /// Gives the oldest signal that somebody waits for to the first who does.
    fn take_signal(&mut self, cx: &Context<'_>, t: &mut Transition) -> Result<bool, Error> {
        let wanted = |place: &&Place| {
            let signal = self.at(**place).signal.as_ref();
            signal.is_some_and(|signal| self.s.signals.contains_key(signal))
        };
        let Some(place) = self.d.awaiting.iter().find(wanted).copied() else { return Ok(false) };
        let signal = self.at(place).signal.as_ref().and_then(|signal| self.s.signals.get(signal));
        let Some(output) = signal.and_then(|waiting| waiting.front()).cloned() else { return Ok(false) };
        let key = self.key(place);
        self.emit(Some(key), Fact::StepSucceeded { token: None, attempt: 0, output }, cx, t)?;
        Ok(true)
    }

    fn begin_step(&mut self, step: usize, cx: &Context<'_>, t: &mut Transition) -> Result<Begun, Error> {
        let definition = Arc::clone(&self.definition);
        let spec = &definition.steps[step];
        let place = Place { step, item: None };
        let key = self.key(place);
        let scope = self.scope(cx);
        match &spec.condition {
            None => {
                let skipped = spec.needs.iter().find(|&&n| self.s.steps[n].unit.state == StepState::Skipped);
                if let Some(&need) = skipped {
                    let reason = format!("`{}` was skipped", definition.steps[need].id);
                    self.emit(Some(key), Fact::StepSkipped { reason }, cx, t)?;
                    return Ok(Begun::Yes);
                }
            }
            Some(condition) => match scope.value(condition) {
                Ok(serde_json::Value::Bool(true)) => {}
                Ok(serde_json::Value::Bool(false)) => {
                    self.emit(Some(key), Fact::StepSkipped { reason: "its `if` is false".into() }, cx, t)?;
                    return Ok(Begun::Yes);
                }
                Ok(other) => {
                    let error = EvalError::Failed(format!("`if` must give true or false, but gave {other}"));
                    return self.not_evaluated(place, error, cx, t);
                }
                Err(error) => return self.not_evaluated(place, error, cx, t),
            },
        }
        if spec.repeat.is_some() {
            self.emit(Some(key), Fact::StepIterated { iteration: 0 }, cx, t)?;
            return Ok(Begun::Yes);
        }
        let Some(for_each) = &spec.for_each else { return self.begin_unit(place, Round::Once, cx, t) };
        let list = for_each.list.eval(&scope).and_then(|list| scope.list(&list).map(|items| (list, items)));
        match list {
            Ok((list, items)) if items.len() <= MAX_ITEMS => {
                let fact = Fact::StepExpanded { items: items.len() as u32, list };
                self.emit(Some(key), fact, cx, t)?;
                self.d.lists.insert(step, Arc::new(items));
                Ok(Begun::Yes)
            }
            Ok((_, items)) => {
                let text = format!("`for_each` gave {} items; at most {MAX_ITEMS} are allowed", items.len());
                self.not_evaluated(place, EvalError::Failed(text), cx, t)
            }
            Err(error) => self.not_evaluated(place, error, cx, t),
        }
    }

    /// Begins as many items as may run at once; ends the step when all are over.
    fn refill(&mut self, step: usize, cx: &Context<'_>, t: &mut Transition) -> Result<Begun, Error> {
        let definition = Arc::clone(&self.definition);
        let limit = definition.steps[step].for_each.as_ref().and_then(|f| f.max_parallel).unwrap_or(u32::MAX);
        let whole = Place { step, item: None };
        while self.d.in_hand.get(&step).copied().unwrap_or(0) < limit {
            let Some(item) = self.d.todo.get(&step).and_then(|todo| todo.first().copied()) else { break };
            let place = Place { step, item: Some(item) };
            let round = match self.round(place, cx) {
                Ok(round) => round,
                Err(error) => return self.not_evaluated(whole, error, cx, t),
            };
            if let Begun::NotYet = self.begin_unit(place, round, cx, t)? {
                return Ok(Begun::NotYet);
            }
            if self.at(whole).state.is_over() {
                return Ok(Begun::Yes);
            }
        }
        let key = self.key(whole);
        let Some((all, over)) = self.items(&key) else { return Ok(Begun::Yes) };
        self.d.refill.remove(&step);
        if over < all {
            return Ok(Begun::Yes);
        }
        if definition.steps[step].repeat.is_some() {
            return self.iterate_or_end(step, all, cx, t);
        }
        match self.collect(step, cx) {
            Ok(output) => {
                self.emit(Some(key), Fact::StepSucceeded { token: None, attempt: 0, output }, cx, t)?;
                Ok(Begun::Yes)
            }
            Err(error) => self.not_evaluated(whole, error, cx, t),
        }
    }

    /// After an iteration of a `while`: another one, or the end of the step.
    fn iterate_or_end(
        &mut self,
        step: usize,
        iterations: u32,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<Begun, Error> {
        let definition = Arc::clone(&self.definition);
        let whole = Place { step, item: None };
        let Some(repeat) = &definition.steps[step].repeat else { return Ok(Begun::Yes) };
        let last = self.at(Place { step, item: Some(iterations - 1) }).output.clone().unwrap_or_else(Data::null);
        let scope = RunScope { round: Round::Iteration(last.clone(), iterations - 1), ..self.scope(cx) };
        let again = match repeat.condition.eval_bool(&scope) {
            Ok(again) => again,
            Err(error) => return self.not_evaluated(whole, error, cx, t),
        };
        let key = self.key(whole);
        if !again {
            self.emit(Some(key), Fact::StepSucceeded { token: None, attempt: 0, output: last }, cx, t)?;
        } else if iterations < repeat.max {
            self.emit(Some(key), Fact::StepIterated { iteration: iterations }, cx, t)?;
        } else {
            let text = format!("`while` is still true after {iterations} iterations, the most that `max` allows");
            self.fail_step(whole, None, Failure::new(Code::ResourceExhausted, text), cx, t)?;
        }
        Ok(Begun::Yes)
    }

    /// Which time a unit is done.
    pub(super) fn round(&mut self, place: Place, cx: &Context<'_>) -> Result<Round, EvalError> {
        let Some(item) = place.item else { return Ok(Round::Once) };
        if self.definition.steps[place.step].repeat.is_some() {
            let before = item.checked_sub(1).map(|before| self.at(Place { item: Some(before), ..place }));
            let last = before.and_then(|unit| unit.output.clone());
            return Ok(Round::Iteration(last.unwrap_or_else(Data::null), item));
        }
        let items = self.items_of(place.step, cx)?;
        Ok(Round::Item(items.get(item as usize).cloned().unwrap_or_else(Data::null), item))
    }

    /// What expressions can see that are evaluated once for a step.
    pub(super) fn scope<'a>(&'a self, cx: &'a Context<'_>) -> RunScope<'a> {
        RunScope { run: self, round: Round::Once, clarified: None, blobs: cx.blobs }
    }

    fn items_of(&mut self, step: usize, cx: &Context<'_>) -> Result<Arc<Vec<Data>>, EvalError> {
        if let Some(items) = self.d.lists.get(&step) {
            return Ok(Arc::clone(items));
        }
        let Some(items) = &self.s.steps[step].items else { return Ok(Arc::default()) };
        let scope = self.scope(cx);
        let items = Arc::new(scope.list(&items.list)?);
        self.d.lists.insert(step, Arc::clone(&items));
        Ok(items)
    }

    /// The list of all items' outputs.
    fn collect(&self, step: usize, cx: &Context<'_>) -> Result<Data, EvalError> {
        let scope = self.scope(cx);
        let mut missing = Vec::new();
        let mut list = String::from("[");
        for unit in self.s.steps[step].items.iter().flat_map(|items| &items.units) {
            if list.len() > 1 {
                list.push(',');
            }
            match unit.output.as_ref().map(|output| scope.text(output)) {
                None => list.push_str("null"),
                Some(Ok(text)) => list.push_str(text.as_str()),
                Some(Err(EvalError::NeedsBlobs(blobs))) => missing.extend(blobs),
                Some(Err(error)) => return Err(error),
            }
        }
        if !missing.is_empty() {
            return Err(EvalError::NeedsBlobs(missing));
        }
        list.push(']');
        let list = Json::parse(list).map_err(|e| EvalError::Failed(format!("the list of outputs: {e}")))?;
        Ok(Data::Inline(list))
    }

    pub(super) fn not_evaluated(
        &mut self,
        place: Place,
        error: EvalError,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<Begun, Error> {
        match error {
            EvalError::NeedsBlobs(blobs) => {
                for blob in blobs {
                    if !t.needs.blobs.contains(&blob) {
                        t.needs.blobs.push(blob);
                    }
                }
                Ok(Begun::NotYet)
            }
            EvalError::Failed(text) => {
                self.fail_step(place, None, Failure::new(Code::FailedPrecondition, text), cx, t)?;
                Ok(Begun::Yes)
            }
        }
    }

    fn succeed(&mut self, cx: &Context<'_>, t: &mut Transition) -> Result<(), Error> {
        let scope = self.scope(cx);
        let output = if let Some(template) = &self.definition.output {
            template.eval(&scope)
        } else {
            let steps = self.s.steps.iter().zip(&self.definition.steps).rev();
            let last =
                steps.filter(|(_, spec)| spec.compensates.is_none()).map(|(step, _)| step.unit.output.clone()).next();
            Ok(last.flatten().unwrap_or_else(Data::null))
        };
        match output {
            Ok(output) => {
                let definition = Arc::clone(&self.definition);
                for (step, spec) in definition.steps.iter().enumerate().filter(|(_, spec)| spec.compensates.is_some()) {
                    let key = self.key(Place { step, item: None });
                    let reason = format!(
                        "nothing failed that `{}` would compensate",
                        definition.steps[spec.compensates.unwrap_or(step)].id
                    );
                    self.emit(Some(key), Fact::StepSkipped { reason }, cx, t)?;
                }
                self.emit(None, Fact::RunSucceeded { output }, cx, t)
            }
            Err(EvalError::NeedsBlobs(blobs)) => {
                t.needs.blobs.extend(blobs);
                Ok(())
            }
            Err(EvalError::Failed(text)) => {
                let error = Failure::new(Code::FailedPrecondition, format!("the workflow's output: {text}"));
                self.fail_run(None, error, cx, t)
            }
        }
    }
}
