//! Random graphs: every run finishes, no step begins before its needs, no result is recorded twice, and a replay gives the same
//! state.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::{Command, Context, Question, Run, RunState, StepState, Transition};
use crate::data::Data;
use crate::event::{Code, Entry, Fact, Failure, LeaseLoss, Record, RunStarted, chain};
use crate::ids::{RunId, StepKey};
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
        let inputs = Data::of(&serde_json::json!({}));
        let started = RunStarted::new("default".into(), definition.name.clone(), 1, inputs);
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

    /// What can be done just now.
    fn moves(&self) -> Vec<Move> {
        let mut moves: Vec<Move> = Vec::new();
        for (step, unit) in self.run.units() {
            if let Some(asked) = &unit.asked {
                moves.push(Move::Answer(step, asked.decision));
            } else if let Some(signal) = &unit.signal {
                moves.push(Move::Signal(signal.clone()));
            } else if let Some(lease) = &unit.lease {
                moves.push(Move::Work(step, lease.token));
            } else if unit.state == StepState::Ready && !self.run.is_paused() {
                moves.push(Move::Lease(step, unit.attempt));
            }
        }
        moves
    }

    /// Does one thing that can be done just now, chosen by a number. False if there is nothing left to do.
    fn act(&mut self, choice: u32) -> bool {
        let moves = self.moves();
        let turn = choice as usize % (moves.len() + 1);
        let Some(turn) = moves.into_iter().nth(turn) else { return self.pass_time() };
        let command = match turn {
            Move::Lease(step, attempt) => {
                self.tokens += 1;
                Command::Lease { step, attempt, worker: "w".into(), session: "s".into(), token: self.tokens }
            }
            Move::Answer(step, decision) => {
                Command::Answer { step, decision, option: "go".into(), form: None, by: "ada".into() }
            }
            Move::Signal(signal) => Command::Signal { signal, payload: Data::of(&serde_json::json!(choice)) },
            Move::Work(step, token) => {
                let fail = |step, code| Command::Fail {
                    step,
                    token,
                    error: Failure::new(code, "flaky"),
                    retryable: true,
                    retry_after: None,
                };
                match choice / 7 % 12 {
                    0 => Command::LoseLease { step, token, reason: LeaseLoss::Expired },
                    1 | 2 => fail(step, Code::Unavailable),
                    3 => fail(step, Code::NotFound),
                    4 => Command::Ask { step, token, question: question() },
                    _ => Command::Complete { step, token, output: Data::of(&serde_json::json!(token)) },
                }
            }
        };
        self.decide(command).unwrap();
        true
    }

    /// Lets something fall due, or a paused run go on.
    fn pass_time(&mut self) -> bool {
        if self.run.is_paused() {
            self.decide(Command::Resume).unwrap();
            return true;
        }
        let Some(wake) = self.run.next_wake() else { return !self.moves().is_empty() };
        self.now = self.now.max(wake);
        self.decide(Command::Tick).unwrap();
        true
    }

    /// Goes on from what is on disk.
    fn start_again(&mut self) {
        let middle = self.records.len() / 2;
        let half = Run::replay(self.run.id, self.definition.clone(), &self.records[..=middle]).unwrap();
        let rest = &self.records[middle + 1..];
        let restored = Run::restore(self.run.id, self.definition.clone(), &half.snapshot(), rest).unwrap();
        self.check_same(&restored);
        self.run = restored;
    }

    fn check_replays(&self) {
        let replayed = Run::replay(self.run.id, self.definition.clone(), &self.records).unwrap();
        self.check_same(&replayed);
    }

    fn check_same(&self, other: &Run) {
        assert_eq!(other.s, self.run.s, "what is on disk gives the same state");
        if self.run.state().is_over() {
            return;
        }
        let (one, other) = (&self.run.d, &other.d);
        assert_eq!((one.active, one.blocked, one.left), (other.active, other.blocked, other.left));
        assert_eq!((&one.needs_left, &one.timers), (&other.needs_left, &other.timers));
        assert_eq!((&one.runnable, &one.resume, &one.awaiting), (&other.runnable, &other.resume, &other.awaiting));
    }

    /// No step begins before its needs are over, no result is recorded twice in one life, and a compensation runs only after a failure.
    fn check_order(&self) {
        let mut over: Vec<String> = Vec::new();
        let mut failing = false;
        for entry in self.entries() {
            match &entry.fact {
                Fact::RunCompensating { .. } => failing = true,
                Fact::RunRetried { steps } => {
                    failing = false;
                    over.retain(|key| !steps.iter().any(|id| **id == *key || key.starts_with(&format!("{id}["))));
                }
                _ => {}
            }
            let Some(key) = &entry.step else { continue };
            let step = &self.definition.steps[self.definition.index[&key.id]];
            match entry.fact {
                Fact::StepFailed { .. } | Fact::StepSkipped { .. } | Fact::StepSucceeded { .. } => {
                    let key = key.to_string();
                    assert!(!over.contains(&key), "`{key}` came to an end twice");
                    over.push(key);
                }
                _ => {
                    assert!(!over.contains(&key.to_string()), "`{key}` goes on after its end");
                    for &need in &step.needs {
                        let need = &self.definition.steps[need].id;
                        assert!(over.iter().any(|done| **done == **need), "`{key}` began before `{need}` was over");
                    }
                    assert!(failing || step.compensates.is_none(), "`{key}` compensates, but nothing failed");
                }
            }
        }
    }
}

/// One thing that can be done.
enum Move {
    Lease(StepKey, u32),
    Work(StepKey, u64),
    Answer(StepKey, Uuid),
    Signal(String),
}

fn question() -> Question {
    let (title, description) = ("Go on?".to_owned(), String::new());
    Question { title, description, options: vec!["go".to_owned()], form: None, deadline: None, default: None }
}

/// What a step of a random graph can be.
const STEPS: [&str; 18] = [
    "set: 1",
    "agent: a, if: 'false'",
    "agent: a",
    "agent: a, retry: {max: 3, backoff: 1s}",
    "agent: a, for_each: [1, 2, 3], max_parallel: 2",
    "agent: a, for_each: [1, 2, 3], max_parallel: 2, on_error: continue, retry: {max: 2}",
    "agent: a, for_each: [1, 2], on_error: {goto: undo}",
    "agent: a, timeout: {attempt: 5ms, step: 20ms}, retry: {max: 9, backoff: 1ms}, on_error: continue",
    "agent: a, on_error: {goto: undo}",
    "agent: a, while: '${{ last % 3 != 0 }}', max: 4, on_error: continue",
    "agent: a, while: '${{ last % 2 != 0 }}', max: 3",
    "set: '${{ index }}', while: '${{ last < 2 }}', max: 5",
    "agent: a, clarify: {title: What?, options: [go], deadline: 1m, default: go}, retry: {max: 2}",
    "decide: {title: Go?, options: [go, stop], deadline: 10s}, on_error: continue",
    "decide: {title: Go?, options: [go, stop], auto: \"'stop'\"}",
    "wait: {signal: go}, timeout: 30s, on_error: {goto: undo-all}",
    "wait: 5s",
    "emit: {type: SOME.EVENT, payload: {n: 1}}",
];

/// Two compensations: one of two steps, and one of one.
const UNDO: &str = "  - {id: undo, agent: a, retry: {max: 2}}
  - {id: undo-more, agent: a, for_each: [1, 2], needs: undo, on_error: continue}
  - {id: undo-all, agent: a, while: 'last % 2 == 0', max: 3}
";

/// A random graph: each step needs some of those before it.
fn graphs() -> impl Strategy<Value = String> {
    proptest::collection::vec((any::<u16>(), 0..STEPS.len()), 1..9).prop_map(|steps| {
        let mut yaml = String::from("name: random\nsteps:\n");
        for (n, (needs, kind)) in steps.iter().enumerate() {
            let needs: Vec<String> = (0..n).filter(|m| needs >> m & 1 == 1).map(|m| format!("s{m}")).collect();
            yaml += &format!("  - {{id: s{n}, {}, needs: [{}]}}\n", STEPS[*kind], needs.join(", "));
        }
        let goto = |target: &str| yaml.contains(&format!("goto: {target}}}"));
        let undo = UNDO.lines().filter(|line| goto(if line.contains("undo-all") { "undo-all" } else { "undo" }));
        let undo: Vec<&str> = undo.collect();
        yaml += &undo.join("\n");
        yaml
    })
}

/// `CASES=20000 cargo test -p consort-core --lib run` looks longer.
fn cases() -> ProptestConfig {
    let cases = std::env::var("CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    ProptestConfig { cases, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

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
            if kept.run.state().is_over() {
                break;
            }
            match choice % 23 {
                0 => kept.start_again(),
                1 => kept.decide(Command::Pause { reason: "lunch".into() }).unwrap(),
                _ => prop_assert!(kept.act(choice / 23), "there is nothing left to do in\n{source}"),
            }
        }
        // Whatever is left is answered well.
        for round in 0..2_000 {
            if kept.run.state().is_over() {
                break;
            }
            if kept.run.is_paused() || !kept.act(714 + round % 7) {
                kept.pass_time();
            }
        }
        prop_assert!(kept.run.state().is_over(), "{:?} in\n{source}", kept.run.state());
        kept.check_order();
        kept.check_replays();
    }
}

#[test]
fn an_old_token_is_refused_and_a_repeated_answer_is_not_applied_twice() {
    let mut kept = Kept::start("name: one\nsteps:\n  - {id: a, agent: x}\n  - {id: b, agent: x, needs: a}\n");
    let step: StepKey = "a".parse().unwrap();
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
fn a_task_that_its_workers_do_not_survive_fails_in_the_end() {
    let mut kept = Kept::start("name: one\nsteps:\n  - {id: a, agent: x, retry: {max: 2, backoff: 1s}}\n");
    let step: StepKey = "a".parse().unwrap();
    let mut losses = 0;
    while !kept.run.state().is_over() {
        if kept.run.unit(&step).unwrap().state == StepState::InProgress {
            // A lease that was given back does no harm.
            let reason = if losses % 3 == 0 { LeaseLoss::Released } else { LeaseLoss::Expired };
            losses += 1;
            kept.decide(Command::LoseLease { step: step.clone(), token: kept.tokens, reason }).unwrap();
        } else if !kept.act(0) {
            kept.pass_time();
        }
        assert!(losses < 100, "it goes round for ever");
    }
    assert_eq!(kept.run.state(), RunState::Failed);
    assert!(kept.run.error().unwrap().message.contains("16 workers died or fell silent"), "{:?}", kept.run.error());
    assert_eq!(losses, 2 * 24, "16 in each of two attempts, and every third one that was given back");
    kept.check_replays();
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
