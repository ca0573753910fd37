//! What goes wrong: attempts and steps that fail, time that is up, and what follows.

use std::sync::Arc;
use std::time::Duration;

use super::state::{Clock, Place, Run, StepState};
use super::{Context, Revoked, Transition};
use crate::data::Data;
use crate::error::Error;
use crate::event::{Code, Fact, Failure};
use crate::ids::{Millis, StepKey};
use crate::ports::DecisionState;
use crate::workflow::{Action, OnError, Retry};

impl Run {
    #[allow(clippy::too_many_arguments)] // the parts of one failure
    pub(super) fn fail_attempt(
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
            let at = cx.now.saturating_add(delay.as_millis() as Millis);
            t.will_retry = true;
            return self.emit(Some(key), Fact::StepRetryScheduled { token, attempt, error, at }, cx, t);
        }
        self.fail_step(place, token, error, cx, t)
    }

    /// Ends a step with an error; its `on_error` says what follows.
    pub(super) fn fail_step(
        &mut self,
        place: Place,
        token: Option<u64>,
        error: Failure,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let definition = Arc::clone(&self.definition);
        let spec = &definition.steps[place.step];
        let (key, attempt) = (self.key(place), self.at(place).attempt);
        let told = Failure { message: format!("step `{key}`: {}", error.message), ..error.clone() };
        self.close(|at| at == place || place.item.is_none() && at.step == place.step, "the step failed", cx, t);
        // The worker that failed knows.
        t.revoked.retain(|revoked| token != Some(revoked.token));
        self.emit(Some(key.clone()), Fact::StepFailed { token, attempt, error: error.clone() }, cx, t)?;
        match spec.on_error {
            OnError::Continue if place.item.is_some() && spec.repeat.is_some() => {
                let whole = StepKey::step(key.id);
                self.emit(Some(whole), Fact::StepFailed { token: None, attempt: 0, error }, cx, t)
            }
            OnError::Continue => Ok(()),
            OnError::Goto(target) => {
                if place.item.is_some() {
                    // The compensation reads the error of the step as a whole.
                    let whole = Place { item: None, ..place };
                    self.close(|at| at.step == place.step, "the step failed", cx, t);
                    let error = Failure { message: told.message.clone(), ..error };
                    self.emit(Some(self.key(whole)), Fact::StepFailed { token: None, attempt: 0, error }, cx, t)?;
                }
                let goto = definition.steps[target].id.clone();
                let first = Some(target);
                self.close(|at| definition.steps[at.step].compensates != first, "the run failed", cx, t);
                self.emit(None, Fact::RunCompensating { step: key, error: told, goto }, cx, t)
            }
            OnError::Fail => self.give_up(Some(key), told, cx, t),
        }
    }

    /// Ends the run with an error; during a compensation it is the first error that counts.
    pub(super) fn give_up(
        &mut self,
        step: Option<StepKey>,
        error: Failure,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let Some(failing) = self.s.failing.clone() else { return self.fail_run(step, error, cx, t) };
        let message = format!("{}; its compensation failed too: {}", failing.error.message, error.message);
        self.fail_run(Some(failing.step), Failure { message, ..failing.error }, cx, t)
    }

    pub(super) fn fail_run(
        &mut self,
        step: Option<StepKey>,
        error: Failure,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        self.close(|_| true, "the run failed", cx, t);
        self.emit(None, Fact::RunFailed { step, error }, cx, t)
    }

    /// Collects what must be told to others before open units are ended.
    pub(super) fn close(
        &self,
        which: impl Fn(Place) -> bool,
        reason: &'static str,
        cx: &Context<'_>,
        t: &mut Transition,
    ) {
        for (key, unit) in self.units() {
            if unit.state.is_over() || !self.place(&key).is_some_and(&which) {
                continue;
            }
            // A lease that timed out, or a child run of an attempt that did, is told of already.
            let told = |lease: &super::state::Lease| t.revoked.iter().any(|revoked| revoked.token == lease.token);
            if let Some(lease) = unit.lease.as_ref().filter(|lease| !told(lease)) {
                let (step, attempt, token) = (key.clone(), unit.attempt, lease.token);
                t.revoked.push(Revoked { step, attempt, token, reason });
            }
            if let Some(asked) = &unit.asked {
                t.decisions.push(self.decision_row(&key, asked, DecisionState::Cancelled, cx));
            }
            t.orphans.extend(unit.child.filter(|child| !t.orphans.contains(child)));
        }
    }

    pub(super) fn tick(&mut self, cx: &Context<'_>, t: &mut Transition) -> Result<(), Error> {
        if self.s.state.is_over() {
            return Ok(());
        }
        if self.s.deadline.is_some_and(|deadline| deadline <= cx.now) {
            let limit = self.definition.timeout.unwrap_or_default();
            let error =
                Failure::new(Code::DeadlineExceeded, format!("the run lasted longer than its timeout of {limit:?}"));
            return self.give_up(None, error, cx, t);
        }
        let due: Vec<(Millis, Place, Clock)> =
            self.d.timers.iter().take_while(|(at, _, _)| *at <= cx.now).copied().collect();
        for timer in due {
            // What fired before may have ended it.
            if self.d.timers.contains(&timer) {
                match timer {
                    (_, place, Clock::Timer) => self.timer_fired(place, cx, t)?,
                    (_, place, Clock::Limit) => self.limit_passed(place, cx, t)?,
                }
            }
        }
        Ok(())
    }

    fn limit_passed(&mut self, place: Place, cx: &Context<'_>, t: &mut Transition) -> Result<(), Error> {
        let limit = self.step(place).limit.unwrap_or_default();
        let text = format!("the step took longer than its timeout of {limit:?} in all");
        self.fail_step(place, None, Failure::new(Code::DeadlineExceeded, text), cx, t)
    }

    fn timer_fired(&mut self, place: Place, cx: &Context<'_>, t: &mut Transition) -> Result<(), Error> {
        let key = self.key(place);
        let unit = self.at(place);
        let (state, attempt) = (unit.state, unit.attempt);
        let limit = self.step(place).timeout.unwrap_or_default();
        let late = || Failure::new(Code::DeadlineExceeded, format!("it took longer than its timeout of {limit:?}"));
        let definition = Arc::clone(&self.definition);
        if let Some(asked) = unit.asked.clone() {
            return self.nobody_answered(place, &asked, cx, t);
        }
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
            (Action::Await { signal }, StepState::Blocked) => {
                let error = Failure::new(Code::DeadlineExceeded, format!("no signal `{signal}` came within {limit:?}"));
                self.fail_step(place, None, error, cx, t)
            }
            (Action::Workflow { .. }, StepState::Blocked) if unit.child.is_none() => {
                // The delay before another attempt is over; the attempt itself is the next event.
                let timer = unit.timer.map(|at| (at, place, Clock::Timer));
                timer.map(|timer| self.d.timers.remove(&timer));
                self.d.resume.insert(place);
                Ok(())
            }
            (Action::Workflow { .. }, StepState::Blocked) => {
                t.orphans.extend(unit.child);
                self.fail_attempt(place, None, late(), true, None, cx, t)
            }
            _ => Err(Error::internal(format!("step `{key}` has a timer but nothing to time"))),
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
