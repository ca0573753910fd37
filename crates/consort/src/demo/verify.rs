//! What a crash must not do to a history, checked on the history itself.

use std::collections::BTreeMap;

use consort_proto::orchestrator::{Run, RunEvent, StepState, run_event::Fact};
use serde_json::{Value, json};

/// What the check found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How many events the history has.
    pub(super) events: usize,
    /// How many results are on record.
    pub(super) results: usize,
    /// What is wrong; empty if the history is sound.
    pub(super) problems: Vec<String>,
}

impl Verdict {
    /// For programs.
    pub(super) fn to_json(&self, crashes: u32) -> Value {
        json!({
            "sound": self.problems.is_empty(),
            "server_kills": crashes,
            "events": self.events,
            "results": self.results,
            "problems": self.problems,
        })
    }

    /// For people.
    pub(super) fn sentence(&self, crashes: u32) -> String {
        let killed = match crashes {
            1 => "the server was killed once".to_owned(),
            2 => "the server was killed twice".to_owned(),
            n => format!("the server was killed {n} times"),
        };
        if self.problems.is_empty() {
            format!(
                "{killed}; {} events, numbered 1 to {} without a gap; {} results, each recorded exactly once",
                self.events, self.events, self.results
            )
        } else {
            format!("{killed}, and the history is not sound")
        }
    }
}

/// Checks that the events are numbered 1 to n, that every step that is done has exactly one result, that every question has one
/// answer, and that lease tokens only grow.
pub(super) fn verify(run: &Run, events: &[RunEvent]) -> Verdict {
    let mut verdict = Verdict { events: events.len(), ..Verdict::default() };
    let mut results: BTreeMap<&str, usize> = BTreeMap::new();
    let mut answers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut tokens: BTreeMap<&str, u64> = BTreeMap::new();
    let mut problem = |text: String| verdict.problems.push(text);
    for (expected, event) in (1..).zip(events) {
        if event.sequence != expected {
            problem(format!("event {} stands where {expected} should", event.sequence));
            break;
        }
    }
    if run.sequence != events.len() as i64 {
        problem(format!("the run counts {} events and the history has {}", run.sequence, events.len()));
    }
    for event in events {
        let step = event.step.as_str();
        match &event.fact {
            Some(Fact::StepSucceeded(_)) => *results.entry(step).or_default() += 1,
            Some(Fact::DecisionRequested(_)) => {
                answers.entry(step).or_default();
            }
            Some(Fact::DecisionAnswered(_)) => *answers.entry(step).or_default() += 1,
            Some(Fact::StepLeased(lease)) => {
                let last = tokens.insert(step, lease.lease_token);
                if last.is_some_and(|last| last >= lease.lease_token) {
                    problem(format!("step {step} got token {} after {}", lease.lease_token, last.unwrap_or_default()));
                }
            }
            _ => {}
        }
    }
    for step in run.steps.iter().filter(|step| step.state == StepState::Done as i32) {
        if !results.contains_key(step.step.as_str()) {
            problem(format!("step {} is done and has no result on record", step.step));
        }
    }
    for (step, count) in results.iter().filter(|(_, count)| **count > 1) {
        problem(format!("step {step} has {count} results on record"));
    }
    for (step, count) in answers.iter().filter(|(_, count)| **count != 1) {
        problem(format!("the question of step {step} has {count} answers on record"));
    }
    verdict.results = results.values().sum();
    verdict
}

#[cfg(test)]
mod tests {
    use consort_proto::orchestrator::{DecisionRequested, RunStarted, StepLeased, StepStatus, StepSucceeded};

    use super::*;

    fn history(facts: Vec<(&str, Fact)>) -> (Run, Vec<RunEvent>) {
        let events: Vec<RunEvent> = (1..)
            .zip(facts)
            .map(|(sequence, (step, fact))| RunEvent {
                sequence,
                step: step.into(),
                fact: Some(fact),
                ..RunEvent::default()
            })
            .collect();
        let steps = vec![StepStatus { step: "a".into(), state: StepState::Done as i32, ..Default::default() }];
        (Run { sequence: events.len() as i64, steps, ..Run::default() }, events)
    }

    fn leased(token: u64) -> Fact {
        Fact::StepLeased(StepLeased { lease_token: token, ..Default::default() })
    }

    fn succeeded() -> Fact {
        Fact::StepSucceeded(StepSucceeded::default())
    }

    fn sound() -> Vec<(&'static str, Fact)> {
        vec![("", Fact::RunStarted(RunStarted::default())), ("a", leased(1)), ("a", leased(2)), ("a", succeeded())]
    }

    #[test]
    fn a_sound_history_passes() {
        let (run, events) = history(sound());
        assert_eq!(verify(&run, &events), Verdict { events: 4, results: 1, problems: Vec::new() });
    }

    #[test]
    fn every_planted_fault_is_found() {
        let find = |run: &Run, events: &[RunEvent], what: &str| {
            let problems = verify(run, events).problems.join("\n");
            assert!(problems.contains(what), "{problems:?} lacks {what:?}");
        };
        let (run, mut events) = history(sound());
        events.remove(1);
        find(&run, &events, "event 3 stands where 2 should");
        find(&run, &events, "counts 4 events and the history has 3");

        let (run, events) = history([sound(), vec![("a", succeeded())]].concat());
        find(&run, &events, "step a has 2 results");

        let (run, events) = history(sound()[..3].to_vec());
        find(&run, &events, "step a is done and has no result");

        let (run, events) = history(vec![("a", leased(2)), ("a", leased(2)), ("a", succeeded())]);
        find(&run, &events, "got token 2 after 2");

        let asked = Fact::DecisionRequested(DecisionRequested::default());
        let (run, events) = history([sound(), vec![("b", asked)]].concat());
        find(&run, &events, "the question of step b has 0 answers");
    }
}
