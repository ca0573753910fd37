//! The log for others: publish, follow with a filter, come back with a cursor, and find what was refused.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::time::Duration;

use consort_proto::blob::Payload;
use consort_proto::blob::payload::Kind;
use consort_proto::event::{
    Event, EventFilter, ListDeadLettersRequest, PublishRequest, SubscribeRequest, SubscribeResponse, SubscribeStart,
    subscribe_request, subscribe_start,
};
use consort_sdk::{Client, Code, StartOptions, Task, Worker};
use consort_testkit::{CHAIN, Mesh, json_of, run_id, serve, soon};
use futures::channel::mpsc;
use serde_json::{Value, json};
use tonic::Streaming;

fn event(event_type: &str, payload: &str) -> Event {
    let payload = Some(Payload { kind: Some(Kind::Json(payload.into())) });
    Event { event_type: event_type.into(), payload, ..Default::default() }
}

struct Subscriber {
    news: Streaming<SubscribeResponse>,
    /// Kept: a subscriber that closes its side grants no more credit.
    say: mpsc::UnboundedSender<SubscribeRequest>,
}

impl Subscriber {
    async fn start(client: &Client, cursor: i64, types: &[&str], credit: i32) -> Subscriber {
        let filter = EventFilter { event_types: types.iter().map(|&t| t.to_owned()).collect(), ..Default::default() };
        let from = Some(subscribe_start::From::Cursor(cursor));
        let start = SubscribeStart { filter: Some(filter), from, credit, ..Default::default() };
        let (say, said) = mpsc::unbounded();
        say.unbounded_send(SubscribeRequest { kind: Some(subscribe_request::Kind::Start(start)) }).unwrap();
        Subscriber { news: soon(client.events().subscribe(said)).await.unwrap().into_inner(), say }
    }

    async fn next(&mut self) -> (Event, i64) {
        let delivery = soon(self.news.message()).await.unwrap().unwrap();
        (delivery.event.unwrap(), delivery.cursor)
    }

    fn grant(&self, credit: i32) {
        self.say.unbounded_send(SubscribeRequest { kind: Some(subscribe_request::Kind::Credit(credit)) }).unwrap();
    }
}

#[tokio::test]
async fn a_subscriber_goes_on_from_its_cursor_across_a_kill() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply(CHAIN).await.unwrap();
    let _worker = serve(&mesh, Worker::new("w").agent("next", |task: Task| async move { task.input::<Value>() }));
    let options = || StartOptions { wait: Some(Duration::from_secs(20)), ..Default::default() };
    let first = client.start("chain", &json!({"n": 1}), options()).await.unwrap();
    let mut subscriber = Subscriber::start(&client, 0, &["STEP.SUCCEEDED", "RUN.*"], 3).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(subscriber.next().await);
    }
    mesh.kill();
    mesh.restart().await;
    assert!(soon(subscriber.news.message()).await.is_err(), "a broken stream says so");

    let second = client.start("chain", &json!({"n": 2}), options()).await.unwrap();
    let mut subscriber = Subscriber::start(&client, seen[2].1, &["STEP.SUCCEEDED", "RUN.*"], 1).await;
    for _ in 0..7 {
        seen.push(subscriber.next().await);
        subscriber.grant(1);
    }
    let types: Vec<&str> = seen.iter().map(|(event, _)| event.event_type.as_str()).collect();
    let one = ["RUN.STARTED", "STEP.SUCCEEDED", "STEP.SUCCEEDED", "STEP.SUCCEEDED", "RUN.SUCCEEDED"];
    assert_eq!(types, [one, one].concat());
    assert!(seen.windows(2).all(|pair| pair[0].1 <= pair[1].1), "cursors grow");

    for (event, _) in &seen {
        let run = if event.correlation_id == run_id(&first.name).to_string() { &first.name } else { &second.name };
        assert_eq!(event.correlation_id, run_id(run).to_string());
        assert!(event.subject.starts_with(run.as_str()), "{event:?}");
        assert!(uuid::Uuid::parse_str(&event.event_id).is_ok() && event.event_version >= 1, "{event:?}");
        assert!(!event.source.is_empty() && !event.instance.is_empty() && event.timestamp.is_some(), "{event:?}");
        assert_eq!(event.namespace, "namespaces/default");
        assert!(json_of(event.payload.as_ref()).is_object(), "{event:?}");
    }
    let ids: std::collections::BTreeSet<&str> = seen.iter().map(|(event, _)| event.event_id.as_str()).collect();
    assert_eq!(ids.len(), seen.len(), "every event has an id of its own");
}

#[tokio::test]
async fn what_was_published_is_kept_and_a_repeat_is_published_once() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    let id = uuid::Uuid::new_v4().to_string();
    let payload = r#"{"order_id": "7", "total": 12.5}"#;
    let order = Event { event_id: id.clone(), subject: "order 7".into(), ..event("ORDER.VALIDATED", payload) };
    let request = PublishRequest { events: vec![order], ..Default::default() };
    let published = client.events().publish(request.clone()).await.unwrap().into_inner();
    assert_eq!(published.event_ids, std::slice::from_ref(&id));
    mesh.kill();
    mesh.restart().await;
    client.events().publish(request).await.unwrap();
    client
        .events()
        .publish(PublishRequest { events: vec![event("ORDER.PAID", "{}")], ..Default::default() })
        .await
        .unwrap();
    let mut subscriber = Subscriber::start(&client, 0, &["ORDER.*"], 10).await;
    let (first, cursor) = subscriber.next().await;
    assert_eq!((first.event_id.as_str(), first.subject.as_str()), (id.as_str(), "order 7"));
    assert_eq!(json_of(first.payload.as_ref()), json!({"order_id": "7", "total": 12.5}));
    assert_eq!(cursor, published.cursor);
    assert_eq!(subscriber.next().await.0.event_type, "ORDER.PAID", "the repeat was published once");
}

#[tokio::test]
async fn what_breaks_the_contract_is_kept_as_a_dead_letter_with_its_reason() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    let bad =
        PublishRequest { events: vec![event("lower.case", "{}"), event("ORDER.PAID", "{}")], ..Default::default() };
    assert_eq!(client.events().publish(bad).await.unwrap_err().code(), Code::InvalidArgument);
    mesh.kill();
    mesh.restart().await;
    let letters = client.events().list_dead_letters(ListDeadLettersRequest::default()).await.unwrap().into_inner();
    assert_eq!(letters.dead_letters.len(), 1);
    let letter = &letters.dead_letters[0];
    assert_eq!(letter.event.as_ref().unwrap().event_type, "lower.case");
    assert!(letter.reason.contains("event_type") && letter.create_time.is_some(), "{letter:?}");
    // Nothing of the refused batch was published.
    client
        .events()
        .publish(PublishRequest { events: vec![event("LAST.ONE", "{}")], ..Default::default() })
        .await
        .unwrap();
    let mut subscriber = Subscriber::start(&client, 0, &[], 10).await;
    assert_eq!(subscriber.next().await.0.event_type, "LAST.ONE");
}
