//! Random graphs: every run finishes, no step begins before its needs, no result is recorded twice, and a replay gives the same
//! state.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::{Command, Context, Run, RunState, StepState, Transition};
use crate::data::Data;
use crate::event::{Code, Entry, Fact, Failure, LeaseLoss, Record, RunStarted, chain};
use crate::ids::RunId;
use crate::workflow::Workflow;

/// A run, and the history that a ledger would have kept of it.
struct Kept {
    run: Run,
    definition: Arc<Workflow>,
    records: Vec<Record>,
    now: i64,
    tokens: u64,
}

impl Kept {
    fn start(source: &str) -> Kept {
        let definition = Arc::new(Workflow::parse(source).unwrap());
        let started = RunStarted {
            namespace: "default".into(),
            workflow: definition.name.clone(),
            revision: 1,
            inputs: Data::of(&serde_json::json!({})),
            parent: None,
            labels: BTreeMap::default(),
        };
        let id = RunId(Uuid::from_u128(1));
        let (blobs, workflows) = (HashMap::new(), HashMap::new());
        let cx = Context { now: 1_000, chance: 0.5, blobs: &blobs, workflows: &workflows };
        let (run, transition) = Run::start(id, definition.clone(), started, &cx).unwrap();
        let mut kept = Kept { run, definition, records: Vec::new(), now: 1_000, tokens: 0 };
        kept.keep(transition);
        kept
    }

    fn keep(&mut self, transition: Transition) {
        if transition.entries.is_empty() {
            return;
        }
        let body = serde_json::to_vec(&transition.entries).unwrap();
        let count = transition.entries.len() as u32;
        let previous = self.records.last().map_or([0; 32], |r| r.hash);
        self.records.push(Record {
            run: self.run.id,
            namespace: "default".into(),
            root: self.run.id,
            sequence: self.run.sequence() + 1 - u64::from(count),
            count,
            at: self.now,
            hash: chain(&previous, &body),
            body,
        });
    }

    fn decide(&mut self, command: Command) -> Result<(), crate::Error> {
        self.now += 1;
        let (blobs, workflows) = (HashMap::new(), HashMap::new());
        let cx = Context { now: self.now, chance: 0.5, blobs: &blobs, workflows: &workflows };
        let transition = self.run.decide(command, &cx)?;
        self.keep(transition);
        Ok(())
    }

    fn entries(&self) -> Vec<Entry> {
        self.records.iter().flat_map(|record| record.entries().unwrap()).collect()
    }

    /// Does one thing that can be done just now, chosen by a number. False if there is nothing left to do.
    fn act(&mut self, choice: u32) -> bool {
        let ready = self.run.ready();
        let leases = self.run.leases();
        let turns = ready.len() + leases.len();
        if turns == 0 {
            let Some(wake) = self.run.next_wake() else { return false };
            self.now = self.now.max(wake);
            self.decide(Command::Tick).unwrap();
            return true;
        }
        let turn = choice as usize % turns;
        if let Some((step, _)) = ready.get(turn) {
            self.tokens += 1;
            let attempt = self.run.unit(step).unwrap().attempt;
            let (worker, session) = ("w".into(), "s".into());
            let command = Command::Lease { step: step.clone(), attempt, worker, session, token: self.tokens };
            self.decide(command).unwrap();
            return true;
        }
        let (step, _, lease) = leases[turn - ready.len()].clone();
        let token = lease.token;
        let command = match choice / 7 % 8 {
            0 => Command::LoseLease { step, token, reason: LeaseLoss::Expired },
            1 => Command::Fail {
                step,
                token,
                error: Failure::new(Code::Unavailable, "flaky"),
                retryable: true,
                retry_after: None,
            },
            _ => Command::Complete { step, token, output: Data::of(&serde_json::json!(token)) },
        };
        self.decide(command).unwrap();
        true
    }

    fn check_replays(&self) {
        let replayed = Run::replay(self.run.id, self.definition.clone(), &self.records).unwrap();
        assert_eq!(replayed.s, self.run.s, "a replay gives the same state");
        let middle = self.records.len() / 2;
        let half = Run::replay(self.run.id, self.definition.clone(), &self.records[..=middle]).unwrap();
        let restored =
            Run::restore(self.run.id, self.definition.clone(), &half.snapshot(), &self.records[middle + 1..]).unwrap();
        assert_eq!(restored.s, self.run.s, "a snapshot and what came after it give the same state");
        assert_eq!(
            (restored.d.active, restored.d.blocked, restored.d.left),
            (self.run.d.active, self.run.d.blocked, self.run.d.left)
        );
        assert_eq!(restored.d.timers, self.run.d.timers);
    }

    fn check_order(&self) {
        let mut over: Vec<String> = Vec::new();
        for entry in self.entries() {
            let Some(key) = &entry.step else { continue };
            let step = self.definition.index[&key.id];
            match entry.fact {
                Fact::StepScheduled { .. } | Fact::StepExpanded { .. } => {
                    for &need in &self.definition.steps[step].needs {
                        let need = &self.definition.steps[need].id;
                        assert!(over.iter().any(|done| **done == **need), "`{key}` began before `{need}` was over");
                    }
                }
                Fact::StepSucceeded { .. } => {
                    let key = key.to_string();
                    assert!(!over.contains(&key), "`{key}` succeeded twice");
                    over.push(key);
                }
                Fact::StepSkipped { .. } => over.push(key.to_string()),
                _ => {}
            }
        }
    }
}

/// A random graph: each step needs some of those before it; some are skipped, some fan out.
fn graphs() -> impl Strategy<Value = String> {
    proptest::collection::vec((any::<u16>(), 0..10_u8), 1..9).prop_map(|steps| {
        let mut yaml = String::from("name: random\nsteps:\n");
        for (n, (needs, kind)) in steps.iter().enumerate() {
            let needs: Vec<String> = (0..n).filter(|m| needs >> m & 1 == 1).map(|m| format!("s{m}")).collect();
            let action = match kind {
                0 => "set: 1".to_owned(),
                1 => "agent: a, if: 'false'".to_owned(),
                2 => "agent: a, for_each: [1, 2, 3], max_parallel: 2".to_owned(),
                3 => "wait: 5s".to_owned(),
                _ => "agent: a".to_owned(),
            };
            let retry = if (4..8).contains(kind) { ", retry: {max: 3, backoff: 1s}" } else { "" };
            yaml += &format!("  - {{id: s{n}, {action}, needs: [{}]{retry}}}\n", needs.join(", "));
        }
        yaml
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_graphs_finish_in_order_and_replay(source in graphs(), choices in proptest::collection::vec(any::<u32>(), 400)) {
        let mut kept = Kept::start(&source);
        let mut retries = 0;
        for choice in choices {
            if kept.run.state() == RunState::Failed && retries < 3 {
                retries += 1;
                kept.check_replays();
                kept.decide(Command::Retry).unwrap();
            }
            if kept.run.state().is_over() || !kept.act(choice) {
                break;
            }
        }
        // Whatever is left is answered well.
        for _ in 0..1_000 {
            if kept.run.state().is_over() || !kept.act(6) { break; }
        }
        for _ in 0..1_000 {
            if kept.run.state().is_over() || !kept.act(2 * 7) { break; }
        }
        prop_assert!(kept.run.state().is_over(), "{:?} in\n{source}", kept.run.state());
        kept.check_order();
        kept.check_replays();
    }
}

#[test]
fn an_old_token_is_refused_and_a_repeated_answer_is_not_applied_twice() {
    let mut kept = Kept::start("name: one\nsteps:\n  - {id: a, agent: x}\n  - {id: b, agent: x, needs: a}\n");
    let step: crate::ids::StepKey = "a".parse().unwrap();
    kept.act(0);
    let old = kept.tokens;
    kept.decide(Command::LoseLease { step: step.clone(), token: old, reason: LeaseLoss::Expired }).unwrap();
    kept.act(0);
    let complete = |token| Command::Complete { step: step.clone(), token, output: Data::of(&serde_json::json!(token)) };
    let refused = kept.decide(complete(old)).unwrap_err();
    assert_eq!(refused.reason, "LEASE_LOST");
    kept.decide(complete(kept.tokens)).unwrap();
    let events = kept.run.sequence();
    kept.decide(complete(kept.tokens)).unwrap();
    assert_eq!(kept.run.sequence(), events, "the second time nothing happens");
}

#[test]
fn the_table_of_changes_is_the_one_that_is_promised() {
    use StepState::{Blocked, Cancelled, Created, Done, Failed, InProgress, Ready, Skipped};
    let all = [Created, Ready, Blocked, InProgress, Done, Failed, Cancelled, Skipped];
    let allowed: Vec<(StepState, StepState)> =
        all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))).filter(|(a, b)| a.may_become(*b)).collect();
    let promised = [
        (Created, vec![Ready, Blocked, Failed, Cancelled, Skipped]),
        (Ready, vec![Blocked, InProgress, Failed, Cancelled]),
        (Blocked, vec![Ready, Failed, Cancelled]),
        (InProgress, vec![Blocked, Done, Failed, Cancelled]),
    ];
    let promised: Vec<(StepState, StepState)> =
        promised.into_iter().flat_map(|(from, to)| to.into_iter().map(move |to| (from, to))).collect();
    assert_eq!(allowed, promised);
}

#[test]
fn a_history_that_breaks_the_table_is_refused() {
    let kept = Kept::start("name: one\nsteps:\n  - {id: a, agent: x}\n");
    let fact = Fact::StepScheduled { agent: "x".into(), attempt: 2, input: None };
    let body = serde_json::to_vec(&[Entry { step: Some("a".parse().unwrap()), fact }]).unwrap();
    let mut records = kept.records.clone();
    records.push(Record { sequence: kept.run.sequence() + 1, count: 1, body, ..records[0].clone() });
    let damaged = Run::replay(kept.run.id, kept.definition, &records).unwrap_err();
    assert!(damaged.to_string().contains("step `a` cannot go from ready to ready"), "{damaged}");
}
