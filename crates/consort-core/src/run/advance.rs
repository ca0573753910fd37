//! What can begin, begins: steps whose needs are over, items of a `for_each`, and the end of the run.

use std::sync::Arc;

use super::scope::RunScope;
use super::state::{Place, Run, StepState};
use super::{Child, Context, MAX_DEPTH, MAX_ITEMS, Transition};
use crate::data::{Data, Json};
use crate::error::Error;
use crate::event::{Code, DecisionRequested, Fact, Failure};
use crate::ids::Millis;
use crate::ports::DecisionState;
use crate::workflow::{Action, Decide, EvalError, parse_duration};

/// Whether a step or item could begin.
enum Begun {
    Yes,
    /// Something is missing; it stays where it was.
    NotYet,
}

impl Run {
    pub(super) fn advance(&mut self, cx: &Context<'_>, t: &mut Transition) -> Result<(), Error> {
        if self.s.paused {
            return Ok(());
        }
        let mut held = Vec::new();
        loop {
            if self.s.state.is_over() {
                return Ok(());
            }
            if let Some(step) = self.d.runnable.pop_first() {
                if let Begun::NotYet = self.begin_step(step, cx, t)? {
                    held.push(step);
                }
            } else if let Some(step) = self.d.refill.pop_first() {
                if let Begun::NotYet = self.refill(step, cx, t)? {
                    held.push(step);
                }
            } else {
                break;
            }
        }
        for step in held {
            if self.s.steps[step].items.is_some() {
                self.d.refill.insert(step);
            } else {
                self.d.runnable.insert(step);
            }
        }
        if self.d.left == 0 { self.succeed(cx, t) } else { Ok(()) }
    }

    fn begin_step(&mut self, step: usize, cx: &Context<'_>, t: &mut Transition) -> Result<Begun, Error> {
        let definition = Arc::clone(&self.definition);
        let spec = &definition.steps[step];
        let place = Place { step, item: None };
        let key = self.key(place);
        let scope = RunScope { run: self, item: None, blobs: cx.blobs };
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
        let Some(for_each) = &spec.for_each else { return self.begin_unit(place, None, cx, t) };
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
            let items = match self.items_of(step, cx) {
                Ok(items) => items,
                Err(error) => return self.not_evaluated(whole, error, cx, t),
            };
            let place = Place { step, item: Some(item) };
            if let Begun::NotYet = self.begin_unit(place, items.get(item as usize).cloned(), cx, t)? {
                return Ok(Begun::NotYet);
            }
            if self.s.state.is_over() {
                return Ok(Begun::Yes);
            }
        }
        let key = self.key(whole);
        let Some((all, over)) = self.items(&key) else { return Ok(Begun::Yes) };
        self.d.refill.remove(&step);
        if over < all {
            return Ok(Begun::Yes);
        }
        match self.collect(step, cx) {
            Ok(output) => {
                self.emit(Some(key), Fact::StepSucceeded { token: None, attempt: 0, output }, cx, t)?;
                Ok(Begun::Yes)
            }
            Err(error) => self.not_evaluated(whole, error, cx, t),
        }
    }

    fn items_of(&mut self, step: usize, cx: &Context<'_>) -> Result<Arc<Vec<Data>>, EvalError> {
        if let Some(items) = self.d.lists.get(&step) {
            return Ok(Arc::clone(items));
        }
        let Some(items) = &self.s.steps[step].items else { return Ok(Arc::default()) };
        let scope = RunScope { run: self, item: None, blobs: cx.blobs };
        let items = Arc::new(scope.list(&items.list)?);
        self.d.lists.insert(step, Arc::clone(&items));
        Ok(items)
    }

    /// The list of all items' outputs.
    fn collect(&self, step: usize, cx: &Context<'_>) -> Result<Data, EvalError> {
        let scope = RunScope { run: self, item: None, blobs: cx.blobs };
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

    fn begin_unit(
        &mut self,
        place: Place,
        item: Option<Data>,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<Begun, Error> {
        let definition = Arc::clone(&self.definition);
        let key = self.key(place);
        let item = item.zip(place.item);
        let scope = RunScope { run: self, item, blobs: cx.blobs };
        let fact = match &definition.steps[place.step].action {
            Action::Agent { agent, with } => with.eval(&scope).map(|input| Fact::StepScheduled {
                agent: agent.clone(),
                attempt: self.at(place).attempt + 1,
                input: Some(input),
            }),
            Action::Set { value } => {
                value.eval(&scope).map(|output| Fact::StepSucceeded { token: None, attempt: 0, output })
            }
            Action::Wait { duration } => scope.string(duration).and_then(|text| {
                let duration = parse_duration(&text).map_err(EvalError::Failed)?;
                Ok(Fact::WaitStarted { until: cx.now.saturating_add(duration.as_millis() as Millis) })
            }),
            Action::Decide(decide) => self.question(place, decide, &scope, cx.now).map(Fact::DecisionRequested),
            Action::Workflow { workflow, with } => {
                return match scope.value(with) {
                    Ok(inputs) => self.begin_child(place, workflow, &inputs, cx, t),
                    Err(error) => self.not_evaluated(place, error, cx, t),
                };
            }
        };
        match fact {
            Ok(fact) => {
                self.emit(Some(key.clone()), fact, cx, t)?;
                if let Some(asked) = self.at(place).asked.clone() {
                    t.decisions.push(self.decision_row(&key, &asked, DecisionState::Open, cx));
                }
                Ok(Begun::Yes)
            }
            Err(error) => self.not_evaluated(place, error, cx, t),
        }
    }

    fn question(
        &self,
        place: Place,
        decide: &Decide,
        scope: &RunScope<'_>,
        now: Millis,
    ) -> Result<DecisionRequested, EvalError> {
        Ok(DecisionRequested {
            decision: self.id.decision(&self.key(place), self.at(place).attempt + 1),
            title: scope.string(&decide.title)?,
            description: decide.description.as_ref().map_or(Ok(String::new()), |d| scope.string(d))?,
            options: decide.options.clone(),
            form: decide.form.clone().map(Data::Inline),
            deadline: decide.deadline.map(|d| now.saturating_add(d.as_millis() as Millis)),
            default: decide.default.clone(),
        })
    }

    fn begin_child(
        &mut self,
        place: Place,
        workflow: &Arc<str>,
        inputs: &serde_json::Value,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<Begun, Error> {
        let depth = self.s.parent.as_ref().map_or(0, |p| p.depth) + 1;
        let refused = match cx.workflows.get(workflow) {
            None => {
                if !t.needs.workflows.contains(workflow) {
                    t.needs.workflows.push(workflow.clone());
                }
                return Ok(Begun::NotYet);
            }
            Some(None) => Failure::new(Code::NotFound, format!("there is no workflow `{workflow}`; apply it first")),
            Some(Some(_)) if depth > MAX_DEPTH => {
                Failure::new(Code::ResourceExhausted, format!("child runs are nested more than {MAX_DEPTH} deep"))
            }
            Some(Some(Child { revision, definition })) => match definition.inputs.complete(inputs) {
                Ok(inputs) => {
                    let key = self.key(place);
                    let child = self.id.child(&key, self.at(place).attempt + 1);
                    let fact = Fact::ChildStarted { child, workflow: workflow.clone(), revision: *revision, inputs };
                    self.emit(Some(key), fact, cx, t)?;
                    return Ok(Begun::Yes);
                }
                Err(violations) => Failure::new(Code::InvalidArgument, Error::bad_fields(violations).message),
            },
        };
        self.fail_step(place, None, refused, cx, t)?;
        Ok(Begun::Yes)
    }

    fn not_evaluated(
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
        let scope = RunScope { run: self, item: None, blobs: cx.blobs };
        let output = if let Some(template) = &self.definition.output {
            template.eval(&scope)
        } else {
            let last = self.s.steps.last().and_then(|step| step.unit.output.clone());
            Ok(last.unwrap_or_else(Data::null))
        };
        match output {
            Ok(output) => self.emit(None, Fact::RunSucceeded { output }, cx, t),
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
