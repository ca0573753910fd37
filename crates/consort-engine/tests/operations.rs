//! Operations of plugins on behalf of tasks: on record, done once, and a person is asked when nobody knows. The plugins are fakes that count.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use common::*;
use consort_core::event::{Code, Failure};
use consort_core::plugin::{
    Effect, Invocation, Invoke, InvokeNews, Operation, OperationName, Outcome, PluginAction, PluginView, Plugins,
};
use consort_core::ports::DecisionState;
use consort_core::run::RunState;
use consort_core::{Data, Error, Json, Kind};
use consort_engine::{Answer, AnswerDecision, Done, FromWorker, OperationAsked, Options};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// `read` and `write` say how often they were called; `broken` fails; `hang` never ends.
#[derive(Default)]
struct FakePlugins {
    calls: AtomicU32,
    seen: Mutex<Vec<Invoke>>,
}

struct Fake(Vec<Result<InvokeNews, Error>>, bool);

#[async_trait]
impl Invocation for Fake {
    async fn next(&mut self) -> Option<Result<InvokeNews, Error>> {
        if self.1 {
            std::future::pending::<()>().await;
        }
        self.0.pop()
    }
}

fn operation(name: &str, effect: Effect) -> Arc<Operation> {
    Arc::new(Operation {
        name: name.into(),
        description: String::new(),
        input_schema: Json::of(&json!({"type": "object"})),
        output_schema: None,
        effect,
        timeout: Duration::from_secs(60),
        dry_run: true,
    })
}

#[async_trait]
impl Plugins for FakePlugins {
    async fn describe(&self, name: &OperationName, agent: Option<&str>) -> Result<Arc<Operation>, Error> {
        if agent == Some("intern") {
            return Err(Error::new(Kind::PermissionDenied, "AGENT_DENIED", "not for an intern"));
        }
        match &*name.operation {
            "read" | "broken" => Ok(operation("read", Effect::Read)),
            "write" | "hang" | "lost" => Ok(operation("write", Effect::Write)),
            _ => Err(Error::not_found("operation", name)),
        }
    }

    async fn invoke(&self, call: Invoke) -> Result<Box<dyn Invocation>, Error> {
        let n = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let named = call.operation.operation.clone();
        self.seen.lock().unwrap().push(call);
        let failed = Failure::new(Code::NotFound, "no such thing");
        let result = if &*named == "broken" { Err(failed) } else { Ok(Data::of(&json!({"n": n}))) };
        let outcome = Outcome {
            result,
            would: Vec::new(),
            actions: vec!["did it".to_owned()],
            took: Duration::from_millis(3),
            version: "1.0.0".into(),
        };
        let last = match &*named {
            "lost" => Err(Error::new(Kind::Aborted, "OUTCOME_UNKNOWN", "the plugin died")),
            _ => Ok(InvokeNews::Done(outcome)),
        };
        let said = vec![last, Ok(InvokeNews::Log("info".into(), "on it".into()))];
        Ok(Box::new(Fake(said, &*named == "hang")))
    }

    fn list(&self) -> Vec<PluginView> {
        Vec::new()
    }

    async fn install(&self, _: &Path, _: bool, _: bool) -> Result<PluginView, Error> {
        Err(Error::internal("not here"))
    }

    async fn uninstall(&self, _: &str) -> Result<(), Error> {
        Err(Error::internal("not here"))
    }

    async fn reload(&self, _: &str, _: bool) -> Result<PluginView, Error> {
        Err(Error::internal("not here"))
    }

    fn actions(&self, _: Option<&str>, _: Option<u64>, _: usize) -> Vec<PluginAction> {
        Vec::new()
    }
}

fn give(mesh: &Mesh) -> Arc<FakePlugins> {
    let plugins = Arc::new(FakePlugins::default());
    mesh.engine.use_plugins(plugins.clone());
    tokio::spawn(mesh.engine.clone().do_own_steps(CancellationToken::new()));
    plugins
}

fn calls(operation: &str) -> String {
    format!(
        "name: w\ninputs: {{p: {{type: string, default: here}}}}\nsteps: [{{id: a, call: fake.{operation}, with: {{path: '${{{{ inputs.p }}}}'}}}}]\noutput: '${{{{ steps.a.output }}}}'"
    )
}

#[tokio::test]
async fn a_call_step_calls_and_its_outcome_is_on_record() {
    let mesh = Mesh::in_memory().await;
    let plugins = give(&mesh);
    mesh.apply(&calls("read")).await;
    let run = mesh.run("w", json!({})).await;
    assert_eq!(output(&run), json!({"n": 1}));
    let seen = plugins.seen.lock().unwrap()[0].clone();
    let Data::Inline(input) = &seen.input else { panic!("a small input") };
    assert_eq!(input.value(), json!({"path": "here"}));
    assert_eq!(seen.origin.step.unwrap().0, run.id);
    assert_eq!(seen.idempotency_key, format!("{}/a", run.id));
    let history = mesh.history(run.id).await;
    let called = history.iter().filter(|fact| fact.starts_with("STEP.OPERATION_CALLED")).count();
    assert_eq!(
        (called, history.iter().any(|fact| fact.starts_with("STEP.OPERATION_BEGAN"))),
        (1, false),
        "{history:?}"
    );
    assert!(history.iter().any(|fact| fact.starts_with("STEP.REPORTED")), "{history:?}");

    // A write is on record before it is begun.
    mesh.apply(&calls("write")).await;
    let run = mesh.run("w", json!({})).await;
    let history = mesh.history(run.id).await;
    let place = |kind: &str| history.iter().position(|fact| fact.starts_with(kind)).unwrap();
    assert!(place("STEP.OPERATION_BEGAN") < place("STEP.OPERATION_CALLED"), "{history:?}");
    // Decided again from the record, nobody is called.
    let replayed = mesh.engine.replay_run("default", run.id, None).await.unwrap();
    assert_eq!((replayed.difference, plugins.calls.load(Ordering::SeqCst)), (None, 2));
    mesh.stop().await;
}

#[tokio::test]
async fn a_plugins_failure_is_the_steps() {
    let mesh = Mesh::in_memory().await;
    give(&mesh);
    mesh.apply(&calls("broken")).await;
    let error = mesh.run("w", json!({})).await.error.unwrap();
    assert_eq!((error.code, error.message.as_str()), (Code::NotFound as i32, "step `a`: no such thing"));
    mesh.apply(&calls("nothing")).await;
    let error = mesh.run("w", json!({})).await.error.unwrap();
    assert_eq!(error.code, Code::NotFound as i32);
    mesh.stop().await;
}

/// Waits until somebody is asked, and answers.
async fn decide(mesh: &Mesh, option: &str) {
    let open = loop {
        let open = mesh.heard.decisions.lock().unwrap().iter().find(|row| row.state == DecisionState::Open).cloned();
        if let Some(open) = open {
            break open;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(open.asked.title, "Was `fake.hang` done?");
    let answer = AnswerDecision {
        namespace: "default".into(),
        id: open.id,
        option: option.to_owned(),
        form: None,
        by: "ada".to_owned(),
        request: None,
    };
    mesh.engine.answer(answer).await.unwrap();
}

async fn until_called(plugins: &FakePlugins, times: u32) {
    while plugins.calls.load(Ordering::SeqCst) < times {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_write_that_a_crash_cut_off_is_not_done_again_unasked() {
    for (option, yields) in [("it was done", Some(Value::Null)), ("fail the step", None)] {
        let mesh = Mesh::in_memory().await;
        let plugins = give(&mesh);
        mesh.apply(&calls("hang")).await;
        let run = mesh.start("w", json!({})).await.unwrap().id;
        until_called(&plugins, 1).await;
        let mesh = mesh.crash(Options::default()).await;
        let plugins = give(&mesh);
        decide(&mesh, option).await;
        let run = mesh.end_of(run).await;
        match yields {
            Some(yields) => assert_eq!(output(&run), yields),
            None => assert_eq!((run.state, run.error.unwrap().code), (RunState::Failed, Code::Aborted as i32)),
        }
        assert_eq!(plugins.calls.load(Ordering::SeqCst), 0, "{option}");
        mesh.stop().await;
    }
}

#[tokio::test]
async fn each_try_of_a_write_is_asked_for() {
    let mesh = Mesh::in_memory().await;
    let plugins = give(&mesh);
    mesh.apply(&calls("hang")).await;
    let run = mesh.start("w", json!({})).await.unwrap().id;
    until_called(&plugins, 1).await;
    let mesh = mesh.crash(Options::default()).await;
    let plugins = give(&mesh);
    decide(&mesh, "do it again").await;
    until_called(&plugins, 1).await;
    let mesh = mesh.crash(Options::default()).await;
    let plugins = give(&mesh);
    // The answer before was about the try before.
    decide(&mesh, "it was done").await;
    let run = mesh.end_of(run).await;
    assert_eq!((output(&run), plugins.calls.load(Ordering::SeqCst)), (Value::Null, 0));
    mesh.stop().await;
}

const AGENT: &str = "name: work\nsteps: [{id: a, agent: writer, retry: {max: 2, backoff: 1ms}}]";

fn asked(operation: &str) -> OperationAsked {
    OperationAsked {
        operation: OperationName::parse(&format!("fake.{operation}")).unwrap(),
        input: Data::of(&json!({"path": "x"})),
        dry_run: false,
        timeout: None,
        idempotency_key: None,
        again: false,
    }
}

async fn outcome(mesh: &Mesh, task: &consort_engine::Assignment, asked: OperationAsked) -> Result<Outcome, Error> {
    let mut invocation = mesh.engine.operate_for(task.lease.clone(), asked).await?;
    while let Some(news) = invocation.next().await {
        if let InvokeNews::Done(outcome) = news? {
            return Ok(outcome);
        }
    }
    panic!("the call has no end")
}

#[tokio::test]
async fn an_agents_calls_are_answered_from_the_record_after_a_crash() {
    let mesh = Mesh::in_memory().await;
    give(&mesh);
    mesh.apply(AGENT).await;
    mesh.start("work", json!({})).await.unwrap();
    let worker = mesh.worker("w", &["writer"], 1).await;
    let task = assigned(&worker).await.remove(0);
    let first = outcome(&mesh, &task, asked("write")).await.unwrap();
    let second = outcome(&mesh, &task, asked("write")).await.unwrap();
    assert_ne!(first.result, second.result, "equal calls of one attempt are calls of their own");
    let lost = outcome(&mesh, &task, asked("lost")).await.unwrap_err();
    assert_eq!(lost.reason, "OUTCOME_UNKNOWN");

    let mesh = mesh.crash(Options::default()).await;
    let after = give(&mesh);
    let worker = mesh.engine.attach(hello("w", "w-2", &["writer"], 1)).await.unwrap();
    let again = assigned(&worker).await.remove(0);
    for recorded in [first, second] {
        let found = outcome(&mesh, &again, asked("write")).await.unwrap();
        assert_eq!((found.result, found.actions), (recorded.result, recorded.actions));
    }
    assert_eq!(after.calls.load(Ordering::SeqCst), 0);
    // Nobody knows about the lost one; whoever has been told so may do it again.
    let lost = outcome(&mesh, &again, asked("lost")).await.unwrap_err();
    assert_eq!((lost.reason, after.calls.load(Ordering::SeqCst)), ("OUTCOME_UNKNOWN", 0));
    assert_eq!(outcome(&mesh, &again, asked("write")).await.unwrap().result, Ok(Data::of(&json!({"n": 1}))));
    let over = outcome(&mesh, &task, asked("read")).await.unwrap_err();
    assert_eq!(over.reason, "LEASE_LOST");
    mesh.stop().await;
}

#[tokio::test]
async fn what_an_agent_may_not_call_its_plan_may_not_call_either() {
    let mesh = Mesh::in_memory().await;
    let plugins = give(&mesh);
    mesh.apply("name: work\nsteps: [{id: a, agent: intern, plan: true}]").await;
    let run = mesh.start("work", json!({})).await.unwrap().id;
    let worker = mesh.worker("w", &["intern"], 1).await;
    let task = assigned(&worker).await.remove(0);
    let refused = outcome(&mesh, &task, asked("write")).await.unwrap_err();
    assert_eq!((refused.kind, refused.reason), (Kind::PermissionDenied, "AGENT_DENIED"));
    let history = mesh.history(run).await;
    assert!(!history.iter().any(|fact| fact.starts_with("STEP.OPERATION")), "{history:?}");
    let plan = Answer { lease: task.lease.clone(), result: Ok(Done::PlanText(calls("read"))) };
    worker.send(FromWorker::Answers(vec![plan])).await.unwrap();
    let error = mesh.end_of(run).await.error.unwrap();
    assert!(error.message.contains("not for an intern"), "{error:?}");
    // A workflow that somebody applied is nobody's agent.
    mesh.apply(&calls("read")).await;
    assert_eq!(output(&mesh.run("w", json!({})).await), json!({"n": 1}));
    assert_eq!(plugins.calls.load(Ordering::SeqCst), 1);
    mesh.stop().await;
}
