//! The patterns that users copy run as they read, with scripted agents.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use consort_proto::blob::Payload;
use consort_proto::blob::payload::Kind;
use consort_proto::decision::{AnswerDecisionRequest, DecisionState, ListDecisionsRequest};
use consort_proto::event::{Event, PublishRequest};
use consort_proto::orchestrator::{ListRunsRequest, Run, RunState};
use consort_sdk::{Client, StartOptions, Task, TaskError, Worker};
use consort_testkit::{Mesh, eventually, json_of, output_of, serve};
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

async fn publish_order(client: &Client, id: &str) {
    let payload = Payload { kind: Some(Kind::Json(json!({"order_id": id, "channel": "mail"}).to_string())) };
    let event = Event { event_type: "ORDER.INBOX_RECEIVED".into(), payload: Some(payload), ..Default::default() };
    client.events().publish(PublishRequest { events: vec![event], ..Default::default() }).await.unwrap();
}

/// The run that an order has started, once it is over.
async fn order_run(client: &Client, id: &str) -> Run {
    eventually("the order is dealt with", || async {
        let request = ListRunsRequest { workflow: "namespaces/default/workflows/order".into(), ..Default::default() };
        for run in client.orchestrator().list_runs(request).await.ok()?.into_inner().runs {
            let run = client.get(&run.name).await.ok()?;
            let of = json_of(run.inputs.as_ref())["order_id"] == json!(id);
            if of && matches!(run.state(), RunState::Succeeded | RunState::Failed) {
                return Some(run);
            }
        }
        None
    })
    .await
}

#[tokio::test]
async fn an_order_goes_from_the_inbox_to_its_export() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    apply(&client, &["order"]).await;
    let worker = agent(Worker::new("orders"), "extractor", |input| {
        let price = match input["mail"]["order_id"].as_str() {
            Some("dear") => 5_000,
            Some("unreadable") => return Ok(json!({"lines": []})),
            _ => 20,
        };
        Ok(json!({"customer": "Ann", "lines": [{"item": "lamp", "price": price}]}))
    });
    let worker = agent(worker, "exporter", |_| Ok(json!({"uri": "file:///orders/1"})));
    let _worker = serve(&mesh, worker);

    // A cheap one needs nobody, and what nobody is asked is nobody's decision.
    publish_order(&client, "cheap").await;
    let cheap = order_run(&client, "cheap").await;
    assert_eq!(output_of(&cheap), json!({"exported": true, "uri": "file:///orders/1"}));

    publish_order(&client, "dear").await;
    answer_next(&client, "refuse").await;
    assert_eq!(output_of(&order_run(&client, "dear").await), json!({"exported": false, "uri": ""}));

    publish_order(&client, "unreadable").await;
    let unreadable = order_run(&client, "unreadable").await;
    assert_eq!(unreadable.state(), RunState::Failed);
    let decision = eventually("somebody is told", || async {
        let open = ListDecisionsRequest { state: DecisionState::Open.into(), ..Default::default() };
        client.decisions().list_decisions(open).await.ok()?.into_inner().decisions.pop()
    })
    .await;
    assert_eq!(decision.title, "The order unreadable cannot be read");
    assert!(
        decision.description.contains("output.customer") || decision.description.contains("customer"),
        "{decision:?}"
    );
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
