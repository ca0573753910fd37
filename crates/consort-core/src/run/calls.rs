//! Calls of models and operations: they become part of a run's history when they are answered.

use super::state::Run;
use super::{Context, Transition};
use crate::error::{Error, Kind};
use crate::event::Fact;
use crate::ids::StepKey;
use crate::model::{Asked, Calls, MAX_CALLS, Reply};

/// Calls that one attempt of a step may have on record.
const MAX_OF_ATTEMPT: u32 = 10_000;

impl Run {
    /// Records an answered call. The lease is not asked for: an answer that was paid for is kept as long as its attempt lives, also when the
    /// worker that wanted it has gone and another will make the call again.
    pub(super) fn record_call(
        &mut self,
        step: StepKey,
        (attempt, token): (u32, u64),
        asked: Asked,
        reply: &Reply,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let unit = self.unit(&step).ok_or_else(|| Error::not_found("step", &step))?;
        if self.s.state.is_over() || unit.state.is_over() || unit.attempt != attempt {
            let text = format!("attempt {attempt} of step `{step}` is over; stop working on it");
            return Err(Error::precondition("LEASE_LOST", text));
        }
        let calls = self.s.calls.as_deref();
        if calls.is_some_and(|calls| calls.calls >= MAX_CALLS) {
            let text = format!("the run has {MAX_CALLS} model calls on record, the most it may have; use child runs");
            return Err(Error::new(Kind::ResourceExhausted, "TOO_MANY_CALLS", text));
        }
        let none = Calls::default();
        let event = calls.unwrap_or(&none).event(attempt, Some(token), asked, reply);
        self.emit(Some(step), Fact::ModelCalled(Box::new(event)), cx, t)
    }

    /// Records that an operation is about to be called, or was. An outcome is kept as long as its attempt lives, like a model's answer; what is
    /// about to be done needs the lease, so that no two workers do it.
    pub(super) fn record_operation(
        &mut self,
        step: StepKey,
        (attempt, token): (u32, u64),
        fact: Fact,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let unit = self.unit(&step).ok_or_else(|| Error::not_found("step", &step))?;
        let held = unit.lease.as_ref().is_some_and(|lease| lease.token == token);
        let begins = matches!(fact, Fact::OperationBegan(_));
        if self.s.state.is_over() || unit.state.is_over() || unit.attempt != attempt || (begins && !held) {
            let text = format!("the lease of attempt {attempt} of step `{step}` is over; stop working on it");
            return Err(Error::precondition("LEASE_LOST", text));
        }
        if unit.calls >= MAX_OF_ATTEMPT {
            let text =
                format!("the attempt has {MAX_OF_ATTEMPT} calls on record, the most it may have; use child runs");
            return Err(Error::new(Kind::ResourceExhausted, "TOO_MANY_CALLS", text));
        }
        self.emit(Some(step), fact, cx, t)
    }
}
