//! What the services promise, as a client sees it.

use consort_api::Limits;
use consort_proto::agent::worker_service_client::WorkerServiceClient;
use consort_proto::agent::{AgentOffer, ConnectRequest, Hello, SlotOffer};
use consort_proto::blob::blob_service_client::BlobServiceClient;
use consort_proto::blob::{DownloadRequest, Payload, UploadRequest, payload};
use consort_proto::event::event_service_client::EventServiceClient;
use consort_proto::event::{
    Event, EventFilter, ListDeadLettersRequest, PublishRequest, SubscribeRequest, SubscribeStart, subscribe_request,
    subscribe_start,
};
use consort_proto::orchestrator::orchestrator_service_client::OrchestratorServiceClient;
use consort_proto::orchestrator::{GetRunRequest, ListRunsRequest};
use futures::StreamExt as _;
use futures::stream;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::server::{Server, soon};

pub(crate) fn hello() -> ConnectRequest {
    let hello = Hello {
        worker_id: "w1".into(),
        session_id: "01939d0e-6f6b-7c3a-8a52-0123456789ab".into(),
        min_protocol: 1,
        max_protocol: 1,
        agents: vec![AgentOffer { agent: "cost".into(), ..Default::default() }],
        slots: vec![SlotOffer { slot: String::new(), credits: 2 }],
        ..Default::default()
    };
    ConnectRequest { hello: Some(hello), ..Default::default() }
}

fn event(event_type: &str, payload: &str) -> Event {
    let payload = Payload { kind: Some(payload::Kind::Json(payload.into())) };
    Event { event_type: event_type.into(), payload: Some(payload), ..Default::default() }
}

#[tokio::test]
async fn errors_carry_their_details() {
    let server = Server::start(Limits::default()).await;
    let mut runs = OrchestratorServiceClient::new(server.channel().await);

    let bad = runs.get_run(GetRunRequest { name: "runs/1".into() }).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    assert_eq!(bad.get_details_bad_request().unwrap().field_violations[0].field, "name");

    let name = "namespaces/default/runs/01939d0e-6f6b-7c3a-8a52-0123456789ab".to_owned();
    let missing = runs.get_run(GetRunRequest { name }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.get_details_error_info().unwrap().domain, "consort.dev");

    let mut hurried = Request::new(ListRunsRequest::default());
    hurried.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    assert_eq!(runs.list_runs(hurried).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_message_over_the_limit_is_resource_exhausted() {
    let server = Server::start(Limits::default()).await;
    let mut events = EventServiceClient::new(server.channel().await);
    let huge = PublishRequest { events: vec![event("ORDER.X", &"x".repeat(5 << 20))], ..Default::default() };
    let refused = events.publish(huge).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert_eq!(refused.get_details_error_info().unwrap().reason, "MESSAGE_TOO_LARGE");
}

#[tokio::test]
async fn published_events_reach_subscribers_and_refused_ones_become_dead_letters() {
    let server = Server::start(Limits::default()).await;
    let mut events = EventServiceClient::new(server.channel().await);
    let batch = PublishRequest {
        events: vec![event("ORDER.MADE", "{\"n\": 1}"), event("NOISE", "{}"), event("ORDER.PAID", "{}")],
        ..Default::default()
    };
    let published = events.publish(batch).await.unwrap().into_inner();
    assert_eq!(published.event_ids.len(), 3);

    let start = SubscribeStart {
        filter: Some(EventFilter { event_types: vec!["ORDER.*".into()], ..Default::default() }),
        from: Some(subscribe_start::From::Cursor(0)),
        credit: 1,
        ..Default::default()
    };
    let (say, said) = futures::channel::mpsc::unbounded();
    say.unbounded_send(SubscribeRequest { kind: Some(subscribe_request::Kind::Start(start)) }).unwrap();
    let mut news = events.subscribe(said).await.unwrap().into_inner();
    let first = soon(news.message()).await.unwrap().unwrap();
    assert_eq!(first.event.unwrap().event_id, published.event_ids[0]);
    say.unbounded_send(SubscribeRequest { kind: Some(subscribe_request::Kind::Credit(1)) }).unwrap();
    let second = soon(news.message()).await.unwrap().unwrap();
    assert_eq!(second.event.unwrap().event_id, published.event_ids[2]);
    assert_eq!(second.cursor, published.cursor);
    // Who closes his side has granted all he will: the stream ends when that is used up.
    drop(say);
    assert!(soon(news.message()).await.unwrap().is_none());

    let bad =
        PublishRequest { events: vec![event("ORDER.MADE", "{}"), event("RUN.MADE", "[1]")], ..Default::default() };
    let refused = events.publish(bad).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let fields: Vec<_> =
        refused.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
    assert_eq!(fields, ["events[1].event_type", "events[1].payload"]);
    let letters = events.list_dead_letters(ListDeadLettersRequest::default()).await.unwrap().into_inner().dead_letters;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].event.as_ref().unwrap().event_type, "RUN.MADE");
    assert!(letters[0].reason.contains("belongs to the mesh"), "{}", letters[0].reason);
}

#[tokio::test]
async fn blobs_come_back_from_any_offset() {
    let server = Server::start(Limits { blob: 300_000, ..Limits::default() }).await;
    let mut blobs = BlobServiceClient::new(server.channel().await);
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let part = |chunk: &[u8]| UploadRequest { chunk: chunk.to_vec().into(), ..Default::default() };
    let parts = [part(&bytes[..150_000]), part(&bytes[150_000..])];
    let blob = blobs.upload(stream::iter(parts.clone())).await.unwrap().into_inner().blob.unwrap();
    assert_eq!((blob.size_bytes, blob.media_type.as_str()), (200_000, "application/octet-stream"));

    let name = format!("blobs/{}", blob.sha256);
    let download = blobs.download(DownloadRequest { name: name.clone(), offset: 10 }).await.unwrap().into_inner();
    let chunks: Vec<_> = download.map(|chunk| chunk.unwrap().chunk).collect().await;
    assert!(chunks.iter().all(|chunk| chunk.len() <= 64 * 1024));
    assert_eq!(chunks.concat(), &bytes[10..]);

    let beyond = blobs.download(DownloadRequest { name, offset: 200_001 }).await.unwrap_err();
    assert_eq!(beyond.code(), Code::OutOfRange);
    let wrong = UploadRequest { sha256: "0".repeat(64), ..parts[0].clone() };
    let refused = blobs.upload(stream::iter([wrong])).await.unwrap_err();
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "sha256");
    let large = blobs.upload(stream::iter([parts[0].clone(), parts[0].clone(), parts[0].clone()])).await.unwrap_err();
    assert_eq!(large.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_worker_must_begin_with_hello() {
    let limits = Limits { first_request: std::time::Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(limits).await;
    let mut workers = WorkerServiceClient::new(server.channel().await);
    let refused = workers.connect(stream::iter([ConnectRequest::default()])).await.unwrap_err();
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "hello");
    let silent = soon(workers.connect(stream::pending::<ConnectRequest>())).await.unwrap_err();
    assert_eq!(silent.code(), Code::DeadlineExceeded);

    let mut future = hello();
    future.hello.as_mut().unwrap().min_protocol = 2;
    future.hello.as_mut().unwrap().max_protocol = 3;
    let refused = workers.connect(stream::iter([future])).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);

    let twice = stream::iter([hello(), hello()]);
    let mut frames = workers.connect(twice.chain(stream::pending())).await.unwrap().into_inner();
    assert_eq!(soon(frames.message()).await.unwrap().unwrap().welcome.unwrap().protocol, 1);
    assert_eq!(soon(frames.message()).await.unwrap_err().code(), Code::InvalidArgument);
}
