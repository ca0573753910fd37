//! Answers that are no results: plans, and questions to people.
#![allow(missing_docs)]

mod mesh;

use std::time::Duration;

use consort_proto::agent::{Clarification, ConnectResponse};
use consort_proto::blob::{BlobRef, Payload, payload};
use consort_sdk::{Answer, Code, Plan, Question, Task, TaskError, Worker};
use mesh::{FakeMesh, Running, inline, lease, name_of, task};
use serde_json::{Value, json};
use tonic::Status;

const PLAN: &str = "name: p\nsteps: [{id: a, set: 1}]";

/// Asks which repository it is until the answer is not `none`, and says what was answered each time.
fn asker() -> Worker {
    Worker::new("notes").agent("echo", |task: Task| async move { task.input::<Value>() }).agent(
        "ask",
        |task: Task| async move {
            let mut answers = Vec::new();
            loop {
                let question = Question::new("Which repository?")
                    .description("*All* of them are far away.")
                    .options(["ours", "theirs", "none"])
                    .form(json!({"type": "object"}))
                    .deadline(Duration::from_secs(90))
                    .default_option("none");
                let answer = task.ask(question)?;
                answers.push(json!([answer.option, answer.form, answer.answered_by]));
                if answer.option != "none" {
                    return Ok(answers);
                }
            }
        },
    )
}

fn answered(option: &str, form: Option<Payload>) -> Clarification {
    Clarification { title: "Which repository?".into(), option: option.into(), form, answered_by: "ada".into() }
}

#[tokio::test]
async fn a_plan_goes_out_instead_of_a_result() {
    let mut mesh = FakeMesh::start().await;
    let worker = Worker::new("notes")
        .agent("plan", |_| async { Ok(Plan::new(PLAN)) })
        .agent("either", |task: Task| async move {
            Ok(if task.input::<bool>()? {
                Answer::Plan(Plan::from_value(&json!({"name": "p"}))?)
            } else {
                Answer::Output(7)
            })
        })
        .agent("empty", |_| async { Ok(Plan::new("")) });
    let _worker = Running::start(&mesh, worker);
    let mut connection = mesh.attach().await;
    for (n, agent, input, plan) in [(1, "plan", "null", PLAN), (2, "either", "true", r#"{"name":"p"}"#)] {
        connection.assign(vec![task(n, agent, input)]).await;
        let answer = connection.completed(1).await.pop().unwrap();
        assert_eq!((answer.plan.as_str(), answer.output), (plan, None));
    }
    connection.assign(vec![task(3, "either", "false")]).await;
    let answer = connection.completed(1).await.pop().unwrap();
    assert_eq!((answer.plan.as_str(), inline(answer.output).as_str()), ("", "7"));
    connection.assign(vec![task(4, "empty", "null")]).await;
    let failed = connection.failed().await;
    assert_eq!((failed.error.unwrap().code, failed.retryable), (Code::InvalidArgument as i32, false));
}

#[tokio::test]
async fn a_question_ends_the_task_until_it_is_answered() {
    let mut mesh = FakeMesh::start().await;
    let _worker = Running::start(&mesh, asker());
    let mut connection = mesh.attach().await;
    connection.assign(vec![task(1, "ask", "null")]).await;
    let asked = connection.asked().await;
    assert_eq!(asked.lease, Some(lease(&task(1, "ask", ""))));
    let question = asked.question.unwrap();
    assert_eq!((question.title.as_str(), question.default_option.as_str()), ("Which repository?", "none"));
    assert_eq!(question.description, "*All* of them are far away.");
    assert_eq!(question.options, ["ours", "theirs", "none"]);
    assert_eq!(question.deadline.unwrap().seconds, 90);
    assert_eq!(inline(question.form), r#"{"type":"object"}"#);

    // The first answer makes the handler ask again; the second ends it.
    let mut again = task(2, "ask", "null");
    again.clarifications = vec![answered("none", None)];
    connection.answer([asked.lease], vec![again]).await;
    let asked = connection.asked().await;
    let mut last = task(3, "ask", "null");
    let form = r#"{"why": "it is near"}"#;
    let blob = BlobRef { sha256: name_of(form.as_bytes()), size_bytes: form.len() as i64, media_type: String::new() };
    mesh.blobs.lock().unwrap().insert(blob.sha256.clone(), form.into());
    let form = Payload { kind: Some(payload::Kind::Blob(blob)) };
    last.clarifications = vec![answered("none", None), answered("ours", Some(form))];
    connection.answer([asked.lease], vec![last]).await;
    let output: Value = serde_json::from_str(&inline(connection.completed(1).await.pop().unwrap().output)).unwrap();
    assert_eq!(output, json!([["none", null, "ada"], ["ours", {"why": "it is near"}, "ada"]]));
}

#[tokio::test]
async fn a_question_that_was_not_acknowledged_is_asked_again() {
    let mut mesh = FakeMesh::start().await;
    let _worker = Running::start(&mesh, asker());
    let mut first = mesh.attach().await;
    first.assign(vec![task(1, "ask", "null"), task(2, "ask", "null")]).await;
    let mut asked = first.next().await.asked;
    while asked.len() < 2 {
        asked.extend(first.next().await.asked);
    }
    first.ack([Some(lease(&task(1, "ask", "")))]).await;
    first.fail(Status::unavailable("restarting")).await;
    let mut second = mesh.attach().await;
    let asked = second.next().await.asked;
    assert_eq!(asked.iter().map(|it| it.lease.clone().unwrap().lease_token).collect::<Vec<_>>(), [2]);
    // Once it is acknowledged, or its lease is gone, nothing is said of it any more.
    second.ack([asked[0].lease.clone()]).await;
    second.fail(Status::unavailable("restarting")).await;
    let mut third = mesh.attach().await;
    third.assign(vec![task(3, "echo", "3")]).await;
    let frame = third.next().await;
    assert_eq!((frame.asked.len(), frame.completed.len(), frame.failed.len()), (0, 1, 0));
}

#[tokio::test]
async fn a_stop_waits_until_a_question_is_on_record() {
    let mut mesh = FakeMesh::start().await;
    let Running { stop, life } = Running::start(&mesh, asker());
    let mut connection = mesh.attach().await;
    connection.assign(vec![task(1, "ask", "null")]).await;
    let asked = connection.asked().await;
    stop.send(()).unwrap();
    assert!(connection.next().await.draining);
    assert!(!life.is_finished());
    connection.say(ConnectResponse::default()).await;
    connection.ack([asked.lease]).await;
    assert!(connection.frame().await.is_none(), "the worker closes its side");
    drop(connection);
    tokio::time::timeout(mesh::SOON, life).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_question_comes_out_of_threads_and_other_errors() {
    let mut mesh = FakeMesh::start().await;
    let worker = Worker::new("notes")
        .agent("thread", |task: Task| async move {
            task.blocking(|task| Ok(task.ask(Question::new("From a thread?"))?.option)).await
        })
        .agent("anyhow", |task: Task| async move {
            use anyhow::Context as _;
            let work =
                || -> anyhow::Result<String> { Ok(task.ask(Question::new("From within?")).context("asking")?.option) };
            Ok(work()?)
        })
        .agent("bad", |task: Task| async move {
            let question = Question::new("Which?").options(["a"]).default_option("b");
            let error: TaskError = task.ask(question).unwrap_err();
            assert!(!error.is_question());
            Err::<(), _>(error)
        });
    let _worker = Running::start(&mesh, worker);
    let mut connection = mesh.attach().await;
    for (n, agent, title) in [(1, "thread", "From a thread?"), (2, "anyhow", "From within?")] {
        connection.assign(vec![task(n, agent, "null")]).await;
        assert_eq!(connection.asked().await.question.unwrap().title, title);
    }
    connection.assign(vec![task(3, "bad", "null")]).await;
    let failed = connection.failed().await;
    assert!(failed.error.unwrap().message.starts_with("question.default_option: `b`"));
    assert!(!failed.retryable);
}
