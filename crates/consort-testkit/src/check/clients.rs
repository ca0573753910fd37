//! What clients were told, against what is stored.

use std::collections::{BTreeMap, HashMap};

use consort_core::data::Data;
use consort_core::event::Fact;
use consort_core::ids::RunId;
use serde_json::Value;

use super::{History, Report};
use crate::seen::{Asked, Ended, Outcome, REQUEST_LABEL, Seen, Watched};
use crate::stored::Stored;

/// The effects of client calls that the store holds.
#[derive(Default)]
struct Effects {
    runs: HashMap<String, Vec<RunId>>,
    answers: HashMap<(uuid::Uuid, String), usize>,
    signals: HashMap<(RunId, String), usize>,
}

pub(super) fn check(seen: &Seen, histories: &BTreeMap<RunId, History>, stored: &Stored, report: &mut Report) {
    let effects = effects(histories);
    for call in &seen.calls {
        let (what, count) = match &call.asked {
            Asked::Start(request) => {
                let runs = effects.runs.get(request).map_or(&[][..], Vec::as_slice);
                if let Outcome::Ok(Some(run)) = &call.outcome
                    && !runs.contains(run)
                {
                    report.problems.push(format!("run {run} of request {request} was acknowledged and is not stored"));
                }
                (format!("the start {request}"), runs.len())
            }
            Asked::Answer(decision, option) => {
                let count = effects.answers.get(&(*decision, option.clone())).copied();
                (format!("the answer {option} to {decision}"), count.unwrap_or(0))
            }
            Asked::Signal(run, signal) => {
                let count = effects.signals.get(&(*run, signal.clone())).copied();
                (format!("the signal {signal} to {run}"), count.unwrap_or(0))
            }
        };
        // A refused call that was made before under the same name may have had its effect then.
        let repeated = || seen.calls.iter().filter(|other| other.asked == call.asked).count() > 1;
        match &call.outcome {
            Outcome::Ok(_) if count == 0 => report.problems.push(format!("{what} was acknowledged and is not stored")),
            Outcome::Failed(code) if count > 0 && !repeated() => {
                report.problems.push(format!("{what} was refused with {code:?} and is stored"));
            }
            _ if count > 1 => report.problems.push(format!("{what} is stored {count} times")),
            _ => {}
        }
    }
    for ended in &seen.ended {
        check_end(ended, histories, stored, report);
    }
    for watched in &seen.watched {
        check_watched(watched, histories, report);
    }
}

fn effects(histories: &BTreeMap<RunId, History>) -> Effects {
    let mut effects = Effects::default();
    for (run, history) in histories {
        for (_, _, entry) in &history.entries {
            match &entry.fact {
                Fact::RunStarted(started) => {
                    if let Some(request) = started.labels.get(REQUEST_LABEL) {
                        effects.runs.entry(request.clone()).or_default().push(*run);
                    }
                }
                Fact::DecisionAnswered { decision, option, .. } => {
                    *effects.answers.entry((*decision, option.clone())).or_default() += 1;
                }
                Fact::SignalReceived { signal, .. } => {
                    *effects.signals.entry((*run, signal.clone())).or_default() += 1;
                }
                _ => {}
            }
        }
    }
    effects
}

/// A run that was seen to end ended so.
fn check_end(ended: &Ended, histories: &BTreeMap<RunId, History>, stored: &Stored, report: &mut Report) {
    let run = ended.run;
    let Some(fold) = histories.get(&run).and_then(|history| history.fold.as_ref()) else {
        report.problems.push(format!("run {run} was seen to end and has no history"));
        return;
    };
    let output = match fold.output() {
        None => Value::Null,
        Some(Data::Inline(json)) => json.value(),
        Some(Data::Blob(blob)) => stored.blobs.get(&blob.sha256).cloned().unwrap_or_default(),
    };
    if (ended.state as i32, ended.sequence) != (fold.state() as i32, fold.sequence()) {
        report.problems.push(format!(
            "run {run} was seen as {} after event {} and its history says {} after {}",
            ended.state.as_str_name(),
            ended.sequence,
            fold.state().name(),
            fold.sequence()
        ));
    }
    if ended.output != output {
        report.problems.push(format!("run {run} was seen to yield another output than its history has"));
    }
}

/// An event that was shown stands in the history as it was shown.
fn check_watched(watched: &Watched, histories: &BTreeMap<RunId, History>, report: &mut Report) {
    let Watched { run, sequence, .. } = watched;
    let entries = histories.get(run).map_or(&[][..], |history| &history.entries);
    let found = entries.iter().find(|(number, _, _)| number == sequence);
    let same = found.is_some_and(|(_, at, entry)| {
        let step = entry.step.as_ref().map(ToString::to_string).unwrap_or_default();
        *at == watched.at && step == watched.step
    });
    if !same {
        report.problems.push(format!("event {sequence} of run {run} was shown to a client and is not stored so"));
    }
}
