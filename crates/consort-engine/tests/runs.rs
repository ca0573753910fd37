//! What a run does, seen through the engine's handle.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::*;
use consort_core::event::Code;
use consort_core::run::{RunState, StepState};
use consort_engine::{Answer, FromWorker, Options, RequestId, RunCommand};
use serde_json::json;

const CHAIN: &str = r#"
name: chain
inputs:
  n: {type: integer, default: 1}
steps:
  - {id: first, agent: echo, with: {n: "${{ inputs.n }}"}}
  - {id: second, agent: echo, needs: first, with: {n: "${{ steps.first.output.n + 1 }}"}}
output: "${{ steps.second.output.n }}"
"#;

#[tokio::test]
async fn a_chain_runs_in_order_and_yields_its_output() {
    let mesh = Mesh::in_memory().await;
    mesh.apply(CHAIN).await;
    mesh.scripted(&["echo"], 64, |task| Ok(value(&task.input))).await;
    let view = mesh.run("chain", json!({"n": 4})).await;
    assert_eq!(output(&view), json!(5));
    assert_eq!(
        mesh.history(view.id).await,
        [
            "RUN.STARTED",
            "STEP.SCHEDULED first",
            "STEP.LEASED first",
            "STEP.SUCCEEDED first",
            "STEP.SCHEDULED second",
            "STEP.LEASED second",
            "STEP.SUCCEEDED second",
            "RUN.SUCCEEDED",
        ]
    );
    mesh.stop().await;
}

#[tokio::test]
async fn inputs_are_checked_before_anything_begins() {
    let mesh = Mesh::in_memory().await;
    mesh.apply(CHAIN).await;
    let error = mesh.start("chain", json!({"n": "four", "m": 1})).await.unwrap_err();
    let fields: Vec<&str> = error.violations.iter().map(|v| v.field.as_str()).collect();
    assert!(fields.contains(&"inputs.n") && fields.contains(&"inputs.m"), "{error:?}");
    assert_eq!(mesh.start("nothing", json!({})).await.unwrap_err().reason, "NOT_FOUND");
}

#[tokio::test]
async fn items_run_in_parallel_within_their_limit() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: fan\ninputs: {list: {type: array}}\nsteps:\n  - {id: each, agent: echo, for_each: '${{ inputs.list }}', max_parallel: 2, with: {i: '${{ item }}', n: '${{ index }}'}}\n").await;
    let session = mesh.worker("w", &["echo"], 10).await;
    let run = mesh.start("fan", json!({"list": [10, 20, 30]})).await.unwrap();
    let first = assigned(&session).await;
    assert_eq!(first.len(), 2);
    let answers = first.iter().map(|a| answer(a, Ok(value(&a.input)))).collect();
    session.send(FromWorker::Answers(answers)).await.unwrap();
    let second = assigned(&session).await;
    assert_eq!(second.len(), 1);
    session.send(FromWorker::Answers(vec![answer(&second[0], Ok(value(&second[0].input)))])).await.unwrap();
    let view = mesh.end_of(run.id).await;
    assert_eq!(output(&view), json!([{"i": 10, "n": 0}, {"i": 20, "n": 1}, {"i": 30, "n": 2}]));
}

#[tokio::test]
async fn an_empty_for_each_yields_an_empty_list() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: fan\nsteps:\n  - {id: each, agent: echo, for_each: []}\n").await;
    assert_eq!(output(&mesh.run("fan", json!({})).await), json!([]));
}

#[tokio::test]
async fn skipped_steps_skip_what_needs_them_unless_it_asks() {
    let mesh = Mesh::in_memory().await;
    mesh.apply(
        "name: skip\nsteps:\n  - {id: a, set: 1, if: 'false'}\n  - {id: b, set: 2, needs: a}\n  - {id: c, set: 3, needs: b, if: \"steps.b.status == 'skipped'\"}\noutput: '${{ steps.c.output }}'\n",
    )
    .await;
    let view = mesh.run("skip", json!({})).await;
    assert_eq!(output(&view), json!(3));
    let states: Vec<StepState> = view.steps.iter().map(|s| s.state).collect();
    assert_eq!(states, [StepState::Skipped, StepState::Skipped, StepState::Done]);
}

#[tokio::test]
async fn a_failed_attempt_is_repeated_and_then_the_run_fails_and_can_be_retried() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: r\nsteps:\n  - {id: a, set: 1}\n  - {id: b, agent: flaky, needs: a, retry: {max: 2, backoff: 1ms}}\noutput: '${{ steps.b.output }}'\n").await;
    let calls = AtomicU32::new(0);
    mesh.scripted(&["flaky"], 64, move |task| {
        let attempt = task.lease.attempt;
        if calls.fetch_add(1, Ordering::SeqCst) < 3 {
            Err(failure(Code::Unavailable, "not yet"))
        } else {
            Ok(json!(attempt))
        }
    })
    .await;
    let view = mesh.run("r", json!({})).await;
    assert_eq!(view.state, RunState::Failed);
    assert_eq!(view.error.as_ref().unwrap().message, "step `b`: not yet");
    let view = mesh.engine.command("default", view.id, RunCommand::Retry, None).await.unwrap();
    assert!(!view.state.is_over());
    let view = mesh.end_of(view.id).await;
    // Two attempts in the first life, one failed and one good in the second.
    assert_eq!(output(&view), json!(4));
    let error = mesh.engine.command("default", view.id, RunCommand::Retry, None).await.unwrap_err();
    assert_eq!(error.reason, "WRONG_STATE");
}

#[tokio::test]
async fn an_error_that_cannot_pass_is_not_repeated() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: r\nsteps:\n  - {id: b, agent: bad, retry: {max: 5, backoff: 1ms}}\n").await;
    mesh.scripted(&["bad"], 64, |_| Err(failure(Code::InvalidArgument, "field `x` is missing"))).await;
    let view = mesh.run("r", json!({})).await;
    assert_eq!((view.state, view.steps[0].attempt), (RunState::Failed, 1));
}

#[tokio::test]
async fn a_decision_waits_survives_a_crash_and_is_answered_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(consort_store::SqliteStore::open(folder.path()).await.unwrap());
    let mesh = Mesh::over(store, Options::default()).await;
    mesh.apply("name: d\nsteps:\n  - {id: ask, decide: {title: 'Go on?', options: ['yes', 'no']}}\noutput: '${{ steps.ask.output.option }}'\n").await;
    let run = mesh.start("d", json!({})).await.unwrap();
    assert_eq!(run.state, RunState::Waiting);
    let mesh = mesh.crash(Options::default()).await;
    let open = mesh.heard.decisions.lock().unwrap().len();
    assert_eq!(open, 0, "nothing happens twice");
    let query = consort_core::ports::DecisionQuery {
        namespace: "default".into(),
        run: Some(run.id),
        state: None,
        kind: None,
        project: None,
        before: None,
        limit: 10,
    };
    let decision = mesh.store.decisions(&query).await.unwrap().remove(0);
    let reply = |option: &str| consort_engine::AnswerDecision {
        namespace: "default".into(),
        id: decision.id,
        option: option.into(),
        form: None,
        by: "ada".into(),
        request: None,
    };
    assert_eq!(mesh.engine.answer(reply("maybe")).await.unwrap_err().violations[0].field, "option");
    let closed = mesh.engine.answer(reply("yes")).await.unwrap();
    assert_eq!((closed.option.as_deref(), closed.answered_by.as_deref()), (Some("yes"), Some("ada")));
    assert_eq!(output(&mesh.end_of(run.id).await), json!("yes"));
    mesh.engine.answer(reply("yes")).await.unwrap();
    assert_eq!(mesh.engine.answer(reply("no")).await.unwrap_err().reason, "DECISION_CLOSED");
}

#[tokio::test]
async fn a_deadline_answers_with_the_default() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: d\nsteps:\n  - {id: ask, decide: {title: t, options: [a, b], deadline: 20ms, default: b}}\n")
        .await;
    let view = mesh.run("d", json!({})).await;
    assert_eq!(output(&view), json!({"option": "b", "form": null, "answered_by": "deadline"}));
}

#[tokio::test]
async fn waits_survive_a_crash() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: w\nsteps:\n  - {id: nap, wait: 300ms}\n").await;
    let run = mesh.start("w", json!({})).await.unwrap();
    assert_eq!(run.state, RunState::Waiting);
    let mesh = mesh.crash(Options::default()).await;
    let view = mesh.end_of(run.id).await;
    assert_eq!(view.state, RunState::Succeeded);
    assert!(view.ended_at.unwrap() - view.created_at >= 300);
}

#[tokio::test]
async fn children_run_and_are_cancelled_with_their_parent() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: child\ninputs: {n: {type: integer}}\nsteps:\n  - {id: a, agent: echo, with: {n: '${{ inputs.n }}'}}\noutput: '${{ steps.a.output.n * 2 }}'\n").await;
    mesh.apply("name: parent\nsteps:\n  - {id: kids, workflow: child, for_each: [1, 2], with: {n: '${{ item }}'}}\noutput: '${{ steps.kids.output }}'\n").await;
    let session = mesh.worker("w", &["echo"], 10).await;
    let run = mesh.start("parent", json!({})).await.unwrap();
    let tasks = assigned(&session).await;
    assert_eq!(tasks.len(), 2);
    let answers: Vec<Answer> = tasks.iter().map(|a| answer(a, Ok(value(&a.input)))).collect();
    session.send(FromWorker::Answers(answers)).await.unwrap();
    assert_eq!(output(&mesh.end_of(run.id).await), json!([2, 4]));

    let run = mesh.start("parent", json!({})).await.unwrap();
    let tasks = assigned(&session).await;
    mesh.engine.command("default", run.id, RunCommand::Cancel { reason: "enough".into() }, None).await.unwrap();
    for task in &tasks {
        assert_eq!(mesh.end_of(task.lease.run).await.state, RunState::Cancelled);
    }
    let late = answer(&tasks[0], Ok(json!(1)));
    let error = mesh.engine.answer_task("default", late).await.unwrap_err();
    assert_eq!(error.reason, "LEASE_LOST");
}

#[tokio::test]
async fn a_paused_run_begins_nothing_and_keeps_what_is_answered() {
    let mesh = Mesh::in_memory().await;
    mesh.apply(CHAIN).await;
    let session = mesh.worker("w", &["echo"], 1).await;
    let run = mesh.start("chain", json!({})).await.unwrap();
    let task = assigned(&session).await.remove(0);
    let pause = RunCommand::Pause { reason: "lunch".into() };
    let view = mesh.engine.command("default", run.id, pause, None).await.unwrap();
    assert_eq!(view.state, RunState::Paused);
    mesh.engine.answer_task("default", answer(&task, Ok(json!({"n": 1})))).await.unwrap();
    let view = mesh.engine.run("default", run.id).await.unwrap();
    assert_eq!((view.steps[0].state, view.steps[1].state), (StepState::Done, StepState::Created));
    mesh.engine.command("default", run.id, RunCommand::Resume, None).await.unwrap();
    let task = assigned(&session).await.remove(0);
    mesh.engine.answer_task("default", answer(&task, Ok(json!({"n": 9})))).await.unwrap();
    assert_eq!(output(&mesh.end_of(run.id).await), json!(9));
}

#[tokio::test]
async fn a_lost_worker_loses_its_task_and_its_late_answer() {
    let mesh = Mesh::over(
        std::sync::Arc::new(consort_store::MemoryStore::default()),
        Options { lease_ttl: Duration::from_millis(600), ..Options::default() },
    )
    .await;
    mesh.apply("name: one\nsteps:\n  - {id: a, agent: echo}\n").await;
    let silent = mesh.worker("silent", &["echo"], 1).await;
    let run = mesh.start("one", json!({})).await.unwrap();
    let old = assigned(&silent).await.remove(0);
    let other = mesh.worker("other", &["echo"], 1).await;
    let new = assigned(&other).await.remove(0);
    assert_eq!((new.lease.attempt, &new.lease.step), (old.lease.attempt, &old.lease.step));
    assert!(new.lease.token > old.lease.token, "fencing tokens grow");
    let refused = mesh.engine.answer_task("default", answer(&old, Ok(json!("old")))).await.unwrap_err();
    assert_eq!(refused.reason, "LEASE_LOST");
    mesh.engine.answer_task("default", answer(&new, Ok(json!("new")))).await.unwrap();
    // The same answer again is acknowledged, and changes nothing.
    mesh.engine.answer_task("default", answer(&new, Ok(json!("again")))).await.unwrap();
    assert_eq!(output(&mesh.end_of(run.id).await), json!("new"));
}

#[tokio::test]
async fn a_worker_that_comes_back_keeps_its_leases_even_over_a_crash_of_the_server() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: one\nsteps:\n  - {id: a, agent: echo}\n").await;
    let session = mesh.worker("w", &["echo"], 1).await;
    let run = mesh.start("one", json!({})).await.unwrap();
    let task = assigned(&session).await.remove(0);
    drop(session);
    let mesh = mesh.crash(Options::default()).await;
    let session = mesh.worker("w", &["echo"], 1).await;
    assert_eq!(session.resumed, vec![task.lease.clone()]);
    session.send(FromWorker::Answers(vec![answer(&task, Ok(json!("kept")))])).await.unwrap();
    assert_eq!(output(&mesh.end_of(run.id).await), json!("kept"));
    // Another life of the same worker takes its place at once.
    let run = mesh.start("one", json!({})).await.unwrap();
    assigned(&session).await;
    let reborn = mesh.engine.attach(hello("w", "w-2", &["echo"], 1)).await.unwrap();
    let task = assigned(&reborn).await.remove(0);
    mesh.engine.answer_task("default", answer(&task, Ok(json!("reborn")))).await.unwrap();
    assert_eq!(output(&mesh.end_of(run.id).await), json!("reborn"));
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_cancelled_and_repeated() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: slow\nsteps:\n  - {id: a, agent: echo, timeout: 50ms, retry: {max: 2, backoff: 1ms}}\n").await;
    let session = mesh.worker("w", &["echo"], 1).await;
    let run = mesh.start("slow", json!({})).await.unwrap();
    let first = assigned(&session).await.remove(0);
    let mut cancelled = Vec::new();
    let second = loop {
        let work = session.next().await;
        cancelled.extend(work.cancels);
        if let Some(task) = work.assignments.into_iter().next() {
            break task;
        }
    };
    assert_eq!(cancelled[0].lease, first.lease);
    assert_eq!(second.lease.attempt, 2);
    mesh.engine.answer_task("default", answer(&second, Ok(json!("in time")))).await.unwrap();
    assert_eq!(output(&mesh.end_of(run.id).await), json!("in time"));
}

#[tokio::test]
async fn a_request_id_starts_one_run() {
    let mesh = Mesh::in_memory().await;
    mesh.apply(CHAIN).await;
    let once = |fingerprint: u8| consort_engine::StartRun {
        request: Some(RequestId { id: "once".into(), fingerprint: [fingerprint; 16] }),
        ..request("chain", json!({}))
    };
    let (a, b) = tokio::join!(mesh.engine.start_run(once(1), None), mesh.engine.start_run(once(1), None));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.id, b.id);
    let mesh = mesh.crash(Options::default()).await;
    assert_eq!(mesh.engine.start_run(once(1), None).await.unwrap().id, a.id);
    assert_eq!(mesh.engine.start_run(once(2), None).await.unwrap_err().reason, "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn large_values_become_blobs_and_expressions_still_see_them() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: big\nsteps:\n  - {id: a, agent: big}\n  - {id: b, agent: echo, needs: a, with: {n: '${{ size(steps.a.output.list) }}', whole: '${{ steps.a.output.list }}'}}\noutput: '${{ steps.b.output.n }}'\n").await;
    mesh.scripted(&["big", "echo"], 64, |task| {
        if &*task.agent == "big" {
            return Ok(json!({"list": vec!["0123456789"; 10_000]}));
        }
        assert!(matches!(task.input, consort_core::Data::Blob(_)), "the input is large");
        Ok(json!({"n": 10_000}))
    })
    .await;
    let view = mesh.run("big", json!({})).await;
    assert_eq!(output(&view), json!(10_000));
    let longest = mesh.store.records_after(view.id, 0, 100).await.unwrap().iter().map(|r| r.body.len()).max().unwrap();
    assert!(longest < 10_000, "the history holds references, not values: {longest}");
}

#[tokio::test]
async fn a_thousand_items_and_a_snapshot_replay_to_the_same_state() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: fan\ninputs: {list: {type: array}}\nsteps:\n  - {id: each, agent: echo, for_each: '${{ inputs.list }}', with: {i: '${{ item }}'}}\n  - {id: nap, decide: {title: t, options: [a]}, needs: each}\n").await;
    mesh.scripted(&["echo"], 64, |task| Ok(value(&task.input))).await;
    let list: Vec<u32> = (0..1_000).collect();
    let run = mesh.start("fan", json!({"list": list})).await.unwrap();
    let before = mesh.until(run.id, |view| view.state == RunState::Waiting).await;
    assert!(mesh.store.load(run.id).await.unwrap().unwrap().snapshot.is_some());
    let mesh = mesh.crash(Options::default()).await;
    let after = mesh.engine.run("default", run.id).await.unwrap();
    assert_eq!((before.sequence, before.state, before.updated_at), (after.sequence, after.state, after.updated_at));
    for (a, b) in before.steps.iter().zip(&after.steps) {
        assert_eq!(format!("{a:?}"), format!("{b:?}"));
    }
}

#[tokio::test]
async fn unary_workers_lease_renew_and_answer() {
    let mesh = Mesh::in_memory().await;
    mesh.apply(CHAIN).await;
    let poll = || consort_engine::Hello { slots: BTreeMap::default(), ..hello("poller", "s1", &["echo"], 0) };
    let (none, _) = mesh.engine.lease_tasks(poll(), 5, Duration::from_millis(10)).await.unwrap();
    assert!(none.is_empty());
    let run = mesh.start("chain", json!({})).await.unwrap();
    let (tasks, _) = mesh.engine.lease_tasks(poll(), 5, WAIT).await.unwrap();
    assert_eq!(tasks.len(), 1);
    let (held, cancels) = mesh.engine.renew_leases("default", "poller", "s1", vec![]).await.unwrap();
    assert_eq!((held, cancels.len()), (vec![tasks[0].lease.clone()], 0));
    mesh.engine.answer_task("default", answer(&tasks[0], Ok(json!({"n": 1})))).await.unwrap();
    let (tasks, _) = mesh.engine.lease_tasks(poll(), 5, WAIT).await.unwrap();
    mesh.engine.answer_task("default", answer(&tasks[0], Ok(json!({"n": 2})))).await.unwrap();
    assert_eq!(output(&mesh.end_of(run.id).await), json!(2));
}

/// No waiting run stays in memory.
async fn forgetful() -> Mesh {
    let options = Options { idle_runs: 0, ..Options::default() };
    Mesh::over(std::sync::Arc::new(consort_store::MemoryStore::default()), options).await
}

#[tokio::test]
async fn runs_that_left_memory_come_back_for_children_signals_and_answers() {
    let mesh = forgetful().await;
    mesh.apply("name: child\nsteps:\n  - {id: a, agent: echo}\n").await;
    mesh.apply(
        "name: parent\nsteps:\n  - {id: kid, workflow: child}\n  - {id: ask, needs: kid, decide: {title: t, options: [go]}}\noutput: '${{ [steps.kid.output, steps.ask.output.option] }}'\n",
    )
    .await;
    let session = mesh.worker("w", &["echo"], 4).await;
    let run = mesh.start("parent", json!({})).await.unwrap();
    let task = assigned(&session).await.remove(0);
    assert_ne!(task.lease.run, run.id);
    mesh.engine.answer_task("default", answer(&task, Ok(json!(7)))).await.unwrap();
    mesh.until(run.id, |view| view.steps[1].state == StepState::Blocked).await;
    let signal = RunCommand::Signal { signal: "hint".into(), payload: consort_core::Data::of(&json!(1)) };
    mesh.engine.command("default", run.id, signal, None).await.unwrap();
    let decision = run.id.decision(&"ask".parse().unwrap(), 1);
    let reply = consort_engine::AnswerDecision {
        namespace: "default".into(),
        id: decision,
        option: "go".into(),
        form: None,
        by: "ada".into(),
        request: None,
    };
    let (_, end) = tokio::join!(mesh.engine.answer(reply), mesh.end_of(run.id));
    assert_eq!(output(&end), json!([7, "go"]));
}

#[tokio::test]
async fn a_parent_hears_of_a_child_that_ended_before_a_crash() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: child\nsteps:\n  - {id: a, agent: echo}\n").await;
    mesh.apply("name: parent\nsteps:\n  - {id: kid, workflow: child}\noutput: '${{ steps.kid.output }}'\n").await;
    let session = mesh.worker("w", &["echo"], 4).await;
    let run = mesh.start("parent", json!({})).await.unwrap();
    let task = assigned(&session).await.remove(0);
    let child = task.lease.run;
    // The child's end reaches the store, as a server would write it that died before the parent was told.
    let mut rebuilt = {
        let stored = mesh.store.load(child).await.unwrap().unwrap();
        let (_, definition) = mesh.engine.workflow("default", "child", None).await.unwrap();
        (
            consort_core::run::Run::replay(child, definition, &stored.records).unwrap(),
            stored.records.last().unwrap().clone(),
        )
    };
    let mesh_store = mesh.store.clone();
    let mesh = {
        let (blobs, workflows) = Default::default();
        let cx = consort_core::run::Context { now: 1, chance: 0.5, blobs: &blobs, workflows: &workflows };
        let command = consort_core::run::Command::Complete {
            step: task.lease.step.clone(),
            token: task.lease.token,
            output: consort_core::Data::of(&json!("done")),
        };
        let transition = rebuilt.0.decide(command, &cx).unwrap();
        let body = serde_json::to_vec(&transition.entries).unwrap();
        let last = rebuilt.1;
        let record = consort_core::event::Record {
            sequence: last.last_sequence() + 1,
            count: transition.entries.len() as u32,
            hash: consort_core::event::chain(&last.hash, &body),
            body,
            ..last
        };
        let first_position = mesh_store.last_position().await.unwrap() + 1;
        let updated = vec![consort_core::ports::RunUpdate {
            id: child,
            state: RunState::Succeeded,
            updated_at: 1,
            ended_at: Some(1),
            wake_at: None,
            error: None,
        }];
        let log = vec![consort_core::ports::LogRow::Run(record)];
        let batch =
            consort_core::ports::Batch { first_position, log, updated, wake: vec![(run.id, 1)], ..Default::default() };
        mesh_store.commit(batch.into()).await.unwrap();
        mesh.crash(Options::default()).await
    };
    assert_eq!(output(&mesh.end_of(run.id).await), json!("done"));
}
