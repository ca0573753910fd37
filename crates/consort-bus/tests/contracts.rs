//! The events of runs meet the contracts of `proto/events`: every kind of fact, with all it can carry and with the least.
#![allow(clippy::unwrap_used, clippy::panic)] // everything here is a test

use consort_bus::envelope::envelopes;
use consort_core::event::{
    Cause, Code, DecisionRequested, Entry, Fact, Failure, LeaseLoss, Parent, ProjectRef, Record, Report, RunStarted,
    Trigger,
};
use consort_core::model::{
    Asked, Cached, Calls, Digest, Finish, GenerateRequest, Policy, Reply, Route, Started, Tried, Usage,
};
use consort_core::plugin::{Effect, OperationBegan, OperationCalled, OperationName};
use consort_core::{BlobRef, Data, RunId, StepKey, contract};
use serde_json::{Value, json};
use uuid::Uuid;

/// Examples of every variant. The patterns are a match without a wildcard, so a new variant does not compile until it has examples.
macro_rules! examples {
    ($($variant:pat => [$($example:expr),+ $(,)?],)+) => {
        fn variant(fact: &Fact) -> &'static str {
            match fact {
                $($variant => stringify!($variant),)+
            }
        }

        fn examples() -> Vec<Fact> {
            let all = [$((stringify!($variant), vec![$($example),+])),+];
            for (name, examples) in &all {
                assert!(examples.iter().all(|example| variant(example) == *name), "an example stands at {name} and is none");
            }
            all.into_iter().flat_map(|(_, examples)| examples).collect()
        }
    };
}

examples! {
    Fact::RunStarted(_) => [
        Fact::RunStarted(RunStarted::new("default".into(), "audit".into(), 1, some())),
        Fact::RunStarted(RunStarted {
            parent: Some(Parent { run: id(1), step: StepKey::item("each", 3), root: id(2), depth: 2, event: None }),
            labels: [("team".to_owned(), "blue".to_owned())].into(),
            project: Some(ProjectRef { id: "site".into(), uid: Uuid::from_u128(9) }),
            plan: Some(some()),
            ..RunStarted::new("default".into(), "audit".into(), 0, some())
        }),
        caused(Trigger::Schedule { at: 1_700_000_000_000 }),
        caused(Trigger::Event { event_id: Uuid::from_u128(5), event_type: "ORDER.INBOX_RECEIVED".into() }),
        caused(Trigger::Signal { signal: Uuid::from_u128(6) }),
    ],
    Fact::RunPaused { .. } => [Fact::RunPaused { reason: String::new() }],
    Fact::RunResumed => [Fact::RunResumed],
    Fact::RunCancelled { .. } => [Fact::RunCancelled { reason: "not needed".into() }],
    Fact::RunRetried { .. } => [Fact::RunRetried { steps: vec!["cost".into()] }],
    Fact::RunSucceeded { .. } => [Fact::RunSucceeded { output: some() }, Fact::RunSucceeded { output: Data::null() }],
    Fact::RunFailed { .. } => [
        Fact::RunFailed { step: None, error: error() },
        Fact::RunFailed { step: Some(StepKey::item("each", 0)), error: error() },
    ],
    Fact::SignalReceived { .. } => [Fact::SignalReceived { signal: "go".into(), payload: some() }],
    Fact::StepScheduled { .. } => [
        Fact::StepScheduled { agent: "cost".into(), attempt: 1, input: Some(some()) },
        Fact::StepScheduled { agent: "cost".into(), attempt: 2, input: None },
    ],
    Fact::StepLeased { .. } => [
        Fact::StepLeased { attempt: 1, worker: "w-1".into(), session: "s".into(), token: u64::MAX },
    ],
    Fact::StepLeaseLost { .. } => [
        Fact::StepLeaseLost { token: 1, reason: LeaseLoss::Expired },
        Fact::StepLeaseLost { token: 1, reason: LeaseLoss::Released },
        Fact::StepLeaseLost { token: 1, reason: LeaseLoss::Replaced },
    ],
    Fact::StepReported { .. } => [
        Fact::StepReported { report: Report::Log { level: "warn".into(), text: "slow".into() } },
        Fact::StepReported { report: Report::Note { name: "rows".into(), value: some() } },
    ],
    Fact::StepSucceeded { .. } => [
        Fact::StepSucceeded { token: Some(1), attempt: 1, output: some() },
        Fact::StepSucceeded { token: None, attempt: 0, output: Data::null() },
    ],
    Fact::StepRetryScheduled { .. } => [
        Fact::StepRetryScheduled { token: Some(1), attempt: 1, error: error(), at: 1_700_000_000_000 },
        Fact::StepRetryScheduled { token: None, attempt: 1, error: error(), at: 0 },
    ],
    Fact::StepFailed { .. } => [
        Fact::StepFailed { token: Some(1), attempt: 3, error: error() },
        Fact::StepFailed { token: None, attempt: 0, error: Failure::new(Code::Internal, "") },
    ],
    Fact::StepSkipped { .. } => [Fact::StepSkipped { reason: "its `if` is false".into() }],
    Fact::StepExpanded { .. } => [Fact::StepExpanded { items: 0, list: Data::of(&json!([])) }],
    Fact::WaitStarted { .. } => [Fact::WaitStarted { until: 1_700_000_000_000 }],
    Fact::DecisionRequested(_) => [
        Fact::DecisionRequested(DecisionRequested {
            decision: Uuid::from_u128(3),
            title: "Publish?".into(),
            description: String::new(),
            options: vec!["yes".into(), "no".into()],
            form: None,
            deadline: None,
            default: None,
        }),
        Fact::DecisionRequested(DecisionRequested {
            decision: Uuid::from_u128(3),
            title: "Publish?".into(),
            description: "*Now*.".into(),
            options: vec!["yes".into()],
            form: Some(Data::of(&json!({"type": "object"}))),
            deadline: Some(1_700_000_000_000),
            default: Some("yes".into()),
        }),
    ],
    Fact::DecisionAnswered { .. } => [
        Fact::DecisionAnswered { decision: Uuid::from_u128(3), option: "yes".into(), form: None, by: "deadline".into() },
        Fact::DecisionAnswered { decision: Uuid::from_u128(3), option: "no".into(), form: Some(some()), by: "ada".into() },
    ],
    Fact::ChildStarted { .. } => [
        Fact::ChildStarted {
            child: id(4), workflow: "audit".into(), revision: 1, inputs: some(), plan: None, token: None
        },
        Fact::ChildStarted {
            child: id(4), workflow: "plan".into(), revision: 0, inputs: some(), plan: Some(some()), token: Some(7)
        },
    ],
    Fact::StepIterated { .. } => [Fact::StepIterated { iteration: 0 }],
    Fact::SignalAwaited { .. } => [
        Fact::SignalAwaited { signal: "go".into(), until: None },
        Fact::SignalAwaited { signal: "go".into(), until: Some(1_700_000_000_000) },
    ],
    Fact::RunCompensating { .. } => [
        Fact::RunCompensating { step: StepKey::item("each", 2), error: error(), goto: "undo".into() },
    ],
    Fact::ClarificationRequested { .. } => [
        Fact::ClarificationRequested { question: question(None), attempt: 0, token: None },
        Fact::ClarificationRequested { question: question(Some(some())), attempt: 1, token: Some(7) },
    ],
    Fact::ClarificationAnswered { .. } => [
        Fact::ClarificationAnswered {
            decision: Uuid::from_u128(3), option: String::new(), form: Some(some()), by: "ada".into()
        },
        Fact::ClarificationAnswered {
            decision: Uuid::from_u128(3), option: "yes".into(), form: None, by: "deadline".into()
        },
    ],
    Fact::EventEmitted { .. } => [
        Fact::EventEmitted { event_id: Uuid::from_u128(5), event_type: "ORDER.VALIDATED".into() },
    ],
    Fact::ModelCalled(_) => [called(Reply::default()), called(full_reply())],
    Fact::OperationBegan(_) => [Fact::OperationBegan(Box::new(OperationBegan {
        attempt: 1, token: 7, operation: log(), effect: Effect::Write, request: Digest([7; 32]), call_id: Uuid::from_u128(6),
    }))],
    Fact::OperationCalled(_) => [operated(Ok(some())), operated(Err(error()))],
}

fn log() -> OperationName {
    OperationName::parse("git.log").expect("it is one")
}

fn operated(result: Result<Data, Failure>) -> Fact {
    let (output, error) = match result {
        Ok(output) => (Some(output), None),
        Err(error) => (None, Some(error)),
    };
    Fact::OperationCalled(Box::new(OperationCalled {
        attempt: 1,
        token: 7,
        operation: log(),
        version: "1.0.0".into(),
        effect: Effect::IdempotentWrite,
        request: Digest([7; 32]),
        call_id: Uuid::from_u128(6),
        input: some(),
        would: vec!["read".into(); usize::from(output.is_none())],
        actions: vec!["wrote a file".into(); usize::from(output.is_some())],
        dry_run: output.is_none(),
        output,
        error,
        took_ms: 12,
    }))
}

fn called(reply: Reply) -> Fact {
    let mut asked = Asked::of(&GenerateRequest::ask("tiny", "hello"));
    asked.request_id = Some("c1".into());
    Fact::ModelCalled(Box::new(Calls::default().event(1, Some(7), asked, &reply)))
}

fn full_reply() -> Reply {
    let usage =
        Usage { input_tokens: 5, output_tokens: 4, cached_tokens: 3, cache_write_tokens: 2, reasoning_tokens: 1 };
    let tried = vec![Tried { model: "openai/gpt-4o".into(), error: "down".into(), millis: 12 }];
    Reply {
        started: Started { id: "r".into(), model: "local/tiny".into(), version: "v".into(), seed: Some(7) },
        finish: Finish {
            usage,
            cached: Cached::Semantic { similarity: 0.5 },
            route: Route { policy: Some(Policy::Best), why: "figures".into(), tried },
            ..Finish::default()
        },
        ..Reply::default()
    }
}

fn id(number: u128) -> RunId {
    RunId(Uuid::from_u128(number))
}

fn some() -> Data {
    Data::of(&json!({"n": 1}))
}

fn caused(trigger: Trigger) -> Fact {
    let cause = Some(Cause { trigger, depth: 1, event: Some(Uuid::from_u128(5)) });
    Fact::RunStarted(RunStarted { cause, ..RunStarted::new("default".into(), "audit".into(), 1, some()) })
}

fn question(form: Option<Data>) -> DecisionRequested {
    DecisionRequested {
        decision: Uuid::from_u128(3),
        title: "What exactly?".into(),
        description: String::new(),
        options: Vec::new(),
        form,
        deadline: None,
        default: None,
    }
}

fn error() -> Failure {
    Failure {
        details: vec![("type.googleapis.com/x".into(), "00ff".into())],
        ..Failure::new(Code::Unavailable, "down")
    }
}

fn record(entries: &[Entry]) -> Record {
    Record {
        run: id(7),
        namespace: "default".into(),
        root: id(7),
        sequence: 1,
        count: entries.len() as u32,
        at: 1_000,
        body: serde_json::to_vec(entries).unwrap(),
        hash: [0; 32],
    }
}

/// The event of a fact: its type, its version and its payload.
fn published(fact: Fact) -> (String, u32, Value) {
    let step = (!fact.event_type().starts_with("RUN.")).then(|| StepKey::item("each", 2));
    let record = record(&[Entry { step, fact }]);
    let event = envelopes(&record, "here").unwrap().remove(0);
    let Data::Inline(payload) = event.payload else { panic!("the payload is small") };
    (event.event_type, event.event_version, payload.value())
}

fn check(fact: Fact) {
    let (event_type, version, payload) = published(fact);
    assert!(
        contract::all().iter().any(|c| c.event_type == event_type),
        "{event_type} needs a contract in proto/events"
    );
    let violations = contract::check(&event_type, version, &payload).err().unwrap_or_default();
    assert!(violations.is_empty(), "{event_type} {payload}: {violations:#?}");
    assert!(!payload.to_string().contains("{\"v\":"), "{event_type} shows how a value is stored: {payload}");
}

#[test]
fn every_fact_meets_the_contract_of_its_event() {
    examples().into_iter().for_each(check);
}

#[test]
fn every_fact_meets_its_contract_with_blobs_for_values() {
    for mut fact in examples() {
        for data in fact.data_mut() {
            *data = Data::Blob(BlobRef::of(b"{}", "application/json"));
        }
        check(fact);
    }
}

#[test]
fn every_field_of_a_fact_is_in_the_schema() {
    for fact in examples() {
        let (event_type, _, payload) = published(fact);
        let contract = contract::all().iter().find(|c| c.event_type == event_type).unwrap();
        let schema: Value = serde_json::from_str(contract.schema).unwrap();
        for name in payload.as_object().unwrap().keys() {
            assert!(schema["properties"][name].is_object(), "{event_type} does not say what `{name}` is");
        }
    }
}

#[test]
fn a_fact_about_the_run_names_its_own_step() {
    let step = StepKey::step("cost");
    let fact = Fact::RunCompensating { step: step.clone(), error: error(), goto: "undo".into() };
    let record = record(&[Entry { step: Some(StepKey::step("other")), fact }]);
    let event = envelopes(&record, "here").unwrap().remove(0);
    let Data::Inline(payload) = event.payload else { panic!("the payload is small") };
    assert_eq!((&payload.value()["step"], &payload.value()["goto"]), (&json!("cost"), &json!("undo")));
}

#[test]
fn the_event_that_triggered_a_run_caused_its_first() {
    let fact = caused(Trigger::Event { event_id: Uuid::from_u128(5), event_type: "ORDER.VALIDATED".into() });
    let event = envelopes(&record(&[Entry { step: None, fact }]), "here").unwrap().remove(0);
    assert_eq!(event.causation_id, Some(Uuid::from_u128(5)));
}

#[test]
fn the_value_of_a_note_is_plain() {
    let (_, _, payload) =
        published(Fact::StepReported { report: Report::Note { name: "rows".into(), value: Data::of(&json!(3)) } });
    assert_eq!(payload["report"], json!({"note": {"name": "rows", "value": 3}}));
}
