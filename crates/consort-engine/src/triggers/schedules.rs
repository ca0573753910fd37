//! Schedules: which are there, when each fires next, and what happens then.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use consort_core::event::{Code, Published, Trigger};
use consort_core::ids::{Millis, RunId};
use consort_core::ports::{Mark, StoreError};
use consort_core::run::Command;
use consort_core::workflow::{CatchUp, Local, Overlap, ScheduleTrigger};
use consort_core::{Data, Error, Kind, rfc3339};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::fire::{Fired, start};
use super::registry::Triggered;
use crate::Engine;
use crate::ledger::Act;
use crate::letters::letter;
use crate::types::ScheduleView;

/// Beginning of the marks of schedules.
const MARKS: &str = "schedule/";
/// Marks read at once.
const PAGE: u32 = 1_000;
/// Missed times that `all` makes up for.
const MOST_MISSED: usize = 100;
/// How late a schedule may be before its time counts as missed.
const LATE: Millis = 60_000;
/// How often a queued run looks whether the one before is over, and the longest sleep.
const LOOK: Duration = Duration::from_secs(1);
const NAP: Duration = Duration::from_secs(30);

/// Where a schedule stands. The names are stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    cron: String,
    timezone: String,
    /// The last time that was dealt with.
    last: Millis,
    /// When it last started a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fired: Option<Millis>,
    /// The run it last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<RunId>,
    /// A time that waits until that run is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queued: Option<Millis>,
    /// How often it started nothing.
    #[serde(default)]
    skipped: u64,
}

/// A schedule of a workflow.
struct Schedule {
    of: Arc<Triggered>,
    index: usize,
    state: State,
    next: Option<Millis>,
}

pub(super) struct Loop {
    engine: Engine,
    schedules: BTreeMap<String, Schedule>,
}

impl Loop {
    pub(super) async fn open(engine: Engine) -> Result<Loop, StoreError> {
        let mut stored = BTreeMap::new();
        let mut after = String::new();
        loop {
            let marks = engine.inner.store.marks(MARKS, &after, PAGE).await?;
            let Some(last) = marks.last() else { break };
            after.clone_from(&last.name);
            stored.extend(marks.into_iter().filter_map(|mark| Some((mark.name, mark.value?))));
        }
        let mut opened = Loop { engine, schedules: BTreeMap::new() };
        opened.refresh(&stored);
        let gone: Vec<Mark> = stored
            .into_keys()
            .filter(|name| !opened.schedules.contains_key(name))
            .map(|name| Mark { name, value: None })
            .collect();
        opened.engine.inner.store.set_marks(&gone).await?;
        Ok(opened)
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            self.show();
            let queued = self.schedules.values().any(|schedule| schedule.state.queued.is_some());
            let next = self.schedules.values().filter_map(|schedule| schedule.next).min();
            let until = next.map_or(NAP, |next| Duration::from_millis((next - self.engine.now()).max(0) as u64));
            let longest = if queued { LOOK } else { NAP };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.engine.inner.registry.changed.notified() => self.adopt().await,
                () = tokio::time::sleep(until.min(longest)) => {}
            }
            let due: Vec<String> = self
                .schedules
                .iter()
                .filter(|(_, s)| s.next.is_some_and(|next| next <= self.engine.now()) || s.state.queued.is_some())
                .map(|(name, _)| name.clone())
                .collect();
            for name in due {
                if stop.is_cancelled() {
                    return;
                }
                if let Err(error) = self.look_at(&name).await {
                    tracing::warn!(schedule = name, %error, "a schedule could not fire; trying again");
                    // Until it is known whether the commit is there after all, it must not fire again.
                    loop {
                        // A stop does not wait for this.
                        let _ = tokio::time::timeout(LOOK, stop.cancelled()).await;
                        match self.reread(&name).await {
                            Ok(()) => break,
                            Err(_) if stop.is_cancelled() => return,
                            Err(error) => tracing::warn!(schedule = name, %error, "it cannot be read; trying again"),
                        }
                    }
                }
            }
        }
    }

    /// Takes over what was applied or deleted.
    async fn adopt(&mut self) {
        let before: Vec<String> = self.schedules.keys().cloned().collect();
        let fresh = self.refresh(&BTreeMap::new());
        let mut marks: Vec<Mark> = before
            .into_iter()
            .filter(|name| !self.schedules.contains_key(name))
            .map(|name| Mark { name, value: None })
            .collect();
        marks.extend(fresh.iter().filter_map(|name| Some(mark(name, &self.schedules.get(name)?.state))));
        if let Err(error) = self.engine.inner.store.set_marks(&marks).await {
            tracing::warn!(%error, "the places of schedules could not be saved; they count from when they were applied");
        }
    }

    /// Brings the schedules up to date with the newest revisions. Answers with those that begin anew.
    fn refresh(&mut self, stored: &BTreeMap<String, String>) -> Vec<String> {
        let mut old = std::mem::take(&mut self.schedules);
        let mut fresh = Vec::new();
        for of in self.engine.inner.registry.all() {
            for (index, trigger) in of.definition.triggers.schedules.iter().enumerate() {
                let name = format!("{MARKS}{}/{}/{index}", of.namespace, of.workflow);
                let (cron, timezone) = (trigger.cron.expression(), trigger.cron.timezone());
                let known = old.remove(&name).map(|schedule| schedule.state);
                let known =
                    known.or_else(|| stored.get(&name).and_then(|value| serde_json::from_str::<State>(value).ok()));
                let known = known.filter(|state| state.cron == cron && state.timezone == timezone);
                let state = known.unwrap_or_else(|| {
                    fresh.push(name.clone());
                    State {
                        cron: cron.to_owned(),
                        timezone: timezone.to_owned(),
                        last: of.applied_at,
                        ..State::default()
                    }
                });
                let next = trigger.cron.next_after(state.last);
                self.schedules.insert(name, Schedule { of: Arc::clone(&of), index, state, next });
            }
        }
        fresh
    }

    /// Shows the schedules to those who list them.
    fn show(&self) {
        let views = self.schedules.values().map(|schedule| {
            let trigger = schedule.trigger();
            ScheduleView {
                namespace: schedule.of.namespace.clone(),
                workflow: schedule.of.workflow.clone(),
                index: schedule.index as u32,
                cron: trigger.cron.expression().to_owned(),
                timezone: trigger.cron.timezone().to_owned(),
                overlap: trigger.overlap.name(),
                catch_up: trigger.catch_up.name(),
                next: schedule.next,
                last: schedule.state.fired,
                run: schedule.state.run,
                skipped: schedule.state.skipped,
            }
        });
        let mut views: Vec<ScheduleView> = views.collect();
        views.sort_by(|a, b| (&a.namespace, &a.workflow, a.index).cmp(&(&b.namespace, &b.workflow, b.index)));
        *self.engine.inner.schedules.lock().unwrap_or_else(PoisonError::into_inner) = views;
    }

    /// Deals with the times of a schedule that have come.
    async fn look_at(&mut self, name: &str) -> Result<(), Error> {
        let Some(schedule) = self.schedules.get_mut(name) else { return Ok(()) };
        let at = self.engine.now();
        let trigger = schedule.trigger();
        let (due, newest) = due(trigger, schedule.state.last, at);
        let overlap = trigger.overlap;
        let mut state = State { last: newest.unwrap_or(schedule.state.last), ..schedule.state.clone() };
        let mut act = Act::default();
        let mut letters = Vec::new();
        let live = match state.run {
            Some(run) => is_live(&self.engine, &schedule.of.namespace, run).await?,
            None => false,
        };
        let mut times: Vec<Millis> = Vec::new();
        match overlap {
            Overlap::Allow => times = due,
            Overlap::Cancel => {
                // Only the newest would be left in any case.
                times.extend(due.last());
                if let (true, Some(run), false) = (live, state.run, times.is_empty()) {
                    cancel(&self.engine, &schedule.of.namespace, run).await?;
                }
            }
            Overlap::Skip | Overlap::Queue => {
                let mut waiting = state.queued.take().into_iter().chain(due);
                if live {
                    if overlap == Overlap::Queue {
                        state.queued = waiting.next();
                    }
                } else {
                    times.extend(waiting.next());
                    if overlap == Overlap::Queue {
                        state.queued = waiting.next();
                    }
                }
                state.skipped += waiting.count() as u64;
            }
        }
        for time in times {
            let fired = Fired::new(Local::Schedule, &json!({"time": rfc3339(time)}));
            match fired.inputs(&trigger.inputs, &schedule.of.definition) {
                Ok(inputs) => {
                    let id = RunId(self.engine.environment().new_id());
                    let begun = start(id, &schedule.of, inputs, Trigger::Schedule { at: time }, 1, None, None);
                    (state.run, state.fired) = (Some(begun.0), Some(at));
                    act.starts.push(begun);
                }
                Err(why) => letters.push(refused(schedule, time, &why, at)),
            }
        }
        if !letters.is_empty() {
            self.engine.inner.store.bury(&letters).await.map_err(|e| crate::store_error(&e))?;
        }
        if act.starts.is_empty() && same(&state, &schedule.state) {
            return Ok(());
        }
        act.marks.push(mark(name, &state));
        let next = trigger.cron.next_after(state.last);
        self.engine.act(act).await?;
        if let Some(schedule) = self.schedules.get_mut(name) {
            (schedule.state, schedule.next) = (state, next);
        }
        Ok(())
    }

    /// After a failure: a commit whose answer was lost may be there after all.
    async fn reread(&mut self, name: &str) -> Result<(), StoreError> {
        let Some(schedule) = self.schedules.get_mut(name) else { return Ok(()) };
        let marks = self.engine.inner.store.marks(name, "", 1).await?;
        if let Some(value) = marks.into_iter().find(|mark| mark.name == name).and_then(|mark| mark.value)
            && let Ok(state) = serde_json::from_str::<State>(&value)
        {
            schedule.next = schedule.trigger().cron.next_after(state.last);
            schedule.state = state;
        }
        Ok(())
    }
}

impl Schedule {
    fn trigger(&self) -> &ScheduleTrigger {
        &self.of.definition.triggers.schedules[self.index]
    }
}

/// The times after `last` and up to now that start a run, and the newest of all that have passed.
fn due(trigger: &ScheduleTrigger, last: Millis, now: Millis) -> (Vec<Millis>, Option<Millis>) {
    let (mut times, mut at) = (std::collections::VecDeque::new(), last);
    while let Some(next) = trigger.cron.next_after(at).filter(|next| *next <= now) {
        if times.len() == MOST_MISSED {
            times.pop_front();
        }
        times.push_back(next);
        at = next;
    }
    let newest = times.back().copied();
    let kept = match trigger.catch_up {
        CatchUp::All => times.into(),
        CatchUp::Last => newest.into_iter().collect(),
        CatchUp::None => times.into_iter().filter(|time| now - time <= LATE).collect(),
    };
    (kept, newest)
}

fn same(a: &State, b: &State) -> bool {
    a.last == b.last && a.queued == b.queued && a.skipped == b.skipped
}

fn mark(name: &str, state: &State) -> Mark {
    Mark { name: name.to_owned(), value: Some(serde_json::to_string(state).expect("a state is plain data")) }
}

async fn is_live(engine: &Engine, namespace: &str, run: RunId) -> Result<bool, Error> {
    match engine.run(namespace, run).await {
        Ok(view) => Ok(!view.state.is_over()),
        Err(error) if error.kind == Kind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

async fn cancel(engine: &Engine, namespace: &str, run: RunId) -> Result<(), Error> {
    let reason = "its schedule fired again".to_owned();
    match engine.change(namespace, run, Command::Cancel { reason }, None).await {
        Ok(_) => Ok(()),
        // It has just ended.
        Err(error) if error.kind == Kind::FailedPrecondition => Ok(()),
        Err(error) => Err(error),
    }
}

/// What is kept of a time that could not start a run.
fn refused(schedule: &Schedule, time: Millis, why: &str, now: Millis) -> consort_core::ports::DeadLetter {
    let workflow = &schedule.of.workflow;
    tracing::warn!(%workflow, why, code = Code::name_of(Code::InvalidArgument as i32), "a schedule fired and starts nothing");
    let event_id = Uuid::new_v5(
        &Uuid::NAMESPACE_OID,
        format!("{}/{workflow}/{}/{time}", schedule.of.namespace, schedule.index).as_bytes(),
    );
    let event = Published {
        event_id,
        event_type: "SCHEDULE.FIRED".to_owned(),
        event_version: 1,
        timestamp: time,
        source: consort_core::run::ORCHESTRATOR.to_owned(),
        instance: workflow.to_string(),
        correlation_id: event_id,
        causation_id: None,
        namespace: schedule.of.namespace.clone(),
        subject: format!("namespaces/{}/workflows/{workflow}", schedule.of.namespace),
        payload: Data::of(&json!({"workflow": &**workflow, "schedule": schedule.index, "time": rfc3339(time)})),
        depth: 0,
    };
    letter(&event, event_id, format!("the schedule starts no run of workflow `{workflow}`: {why}"), now)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use consort_core::workflow::Workflow;

    use super::*;

    fn missed(catch_up: &str, hours: i64) -> (Vec<i64>, Option<i64>) {
        let source =
            format!("name: w\non: {{schedule: {{cron: '@hourly', catch_up: {catch_up}}}}}\nsteps: [{{id: a, set: 1}}]");
        let workflow = Workflow::parse(&source).unwrap();
        let hour = 3_600_000;
        let (times, newest) = due(&workflow.triggers.schedules[0], 0, hours * hour + 10_000);
        (times.into_iter().map(|t| t / hour).collect(), newest.map(|t| t / hour))
    }

    #[test]
    fn missed_times_are_made_up_for_as_the_schedule_says() {
        assert_eq!(missed("all", 3), (vec![1, 2, 3], Some(3)));
        assert_eq!(missed("last", 3), (vec![3], Some(3)));
        // The third is only 10 s late.
        assert_eq!(missed("none", 3), (vec![3], Some(3)));
        assert_eq!(missed("all", 0), (vec![], None));
        let (times, newest) = missed("all", 1_000);
        assert_eq!((times.len(), times[0], newest), (100, 901, Some(1_000)));
    }
}
