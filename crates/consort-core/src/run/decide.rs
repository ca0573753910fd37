//! From a command to events.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::state::{Place, Run, RunState, StepState};
use super::{ChildOutcome, Command, Context, MAX_REPORTS, Revoked, Transition};
use crate::data::Data;
use crate::error::{Error, Kind};
use crate::event::{Code, DecisionRequested, Entry, Fact, Failure, LeaseLoss, Report, RunStarted};
use crate::ids::{Millis, RunId, StepKey};
use crate::ports::{DecisionRow, DecisionState};
use crate::workflow::{Action, Retry, Workflow};

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
            Command::Fail { step, token, error, retryable, retry_after } => {
                let Some(place) = self.answered(&step, token, &mut t)? else { return Ok(t) };
                self.fail_attempt(place, Some(token), error, retryable, retry_after, cx, &mut t)?;
            }
            Command::LoseLease { step, token, reason } => self.lose_lease(step, token, reason, cx, &mut t)?,
            Command::Report { step, token, report } => self.report(&step, token, report, cx, &mut t)?,
            Command::Tick => self.tick(cx, &mut t)?,
            Command::Advance => {}
            Command::Fault { error } => {
                if !self.s.state.is_over() {
                    self.fail_run(None, error, cx, &mut t)?;
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
                    self.close_all("the run was cancelled", cx, &mut t);
                    self.emit(None, Fact::RunCancelled { reason }, cx, &mut t)?;
                }
            }
            Command::Retry => self.retry(cx, &mut t)?,
            Command::Signal { signal, payload } => {
                self.must_live("signalled")?;
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
        let attempt = self.at(place).attempt;
        self.emit(Some(step), Fact::StepSucceeded { token: Some(token), attempt, output }, cx, t)
    }

    /// The unit that an answer with this token is for; `None` if the answer is on record already.
    fn answered(&self, step: &StepKey, token: u64, t: &mut Transition) -> Result<Option<Place>, Error> {
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

    #[allow(clippy::too_many_arguments)] // the parts of one failure
    fn fail_attempt(
        &mut self,
        place: Place,
        token: Option<u64>,
        error: Failure,
        retryable: bool,
        retry_after: Option<Duration>,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let unit = self.at(place);
        let (attempt, tries, key) = (unit.attempt, unit.tries, self.key(place));
        let policy = &self.step(place).retry;
        if retryable && tries < policy.max && repeats(policy, error.code) {
            let delay = backoff(policy, tries, cx.chance).max(retry_after.unwrap_or_default());
            let at = cx.now + delay.as_millis() as Millis;
            t.will_retry = true;
            return self.emit(Some(key), Fact::StepRetryScheduled { token, attempt, error, at }, cx, t);
        }
        self.fail_step(place, token, error, cx, t)
    }

    /// Ends a step, and with it the run, with an error.
    pub(super) fn fail_step(
        &mut self,
        place: Place,
        token: Option<u64>,
        error: Failure,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let (key, attempt) = (self.key(place), self.at(place).attempt);
        let told = Failure { message: format!("step `{key}`: {}", error.message), ..error.clone() };
        self.emit(Some(key.clone()), Fact::StepFailed { token, attempt, error }, cx, t)?;
        self.fail_run(Some(key), told, cx, t)
    }

    pub(super) fn fail_run(
        &mut self,
        step: Option<StepKey>,
        error: Failure,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        self.close_all("the run failed", cx, t);
        self.emit(None, Fact::RunFailed { step, error }, cx, t)
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

    fn tick(&mut self, cx: &Context<'_>, t: &mut Transition) -> Result<(), Error> {
        if self.s.state.is_over() {
            return Ok(());
        }
        if self.s.deadline.is_some_and(|deadline| deadline <= cx.now) {
            let limit = self.definition.timeout.unwrap_or_default();
            let error =
                Failure::new(Code::DeadlineExceeded, format!("the run lasted longer than its timeout of {limit:?}"));
            return self.fail_run(None, error, cx, t);
        }
        let due: Vec<Place> =
            self.d.timers.iter().take_while(|(at, _)| *at <= cx.now).map(|(_, place)| *place).collect();
        for place in due {
            if self.s.state.is_over() {
                break;
            }
            self.timer_fired(place, cx, t)?;
        }
        Ok(())
    }

    fn timer_fired(&mut self, place: Place, cx: &Context<'_>, t: &mut Transition) -> Result<(), Error> {
        let key = self.key(place);
        let unit = self.at(place);
        let (state, attempt) = (unit.state, unit.attempt);
        let limit = self.step(place).timeout.unwrap_or_default();
        let late = || Failure::new(Code::DeadlineExceeded, format!("it took longer than its timeout of {limit:?}"));
        let definition = Arc::clone(&self.definition);
        match (&definition.steps[place.step].action, state) {
            (Action::Agent { agent, .. }, StepState::Blocked) => {
                let fact = Fact::StepScheduled { agent: agent.clone(), attempt: attempt + 1, input: None };
                self.emit(Some(key), fact, cx, t)
            }
            (Action::Agent { .. }, StepState::InProgress) => {
                let token = unit.lease.as_ref().map(|lease| lease.token);
                if let Some(token) = token {
                    t.revoked.push(Revoked { step: key, attempt, token, reason: "the attempt timed out" });
                }
                // The token is not honoured: an answer that comes now is too late.
                self.fail_attempt(place, None, late(), true, None, cx, t)
            }
            (Action::Wait { .. }, StepState::Blocked) => {
                let fact = Fact::StepSucceeded { token: None, attempt: 0, output: Data::null() };
                self.emit(Some(key), fact, cx, t)
            }
            (Action::Decide(_), StepState::Blocked) => {
                let asked = unit.asked.clone().ok_or_else(|| Error::internal("a waiting decision has no question"))?;
                let expired = asked.deadline.is_some_and(|deadline| deadline <= cx.now);
                if let Some(option) = asked.default.clone().filter(|_| expired) {
                    self.record_answer(place, &asked, option, None, "deadline".into(), cx, t)
                } else {
                    t.decisions.push(self.decision_row(&key, &asked, DecisionState::Expired, cx));
                    let error = Failure::new(Code::DeadlineExceeded, "nobody answered before the deadline");
                    self.fail_step(place, None, error, cx, t)
                }
            }
            (Action::Workflow { .. }, StepState::Blocked) => {
                t.orphans.extend(unit.child);
                self.fail_step(place, None, late(), cx, t)
            }
            _ => Err(Error::internal(format!("step `{key}` has a timer but nothing to time"))),
        }
    }

    fn retry(&mut self, cx: &Context<'_>, t: &mut Transition) -> Result<(), Error> {
        if self.s.state != RunState::Failed {
            return Err(self.wrong_state("retried", "only a FAILED run can be retried"));
        }
        let lost = |state: StepState| matches!(state, StepState::Failed | StepState::Cancelled);
        let mut steps: Vec<Arc<str>> =
            self.units().filter(|(_, unit)| lost(unit.state)).map(|(key, _)| key.id).collect();
        steps.dedup();
        self.emit(None, Fact::RunRetried { steps }, cx, t)
    }

    #[allow(clippy::too_many_arguments)] // the fields of one command
    fn answer(
        &mut self,
        step: &StepKey,
        decision: Uuid,
        option: String,
        form: Option<Data>,
        by: String,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let place = self.place(step).ok_or_else(|| Error::not_found("step", step))?;
        let unit = self.at(place);
        let Some(asked) = unit.asked.clone().filter(|asked| asked.decision == decision) else {
            let given = unit.output.as_ref().and_then(|output| match output {
                Data::Inline(json) => json.value().get("option").cloned(),
                Data::Blob(_) => None,
            });
            if given == Some(Value::String(option)) {
                t.repeated = true;
                return Ok(());
            }
            return Err(Error::precondition("DECISION_CLOSED", "the decision is closed; read it to see how"));
        };
        if !asked.options.contains(&option) {
            return Err(Error::bad_field(
                "option",
                format!("`{option}` is not an option; choose one of: {}", asked.options.join(", ")),
            ));
        }
        match (&asked.form, &form) {
            (None, Some(_)) => return Err(Error::bad_field("form", "the decision has no form; leave it out")),
            (Some(_), None) => return Err(Error::bad_field("form", "the decision has a form; fill it in")),
            (Some(Data::Inline(schema)), Some(Data::Inline(filled))) => check_form(&schema.value(), &filled.value())?,
            (None, None) => {}
            _ => return Err(Error::bad_field("form", "the form must be at most 64 KiB")),
        }
        self.record_answer(place, &asked, option, form, by, cx, t)
    }

    #[allow(clippy::too_many_arguments)] // the parts of one answer
    fn record_answer(
        &mut self,
        place: Place,
        asked: &DecisionRequested,
        option: String,
        form: Option<Data>,
        by: String,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let key = self.key(place);
        let filled = match &form {
            Some(Data::Inline(json)) => json.value(),
            _ => Value::Null,
        };
        let output = json!({"option": option, "form": filled, "answered_by": by});
        let state = if by == "deadline" { DecisionState::Expired } else { DecisionState::Answered };
        let row = DecisionRow {
            option: Some(option.clone()),
            form: form.clone(),
            answered_by: Some(by.clone()),
            ..self.decision_row(&key, asked, state, cx)
        };
        t.decisions.push(row);
        let fact = Fact::DecisionAnswered { decision: asked.decision, option, form, by };
        self.emit(Some(key.clone()), fact, cx, t)?;
        let fact = Fact::StepSucceeded { token: None, attempt: self.at(place).attempt, output: Data::of(&output) };
        self.emit(Some(key), fact, cx, t)
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
                self.emit(Some(step.clone()), Fact::StepSucceeded { token: None, attempt, output }, cx, t)
            }
            ChildOutcome::Failed(error) => {
                let error = Failure { message: format!("child run {child}: {}", error.message), ..error };
                self.fail_step(place, None, error, cx, t)
            }
            ChildOutcome::Cancelled => {
                let error = Failure::new(Code::Cancelled, format!("child run {child} was cancelled"));
                self.fail_step(place, None, error, cx, t)
            }
        }
    }

    /// Collects what must be told to others before every open unit is cancelled.
    fn close_all(&mut self, reason: &'static str, cx: &Context<'_>, t: &mut Transition) {
        for (key, unit) in self.units() {
            if unit.state.is_over() {
                continue;
            }
            if let Some(lease) = &unit.lease {
                let (step, attempt, token) = (key.clone(), unit.attempt, lease.token);
                t.revoked.push(Revoked { step, attempt, token, reason });
            }
            if let Some(asked) = &unit.asked {
                t.decisions.push(self.decision_row(&key, asked, DecisionState::Cancelled, cx));
            }
            t.orphans.extend(unit.child);
        }
    }

    pub(super) fn decision_row(
        &self,
        key: &StepKey,
        asked: &DecisionRequested,
        state: DecisionState,
        cx: &Context<'_>,
    ) -> DecisionRow {
        let began = self.unit(key).and_then(|unit| unit.started_at);
        DecisionRow {
            id: asked.decision,
            namespace: self.s.namespace.clone(),
            run: self.id,
            step: key.clone(),
            asked: asked.clone(),
            state,
            created_at: began.unwrap_or(cx.now),
            closed_at: (state != DecisionState::Open).then_some(cx.now),
            option: None,
            form: None,
            answered_by: None,
        }
    }

    fn must_live(&self, what: &str) -> Result<(), Error> {
        if self.s.state.is_over() { Err(self.wrong_state(what, "it is over")) } else { Ok(()) }
    }

    fn wrong_state(&self, what: &str, why: &str) -> Error {
        let state = self.s.state.name();
        Error::precondition("WRONG_STATE", format!("run {} is {state} and cannot be {what}: {why}", self.id))
    }

    /// Applies a fact and puts it on record; large values become blobs on the way.
    pub(super) fn emit(
        &mut self,
        step: Option<StepKey>,
        fact: Fact,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let mut entry = Entry { step, fact };
        spill(&mut entry.fact, t);
        self.apply(&entry, cx.now).map_err(|e| Error::new(Kind::Internal, "ILLEGAL_TRANSITION", e.to_string()))?;
        t.entries.push(entry);
        Ok(())
    }
}

fn spill(fact: &mut Fact, t: &mut Transition) {
    for data in fact.data_mut() {
        if let Some((reference, blob, text)) = data.spill() {
            *data = reference;
            t.blobs.push((blob, text));
        }
    }
}

/// Codes that can pass with time.
const PASSING: [Code; 6] =
    [Code::Unknown, Code::DeadlineExceeded, Code::ResourceExhausted, Code::Aborted, Code::Internal, Code::Unavailable];

fn repeats(policy: &Retry, code: i32) -> bool {
    if policy.on.is_empty() { PASSING.iter().any(|c| *c as i32 == code) } else { policy.on.contains(&code) }
}

/// The delay after `tries` attempts: see [`Retry`].
fn backoff(policy: &Retry, tries: u32, chance: f64) -> Duration {
    let grown = policy.backoff.as_secs_f64() * policy.factor.powi(tries.saturating_sub(1).min(1_000) as i32);
    let capped = grown.min(policy.max_backoff.as_secs_f64());
    Duration::from_secs_f64((capped * (1.0 + policy.jitter * (2.0 * chance - 1.0))).max(0.0))
}

fn check_form(schema: &Value, filled: &Value) -> Result<(), Error> {
    let validator = jsonschema::validator_for(schema)
        .map_err(|e| Error::internal(format!("the decision's form is not a valid JSON Schema: {e}")))?;
    let violations: Vec<_> = validator
        .iter_errors(filled)
        .map(|e| crate::error::Violation { field: format!("form{}", e.instance_path()), description: e.to_string() })
        .collect();
    if violations.is_empty() { Ok(()) } else { Err(Error::bad_fields(violations)) }
}
