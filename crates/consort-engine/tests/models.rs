//! Model calls on behalf of tasks: on record, paid for once, bounded by budgets, replayed and compared. The models are fakes that count.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use common::*;
use consort_core::event::Code;
use consort_core::model::compare::DifferenceKind;
use consort_core::model::{
    Caller, Delta, Embedded, Finish, Gather, GenerateRequest, Generation, LoadProgress, Message, ModelCard, ModelStats,
    Models, Rating, Reply, Role, Started, Usage, UsageFilter, UsageRow,
};
use consort_core::run::RunState;
use consort_core::{Error, Kind};
use consort_engine::{Assignment, Engine, Options, RunView};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Says `n: PROMPT`, where n counts its calls.
#[derive(Default)]
struct FakeModels {
    calls: AtomicU32,
    callers: Mutex<Vec<Caller>>,
    /// Answers stop after their first text until this is notified.
    hold: Option<Arc<tokio::sync::Notify>>,
}

struct Fake(VecDeque<Delta>, Option<Arc<tokio::sync::Notify>>);

#[async_trait]
impl Generation for Fake {
    async fn next(&mut self) -> Option<Result<Delta, Error>> {
        if matches!(self.0.front(), Some(Delta::Finish(_)))
            && let Some(hold) = self.1.take()
        {
            hold.notified().await;
        }
        self.0.pop_front().map(Ok)
    }
}

#[async_trait]
impl Models for FakeModels {
    async fn generate(&self, request: Arc<GenerateRequest>, caller: &Caller) -> Result<Box<dyn Generation>, Error> {
        let n = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.callers.lock().unwrap().push(caller.clone());
        let prompt = request.messages.last().unwrap().joined_text();
        let text = if prompt == "json" { r#"{"ok": true}"#.to_owned() } else { format!("{n}: {prompt}") };
        let finish = Finish {
            usage: Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() },
            cost_nanos: 1_000,
            total: Duration::from_millis(20),
            ..Finish::default()
        };
        let started = Started { id: format!("r{n}"), model: "fake/model".into(), ..Started::default() };
        let deltas = [Delta::Started(started), Delta::Text(text), Delta::Finish(Box::new(finish))];
        Ok(Box::new(Fake(deltas.into(), self.hold.clone())))
    }

    async fn embed(&self, _: &str, _: Vec<String>, _: Option<u32>, _: &Caller) -> Result<Embedded, Error> {
        Err(Error::internal("not here"))
    }

    async fn count_tokens(&self, _: &GenerateRequest, _: &Caller) -> Result<(u64, String), Error> {
        Err(Error::internal("not here"))
    }

    async fn list(&self) -> Vec<(String, ModelCard, Vec<ModelStats>)> {
        Vec::new()
    }

    async fn load(&self, _: &str, _: LoadProgress) -> Result<ModelCard, Error> {
        Err(Error::internal("not here"))
    }

    async fn unload(&self, _: &str) -> Result<(), Error> {
        Err(Error::internal("not here"))
    }

    async fn usage(&self, _: UsageFilter) -> Result<Vec<UsageRow>, Error> {
        Ok(Vec::new())
    }

    fn redact(&self, text: &str) -> Option<String> {
        text.contains("sk-secret").then(|| text.replace("sk-secret", "[redacted]"))
    }

    async fn rate(&self, _: Rating, _: &Caller) -> Result<(), Error> {
        Err(Error::internal("not here"))
    }
}

fn give(mesh: &Mesh) -> Arc<FakeModels> {
    let models = Arc::new(FakeModels::default());
    mesh.engine.use_models(models.clone());
    tokio::spawn(mesh.engine.clone().do_own_steps(CancellationToken::new()));
    models
}

fn asked(messages: &[&str]) -> GenerateRequest {
    let turn = |(n, text): (usize, &&str)| Message::text(if n % 2 == 0 { Role::User } else { Role::Assistant }, *text);
    GenerateRequest { messages: messages.iter().enumerate().map(turn).collect(), ..GenerateRequest::default() }
}

async fn call(engine: &Engine, task: &Assignment, request: GenerateRequest) -> Result<Reply, Error> {
    call_as(engine, task, request, None).await
}

async fn call_as(
    engine: &Engine,
    task: &Assignment,
    request: GenerateRequest,
    id: Option<&str>,
) -> Result<Reply, Error> {
    let id = id.map(str::to_owned);
    let mut generation = engine.generate_for(task.lease.clone(), request, None, id).await?;
    let mut gather = Gather::default();
    while let Some(delta) = generation.next().await {
        if let Some(reply) = gather.push(delta?) {
            return Ok(reply);
        }
    }
    panic!("the answer has no end")
}

const INFER: &str = "
name: ask
inputs: {q: {type: string}}
steps:
  - {id: say, infer: {prompt: 'Question: ${{ inputs.q }}', system: Be brief., cache: off}}
  - {id: fill, needs: say, infer: {prompt: json, schema: {type: object}}}
output: {said: '${{ steps.say.output.text }}', ok: '${{ steps.fill.output.json.ok }}'}
";

#[tokio::test]
async fn an_infer_step_asks_a_model_and_its_call_is_on_record() {
    let mesh = Mesh::in_memory().await;
    let models = give(&mesh);
    mesh.apply(INFER).await;
    let run = mesh.run("ask", json!({"q": "why"})).await;
    assert_eq!(output(&run), json!({"said": "1: Question: why", "ok": true}));
    let (calls, spent) = run.calls.unwrap();
    assert_eq!((calls, spent.tokens, spent.cost_nanos), (2, Some(30), Some(2_000)));
    let history = mesh.history(run.id).await;
    assert_eq!(history.iter().filter(|fact| fact.starts_with("STEP.MODEL_CALLED")).count(), 2, "{history:?}");
    assert_eq!(models.callers.lock().unwrap()[0].run, Some(run.id));
    mesh.stop().await;
}

#[tokio::test]
async fn a_bad_infer_fails_and_names_its_field() {
    let mesh = Mesh::in_memory().await;
    let models = give(&mesh);
    mesh.apply("name: bad\nsteps: [{id: a, infer: {prompt: x, temperature: '${{ 5 }}'}}]").await;
    let error = mesh.run("bad", json!({})).await.error.unwrap();
    assert_eq!(error.code, Code::InvalidArgument as i32);
    assert!(error.message.contains("sampling.temperature"), "{}", error.message);
    assert_eq!(models.calls.load(Ordering::SeqCst), 0);
    mesh.stop().await;
}

/// One task that a test holds.
const AGENT: &str = "name: work\nsteps: [{id: a, agent: writer, retry: {max: 2, backoff: 1ms}}]";

#[tokio::test]
async fn a_finished_call_is_not_made_again_after_a_crash() {
    let mesh = Mesh::in_memory().await;
    let before = give(&mesh);
    mesh.apply(AGENT).await;
    let run = mesh.start("work", json!({})).await.unwrap().id;
    let worker = mesh.worker("w", &["writer"], 1).await;
    let task = assigned(&worker).await.remove(0);
    let first = call(&mesh.engine, &task, asked(&["hello"])).await.unwrap();
    let second = call(&mesh.engine, &task, asked(&["hello"])).await.unwrap();
    assert_ne!(first.text(), second.text(), "equal calls of one attempt are calls of their own");
    assert_eq!(before.calls.load(Ordering::SeqCst), 2);

    let mesh = mesh.crash(Options::default()).await;
    let after = give(&mesh);
    let worker = mesh.engine.attach(hello("w", "w-2", &["writer"], 1)).await.unwrap();
    let again = assigned(&worker).await.remove(0);
    assert_ne!(again.lease.token, task.lease.token);
    for recorded in [first, second] {
        let reply = call(&mesh.engine, &again, asked(&["hello"])).await.unwrap();
        assert_eq!((reply.text(), reply.finish.cost_nanos), (recorded.text(), 0));
    }
    assert_eq!(after.calls.load(Ordering::SeqCst), 0);
    // What the old one had not asked yet is asked now; and the old lease is worth nothing any more.
    assert_eq!(call(&mesh.engine, &again, asked(&["hello"])).await.unwrap().text(), "1: hello");
    let lost = call(&mesh.engine, &task, asked(&["more"])).await.unwrap_err();
    assert_eq!(lost.reason, "LEASE_LOST");
    assert_eq!(mesh.engine.run("default", run).await.unwrap().calls.unwrap().0, 3);

    // A new attempt shall not fail for the same reason: it asks anew.
    let failed = answer(&again, Err(failure(Code::Unavailable, "no")));
    worker.send(consort_engine::FromWorker::Answers(vec![failed])).await.unwrap();
    let next = assigned(&worker).await.remove(0);
    assert_eq!(call(&mesh.engine, &next, asked(&["hello"])).await.unwrap().text(), "2: hello");
    mesh.stop().await;
}

#[tokio::test]
async fn a_call_with_a_request_id_is_repeated_under_the_same_lease() {
    let mesh = Mesh::in_memory().await;
    let models = give(&mesh);
    mesh.apply(AGENT).await;
    mesh.start("work", json!({})).await.unwrap();
    let worker = mesh.worker("w", &["writer"], 1).await;
    let task = assigned(&worker).await.remove(0);
    let first = call_as(&mesh.engine, &task, asked(&["hello"]), Some("a")).await.unwrap();
    let other = call_as(&mesh.engine, &task, asked(&["hello"]), Some("b")).await.unwrap();
    assert_ne!(first.text(), other.text());
    assert_eq!(call_as(&mesh.engine, &task, asked(&["hello"]), Some("a")).await.unwrap().text(), first.text());
    assert_eq!(models.calls.load(Ordering::SeqCst), 2);
    // The worker keeps its lease over a restart of the server.
    let mesh = mesh.crash(Options::default()).await;
    let models = give(&mesh);
    let worker = mesh.worker("w", &["writer"], 1).await;
    assert_eq!(worker.resumed.len(), 1, "the same session keeps its lease");
    assert_eq!(call_as(&mesh.engine, &task, asked(&["hello"]), Some("b")).await.unwrap().text(), other.text());
    assert_eq!(models.calls.load(Ordering::SeqCst), 0);
    assert_eq!(call_as(&mesh.engine, &task, asked(&["hello"]), Some("c")).await.unwrap().text(), "1: hello");
    mesh.stop().await;
}

#[tokio::test]
async fn what_is_redacted_is_not_on_record_and_still_found() {
    let mesh = Mesh::in_memory().await;
    give(&mesh);
    mesh.apply(AGENT).await;
    let run = mesh.start("work", json!({})).await.unwrap().id;
    let worker = mesh.worker("w", &["writer"], 1).await;
    let task = assigned(&worker).await.remove(0);
    let reply = call(&mesh.engine, &task, asked(&["my key is sk-secret"])).await.unwrap();
    assert!(reply.text().contains("sk-secret"), "the caller gets what the model said");
    let records = mesh.store.records_after(run, 0, 100).await.unwrap();
    let stored: String = records.iter().map(|r| String::from_utf8_lossy(&r.body).into_owned()).collect();
    assert!(!stored.contains("sk-secret") && stored.contains("[redacted]"));
    let mesh = mesh.crash(Options::default()).await;
    let models = give(&mesh);
    let worker = mesh.engine.attach(hello("w", "w-2", &["writer"], 1)).await.unwrap();
    let again = assigned(&worker).await.remove(0);
    call(&mesh.engine, &again, asked(&["my key is sk-secret"])).await.unwrap();
    assert_eq!(models.calls.load(Ordering::SeqCst), 0);
    mesh.stop().await;
}

const FAMILY: &str = "name: family\nbudget: {tokens: 40}\nsteps: [{id: a, workflow: ask, with: {q: one}}, {id: b, needs: a, infer: {prompt: two}}, {id: c, needs: b, infer: {prompt: three}}]";

#[tokio::test]
async fn a_family_shares_a_budget_and_is_refused_before_money_is_spent() {
    let mesh = Mesh::in_memory().await;
    give(&mesh);
    mesh.apply(INFER).await;
    mesh.apply(FAMILY).await;
    let run = mesh.start("family", json!({})).await.unwrap().id;
    let run = mesh.end_of(run).await;
    // Two calls of the child are 30 tokens, the third makes 45: the fourth is refused.
    let error = run.error.as_ref().unwrap();
    assert_eq!(error.code, Code::ResourceExhausted as i32);
    assert!(error.message.contains("45 of 40 tokens"), "{}", error.message);
    assert_eq!(run.calls.unwrap().0, 1);

    // A crash forgets nothing of it.
    let mesh = mesh.crash(Options::default()).await;
    let models = give(&mesh);
    mesh.engine.command("default", run.id, consort_engine::RunCommand::Retry, None).await.unwrap();
    let error = mesh.end_of(run.id).await.error.unwrap();
    assert!(error.message.contains("45 of 40 tokens"), "{}", error.message);
    assert_eq!(models.calls.load(Ordering::SeqCst), 0);
    mesh.stop().await;
}

#[tokio::test]
async fn those_who_watch_see_an_answer_grow_and_end() {
    let mesh = Mesh::in_memory().await;
    let hold = Arc::new(tokio::sync::Notify::new());
    mesh.engine.use_models(Arc::new(FakeModels { hold: Some(hold.clone()), ..FakeModels::default() }));
    tokio::spawn(mesh.engine.clone().do_own_steps(CancellationToken::new()));
    mesh.apply("name: one\nsteps: [{id: a, infer: {prompt: hi}}]").await;
    let run = mesh.start("one", json!({})).await.unwrap().id;
    let mut follow = mesh.engine.live_calls(run);
    let watched = tokio::time::timeout(WAIT, async {
        loop {
            let calls = follow.next(&mesh.engine, run).await;
            if let Some(call) = calls.first().filter(|call| !call.after(0).0.is_empty()) {
                return call.clone();
            }
        }
    });
    let call = watched.await.unwrap();
    assert_eq!((call.after(0), call.after(3)), (("1: hi".to_owned(), false), ("hi".to_owned(), false)));
    hold.notify_one();
    mesh.end_of(run).await;
    assert!(call.after(0).1, "it has ended");
    mesh.stop().await;
}

async fn finished(mesh: &Mesh, workflow: &str, inputs: serde_json::Value) -> RunView {
    let run = mesh.run(workflow, inputs).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    run
}

#[tokio::test]
async fn a_replay_needs_no_model_and_a_changed_prompt_is_the_first_difference() {
    let mesh = Mesh::in_memory().await;
    let models = give(&mesh);
    mesh.apply(INFER).await;
    mesh.apply(
        "name: outer\nsteps: [{id: c, workflow: ask, with: {q: deep}}, {id: w, needs: c, wait: 1ms}, {id: d, needs: w, decide: {title: Go?, options: [go, no], deadline: 1ms, default: go}}]",
    )
    .await;
    let run = finished(&mesh, "ask", json!({"q": "why"})).await;
    let outer = finished(&mesh, "outer", json!({})).await;
    let asked_before = models.calls.load(Ordering::SeqCst);
    for (run, steps, calls) in [(run.id, 2, 2), (outer.id, 3, 0)] {
        let replayed = mesh.engine.replay_run("default", run, None).await.unwrap();
        assert_eq!((replayed.difference, replayed.steps, replayed.model_calls), (None, steps, calls));
    }
    mesh.apply(&INFER.replace("Question:", "The question:")).await;
    let replayed = mesh.engine.replay_run("default", run.id, Some(2)).await.unwrap();
    let found = replayed.difference.unwrap();
    assert_eq!((found.step.as_str(), found.kind, found.place.as_str()), ("say", DifferenceKind::Prompt, "$.prompt"));
    assert_eq!((found.before.as_str(), found.after.as_str()), ("Question: why", "The question: why"));
    assert_eq!(models.calls.load(Ordering::SeqCst), asked_before, "nobody was asked");
    mesh.stop().await;
}

#[tokio::test]
async fn agents_replay_with_recorded_answers_and_a_new_call_is_a_miss() {
    let mesh = Mesh::in_memory().await;
    let models = give(&mesh);
    mesh.apply(AGENT).await;
    let run = mesh.start("work", json!({})).await.unwrap().id;
    let worker = mesh.worker("w", &["writer"], 4).await;
    let task = assigned(&worker).await.remove(0);
    let first = call(&mesh.engine, &task, asked(&["hello"])).await.unwrap().text();
    let more = call(&mesh.engine, &task, asked(&["hello", &first, "go on"])).await.unwrap().text();
    worker.send(consort_engine::FromWorker::Answers(vec![answer(&task, Ok(json!(more)))])).await.unwrap();
    mesh.end_of(run).await;
    let open = mesh.engine.replay_with_agents(&"default".into(), run, None, None).await.unwrap();
    assert_eq!(open.replay_of, Some(run));
    let task = assigned(&worker).await.remove(0);
    assert_eq!(call(&mesh.engine, &task, asked(&["hello"])).await.unwrap().text(), first);
    let miss = call(&mesh.engine, &task, asked(&["hello", &first, "stop"])).await.unwrap_err();
    assert_eq!((miss.kind, miss.reason), (Kind::FailedPrecondition, "REPLAY_MISS"));
    assert!(miss.message.contains("message 3 (user) was `go on` and is now `stop`"), "{}", miss.message);
    assert_eq!(call(&mesh.engine, &task, asked(&["hello", &first, "go on"])).await.unwrap().text(), more);
    let miss = call(&mesh.engine, &task, asked(&["hello"])).await.unwrap_err();
    assert!(miss.message.contains("more model calls than"), "{}", miss.message);
    assert_eq!(models.calls.load(Ordering::SeqCst), 2);
    mesh.stop().await;
}

#[tokio::test]
async fn two_runs_part_where_what_was_asked_differs() {
    let mesh = Mesh::in_memory().await;
    give(&mesh);
    mesh.apply(INFER).await;
    let one = finished(&mesh, "ask", json!({"q": "why"})).await.id;
    let other = finished(&mesh, "ask", json!({"q": "how"})).await.id;
    let compared = mesh.engine.diff_runs("default", one, other).await.unwrap();
    let told: Vec<(String, DifferenceKind)> = compared.differences.iter().map(|d| (d.step.clone(), d.kind)).collect();
    assert_eq!(told[0], (String::new(), DifferenceKind::Inputs));
    assert!(told.contains(&("say".to_owned(), DifferenceKind::Prompt)), "{told:?}");
    let prompt = compared.differences.iter().find(|d| d.kind == DifferenceKind::Prompt).unwrap();
    assert_eq!(prompt.place, "call 1, message 2 (user)");
    let same = mesh.engine.diff_runs("default", one, one).await.unwrap();
    assert_eq!(same.differences, []);
    mesh.stop().await;
}
