//! What a person can do with a run, and what a watcher sees of it, across a kill of the server.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use consort_proto::orchestrator::run_event::Fact;
use consort_proto::orchestrator::watch_run_response::Kind;
use consort_proto::orchestrator::{ListRunEventsRequest, ListRunsRequest, RunEvent, RunState, StepState};
use consort_sdk::{Client, Code, StartOptions, Task, TaskError, Worker};
use consort_testkit::{
    CHAIN, CHILD, FAN, FLAKY, Journal, Mesh, PARENT, Stored, check, eventually, next, output_of, serve, soon, steps_of,
};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// `next`, once the gate is open.
fn gated(gate: &Arc<Notify>) -> Worker {
    let gate = Arc::clone(gate);
    Worker::new("gated").slots(1).agent("next", move |task: Task| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            number_after(&task)
        }
    })
}

fn number_after(task: &Task) -> Result<Value, TaskError> {
    let input: Value = task.input()?;
    Ok(json!({"n": next(input["n"].as_u64().ok_or("`n` is not a number")?)}))
}

fn plain() -> Worker {
    Worker::new("plain").agent("next", |task: Task| async move { number_after(&task) })
}

async fn state_of(client: &Client, run: &str) -> RunState {
    client.get(run).await.unwrap().state()
}

async fn in_progress(client: &Client, run: &str, step: &str) {
    eventually("the step is in progress", || async {
        let run = client.get(run).await.ok()?;
        run.steps.iter().any(|s| s.step == step && s.state() == StepState::InProgress).then_some(())
    })
    .await;
}

async fn history(client: &Client, run: &str) -> Vec<RunEvent> {
    let request = ListRunEventsRequest { name: run.to_owned(), page_size: 1_000, ..Default::default() };
    client.orchestrator().list_run_events(request).await.unwrap().into_inner().events
}

#[tokio::test]
async fn a_paused_run_finishes_what_it_began_and_begins_nothing_until_it_is_resumed() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply(CHAIN).await.unwrap();
    let gate = Arc::new(Notify::new());
    let _worker = serve(&mesh, gated(&gate));
    let run = client.start("chain", &json!({"n": 1}), StartOptions::default()).await.unwrap().name;
    in_progress(&client, &run, "one").await;
    assert_eq!(client.pause(&run, "lunch").await.unwrap().state(), RunState::Paused);
    let paused = client.pause(&run, "again").await.unwrap();
    gate.notify_one();
    eventually("what was in progress is recorded", || async {
        let run = client.get(&run).await.ok()?;
        (run.steps[0].state() == StepState::Done).then_some(())
    })
    .await;
    // The pause is on record, so a kill does not end it.
    mesh.kill();
    mesh.restart().await;
    let run_now = client.get(&run).await.unwrap();
    assert_eq!(run_now.state(), RunState::Paused);
    assert_eq!(steps_of(&run_now)[1], ("two", StepState::Created));
    let pauses =
        history(&client, &run).await.into_iter().filter(|e| matches!(e.fact, Some(Fact::RunPaused(_)))).count();
    assert_eq!((pauses, paused.state()), (1, RunState::Paused), "pausing a paused run changes nothing");
    client.resume(&run).await.unwrap();
    in_progress(&client, &run, "two").await;
    gate.notify_one();
    in_progress(&client, &run, "three").await;
    gate.notify_one();
    let ended = client.wait(&run, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!(output_of(&ended), json!(next(next(next(1)))));
    let refused = client.pause(&run, "too late").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_cancelled_run_reaches_its_worker_and_its_children() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply(CHILD).await.unwrap();
    client.apply(PARENT).await.unwrap();
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    let worker = Worker::new("patient").agent("next", move |task: Task| {
        let tell = Arc::clone(&tell);
        async move {
            task.cancelled().await;
            tell.store(true, Ordering::SeqCst);
            Ok(())
        }
    });
    let _worker = serve(&mesh, worker);
    let run = client.start("parent", &json!({"n": 1}), StartOptions::default()).await.unwrap().name;
    let child = eventually("the child's step is in progress", || async {
        let runs = client.orchestrator().list_runs(ListRunsRequest::default()).await.ok()?.into_inner().runs;
        let child = runs.into_iter().find(|found| found.parent == run)?.name;
        let steps = client.get(&child).await.ok()?.steps;
        (steps[0].state() == StepState::InProgress).then_some(child)
    })
    .await;
    assert_eq!(client.cancel(&run, "changed my mind").await.unwrap().state(), RunState::Cancelled);
    let below = client.wait(&child, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!((below.state(), steps_of(&below)), (RunState::Cancelled, vec![("only", StepState::Cancelled)]));
    eventually("the worker is told", || async { told.load(Ordering::SeqCst).then_some(()) }).await;
    assert_eq!(client.cancel(&run, "again").await.unwrap().state(), RunState::Cancelled);
    assert_eq!(client.resume(&run).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_failed_run_goes_on_from_its_failed_step_after_a_kill() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply("name: two\nsteps:\n  - {id: a, agent: next, with: {n: 1}}\n  - {id: b, agent: shaky, needs: [a], with: {n: \"${{ steps.a.output.n }}\"}}\noutput: \"${{ steps.b.output.n }}\"\n").await.unwrap();
    let broken = Arc::new(AtomicBool::new(true));
    let look = Arc::clone(&broken);
    let worker =
        plain().agent("shaky", move |task: Task| {
            let broken = look.load(Ordering::SeqCst);
            async move {
                if broken { Err(TaskError::new(Code::InvalidArgument, "out of paper")) } else { number_after(&task) }
            }
        });
    let _worker = serve(&mesh, worker);
    let options = StartOptions { wait: Some(Duration::from_secs(20)), ..Default::default() };
    let failed = client.start("two", &json!({}), options).await.unwrap();
    assert_eq!(failed.state(), RunState::Failed);
    assert_eq!(failed.error.as_ref().map(|error| error.code), Some(Code::InvalidArgument as i32));
    mesh.kill();
    mesh.restart().await;
    broken.store(false, Ordering::SeqCst);
    client.retry(&failed.name).await.unwrap();
    let ended = client.wait(&failed.name, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!((ended.state(), output_of(&ended)), (RunState::Succeeded, json!(next(next(1)))));
    let results = |step: &str, events: &[RunEvent]| {
        events.iter().filter(|e| e.step == step && matches!(e.fact, Some(Fact::StepSucceeded(_)))).count()
    };
    let events = history(&client, &failed.name).await;
    assert_eq!((results("a", &events), results("b", &events)), (1, 1), "what was done is not done again");
    assert_eq!(client.retry(&failed.name).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn attempts_items_and_children_end_with_the_right_results() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    for definition in [FAN, FLAKY, CHILD, PARENT] {
        client.apply(definition).await.unwrap();
    }
    let worker = plain().agent("flaky", |task: Task| async move {
        if task.attempt() < 3 { Err(TaskError::new(Code::Unavailable, "not yet")) } else { number_after(&task) }
    });
    let _worker = serve(&mesh, worker);
    let run = async |workflow: &str, inputs: Value| {
        let run = client.start(workflow, &inputs, StartOptions::default()).await.unwrap();
        client.wait(&run.name, Some(Duration::from_secs(20))).await.unwrap()
    };
    let fan = run("fan", json!({"list": [1, 2, 3, 4, 5]})).await;
    let each: Vec<Value> = (1..=5).map(|n| json!({"n": next(n)})).collect();
    assert_eq!(output_of(&fan), json!(each));
    assert_eq!((fan.steps[0].items, fan.steps[0].items_over), (5, 5));
    let flaky = run("flaky", json!({"n": 5})).await;
    assert_eq!((output_of(&flaky), flaky.steps[0].attempt), (json!(next(5)), 3));
    assert_eq!(output_of(&run("parent", json!({"n": 9})).await), json!(next(next(9))));
}

#[tokio::test]
async fn a_wait_survives_a_kill_and_a_signal_is_on_record() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply("name: nap\nsteps:\n  - {id: rest, wait: 1500ms}\n  - {id: up, needs: [rest], set: awake}\noutput: \"${{ steps.up.output }}\"\n").await.unwrap();
    let run = client.start("nap", &json!({}), StartOptions::default()).await.unwrap();
    client.signal(&run.name, "hurry", &json!({"please": true})).await.unwrap();
    assert_eq!(state_of(&client, &run.name).await, RunState::Waiting);
    mesh.kill();
    mesh.restart().await;
    let ended = client.wait(&run.name, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!(output_of(&ended), json!("awake"));
    let events = history(&client, &run.name).await;
    let at = |wanted: fn(&Fact) -> bool| {
        let event = events.iter().find(|event| event.fact.as_ref().is_some_and(wanted)).unwrap();
        let time = event.time.unwrap();
        time.seconds * 1_000 + i64::from(time.nanos / 1_000_000)
    };
    let (begun, over) =
        (at(|fact| matches!(fact, Fact::WaitStarted(_))), at(|fact| matches!(fact, Fact::RunSucceeded(_))));
    assert!(over - begun >= 1_500, "it slept {} ms", over - begun);
    assert!(events.iter().any(|e| matches!(&e.fact, Some(Fact::SignalReceived(s)) if s.signal == "hurry")));
    assert_eq!(client.signal(&run.name, "late", &json!({})).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_watcher_misses_nothing_and_sees_nothing_twice_across_a_kill() {
    let mut mesh = Mesh::with(&["--lease-ttl-ms", "1000"]).await;
    let client = mesh.client();
    client.apply(CHAIN).await.unwrap();
    let gate = Arc::new(Notify::new());
    let _worker = serve(&mesh, gated(&gate));
    let run = client.start("chain", &json!({"n": 1}), StartOptions::default()).await.unwrap().name;
    let mut news = std::pin::pin!(client.watch(&run, 0));
    let mut seen = Vec::new();
    // The worker holds the second step when the server dies, and answers it to the server's next life.
    while !seen.iter().any(|e: &RunEvent| e.step == "two" && matches!(e.fact, Some(Fact::StepLeased(_)))) {
        let Some(Kind::Event(event)) = soon(news.next()).await.unwrap().unwrap().kind else { continue };
        if matches!(event.fact, Some(Fact::StepLeased(_))) && event.step == "one" {
            gate.notify_one();
        }
        seen.push(event);
    }
    mesh.kill();
    mesh.restart().await;
    gate.notify_one();
    while let Some(news) = soon(news.next()).await {
        let Some(Kind::Event(event)) = news.unwrap().kind else { continue };
        if matches!(event.fact, Some(Fact::StepLeased(_))) {
            gate.notify_one();
        }
        seen.push(event);
    }
    let numbers: Vec<i64> = seen.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, (1..=seen.len() as i64).collect::<Vec<_>>());
    assert_eq!(seen, history(&client, &run).await, "what was shown is what is stored");
    assert!(matches!(seen.last().unwrap().fact, Some(Fact::RunSucceeded(_))));
    let rest: Vec<_> = client.watch(&run, 5).collect().await;
    assert_eq!(rest.len(), seen.len() - 5, "a watcher that comes late gets the rest");
}

#[tokio::test]
async fn a_run_that_fails_again_at_once_is_listed_as_it_is() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply("name: zero\nsteps:\n  - {id: a, set: \"${{ 1 / 0 }}\"}\n").await.unwrap();
    let run = client.start("zero", &json!({}), StartOptions::default()).await.unwrap().name;
    let first = client.wait(&run, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!(first.state(), RunState::Failed);
    client.retry(&run).await.unwrap();
    let second = client.wait(&run, Some(Duration::from_secs(20))).await.unwrap();
    assert!(second.sequence > first.sequence && second.end_time != first.end_time, "{second:?}");
    let listed = client.orchestrator().list_runs(ListRunsRequest::default()).await.unwrap().into_inner().runs.remove(0);
    assert_eq!((listed.sequence, listed.end_time), (second.sequence, second.end_time));
    mesh.stop().await;
    let report = check(&Journal::default().seen(), &Stored::read(&mesh.data()).await);
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}
