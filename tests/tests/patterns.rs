//! The patterns that users copy run as they read, with scripted agents.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use consort_proto::decision::{AnswerDecisionRequest, DecisionState, ListDecisionsRequest};
use consort_proto::orchestrator::{Run, RunState};
use consort_sdk::{Client, StartOptions, Task, TaskError, Worker};
use consort_testkit::{Mesh, eventually, output_of, serve};
use serde_json::{Value, json};

fn pattern(name: &str) -> String {
    let path = format!("{}/../plugins/patterns/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

async fn apply(client: &Client, names: &[&str]) {
    for name in names {
        client.apply(&pattern(name)).await.unwrap();
    }
}

async fn run(client: &Client, workflow: &str, inputs: Value) -> Run {
    let options = StartOptions { wait: Some(Duration::from_secs(20)), ..Default::default() };
    let run = client.start(workflow, &inputs, options).await.unwrap();
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    run
}

/// An agent that answers by a plain function of its input.
fn agent(
    worker: Worker,
    name: &str,
    answer: impl Fn(Value) -> Result<Value, TaskError> + Send + Sync + 'static,
) -> Worker {
    let answer = Arc::new(answer);
    worker.agent(name, move |task: Task| {
        let answer = Arc::clone(&answer);
        async move { answer(task.input()?) }
    })
}

#[tokio::test]
async fn sequential() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    apply(&client, &["sequential"]).await;
    let worker = agent(Worker::new("mail"), "parser", |input| {
        Ok(json!({"intent": "question", "questions": [input["message"]]}))
    });
    let worker = agent(worker, "writer", |input| {
        Ok(json!({"text": format!("we open at 9 ({})", input["intent"].as_str().unwrap())}))
    });
    let worker =
        agent(worker, "style-keeper", |input| Ok(json!({"text": input["text"].as_str().unwrap().to_uppercase()})));
    let _worker = serve(&mesh, worker);
    let run = run(&client, "mail", json!({"message": "When do you open?"})).await;
    assert_eq!(output_of(&run), json!("WE OPEN AT 9 (QUESTION)"));
}

#[tokio::test]
async fn parallel_with_a_reviewer_that_fails() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    apply(&client, &["parallel"]).await;
    let worker = agent(Worker::new("review"), "reviewer", |input| match input["angle"].as_str() {
        Some("speed") => Err("no profiler here".into()),
        angle => Ok(json!({"findings": [format!("{} is fine", angle.unwrap())]})),
    });
    let worker = agent(worker, "aggregator", |input| Ok(json!(input["reviews"].as_array().unwrap().len())));
    let _worker = serve(&mesh, worker);
    let run = run(&client, "review", json!({"change": "a patch"})).await;
    assert_eq!(output_of(&run), json!({"summary": 2, "heard": 2, "asked": 3}));
}

#[tokio::test]
async fn hierarchical_with_a_part_that_a_person_judges() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    apply(&client, &["team", "hierarchical"]).await;
    let worker = agent(Worker::new("teams"), "coordinator", |_| Ok(json!({"parts": ["api", "page"]})));
    let worker = agent(worker, "implementer", |input| {
        Ok(json!({"result": format!("{} done", input["part"].as_str().unwrap())}))
    });
    let worker = agent(worker, "validator", |input| {
        let ok = input["result"] != "page done";
        Ok(json!({"ok": ok, "reason": if ok { "" } else { "ugly" }}))
    });
    let worker = agent(worker, "integrator", |input| Ok(json!({"report": input["results"]})));
    let _worker = serve(&mesh, worker);
    let begun = client.start("coordinate", &json!({"goal": "a shop"}), StartOptions::default()).await.unwrap();
    answer_next(&client, "take").await;
    let ended = client.wait(&begun.name, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!(output_of(&ended), json!(["api done", "page done"]));
}

async fn answer_next(client: &Client, option: &str) {
    let decision = eventually("somebody is asked", || async {
        let open = ListDecisionsRequest { state: DecisionState::Open.into(), ..Default::default() };
        client.decisions().list_decisions(open).await.ok()?.into_inner().decisions.pop()
    })
    .await;
    let answer = AnswerDecisionRequest {
        name: decision.name,
        option: option.into(),
        answered_by: "Ada".into(),
        ..Default::default()
    };
    client.decisions().answer_decision(answer).await.unwrap();
}

/// A writer and a critic that accepts in a certain round.
fn writers(accepted_in: u64, rounds: &Arc<AtomicU32>) -> Worker {
    let rounds = Arc::clone(rounds);
    let worker = agent(Worker::new("writers"), "writer", |input| {
        Ok(json!({"text": input["text"].as_str().map_or("draft".to_owned(), |text| format!("{text}+"))}))
    });
    agent(worker, "critic", move |input| {
        rounds.fetch_add(1, Ordering::Relaxed);
        Ok(json!({"accepted": input["round"].as_u64() >= Some(accepted_in), "remarks": "more"}))
    })
}

#[tokio::test]
async fn iterative_until_it_is_good_enough() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    apply(&client, &["round", "iterative"]).await;
    let rounds = Arc::new(AtomicU32::new(0));
    let _worker = serve(&mesh, writers(3, &rounds));
    let run = run(&client, "refine", json!({"topic": "ships"})).await;
    assert_eq!((output_of(&run), rounds.load(Ordering::Relaxed)), (json!("draft++"), 3));
}

#[tokio::test]
async fn iterative_until_a_person_decides() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    apply(&client, &["round", "iterative"]).await;
    let rounds = Arc::new(AtomicU32::new(0));
    let _worker = serve(&mesh, writers(99, &rounds));
    let begun = client.start("refine", &json!({"topic": "ships"}), StartOptions::default()).await.unwrap();
    answer_next(&client, "publish").await;
    let ended = client.wait(&begun.name, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!((output_of(&ended), rounds.load(Ordering::Relaxed)), (json!("draft+++++"), 5));
}

fn voters(choose: impl Fn(&str) -> u32 + Send + Sync + 'static) -> Worker {
    let worker = agent(Worker::new("voters"), "planner", |input| {
        Ok(json!({"proposal": format!("the {} one", input["style"].as_str().unwrap())}))
    });
    let worker = agent(worker, "comparer", |_| Ok(json!({"disagreements": ["the price"]})));
    agent(worker, "voter", move |input| {
        Ok(json!({"choice": choose(input["style"].as_str().unwrap()), "reason": "because"}))
    })
}

#[tokio::test]
async fn the_most_voted_proposal_wins() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    apply(&client, &["vote"]).await;
    let _worker = serve(&mesh, voters(|style| if style == "cheap" { 2 } else { 1 }));
    let run = run(&client, "vote", json!({"question": "Which road?"})).await;
    let expected = json!({"winner": "the bold one", "votes": [0, 2, 1], "decided_by": "rule"});
    assert_eq!(output_of(&run), expected);
}

#[tokio::test]
async fn a_person_breaks_a_tie() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    apply(&client, &["vote"]).await;
    let number = |style: &str| match style {
        "careful" => 0,
        "bold" => 1,
        _ => 2,
    };
    let _worker = serve(&mesh, voters(number));
    let begun = client.start("vote", &json!({"question": "Which road?"}), StartOptions::default()).await.unwrap();
    answer_next(&client, "2").await;
    let ended = client.wait(&begun.name, Some(Duration::from_secs(20))).await.unwrap();
    let expected = json!({"winner": "the cheap one", "votes": [1, 1, 1], "decided_by": "Ada"});
    assert_eq!(output_of(&ended), expected);
}
