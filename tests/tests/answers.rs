//! Plans and questions of workers, through the SDK and the wire, across a kill of the server.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::time::Duration;

use consort_proto::decision::{AnswerDecisionRequest, Decision, DecisionKind, DecisionState, ListDecisionsRequest};
use consort_proto::orchestrator::{RunState, StepState};
use consort_sdk::{Client, Plan, Question, StartOptions, Task, TaskError, Worker};
use consort_testkit::{Mesh, eventually, output_of, serve, steps_of};
use serde_json::{Value, json};

async fn asked(client: &Client) -> Decision {
    eventually("somebody is asked", || async {
        let open = ListDecisionsRequest {
            state: DecisionState::Open.into(),
            kind: DecisionKind::Clarification.into(),
            ..Default::default()
        };
        client.decisions().list_decisions(open).await.ok()?.into_inner().decisions.pop()
    })
    .await
}

fn answer(decision: &Decision, option: &str) -> AnswerDecisionRequest {
    AnswerDecisionRequest {
        name: decision.name.clone(),
        option: option.into(),
        answered_by: "Ada".into(),
        ..Default::default()
    }
}

fn builder() -> Worker {
    Worker::new("builder").agent("coder", |task: Task| async move {
        let colour = task.ask(Question::new("Which colour?").options(["red", "blue"]))?;
        Ok::<_, TaskError>(json!({"built": colour.option, "by": colour.answered_by}))
    })
}

#[tokio::test]
async fn a_question_in_the_middle_of_a_task_survives_a_kill() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply("name: build\nsteps: [{id: build, agent: coder}]").await.unwrap();
    let worker = serve(&mesh, builder());
    let run = client.start("build", &json!({}), StartOptions::default()).await.unwrap().name;
    let question = asked(&client).await;
    assert_eq!(steps_of(&client.get(&run).await.unwrap()), [("build", StepState::Blocked)]);
    drop(worker);
    mesh.kill();
    mesh.restart().await;
    assert_eq!(asked(&client).await.name, question.name);
    client.decisions().answer_decision(answer(&question, "blue")).await.unwrap();
    // Any worker of the agent can go on.
    let _worker = serve(&mesh, builder());
    let ended = client.wait(&run, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!(output_of(&ended), json!({"built": "blue", "by": "Ada"}));
}

#[tokio::test]
async fn a_step_that_is_not_clear_is_blocked_until_somebody_says_what_it_shall_do() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    let source = r#"
name: clear
inputs: {request: {type: string}}
steps:
  - id: build
    agent: coder
    clarify: {if: "${{ size(inputs.request) < 10 }}", title: "What is `${{ inputs.request }}`?", options: [shop, blog]}
    with: {request: "${{ inputs.request }}", kind: "${{ clarification == null ? 'clear' : clarification.option }}"}
"#;
    client.apply(source).await.unwrap();
    let echo = Worker::new("echo").agent("coder", |task: Task| async move { task.input::<Value>() });
    let _worker = serve(&mesh, echo);
    let wait = || StartOptions { wait: Some(Duration::from_secs(20)), ..Default::default() };
    let clear = client.start("clear", &json!({"request": "a shop for lamps"}), wait()).await.unwrap();
    assert_eq!(output_of(&clear)["kind"], json!("clear"));
    let run = client.start("clear", &json!({"request": "a thing"}), StartOptions::default()).await.unwrap().name;
    let question = asked(&client).await;
    assert_eq!(question.title, "What is `a thing`?");
    assert_eq!(client.get(&run).await.unwrap().state(), RunState::Waiting);
    client.decisions().answer_decision(answer(&question, "shop")).await.unwrap();
    let ended = client.wait(&run, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!(output_of(&ended)["kind"], json!("shop"));
}

#[tokio::test]
async fn an_agent_can_answer_with_a_plan() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply("name: planned\nsteps: [{id: plan, agent: planner, plan: true, retry: {max: 2, backoff: 0s, on: [INVALID_ARGUMENT]}}]").await.unwrap();
    let worker = Worker::new("planner")
        .agent("planner", |task: Task| async move {
            // The first plan has a mistake, and is as good as a failure.
            let step =
                if task.attempt() == 1 { "{id: one, agnt: doer}" } else { "{id: one, agent: doer, with: {n: 20}}" };
            Ok::<_, TaskError>(Plan::new(format!(
                "name: made\nsteps: [{step}, {{id: two, set: '${{{{ steps.one.output.n + 1 }}}}', needs: one}}]"
            )))
        })
        .agent("doer", |task: Task| async move { task.input::<Value>() });
    let _worker = serve(&mesh, worker);
    let options = StartOptions { wait: Some(Duration::from_secs(20)), ..Default::default() };
    let run = client.start("planned", &json!({}), options).await.unwrap();
    assert_eq!(output_of(&run), json!(21));
    assert_eq!(run.steps.len(), 0, "only GetRun has steps");
    assert_eq!(client.get(&run.name).await.unwrap().steps[0].attempt, 2);
}
