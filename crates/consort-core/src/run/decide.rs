//! From a command to events.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::emit::spill;
use super::state::{Place, Run, RunState, StepState};
use super::{ChildOutcome, Command, Context, MAX_DEPTH, MAX_LOST, MAX_REPORTS, MAX_SIGNALS, Transition};
use crate::data::Data;
use crate::error::{Error, Kind};
use crate::event::{Code, Entry, Fact, Failure, LeaseLoss, Report, RunStarted};
use crate::ids::{RunId, StepKey};
use crate::workflow::{Action, OnError, Schema, Step, Workflow};

impl Run {
    /// Begins a run: `RUN.STARTED`, and whatever can begin at once.
    pub fn start(
        id: RunId,
        definition: Arc<Workflow>,
        started: RunStarted,
        cx: &Context<'_>,
    ) -> Result<(Run, Transition), Error> {
        let mut t = Transition::default();
        let mut entry = Entry { step: None, fact: Fact::RunStarted(started) };
        spill(&mut entry.fact, &mut t);
        let Fact::RunStarted(started) = &entry.fact else { unreachable!("made above") };
        let mut run = Run::begin(id, definition, started, cx.now);
        t.entries.push(entry);
        run.advance(cx, &mut t)?;
        Ok((run, t))
    }

    /// Turns a command into events and applies them. An error means that nothing was changed.
    pub fn decide(&mut self, command: Command, cx: &Context<'_>) -> Result<Transition, Error> {
        let mut t = Transition::default();
        match command {
            Command::Lease { step, attempt, worker, session, token } => {
                self.lease(step, attempt, worker, session, token, cx, &mut t)?;
            }
            Command::Complete { step, token, output } => self.complete(step, token, output, cx, &mut t)?,
            Command::Plan { step, token, source, plan } => self.run_plan(step, token, source, plan, cx, &mut t)?,
            Command::Ask { step, token, question } => self.ask_for_worker(&step, token, question, cx, &mut t)?,
            Command::Fail { step, token, error, retryable, retry_after } => {
                let Some(place) = self.answered(&step, token, &mut t)? else { return Ok(t) };
                self.fail_attempt(place, Some(token), error, retryable, retry_after, cx, &mut t)?;
            }
            Command::LoseLease { step, token, reason } => self.lose_lease(step, token, reason, cx, &mut t)?,
            Command::Report { step, token, report } => self.report(&step, token, report, cx, &mut t)?,
            Command::RecordCall { step, attempt, token, asked, reply } => {
                self.record_call(step, (attempt, token), *asked, &reply, cx, &mut t)?;
            }
            Command::RecordOperation { step, attempt, token, fact } => {
                self.record_operation(step, (attempt, token), *fact, cx, &mut t)?;
            }
            Command::Tick => self.tick(cx, &mut t)?,
            Command::Advance => {}
            Command::Fault { error } => {
                if !self.s.state.is_over() {
                    self.give_up(None, error, cx, &mut t)?;
                }
            }
            Command::Pause { reason } => {
                self.must_live("paused")?;
                if !self.s.paused {
                    self.emit(None, Fact::RunPaused { reason }, cx, &mut t)?;
                }
            }
            Command::Resume => {
                self.must_live("resumed")?;
                if self.s.paused {
                    self.emit(None, Fact::RunResumed, cx, &mut t)?;
                }
            }
            Command::Cancel { reason } => {
                if self.s.state != RunState::Cancelled {
                    self.must_live("cancelled")?;
                    self.close(|_| true, "the run was cancelled", cx, &mut t);
                    self.emit(None, Fact::RunCancelled { reason }, cx, &mut t)?;
                }
            }
            Command::Retry => self.retry(cx, &mut t)?,
            Command::Signal { signal, payload } => {
                self.must_live("signalled")?;
                if self.s.signals.values().map(VecDeque::len).sum::<usize>() >= MAX_SIGNALS {
                    let text = format!("{MAX_SIGNALS} signals wait in the run already; let its steps take some first");
                    return Err(Error::new(Kind::ResourceExhausted, "SIGNALS_FULL", text));
                }
                self.emit(None, Fact::SignalReceived { signal, payload }, cx, &mut t)?;
            }
            Command::Answer { step, decision, option, form, by } => {
                self.answer(&step, decision, option, form, by, cx, &mut t)?;
            }
            Command::ChildOver { step, child, outcome } => self.child_over(&step, child, outcome, cx, &mut t)?,
        }
        self.advance(cx, &mut t)?;
        Ok(t)
    }

    #[allow(clippy::too_many_arguments)] // the fields of one command
    fn lease(
        &mut self,
        step: StepKey,
        attempt: u32,
        worker: Arc<str>,
        session: Arc<str>,
        token: u64,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let ready = self.unit(&step).is_some_and(|u| u.state == StepState::Ready && u.attempt == attempt);
        if !ready || self.s.paused {
            return Err(Error::precondition(
                "NOT_READY",
                format!("step `{step}` has no attempt {attempt} to hand out"),
            ));
        }
        self.emit(Some(step), Fact::StepLeased { attempt, worker, session, token }, cx, t)
    }

    fn complete(
        &mut self,
        step: StepKey,
        token: u64,
        output: Data,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let Some(place) = self.answered(&step, token, t)? else { return Ok(()) };
        if let Some(error) = self.mismatch(place, &output) {
            return self.fail_attempt(place, Some(token), error, true, None, cx, t);
        }
        let attempt = self.at(place).attempt;
        self.emit(Some(step), Fact::StepSucceeded { token: Some(token), attempt, output }, cx, t)
    }

    /// Why an output cannot be a step's. A blob is held against the schema by whoever has its text.
    fn mismatch(&self, place: Place, output: &Data) -> Option<Failure> {
        let (Some(schema), Data::Inline(json)) = (&self.step(place).output, output) else { return None };
        mismatch(schema, &json.value())
    }

    /// A worker's answer is a graph of steps: it runs as a child.
    fn run_plan(
        &mut self,
        step: StepKey,
        token: u64,
        source: Data,
        plan: Arc<Workflow>,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let Some(place) = self.answered(&step, token, t)? else { return Ok(()) };
        let depth = self.s.parent.as_ref().map_or(0, |p| p.depth) + 1;
        let inputs = plan.inputs.complete(&Value::Null).map_err(|violations| Error::bad_fields(violations).message);
        let refused = match &inputs {
            _ if !self.step(place).plan => {
                Some("the agent answered with a plan, which the step does not take; it may say `plan: true`".to_owned())
            }
            _ if !plan.triggers.is_empty() => Some("the plan has triggers under `on`; a plan runs once".to_owned()),
            _ if depth > MAX_DEPTH => Some(format!("child runs are nested more than {MAX_DEPTH} deep")),
            Err(why) => Some(format!("the plan needs inputs, and nobody gives them: {why}")),
            Ok(_) => None,
        };
        match (refused, inputs) {
            (None, Ok(inputs)) => {
                let child = self.id.child(&step, self.at(place).attempt);
                let (workflow, plan_source) = (plan.name.clone(), Some(source));
                t.children.push((child, plan));
                let fact =
                    Fact::ChildStarted { child, workflow, revision: 0, inputs, plan: plan_source, token: Some(token) };
                self.emit(Some(step), fact, cx, t)
            }
            (why, _) => {
                let error = Failure::new(Code::InvalidArgument, why.unwrap_or_default());
                self.fail_attempt(place, Some(token), error, true, None, cx, t)
            }
        }
    }

    /// The unit that an answer with this token is for; `None` if the answer is on record already.
    pub(super) fn answered(&self, step: &StepKey, token: u64, t: &mut Transition) -> Result<Option<Place>, Error> {
        let place = self.place(step).ok_or_else(|| Error::not_found("step", step))?;
        let unit = self.at(place);
        if unit.lease.as_ref().is_some_and(|lease| lease.token == token) {
            return Ok(Some(place));
        }
        if unit.honoured == Some(token) {
            t.repeated = true;
            t.will_retry = !unit.state.is_over();
            return Ok(None);
        }
        let state = unit.state.name().to_uppercase();
        Err(Error::precondition(
            "LEASE_LOST",
            format!(
                "step `{step}` is {state} and lease {token} is not in force; drop the task, the answer changes nothing"
            ),
        ))
    }

    fn lose_lease(
        &mut self,
        step: StepKey,
        token: u64,
        reason: LeaseLoss,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let Some(place) = self.place(&step) else { return Ok(()) };
        let unit = self.at(place);
        if unit.lease.as_ref().is_none_or(|lease| lease.token != token) {
            t.repeated = true;
            return Ok(());
        }
        let attempt = unit.attempt;
        let Action::Agent { agent, .. } = &self.step(place).action else {
            return Err(Error::internal(format!("step `{step}` is leased but has no agent")));
        };
        let agent = agent.clone();
        self.emit(Some(step.clone()), Fact::StepLeaseLost { token, reason }, cx, t)?;
        if self.at(place).lost >= MAX_LOST {
            let text = format!(
                "{MAX_LOST} workers died or fell silent with this task; look at what it does to them before it is tried again"
            );
            return self.fail_attempt(place, None, Failure::new(Code::Aborted, text), true, None, cx, t);
        }
        self.emit(Some(step), Fact::StepScheduled { agent, attempt, input: None }, cx, t)
    }

    fn report(
        &mut self,
        step: &StepKey,
        token: u64,
        report: Report,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let Some(place) = self.answered(step, token, t)? else { return Ok(()) };
        let report = match self.at(place).reports {
            n if n < MAX_REPORTS - 1 => report,
            n if n == MAX_REPORTS - 1 => Report::Log {
                level: "warn".into(),
                text: format!("the step has made {MAX_REPORTS} reports; further ones are not kept"),
            },
            _ => return Ok(()),
        };
        self.emit(Some(step.clone()), Fact::StepReported { report }, cx, t)
    }

    fn retry(&mut self, cx: &Context<'_>, t: &mut Transition) -> Result<(), Error> {
        if self.s.state != RunState::Failed {
            return Err(self.wrong_state("retried", "only a FAILED run can be retried"));
        }
        // What failed and was passed over stays so: others have gone on from there. A compensation begins anew.
        let lost = |spec: &Step, state: StepState| match state {
            StepState::Created => false,
            _ if spec.compensates.is_some() => true,
            StepState::Failed => spec.on_error != OnError::Continue,
            state => state == StepState::Cancelled,
        };
        let steps = self.s.steps.iter().zip(&self.definition.steps);
        let steps = steps.filter(|(run, spec)| lost(spec, run.unit.state)).map(|(_, spec)| spec.id.clone()).collect();
        self.emit(None, Fact::RunRetried { steps }, cx, t)
    }

    fn child_over(
        &mut self,
        step: &StepKey,
        child: RunId,
        outcome: ChildOutcome,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let place = self.place(step).filter(|&place| self.at(place).child == Some(child));
        let Some(place) = place.filter(|_| !self.s.state.is_over()) else {
            t.repeated = true;
            return Ok(());
        };
        let attempt = self.at(place).attempt;
        match outcome {
            ChildOutcome::Succeeded(output) => {
                if let Some(error) = self.mismatch(place, &output) {
                    return self.fail_attempt(place, None, error, true, None, cx, t);
                }
                self.emit(Some(step.clone()), Fact::StepSucceeded { token: None, attempt, output }, cx, t)
            }
            ChildOutcome::Failed(error) => {
                let error = Failure { message: format!("child run {child}: {}", error.message), ..error };
                self.fail_attempt(place, None, error, true, None, cx, t)
            }
            ChildOutcome::Cancelled => {
                let error = Failure::new(Code::Cancelled, format!("child run {child} was cancelled"));
                self.fail_step(place, None, error, cx, t)
            }
        }
    }

    fn must_live(&self, what: &str) -> Result<(), Error> {
        if self.s.state.is_over() { Err(self.wrong_state(what, "it is over")) } else { Ok(()) }
    }

    fn wrong_state(&self, what: &str, why: &str) -> Error {
        let state = self.s.state.name();
        Error::precondition("WRONG_STATE", format!("run {} is {state} and cannot be {what}: {why}", self.id))
    }
}

/// Why a value cannot be a step's output.
pub fn mismatch(schema: &Schema, value: &Value) -> Option<Failure> {
    let violations = schema.check(value, "output");
    if violations.is_empty() {
        return None;
    }
    let list: Vec<String> = violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
    Some(Failure::new(Code::Internal, format!("the answer does not match the step's `output`: {}", list.join("; "))))
}
