//! How each kind of step begins.

use std::sync::Arc;

use super::advance::Begun;
use super::questions::answer_value;
use super::scope::{Round, RunScope};
use super::state::{Place, Run, StepState};
use super::{Child, Context, MAX_DEPTH, Transition};
use crate::data::Data;
use crate::error::Error;
use crate::event::{Code, Fact, Failure};
use crate::ids::Millis;
use crate::workflow::{Action, Clarify, Decide, EvalError, parse_duration};

impl Run {
    /// Begins a step, or one item or iteration of it.
    pub(super) fn begin_unit(
        &mut self,
        place: Place,
        round: Round,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<Begun, Error> {
        let definition = Arc::clone(&self.definition);
        let spec = &definition.steps[place.step];
        let key = self.key(place);
        let unit = self.at(place);
        if let Some(clarify) = &spec.clarify
            && unit.state == StepState::Created
        {
            match self.unclear(place, clarify, &round, cx) {
                Ok(None) => {}
                Ok(Some(question)) => {
                    self.ask_for_clarification(place, question, None, cx, t)?;
                    return Ok(Begun::Yes);
                }
                Err(error) => return self.not_evaluated(place, error, cx, t),
            }
        }
        let unit = self.at(place);
        let clarified = unit.clarified.last().map(|c| Data::of(&answer_value(&c.option, c.form.as_ref(), &c.by)));
        let scope = RunScope { round: round.clone(), clarified, ..self.scope(cx) };
        let fact = match &spec.action {
            // Asked in the middle: the attempt goes on with the input it has.
            Action::Agent { agent, .. } if unit.input.is_some() => {
                Ok(Fact::StepScheduled { agent: agent.clone(), attempt: unit.attempt, input: None })
            }
            Action::Agent { agent, with } => with.eval(&scope).map(|input| Fact::StepScheduled {
                agent: agent.clone(),
                attempt: unit.attempt + 1,
                input: Some(input),
            }),
            Action::Set { value } => {
                value.eval(&scope).map(|output| Fact::StepSucceeded { token: None, attempt: 0, output })
            }
            Action::Wait { duration } => scope.string(duration).and_then(|text| {
                let duration = parse_duration(&text).map_err(EvalError::Failed)?;
                Ok(Fact::WaitStarted { until: cx.now.saturating_add(duration.as_millis() as Millis) })
            }),
            Action::Await { signal } => Ok(Fact::SignalAwaited {
                signal: signal.clone(),
                until: spec.timeout.map(|limit| cx.now.saturating_add(limit.as_millis() as Millis)),
            }),
            Action::Emit(emit) => {
                return match self.emit_event(place, emit, round, cx, t)? {
                    Ok(()) => Ok(Begun::Yes),
                    Err(error) => self.not_evaluated(place, error, cx, t),
                };
            }
            Action::Decide(decide) => {
                let decision = self.id.decision(&key, unit.attempt + 1);
                let asked = Run::question(decision, decide, &scope, cx.now);
                return match asked.and_then(|asked| Ok((asked, auto(decide, &scope)?))) {
                    Ok((asked, auto)) => self.ask_choice(place, asked, auto, cx, t).map(|()| Begun::Yes),
                    Err(error) => self.not_evaluated(place, error, cx, t),
                };
            }
            Action::Workflow { workflow, with } => {
                return match scope.value(with) {
                    Ok(inputs) => self.begin_child(place, workflow, &inputs, cx, t),
                    Err(error) => self.not_evaluated(place, error, cx, t),
                };
            }
        };
        match fact {
            Ok(fact) => self.emit(Some(key), fact, cx, t).map(|()| Begun::Yes),
            Err(error) => self.not_evaluated(place, error, cx, t),
        }
    }

    /// Lets a unit go on that nothing holds back any more.
    pub(super) fn resume(&mut self, place: Place, cx: &Context<'_>, t: &mut Transition) -> Result<Begun, Error> {
        match self.round(place, cx) {
            Ok(round) => self.begin_unit(place, round, cx, t),
            Err(error) => self.not_evaluated(place, error, cx, t),
        }
    }

    /// What must be asked before a step begins.
    fn unclear(
        &self,
        place: Place,
        clarify: &Clarify,
        round: &Round,
        cx: &Context<'_>,
    ) -> Result<Option<crate::event::DecisionRequested>, EvalError> {
        let scope = RunScope { round: round.clone(), ..self.scope(cx) };
        if !clarify.condition.eval_bool(&scope)? {
            return Ok(None);
        }
        let decision = self.id.clarification(&self.key(place), self.at(place).questions + 1);
        Run::question(decision, &clarify.question, &scope, cx.now).map(Some)
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
                    t.children.push((child, Arc::clone(definition)));
                    let (workflow, revision) = (workflow.clone(), *revision);
                    let fact = Fact::ChildStarted { child, workflow, revision, inputs, plan: None, token: None };
                    self.emit(Some(key), fact, cx, t)?;
                    return Ok(Begun::Yes);
                }
                Err(violations) => Failure::new(Code::InvalidArgument, Error::bad_fields(violations).message),
            },
        };
        self.fail_step(place, None, refused, cx, t)?;
        Ok(Begun::Yes)
    }
}

/// What a decision's `auto` chooses.
fn auto(decide: &Decide, scope: &RunScope<'_>) -> Result<Option<String>, EvalError> {
    let Some(auto) = &decide.auto else { return Ok(None) };
    match scope.value(auto)? {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(option) if decide.options.contains(&option) => Ok(Some(option)),
        other => {
            let found = super::scope::brief(&other.to_string());
            let text = format!("`auto` must give one of the options or null, but gave {found}");
            Err(EvalError::Failed(text))
        }
    }
}
