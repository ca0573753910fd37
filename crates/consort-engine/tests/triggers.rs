//! What starts runs by itself: events, signals and schedules, exactly once, across crashes.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::*;
use consort_core::event::{Published, Trigger};
use consort_core::ports::{LogRow, Mark, MarkStore, RunQuery, RunRow};
use consort_core::run::RunState;
use consort_core::signal::{Impact, Route, Signal, Urgency};
use consort_core::{Data, Error};
use consort_engine::{CreateProject, Options, RaiseSignal, RequestId};
use consort_store::MemoryStore;
use serde_json::{Value, json};
use uuid::Uuid;

const ON_ORDER: &str = r#"
name: on-order
on: {event: {type: ORDER.*, if: "${{ event.payload.amount > 10 }}", inputs: {order: "${{ event.payload.order_id }}", type: "${{ event.type }}"}}}
inputs: {order: {type: string}, type: {type: string}}
steps: [{id: note, set: "${{ inputs.type + ' ' + inputs.order }}"}]
"#;

fn event(event_type: &str, payload: &Value) -> Published {
    let event_id = Uuid::now_v7();
    Published {
        event_id,
        event_type: event_type.into(),
        event_version: 1,
        timestamp: 1_000,
        source: "test".into(),
        instance: "test".into(),
        correlation_id: event_id,
        causation_id: None,
        namespace: "default".into(),
        subject: String::new(),
        payload: Data::of(payload),
        depth: 0,
    }
}

async fn runs_of(mesh: &Mesh, workflow: &str) -> Vec<RunRow> {
    let query = RunQuery {
        namespace: "default".into(),
        workflow: Some(workflow.into()),
        states: vec![],
        project: None,
        before: None,
        limit: 1_000,
    };
    mesh.store.runs(&query).await.unwrap()
}

/// Waits until a workflow has so many runs, and all are over.
async fn until_over(mesh: &Mesh, workflow: &str, count: usize) -> Vec<RunRow> {
    let patience = tokio::time::Instant::now() + WAIT;
    loop {
        let rows = runs_of(mesh, workflow).await;
        if rows.len() >= count && rows.iter().all(|row| row.state.is_over()) {
            return rows;
        }
        assert!(tokio::time::Instant::now() < patience, "{} of {count} runs of {workflow}: {rows:?}", rows.len());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn events_of(mesh: &Mesh, prefix: &str) -> Vec<Published> {
    let rows = mesh.heard.rows.lock().unwrap();
    let published = rows.iter().filter_map(|row| match row {
        LogRow::Published(event) if event.event_type.starts_with(prefix) => Some(event.clone()),
        _ => None,
    });
    published.collect()
}

#[tokio::test]
async fn an_event_starts_the_workflows_that_want_it() {
    let mesh = Mesh::in_memory().await;
    mesh.apply(ON_ORDER).await;
    let wanted = event("ORDER.VALIDATED", &json!({"order_id": "17", "amount": 20}));
    let cheap = event("ORDER.VALIDATED", &json!({"order_id": "18", "amount": 5}));
    let other = event("WORK.DONE", &json!({"amount": 100}));
    mesh.engine.publish(vec![cheap, other, wanted.clone()]).await.unwrap();
    let rows = until_over(&mesh, "on-order", 1).await;
    let view = mesh.engine.run("default", rows[0].id).await.unwrap();
    assert_eq!(output(&view), json!("ORDER.VALIDATED 17"));
    let cause = view.cause.unwrap();
    let expected = Trigger::Event { event_id: wanted.event_id, event_type: "ORDER.VALIDATED".into() };
    assert_eq!((cause.trigger, cause.depth), (expected, 1));
    mesh.stop().await;
}

#[tokio::test]
async fn an_event_that_gives_bad_inputs_is_a_dead_letter_that_says_why() {
    let mesh = Mesh::in_memory().await;
    mesh.apply(ON_ORDER).await;
    mesh.engine.publish(vec![event("ORDER.X", &json!({"order_id": 17, "amount": 20}))]).await.unwrap();
    let patience = tokio::time::Instant::now() + WAIT;
    let letters = loop {
        let letters = mesh.store.dead_letters("default", None, 10).await.unwrap();
        if !letters.is_empty() {
            break letters;
        }
        assert!(tokio::time::Instant::now() < patience);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert!(letters[0].reason.contains("on-order") && letters[0].reason.contains("inputs.order"), "{letters:?}");
    assert!(runs_of(&mesh, "on-order").await.is_empty());
    mesh.stop().await;
}

#[tokio::test]
async fn every_event_fires_once_whatever_crashes() {
    let mut mesh = Mesh::in_memory().await;
    mesh.apply(ON_ORDER).await;
    let mut published = 0;
    for round in 0..8 {
        let events = (0..25).map(|n| event("ORDER.X", &json!({"order_id": format!("{round}-{n}"), "amount": 11})));
        mesh.engine.publish(events.collect()).await.unwrap();
        published += 25;
        mesh = mesh.crash(Options::default()).await;
    }
    let rows = until_over(&mesh, "on-order", published).await;
    // Nothing more comes.
    mesh.engine.publish(vec![event("OTHER", &json!({}))]).await.unwrap();
    mesh.apply("name: last\non: {event: {type: LAST}}\nsteps: [{id: a, set: 1}]").await;
    mesh.engine.publish(vec![event("LAST", &json!({}))]).await.unwrap();
    until_over(&mesh, "last", 1).await;
    assert_eq!((rows.len(), runs_of(&mesh, "on-order").await.len()), (published, published));
    let mut orders = Vec::new();
    for row in rows {
        let view = mesh.engine.run("default", row.id).await.unwrap();
        orders.push(value(&view.inputs)["order"].as_str().unwrap().to_owned());
    }
    orders.sort();
    orders.dedup();
    assert_eq!(orders.len(), published, "each order once");
    mesh.stop().await;
}

#[tokio::test]
async fn a_chain_of_triggered_runs_comes_to_an_end() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: echo\non: {event: {type: PING.*}}\nsteps: [{id: again, emit: {type: PING.AGAIN}}]").await;
    mesh.engine.publish(vec![event("PING.FIRST", &json!({}))]).await.unwrap();
    let patience = tokio::time::Instant::now() + WAIT;
    while mesh.store.dead_letters("default", None, 10).await.unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < patience, "the chain goes on");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(until_over(&mesh, "echo", 16).await.len(), 16);
    mesh.stop().await;
}

#[tokio::test]
async fn a_failed_run_starts_the_workflow_that_looks_after_it() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: bad\nsteps: [{id: a, set: '${{ 1 / 0 }}'}]").await;
    mesh.apply(
        "name: alert\non: {event: {type: RUN.FAILED, inputs: {run: '${{ event.payload.run }}'}}}\ninputs: {run: {type: string}}\nsteps: [{id: a, set: '${{ inputs.run }}'}]",
    )
    .await;
    let failed = mesh.run("bad", json!({})).await;
    assert_eq!(failed.state, RunState::Failed);
    let rows = until_over(&mesh, "alert", 1).await;
    let view = mesh.engine.run("default", rows[0].id).await.unwrap();
    assert_eq!(output(&view), json!(failed.id.to_string()));
    mesh.stop().await;
}

fn signal(kind: &str, agent: Option<&str>) -> RaiseSignal {
    RaiseSignal {
        namespace: "default".into(),
        project: None,
        signal: Signal {
            kind: kind.into(),
            urgency: Urgency::High,
            impact: Impact::of(kind),
            title: "tests are red".into(),
            description: String::new(),
            payload: Data::of(&json!({"failed": 3})),
            source: "ci".into(),
            agent: agent.map(Into::into),
        },
        request: None,
    }
}

#[tokio::test]
async fn a_signal_goes_to_the_workflow_that_wants_it_and_every_step_is_on_record() {
    let mesh = Mesh::in_memory().await;
    mesh.apply(
        r#"
name: triage
on: {signal: {type: QUALITY_ISSUE, urgency: [high, critical], inputs: {n: "${{ signal.payload.failed }}"}}}
inputs: {n: {type: integer}}
steps: [{id: a, set: "${{ inputs.n * 2 }}"}]
"#,
    )
    .await;
    let view = mesh.engine.raise_signal(signal("QUALITY_ISSUE", Some("fixer"))).await.unwrap();
    assert_eq!((view.row.route, view.row.runs.len()), (Route::Workflow, 1));
    assert_eq!(output(&mesh.end_of(view.row.runs[0]).await), json!(6));
    let again = mesh.engine.signal("default", view.row.id).await.unwrap();
    assert!(!again.open, "its run is over");
    let events = events_of(&mesh, "SIGNAL.");
    let types: Vec<&str> = events.iter().map(|e| e.event_type.as_str()).collect();
    assert_eq!(types, ["SIGNAL.DETECTED", "SIGNAL.CLASSIFIED", "SIGNAL.ROUTED", "SIGNAL.ACTED"]);
    for (before, after) in events.iter().zip(&events[1..]) {
        assert_eq!(after.causation_id, Some(before.event_id));
    }
    for event in &events {
        consort_core::contract::check(&event.event_type, 1, &value(&event.payload)).unwrap();
    }
    let first = mesh.store.records_after(view.row.runs[0], 0, 1).await.unwrap().remove(0);
    let started = consort_core::envelope::envelopes(&first, "test").unwrap().remove(0);
    assert_eq!(started.causation_id, Some(events[2].event_id), "the run follows from SIGNAL.ROUTED");
    mesh.stop().await;
}

#[tokio::test]
async fn a_child_follows_from_the_event_of_its_parent() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: inner\nsteps: [{id: a, set: 1}]").await;
    mesh.apply("name: outer\nsteps: [{id: a, set: 1}, {id: b, workflow: inner, needs: a}]").await;
    mesh.run("outer", json!({})).await;
    let rows = mesh.heard.rows.lock().unwrap().clone();
    let mut all = Vec::new();
    for row in rows {
        if let LogRow::Run(record) = row {
            all.extend(consort_core::envelope::envelopes(&record, "test").unwrap());
        }
    }
    let told = all.iter().find(|event| event.event_type == "STEP.CHILD_STARTED").unwrap();
    let child = all.iter().find(|event| event.causation_id == Some(told.event_id) && event.event_type == "RUN.STARTED");
    assert!(child.is_some(), "{all:?}");
    assert!(all.iter().all(|event| event.correlation_id == all[0].correlation_id));
    mesh.stop().await;
}

#[tokio::test]
async fn a_signal_nobody_waits_for_goes_to_its_agent_or_to_a_person() {
    let mesh = Mesh::in_memory().await;
    mesh.scripted(&["fixer"], 4, |task| Ok(json!({"got": value(&task.input)["payload"]["failed"]}))).await;
    let view = mesh.engine.raise_signal(signal("QUALITY_ISSUE", Some("fixer"))).await.unwrap();
    assert_eq!(view.row.route, Route::Agent);
    assert_eq!(output(&mesh.end_of(view.row.runs[0]).await), json!({"got": 3}));

    let view = mesh.engine.raise_signal(signal("DECISION_NEEDED", None)).await.unwrap();
    assert_eq!(view.row.route, Route::Person);
    let run = view.row.runs[0];
    mesh.until(run, |run| run.state == RunState::Waiting).await;
    let asked = mesh.heard.decisions.lock().unwrap().iter().find(|row| row.run == run).cloned().unwrap();
    assert_eq!(asked.asked.title, "tests are red");
    // It survives a crash: the run has no workflow, only its own definition.
    let mesh = mesh.crash(Options::default()).await;
    let answer = consort_engine::AnswerDecision {
        namespace: "default".into(),
        id: asked.id,
        option: "done".into(),
        form: None,
        by: "ann".into(),
        request: None,
    };
    mesh.engine.answer(answer).await.unwrap();
    assert_eq!(output(&mesh.end_of(run).await)["option"], json!("done"));
    mesh.stop().await;
}

#[tokio::test]
async fn a_repeated_signal_is_one_signal() {
    let mesh = Mesh::in_memory().await;
    let raise = RaiseSignal {
        request: Some(RequestId { id: "r1".into(), fingerprint: [1; 16] }),
        ..signal("REQUIREMENT", None)
    };
    let first = mesh.engine.raise_signal(raise.clone()).await.unwrap();
    let second = mesh.engine.raise_signal(raise.clone()).await.unwrap();
    assert_eq!(first.row.id, second.row.id);
    let other = RaiseSignal { request: Some(RequestId { id: "r1".into(), fingerprint: [2; 16] }), ..raise };
    assert_eq!(mesh.engine.raise_signal(other).await.unwrap_err().reason, "REQUEST_ID_REUSED");
    mesh.stop().await;
}

#[tokio::test]
async fn a_step_can_raise_a_signal() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: notice\nsteps: [{id: a, emit: {signal: QUALITY_ISSUE, title: red, agent: fixer}}]").await;
    mesh.scripted(&["fixer"], 4, |_| Ok(json!("mended"))).await;
    let view = mesh.run("notice", json!({})).await;
    let name = output(&view)["signal"].as_str().unwrap().to_owned();
    let id: Uuid = name.rsplit('/').next().unwrap().parse().unwrap();
    let patience = tokio::time::Instant::now() + WAIT;
    let signal = loop {
        match mesh.engine.signal("default", id).await {
            Ok(signal) => break signal,
            Err(_) => assert!(tokio::time::Instant::now() < patience),
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!(output(&mesh.end_of(signal.row.runs[0]).await), json!("mended"));
    mesh.stop().await;
}

#[tokio::test]
async fn an_emitted_event_that_breaks_its_contract_fails_the_step_and_is_a_dead_letter() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: bad\nsteps: [{id: a, emit: {type: ORDER.VALIDATED, payload: {order: 1}}}]").await;
    let run = mesh.run("bad", json!({})).await;
    assert!(run.error.unwrap().message.contains("order_id"));
    // It is on disk before the failure is.
    let letters = mesh.store.dead_letters("default", None, 10).await.unwrap();
    assert!(letters.len() == 1 && letters[0].reason.contains("order_id"), "{letters:?}");
    assert!(events_of(&mesh, "ORDER.").is_empty());
    mesh.stop().await;
}

#[tokio::test]
async fn a_schedule_that_fires_again_cancels_its_last_run_if_it_says_so() {
    let mesh = after_hours("last", "cancel", "wait: {signal: go}", 2).await;
    let first = until_live(&mesh).await;
    let mesh = mesh.shut().await;
    let marks = mesh.marks("schedule/", "", 1).await.unwrap();
    let mut state: Value = serde_json::from_str(marks[0].value.as_deref().unwrap()).unwrap();
    state["last"] = (state["last"].as_i64().unwrap() - 3_600_000).into();
    mesh.set_marks(&[Mark { value: Some(state.to_string()), ..marks[0].clone() }]).await.unwrap();
    let mesh = Mesh::over(mesh, Options::default()).await;
    assert_eq!(mesh.end_of(first).await.state, RunState::Cancelled);
    let second = until_live(&mesh).await;
    assert_ne!(first, second);
    mesh.stop().await;
}

/// The live run of the hourly workflow, once there is one.
async fn until_live(mesh: &Mesh) -> consort_core::RunId {
    let patience = tokio::time::Instant::now() + WAIT;
    loop {
        let live = runs_of(mesh, "hourly").await.into_iter().find(|row| !row.state.is_over());
        if let Some(row) = live {
            return row.id;
        }
        assert!(tokio::time::Instant::now() < patience, "no run is live");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

const HOURLY: &str = r#"
name: hourly
on: {schedule: {cron: "@hourly", catch_up: CATCH_UP, overlap: OVERLAP, inputs: {at: "${{ schedule.time }}"}}}
inputs: {at: {type: string}}
steps: [{id: a, STEP}]
"#;

/// A mesh whose schedule has missed some hours.
async fn after_hours(catch_up: &str, overlap: &str, step: &str, hours: i64) -> Mesh {
    let store = Arc::new(MemoryStore::default());
    let mesh = Mesh::over(store.clone(), Options::default()).await;
    mesh.apply(&HOURLY.replace("CATCH_UP", catch_up).replace("OVERLAP", overlap).replace("STEP", step)).await;
    mesh.stop().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let hour = now - now % 3_600_000;
    let state = json!({"cron": "@hourly", "timezone": "UTC", "last": hour - hours * 3_600_000, "skipped": 0});
    let mark = Mark { name: "schedule/default/hourly/0".into(), value: Some(state.to_string()) };
    store.set_marks(&[mark]).await.unwrap();
    Mesh::over(store, Options::default()).await
}

#[tokio::test]
async fn missed_times_of_a_schedule_are_made_up_for() {
    let mesh = after_hours("all", "allow", "set: '${{ inputs.at }}'", 3).await;
    let rows = until_over(&mesh, "hourly", 3).await;
    assert_eq!(rows.len(), 3);
    let schedule = mesh.engine.schedules("default").remove(0);
    assert!(schedule.run.is_some() && schedule.next.is_some(), "{schedule:?}");
    // A restart fires nothing again.
    let mesh = mesh.crash(Options::default()).await;
    mesh.apply("name: last\non: {event: {type: LAST}}\nsteps: [{id: a, set: 1}]").await;
    mesh.engine.publish(vec![event("LAST", &json!({}))]).await.unwrap();
    until_over(&mesh, "last", 1).await;
    assert_eq!(runs_of(&mesh, "hourly").await.len(), 3);
    mesh.stop().await;

    let mesh = after_hours("last", "skip", "set: '${{ inputs.at }}'", 3).await;
    assert_eq!(until_over(&mesh, "hourly", 1).await.len(), 1);
    mesh.stop().await;
}

#[tokio::test]
async fn a_schedule_does_not_overlap_unless_it_may() {
    // The first run waits for ever; the times after it are skipped, and counted.
    let mesh = after_hours("all", "skip", "wait: {signal: go}", 4).await;
    let patience = tokio::time::Instant::now() + WAIT;
    loop {
        let schedules = mesh.engine.schedules("default");
        if schedules.first().is_some_and(|schedule| schedule.skipped == 3) {
            break;
        }
        assert!(tokio::time::Instant::now() < patience, "{schedules:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(runs_of(&mesh, "hourly").await.len(), 1);
    mesh.stop().await;

    // One waits for the end of the first.
    let mesh = after_hours("all", "queue", "wait: {signal: go}", 4).await;
    let patience = tokio::time::Instant::now() + WAIT;
    while runs_of(&mesh, "hourly").await.is_empty() {
        assert!(tokio::time::Instant::now() < patience);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let first = runs_of(&mesh, "hourly").await.remove(0).id;
    let go = consort_engine::RunCommand::Signal { signal: "go".into(), payload: Data::null() };
    mesh.engine.command("default", first, go, None).await.unwrap();
    while runs_of(&mesh, "hourly").await.len() < 2 {
        assert!(tokio::time::Instant::now() < patience, "the queued time fires");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    mesh.stop().await;
}

async fn project(mesh: &Mesh, id: &str) -> Result<consort_core::ports::ProjectRow, Error> {
    let create = CreateProject {
        namespace: "default".into(),
        id: Some(id.into()),
        title: "A project".into(),
        request: Data::of(&json!({"what": "an app"})),
        labels: BTreeMap::new(),
        created_by: "ann".into(),
        request_id: None,
    };
    mesh.engine.create_project(create).await
}

fn in_project(workflow: &str, id: &str) -> consort_engine::StartRun {
    consort_engine::StartRun { project: Some(id.into()), ..request(workflow, json!({})) }
}

#[tokio::test]
async fn a_project_groups_its_runs_and_tells_of_their_work_items() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: child\nsteps: [{id: inner, agent: coder}]").await;
    mesh.apply(
        r"
name: work
steps:
  - {id: build, agent: coder}
  - {id: ask, decide: {title: Ship it?, options: [yes, no]}, needs: build}
  - {id: sub, workflow: child, needs: ask}
",
    )
    .await;
    let row = project(&mesh, "app").await.unwrap();
    assert_eq!(project(&mesh, "app").await.unwrap_err().reason, "PROJECT_EXISTS");
    mesh.scripted(&["coder"], 4, |_| Ok(json!({"ok": true}))).await;
    let run = mesh.engine.start_run(in_project("work", "app"), None).await.unwrap();
    mesh.until(run.id, |run| run.state == RunState::Waiting).await;
    let view = mesh.engine.project("default", "app").await.unwrap();
    assert_eq!((view.decisions_open, view.health), (1, consort_engine::Health::Healthy));
    assert!(view.progress > 0.3 && view.progress < 0.4, "{}", view.progress);
    assert_eq!(mesh.engine.complete_project("default", "app").await.unwrap_err().reason, "RUNS_LIVE");

    let asked = mesh.heard.decisions.lock().unwrap()[0].clone();
    assert_eq!(asked.project.as_deref(), Some("app"));
    let answer = consort_engine::AnswerDecision {
        namespace: "default".into(),
        id: asked.id,
        option: "yes".into(),
        form: None,
        by: "ann".into(),
        request: None,
    };
    mesh.engine.answer(answer).await.unwrap();
    mesh.end_of(run.id).await;
    let view = mesh.engine.project("default", "app").await.unwrap();
    assert_eq!((view.progress, view.runs), (1.0, vec![(RunState::Succeeded, 2)]));
    mesh.engine.complete_project("default", "app").await.unwrap();
    mesh.engine.complete_project("default", "app").await.unwrap();
    assert_eq!(mesh.engine.start_run(in_project("work", "app"), None).await.unwrap_err().reason, "PROJECT_CLOSED");

    let all: Vec<Published> = events_of(&mesh, "");
    for event in &all {
        assert_eq!(event.correlation_id, row.uid, "{}", event.event_type);
        consort_core::contract::check(&event.event_type, 1, &value(&event.payload)).unwrap();
    }
    let types: Vec<&str> = all.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(
        types,
        [
            "PROJECT.INITIAL_REQUEST_RECEIVED",
            "WORK.ITEM_DISPATCHED",
            "WORK.ITEM_STARTED",
            "WORK.ITEM_COMPLETED",
            "QUESTION.CREATED",
            "QUESTION.ANSWER_RECORDED",
            "WORK.ITEM_DISPATCHED",
            "WORK.ITEM_STARTED",
            "WORK.ITEM_COMPLETED",
            "PROJECT.COMPLETED",
        ]
    );
    mesh.stop().await;
}

#[tokio::test]
async fn stopping_a_project_cancels_its_runs() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: wait\nsteps: [{id: a, wait: {signal: go}}]").await;
    project(&mesh, "app").await.unwrap();
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(mesh.engine.start_run(in_project("wait", "app"), None).await.unwrap().id);
    }
    let outside = mesh.start("wait", json!({})).await.unwrap().id;
    mesh.engine.stop_project("default", "app", "enough".into()).await.unwrap();
    for run in runs {
        assert_eq!(mesh.end_of(run).await.state, RunState::Cancelled);
    }
    assert_eq!(mesh.engine.run("default", outside).await.unwrap().state, RunState::Waiting);
    assert_eq!(mesh.engine.complete_project("default", "app").await.unwrap_err().reason, "WRONG_STATE");
    mesh.stop().await;
}
