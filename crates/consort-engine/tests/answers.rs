//! What workers can answer besides a result: plans and questions; and results that must match a schema.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use consort_core::event::Code;
use consort_core::run::{Question, RunState, StepState};
use consort_engine::{Answer, Done, FromWorker, Options, Session};
use serde_json::json;

async fn reply(session: &Session, task: &consort_engine::Assignment, done: Done) {
    let answer = Answer { lease: task.lease.clone(), result: Ok(done) };
    session.send(FromWorker::Answers(vec![answer])).await.unwrap();
}

const PLANNED: &str =
    "name: planned\nsteps: [{id: plan, agent: planner, plan: true}]\noutput: '${{ steps.plan.output }}'";

#[tokio::test]
async fn a_plan_runs_as_a_child_and_survives_a_crash() {
    let mesh = Mesh::in_memory().await;
    mesh.apply(PLANNED).await;
    let run = mesh.start("planned", json!({})).await.unwrap().id;
    let planner = mesh.worker("p", &["planner"], 1).await;
    let task = assigned(&planner).await.remove(0);
    let plan = "name: made\nsteps: [{id: one, agent: doer, with: {n: 1}}, {id: two, set: '${{ steps.one.output.n + 1 }}', needs: one}]";
    reply(&planner, &task, Done::PlanText(plan.into())).await;
    mesh.until(run, |run| run.state == RunState::Waiting).await;
    let mesh = mesh.crash(Options::default()).await;
    mesh.scripted(&["doer"], 1, |task| Ok(value(&task.input))).await;
    assert_eq!(output(&mesh.end_of(run).await), json!(2));
    mesh.stop().await;
}

#[tokio::test]
async fn a_plan_with_mistakes_fails_the_attempt_and_says_which() {
    let mesh = Mesh::in_memory().await;
    mesh.apply(PLANNED).await;
    let planner = mesh.worker("p", &["planner"], 1).await;
    for (plan, expected) in [
        ("name: made\nsteps: [{id: a, agnt: x}]", "did you mean `agent`"),
        ("name: made\ninputs: {n: {type: string}}\nsteps: [{id: a, set: 1}]", "the plan needs inputs"),
        ("name: made\non: {schedule: {cron: '@daily'}}\nsteps: [{id: a, set: 1}]", "triggers"),
    ] {
        let run = mesh.start("planned", json!({})).await.unwrap().id;
        let task = assigned(&planner).await.remove(0);
        reply(&planner, &task, Done::PlanText(plan.into())).await;
        let error = mesh.end_of(run).await.error.unwrap();
        assert_eq!(error.code, Code::InvalidArgument as i32);
        assert!(error.message.contains(expected), "{}", error.message);
    }
    mesh.stop().await;
}

#[tokio::test]
async fn only_a_step_that_takes_plans_gets_them() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: plain\nsteps: [{id: a, agent: planner}]").await;
    let run = mesh.start("plain", json!({})).await.unwrap().id;
    let planner = mesh.worker("p", &["planner"], 1).await;
    let task = assigned(&planner).await.remove(0);
    reply(&planner, &task, Done::PlanText("name: made\nsteps: [{id: a, set: 1}]".into())).await;
    let error = mesh.end_of(run).await.error.unwrap();
    assert!(error.message.contains("plan: true"), "{}", error.message);
    mesh.stop().await;
}

#[tokio::test]
async fn a_worker_can_ask_and_gets_the_task_again_with_the_answer() {
    let mesh = Mesh::in_memory().await;
    mesh.apply("name: ask\nsteps: [{id: build, agent: coder, with: {n: 1}}]").await;
    let run = mesh.start("ask", json!({})).await.unwrap().id;
    let coder = mesh.worker("c", &["coder"], 1).await;
    let task = assigned(&coder).await.remove(0);
    let question = Question {
        title: "Which colour?".into(),
        description: String::new(),
        options: vec!["red".into(), "blue".into()],
        form: None,
        deadline: None,
        default: None,
    };
    reply(&coder, &task, Done::Asked(question.clone())).await;
    let view = mesh.until(run, |run| run.state == RunState::Waiting).await;
    assert_eq!(view.steps[0].state, StepState::Blocked);
    let asked = mesh.heard.decisions.lock().unwrap().last().unwrap().clone();
    assert_eq!((asked.kind, &*asked.asked.title), (consort_core::ports::DecisionKind::Clarification, "Which colour?"));
    // The old lease is over: its answer is the one that was given.
    let answer = Answer { lease: task.lease.clone(), result: Ok(Done::Asked(question)) };
    assert!(mesh.engine.answer_task("default", answer).await.is_ok(), "a repeated question is no other question");

    let answer = consort_engine::AnswerDecision {
        namespace: "default".into(),
        id: asked.id,
        option: "blue".into(),
        form: None,
        by: "ann".into(),
        request: None,
    };
    mesh.engine.answer(answer).await.unwrap();
    let again = assigned(&coder).await.remove(0);
    assert_eq!((again.lease.attempt, value(&again.input)), (1, json!({"n": 1})));
    assert_eq!((&*again.clarified[0].option, &*again.clarified[0].by), ("blue", "ann"));
    reply(&coder, &again, Done::Output(consort_core::Data::of(&json!("done")))).await;
    assert_eq!(output(&mesh.end_of(run).await), json!("done"));
    mesh.stop().await;
}

#[tokio::test]
async fn an_answer_must_match_the_schema_of_its_step_however_large() {
    let mesh = Mesh::in_memory().await;
    mesh.apply(
        r"
name: checked
steps:
  - id: a
    agent: a
    retry: {max: 2, backoff: 0s}
    output: {type: object, required: [list], properties: {list: {type: array, items: {type: integer}}}}
",
    )
    .await;
    // The first answer is too small a list of the wrong kind, the second one is a blob.
    mesh.scripted(&["a"], 1, |task| {
        let good: Vec<u32> = (0..20_000).collect();
        let bad: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
        Ok(if task.lease.attempt == 1 { json!({"list": bad}) } else { json!({"list": good}) })
    })
    .await;
    let view = mesh.run("checked", json!({})).await;
    assert_eq!(view.state, RunState::Succeeded, "{:?}", view.error);
    let history = mesh.history(view.id).await;
    assert!(history.contains(&"STEP.RETRY_SCHEDULED a".to_owned()), "{history:?}");
    mesh.stop().await;
}
