//! What must be true at the end, beyond what the history checker of the testkit holds.

use std::collections::{BTreeMap, BTreeSet};

use consort_core::Data;
use consort_core::event::{Fact, Trigger, chain};
use consort_core::ids::RunId;
use consort_core::ports::{LogRow, RunStore as _};
use consort_testkit::Stored;
use uuid::Uuid;

use crate::world::World;

/// Facts that are shown of a run that did not end.
const LAST: usize = 8;

/// What the log holds, as the rules need it.
#[derive(Default)]
struct Log {
    /// Digests of the rows by position.
    rows: BTreeMap<u64, [u8; 32]>,
    /// Tokens under which something was recorded.
    recorded: BTreeSet<u64>,
    /// How often each event was published.
    published: BTreeMap<Uuid, u32>,
    /// How many runs each event started.
    by_event: BTreeMap<Uuid, u32>,
    /// How many runs each time started.
    by_time: BTreeMap<i64, u32>,
    /// How many runs each signal started.
    by_signal: BTreeMap<Uuid, u32>,
    /// Events of runs that should have started something.
    rounds: BTreeSet<Uuid>,
    /// What is wrong.
    problems: Vec<String>,
}

/// A digest of a row of the log.
pub(crate) fn digest(row: &LogRow) -> [u8; 32] {
    match row {
        LogRow::Run(record) => chain(&record.hash, record.run.0.as_bytes()),
        LogRow::Published(event) => chain(&[0; 32], format!("{event:?}").as_bytes()),
    }
}

/// Checks the rules. The digest is of the whole history and of all that clients saw.
pub(crate) async fn check(world: &World, stored: &Stored) -> (Vec<String>, [u8; 32]) {
    let rows = world.store.log_after(0, "", u32::MAX).await.expect("memory can be read");
    let (mut log, mut whole) = (Log::default(), [0; 32]);
    for (position, row) in &rows {
        let digest = digest(row);
        log.rows.insert(*position, digest);
        whole = chain(&whole, &digest);
        match row {
            LogRow::Published(event) => {
                *log.published.entry(event.event_id).or_default() += 1;
                if event.event_type == "ROUND.DONE" {
                    log.rounds.insert(event.event_id);
                }
            }
            LogRow::Run(record) => {
                for entry in record.entries().unwrap_or_default() {
                    log.read(record.run, &entry.fact);
                }
            }
        }
    }
    let seen = world.seen();
    let mut problems = seen.problems.clone();
    problems.append(&mut log.problems);
    let mut tokens = BTreeMap::new();
    for (token, run, step) in &seen.handed {
        if let Some(before) = tokens.insert(*token, (run, step)) {
            problems.push(format!("token {token} was handed out for {before:?} and again for {:?}", (run, step)));
        }
    }
    for token in seen.acked.difference(&log.recorded) {
        problems.push(format!("the answer of lease {token} was acknowledged and nothing of it is stored"));
    }
    for (reason, count) in seen.refused.iter().filter(|(reason, _)| !["LEASE_LOST", "NOT_FOUND"].contains(reason)) {
        problems.push(format!("{count} answers were refused with {reason}"));
    }
    for (position, told) in &seen.told {
        if log.rows.get(position) != Some(told) {
            problems.push(format!("followers were told of a row at {position} that is not stored there"));
        }
    }
    for event in &seen.published {
        if log.published.get(event) != Some(&1) {
            problems.push(format!("event {event} was acknowledged and is stored {:?} times", log.published.get(event)));
        }
    }
    for event in seen.published.iter().chain(&log.rounds) {
        if log.by_event.get(event) != Some(&1) {
            problems.push(format!("event {event} started {:?} runs", log.by_event.get(event)));
        }
    }
    for (request, signals) in &seen.raised {
        let started: Vec<_> = signals.iter().map(|signal| log.by_signal.get(signal)).collect();
        if started != [Some(&1)] {
            problems.push(format!("request {request} raised {signals:?}, which started {started:?} runs"));
        }
    }
    for (time, runs) in log.by_time.iter().filter(|(_, runs)| **runs != 1) {
        problems.push(format!("the time {time} started {runs} runs"));
    }
    if let (Some((first, _)), Some((last, _))) = (log.by_time.first_key_value(), log.by_time.last_key_value())
        && (last - first) / 60_000 + 1 != log.by_time.len() as i64
    {
        problems.push(format!("of the minutes from {first} to {last} only {} started a run", log.by_time.len()));
    }
    for row in stored.rows.values().filter(|row| !row.state.is_over()) {
        let last = last_facts(stored, row.id);
        let (id, workflow, state) = (row.id, &row.workflow, row.state.name());
        problems.push(format!(
            "run {id} of {workflow} never ended: it is {state}, to be looked at {:?}, after {last}",
            row.wake_at
        ));
    }
    let calls = world.journal.with(|seen| crate::client::calls_in_words(&seen.calls));
    (problems, chain(&whole, calls.as_bytes()))
}

/// The last facts of a run, in words.
fn last_facts(stored: &Stored, run: RunId) -> String {
    let mut told = Vec::new();
    for record in stored.records.get(&run).into_iter().flatten() {
        for entry in record.entries().unwrap_or_default() {
            let step = entry.step.map(|step| step.to_string()).unwrap_or_default();
            let lease = match &entry.fact {
                Fact::StepLeased { session, token, .. } => format!(" to {session} under {token}"),
                _ => String::new(),
            };
            told.push(format!("{} {} {step}{lease}", record.at, entry.fact.event_type()));
        }
    }
    told[told.len().saturating_sub(LAST)..].join("; ")
}

impl Log {
    fn read(&mut self, run: RunId, fact: &Fact) {
        match fact {
            Fact::RunStarted(started) => match started.cause.as_ref().map(|cause| &cause.trigger) {
                Some(Trigger::Event { event_id, .. }) => *self.by_event.entry(*event_id).or_default() += 1,
                Some(Trigger::Schedule { at }) => *self.by_time.entry(*at).or_default() += 1,
                Some(Trigger::Signal { signal }) => *self.by_signal.entry(*signal).or_default() += 1,
                None => {}
            },
            Fact::StepSucceeded { token: Some(token), output, .. } => {
                self.recorded.insert(*token);
                let by = match output {
                    Data::Inline(json) => json.value()["by"].as_u64(),
                    Data::Blob(_) => None,
                };
                if by.is_some_and(|by| by != *token) {
                    self.problems.push(format!("run {run} took the work of lease {by:?} for that of lease {token}"));
                }
            }
            Fact::StepFailed { token: Some(token), .. }
            | Fact::StepRetryScheduled { token: Some(token), .. }
            | Fact::ChildStarted { token: Some(token), .. }
            | Fact::ClarificationRequested { token: Some(token), .. } => drop(self.recorded.insert(*token)),
            _ => {}
        }
    }
}
