//! Requests between agents, against a mesh that the tests play.
#![allow(missing_docs, clippy::unwrap_used)]

mod mesh;

use std::time::Duration;

use consort_proto::agent::step_report::Kind;
use consort_proto::agent::{Ask, ConnectResponse, Inquiry as Inquire, Reply};
use consort_proto::google::rpc;
use consort_sdk::{Agent, Client, Code, Inquiry, Task, TaskError, Worker, payload};
use mesh::{Connection, FakeMesh, Running, inline, lease, task};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::Status;

fn inquire(number: u64, agent: &str, value: &str) -> ConnectResponse {
    let inquiry = Inquire {
        number,
        agent: agent.into(),
        payload: Some(payload::text(value.into())),
        timeout: Some(Duration::from_secs(5).try_into().unwrap()),
        asker: "w1".into(),
        task: "t1".into(),
        depth: 2,
    };
    ConnectResponse { inquiries: vec![inquiry], ..Default::default() }
}

fn answer(number: u64, value: &str) -> ConnectResponse {
    let reply = Reply { number, answer: Some(payload::text(value.into())), ..Default::default() };
    ConnectResponse { replies: vec![reply], ..Default::default() }
}

fn refusal(number: u64, code: Code, reason: &str) -> ConnectResponse {
    let info = tonic_types::pb::ErrorInfo { reason: reason.into(), ..Default::default() };
    let type_url = "type.googleapis.com/google.rpc.ErrorInfo".into();
    let details = vec![prost_types::Any { type_url, value: info.encode_to_vec() }];
    let error = Some(rpc::Status { code: code as i32, message: "it says why".into(), details });
    let reply = Reply { number, answer: None, error, retryable: true };
    ConnectResponse { replies: vec![reply], ..Default::default() }
}

async fn ask(connection: &mut Connection) -> Ask {
    let mut frame = connection.next().await;
    assert_eq!(frame.asks.len(), 1, "{frame:?}");
    frame.asks.remove(0)
}

async fn reply(connection: &mut Connection) -> Reply {
    let mut frame = connection.next().await;
    assert_eq!(frame.replies.len(), 1, "{frame:?}");
    frame.replies.remove(0)
}

fn oracle() -> Worker {
    Worker::new("oracle")
        .answers(Agent::new("sum").at_once(8).description("Adds."), |inquiry: Inquiry| async move {
            let numbers: Vec<i64> = inquiry.input()?;
            let (asker, task) = (inquiry.asker().to_owned(), inquiry.task().map(str::to_owned));
            let in_time = inquiry.time_left() > Duration::from_secs(1);
            Ok(json!([numbers.iter().sum::<i64>(), asker, task, inquiry.depth(), in_time]))
        })
        .answers("through", |inquiry: Inquiry| async move {
            let input: Value = inquiry.input()?;
            inquiry.ask_agent::<Value>("other", &input).timeout(Duration::from_secs(3)).await
        })
        .answers("forever", |inquiry: Inquiry| async move {
            inquiry.cancelled().await;
            Err::<(), _>(TaskError::new(Code::Cancelled, "told to stop"))
        })
        .answers("panics", |_| async move {
            assert!(std::env::args().count() == 0, "boom");
            Ok(())
        })
}

#[tokio::test]
async fn hello_offers_what_is_answered() {
    let mut mesh = FakeMesh::start().await;
    let _worker = Running::start(&mesh, oracle());
    let hello = mesh.accept().await.hello;
    let offers: Vec<_> =
        hello.answers.iter().map(|offer| (offer.agent.as_str(), offer.at_once, offer.description.as_str())).collect();
    assert_eq!(offers[..2], [("sum", 8, "Adds."), ("through", 256, "")]);
    assert!(hello.agents.is_empty() && hello.slots.is_empty());
}

#[tokio::test]
async fn inquiries_are_answered() {
    let mut mesh = FakeMesh::start().await;
    let _worker = Running::start(&mesh, oracle());
    let mut connection = mesh.attach().await;
    connection.say(inquire(7, "sum", "[1, 2]")).await;
    let answer = reply(&mut connection).await;
    assert_eq!((answer.number, inline(answer.answer).as_str()), (7, r#"[3,"w1","t1",2,true]"#));

    for (agent, value, code, retryable) in [
        ("sum", r#"["x"]"#, Code::InvalidArgument, false),
        ("panics", "null", Code::Internal, true),
        ("unknown", "null", Code::Unimplemented, false),
    ] {
        connection.say(inquire(8, agent, value)).await;
        let answer = reply(&mut connection).await;
        assert_eq!((answer.error.unwrap().code, answer.retryable), (code as i32, retryable), "{agent}");
    }
}

#[tokio::test]
async fn a_withdrawn_inquiry_is_told_and_replied_to() {
    let mut mesh = FakeMesh::start().await;
    let _worker = Running::start(&mesh, oracle());
    let mut connection = mesh.attach().await;
    connection.say(inquire(3, "forever", "null")).await;
    connection.say(ConnectResponse { withdrawn: vec![3, 99], ..Default::default() }).await;
    let answer = reply(&mut connection).await;
    assert_eq!((answer.number, answer.error.unwrap().message.as_str()), (3, "told to stop"));
}

#[tokio::test]
async fn what_is_asked_within_an_inquiry_names_it() {
    let mut mesh = FakeMesh::start().await;
    let _worker = Running::start(&mesh, oracle());
    let mut connection = mesh.attach().await;
    connection.say(inquire(5, "through", "1")).await;
    let asked = ask(&mut connection).await;
    assert_eq!((asked.agent.as_str(), asked.within, asked.timeout.unwrap().seconds), ("other", 5, 3));
    connection.say(refusal(asked.number, Code::Unavailable, "AGENT_OFFLINE")).await;
    let answer = reply(&mut connection).await;
    let error = answer.error.unwrap();
    assert_eq!((error.code, error.message.as_str(), answer.retryable), (14, "it says why", true));
    assert_eq!(error.details.len(), 1, "the reason goes along");
}

#[tokio::test]
async fn a_task_names_its_lease_and_may_put_it_on_record() {
    let mut mesh = FakeMesh::start().await;
    let worker = Worker::new("curious").agent("curious", |task: Task| async move {
        let first: i64 = task.ask_agent("oracle", &json!({"q": 1})).await?;
        let second = task.ask_agent::<String>("oracle", &json!({"q": 2})).record().await;
        let reason = second.unwrap_err().reason();
        Ok((first, reason))
    });
    let _worker = Running::start(&mesh, worker);
    let mut connection = mesh.attach().await;
    let held = task(1, "curious", "null");
    connection.assign(vec![held.clone()]).await;
    let asked = ask(&mut connection).await;
    assert_eq!((asked.lease.unwrap(), asked.within, asked.timeout), (lease(&held), 0, None));
    connection.say(answer(asked.number, "41")).await;
    let asked = ask(&mut connection).await;
    connection.say(refusal(asked.number, Code::ResourceExhausted, "BUSY")).await;
    let mut frame = connection.next().await;
    let Some(Kind::Note(note)) = frame.reports.remove(0).report.unwrap().kind else { panic!("no note") };
    let value: Value = serde_json::from_str(&inline(note.value)).unwrap();
    assert_eq!(
        (note.name.as_str(), &value["agent"], &value["request"]),
        ("agent.ask", &json!("oracle"), &json!({"q": 2}))
    );
    assert_eq!(value["error"], "RESOURCE_EXHAUSTED: it says why");
    let done = match frame.completed.pop() {
        Some(done) => done,
        None => connection.completed(1).await.remove(0),
    };
    assert_eq!(inline(done.output), r#"[41,"BUSY"]"#);
}

#[tokio::test]
async fn a_worker_asks_from_outside_and_dropping_withdraws() {
    let mut mesh = FakeMesh::start().await;
    let worker = oracle();
    let asker = worker.asker();
    let early = tokio::spawn({
        let asker = asker.clone();
        async move { asker.ask_agent::<Value>("oracle", &1).await }
    });
    let _worker = Running::start(&mesh, worker);
    let mut connection = mesh.attach().await;
    let asked = ask(&mut connection).await;
    connection.say(answer(asked.number, "\"yes\"")).await;
    assert_eq!(early.await.unwrap().unwrap(), json!("yes"), "it waited for the connection");

    let given_up = tokio::spawn({
        let asker = asker.clone();
        async move { asker.ask_agent::<Value>("oracle", &2).await }
    });
    let asked = ask(&mut connection).await;
    given_up.abort();
    assert_eq!(connection.next().await.withdrawn, [asked.number]);

    let misfit = tokio::spawn(async move { asker.ask_agent::<i64>("oracle", &3).await });
    let asked = ask(&mut connection).await;
    connection.say(answer(asked.number, "\"no number\"")).await;
    let misfit = misfit.await.unwrap().unwrap_err();
    assert!(!misfit.retryable && misfit.message.contains("does not fit"), "{misfit:?}");
}

#[tokio::test]
async fn a_broken_connection_fails_what_was_sent() {
    let mut mesh = FakeMesh::start().await;
    let worker = oracle();
    let asker = worker.asker();
    let running = Running::start(&mesh, worker);
    let mut connection = mesh.attach().await;
    let lost = tokio::spawn({
        let asker = asker.clone();
        async move { asker.ask_agent::<Value>("oracle", &1).await }
    });
    ask(&mut connection).await;
    connection.say(inquire(4, "forever", "null")).await;
    connection.fail(Status::unavailable("restarting")).await;
    assert_eq!(lost.await.unwrap().unwrap_err().reason().as_deref(), Some("CONNECTION_LOST"));

    let again = tokio::spawn({
        let asker = asker.clone();
        async move { asker.ask_agent::<Value>("oracle", &2).await }
    });
    let mut connection = mesh.attach().await;
    let frame = connection.next().await;
    assert!(frame.replies.is_empty(), "an inquiry goes with its connection");
    connection.say(answer(frame.asks[0].number, "true")).await;
    assert_eq!(again.await.unwrap().unwrap(), json!(true));

    // After its end a worker asks nothing.
    let Running { stop, life } = running;
    drop(stop);
    while connection.frame().await.is_some_and(|frame| !frame.draining) {}
    drop(connection);
    life.await.unwrap().unwrap();
    let over = asker.ask_agent::<Value>("oracle", &3).await.unwrap_err();
    assert_eq!(over.code, Code::Unavailable, "{over:?}");
}

#[tokio::test]
async fn without_a_mesh_a_request_ends_in_time() {
    let worker = oracle().addr("127.0.0.1:1");
    let asker = worker.asker();
    let life = tokio::spawn(worker.run_until(std::future::pending()));
    let late = asker.ask_agent::<Value>("oracle", &1).timeout(Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(late.code, Code::DeadlineExceeded);
    life.abort();
}

#[tokio::test]
async fn a_client_asks_once() {
    let mesh = FakeMesh::start().await;
    let client = Client::connect(&mesh.addr).unwrap();
    let soon = Duration::from_secs(5);
    let echo: Value = client.ask_agent("echo", &json!({"a": [1]}), soon).await.unwrap();
    assert_eq!(echo, json!({"a": [1]}));
    let begun = std::time::Instant::now();
    let offline = client.ask_agent::<Value>("nobody", &1, soon).await.unwrap_err();
    assert_eq!(offline.code(), Code::Unavailable);
    assert!(begun.elapsed() < soon, "it is not tried again");
}
