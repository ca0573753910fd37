//! Groups and dead letters against a mesh that the tests play.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use consort_proto::blob::{Payload, payload};
use consort_proto::event::event_service_server::{EventService, EventServiceServer};
use consort_proto::event::subscribe_request::Kind;
use consort_proto::event::*;
use consort_sdk::{Client, Code, Delivery, GroupOptions, TaskError};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

const SOON: Duration = Duration::from_secs(20);

/// Hands each subscription to the test.
struct Fake(mpsc::Sender<Member>);

/// The mesh's end of a subscription.
struct Member {
    start: SubscribeStart,
    say: mpsc::Sender<Result<SubscribeResponse, Status>>,
    hear: Streaming<SubscribeRequest>,
}

impl Member {
    async fn deliver(&self, delivery_id: i64, json: &str) {
        let payload = Some(Payload { kind: Some(payload::Kind::Json(json.into())) });
        let event = Some(Event { event_type: "ORDER.PAID".into(), payload, ..Default::default() });
        self.say
            .send(Ok(SubscribeResponse { event, cursor: 10 + delivery_id, delivery_id, attempt: 2 }))
            .await
            .unwrap();
    }

    /// The next message; nothing when the member has closed its side.
    async fn settled(&mut self) -> Option<Settle> {
        match timeout(SOON, self.hear.message()).await.expect("the member says something").ok()??.kind {
            Some(Kind::Settle(settle)) => Some(settle),
            other => panic!("{other:?} settles nothing"),
        }
    }

    /// What becomes of this many deliveries: those that are done, and those that are refused, by number.
    async fn outcome(&mut self, count: usize) -> (Vec<i64>, Vec<Refusal>) {
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        while done.len() + refused.len() < count {
            let settle = self.settled().await.expect("the member's side is open");
            done.extend(settle.done);
            refused.extend(settle.refused);
        }
        done.sort_unstable();
        refused.sort_by_key(|refusal| refusal.delivery_id);
        (done, refused)
    }

    async fn fail(self, status: Status) {
        self.say.send(Err(status)).await.unwrap();
    }
}

struct FakeMesh {
    client: Client,
    members: mpsc::Receiver<Member>,
}

impl FakeMesh {
    async fn start() -> FakeMesh {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::connect(listener.local_addr().unwrap().to_string()).unwrap();
        let (sender, members) = mpsc::channel(8);
        let server = tonic::transport::Server::builder()
            .add_service(EventServiceServer::new(Fake(sender)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        FakeMesh { client, members }
    }

    /// The next subscription, with deliveries 1 to `count` whose payloads are their numbers.
    async fn member(&mut self, count: i64) -> Member {
        let member = self.subscribed().await;
        for id in 1..=count {
            member.deliver(id, &id.to_string()).await;
        }
        member
    }

    async fn subscribed(&mut self) -> Member {
        timeout(SOON, self.members.recv()).await.expect("a member subscribes").unwrap()
    }
}

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl EventService for Fake {
    type SubscribeStream = Frames<SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut hear = request.into_inner();
        let Some(SubscribeRequest { kind: Some(Kind::Start(start)) }) = hear.message().await? else {
            return Err(Status::invalid_argument("the first message has no start"));
        };
        let (say, said) = mpsc::channel(64);
        let _ = self.0.send(Member { start, say, hear }).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }

    async fn publish(&self, _: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_groups(&self, _: Request<ListGroupsRequest>) -> Result<Response<ListGroupsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_group(&self, _: Request<DeleteGroupRequest>) -> Result<Response<DeleteGroupResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_event_types(
        &self,
        _: Request<ListEventTypesRequest>,
    ) -> Result<Response<ListEventTypesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        assert_eq!(request.into_inner().page_size, 9);
        let letter = DeadLetter { id: "x".into(), reason: "amount: missing".into(), ..Default::default() };
        Ok(Response::new(ListDeadLettersResponse { dead_letters: vec![letter], next_page_token: String::new() }))
    }

    async fn requeue_dead_letters(
        &self,
        request: Request<RequeueDeadLettersRequest>,
    ) -> Result<Response<RequeueDeadLettersResponse>, Status> {
        let request = request.into_inner();
        assert_eq!(request.request_id.len(), 36);
        let error = |id: &str| if id == "x" { "" } else { "no such letter" }.to_owned();
        let results = request.ids.into_iter().map(|id| Requeued { error: error(&id), id }).collect();
        Ok(Response::new(RequeueDeadLettersResponse { results }))
    }
}

#[tokio::test]
async fn a_member_says_what_it_wants() {
    let mut mesh = FakeMesh::start().await;
    let options = GroupOptions {
        event_types: vec!["ORDER.*".into()],
        after: Some(0),
        ack_timeout: Some(Duration::from_secs(5)),
        max_attempts: 3,
        in_hand: 4,
        ..Default::default()
    };
    for options in [options, GroupOptions::default()] {
        let is_plain = options.in_hand == 0;
        let mut group = mesh.client.group("billing", options);
        let (member, _) = tokio::join!(mesh.member(1), group.next());
        let start = member.start;
        assert_eq!((start.group.as_str(), start.parent.as_str()), ("billing", "namespaces/default"));
        if is_plain {
            let left_out = (start.filter, start.from, start.ack_timeout, start.max_attempts, start.credit);
            assert_eq!(left_out, (None, None, None, 0, 16));
        } else {
            assert_eq!(start.filter.unwrap().event_types, ["ORDER.*"]);
            assert_eq!(start.from, Some(subscribe_start::From::Cursor(0)));
            assert_eq!((start.ack_timeout.unwrap().seconds, start.max_attempts, start.credit), (5, 3, 4));
        }
    }
}

#[tokio::test]
async fn each_delivery_is_settled_once() {
    let mut mesh = FakeMesh::start().await;
    let mut group = mesh.client.group("billing", GroupOptions::default());
    let (mut member, first) = tokio::join!(mesh.member(4), group.next());
    let first = first.unwrap();
    assert_eq!((first.event.event_type.as_str(), first.cursor, first.attempt), ("ORDER.PAID", 11, 2));
    assert_eq!(first.payload::<i64>().await.unwrap(), 1);
    let misfit = first.payload::<Vec<String>>().await.unwrap_err();
    assert_eq!((misfit.code, misfit.retryable), (Code::InvalidArgument, false));
    first.done();
    group.next().await.unwrap().refuse("no such order", true);
    group.next().await.unwrap().refuse("the bank is closed", false);
    drop(group.next().await.unwrap());
    let (done, refused) = member.outcome(4).await;
    assert_eq!(done, [1]);
    let refused: Vec<_> = refused.iter().map(|it| (it.delivery_id, it.reason.as_str(), it.r#final)).collect();
    let dropped = "the subscriber dropped it without settling it";
    assert_eq!(refused, [(2, "no such order", true), (3, "the bank is closed", false), (4, dropped, false)]);
}

#[tokio::test]
async fn a_broken_connection_is_made_again_and_forgets_what_it_delivered() {
    let mut mesh = FakeMesh::start().await;
    let mut group = mesh.client.group("billing", GroupOptions::default());
    let (member, old) = tokio::join!(mesh.member(1), group.next());
    let before = member.start.clone();
    member.fail(Status::unavailable("restarting")).await;
    let (mut member, new) = tokio::join!(mesh.member(1), group.next());
    assert_eq!(member.start, before, "it joins the same group in the same way");
    // The same number on another connection is another delivery: only the new one is settled.
    old.unwrap().refuse("too late", true);
    new.unwrap().done();
    let settled = member.settled().await.unwrap();
    assert_eq!((settled.done.as_slice(), settled.refused.len()), ([1].as_slice(), 0));
    // A member that was too slow may come back, and a mesh that shuts down may end the stream in good order.
    member.fail(Status::resource_exhausted("took nothing for 10 s")).await;
    let (member, _) = tokio::join!(mesh.member(1), group.next());
    drop(member);
    tokio::join!(mesh.member(1), group.next()).1.unwrap();
}

#[tokio::test]
async fn a_refusal_ends_the_stream() {
    let mut mesh = FakeMesh::start().await;
    let stream = mesh.client.group("billing", GroupOptions::default()).into_stream();
    let all = tokio::spawn(stream.map_ok(Delivery::done).collect::<Vec<_>>());
    let mut member = mesh.member(2).await;
    assert_eq!(member.outcome(2).await.0, [1, 2]);
    member.fail(Status::failed_precondition("group `billing` has another filter")).await;
    let all = timeout(SOON, all).await.unwrap().unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(all[2].as_ref().unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn next_may_be_dropped_and_called_again() {
    let mut mesh = FakeMesh::start().await;
    let mut group = mesh.client.group("billing", GroupOptions::default());
    let member = tokio::select! {
        member = mesh.subscribed() => member,
        _ = group.next() => panic!("nothing was delivered"),
    };
    // The subscription may be dropped before its answer came; then there is another one.
    drop(member);
    let (_member, delivery) = tokio::join!(mesh.member(1), group.next());
    assert_eq!(delivery.unwrap().payload::<i64>().await.unwrap(), 1);
}

#[tokio::test]
async fn closing_says_what_was_settled() {
    let mut mesh = FakeMesh::start().await;
    let mut group = mesh.client.group("billing", GroupOptions::default());
    let (mut member, delivery) = tokio::join!(mesh.member(2), group.next());
    let closing = tokio::spawn(async move {
        delivery.unwrap().done();
        group.close().await;
    });
    assert_eq!(member.settled().await.unwrap().done, [1]);
    assert_eq!(member.settled().await, None, "the member closes its side");
    drop(member);
    timeout(SOON, closing).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_handler_runs_for_each_event_and_its_end_settles_it() {
    let mut mesh = FakeMesh::start().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let client = mesh.client.clone();
    let serving = tokio::spawn(async move {
        let handler = |delivery: Delivery| async move {
            match delivery.payload::<i64>().await? {
                1 => Ok(()),
                2 => Err(TaskError::bad_input("amount", "is negative")),
                3 => Err("the bank is closed".into()),
                4 => panic!("the roof is on fire"),
                _ => {
                    delivery.refuse("by itself", true);
                    Ok(())
                }
            }
        };
        let shutdown = async { stopped.await.unwrap_or(()) };
        client.serve_group("billing", GroupOptions::default(), handler, shutdown).await
    });
    let mut member = mesh.member(5).await;
    let (done, refused) = member.outcome(5).await;
    assert_eq!(done, [1]);
    let refused: Vec<_> = refused.iter().map(|it| (it.delivery_id, it.reason.as_str(), it.r#final)).collect();
    let expected = [
        (2, "INVALID_ARGUMENT: amount: is negative", true),
        (3, "UNKNOWN: the bank is closed", false),
        (4, "INTERNAL: the handler panicked: the roof is on fire", false),
        (5, "by itself", true),
    ];
    assert_eq!(refused, expected);
    stop.send(()).unwrap();
    assert_eq!(member.settled().await, None);
    drop(member);
    timeout(SOON, serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_finishes_the_handlers_in_hand_and_takes_no_more() {
    let mut mesh = FakeMesh::start().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let (begun, go, calls) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (begin, gate, count) = (begun.clone(), go.clone(), calls.clone());
    let client = mesh.client.clone();
    let serving = tokio::spawn(async move {
        let handler = move |_: Delivery| {
            let (begin, gate) = (begin.clone(), gate.clone());
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                begin.notify_one();
                gate.notified().await;
                Ok(())
            }
        };
        let options = GroupOptions { in_hand: 1, ..Default::default() };
        client.serve_group("billing", options, handler, async { stopped.await.unwrap_or(()) }).await
    });
    let mut member = mesh.member(2).await;
    timeout(SOON, begun.notified()).await.unwrap();
    stop.send(()).unwrap();
    go.notify_one();
    assert_eq!(member.outcome(1).await.0, [1]);
    assert_eq!(member.settled().await, None);
    drop(member);
    timeout(SOON, serving).await.unwrap().unwrap().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn dead_letters_are_listed_and_tried_again() {
    let mesh = FakeMesh::start().await;
    let letters = mesh.client.list_dead_letters(9).await.unwrap();
    assert_eq!((letters[0].id.as_str(), letters[0].reason.as_str()), ("x", "amount: missing"));
    let results = mesh.client.requeue_dead_letters(["x", "y"]).await.unwrap();
    let results: Vec<_> = results.iter().map(|it| (it.id.as_str(), it.error.as_str())).collect();
    assert_eq!(results, [("x", ""), ("y", "no such letter")]);
}
