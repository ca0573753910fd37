//! Requests between workers, as they see them on the wire.

use std::time::Duration;

use consort_api::Limits;
use consort_proto::agent::agent_service_client::AgentServiceClient;
use consort_proto::agent::worker_service_client::WorkerServiceClient;
use consort_proto::agent::{
    AnswerOffer, Ask, AskAgentRequest, ConnectRequest, ConnectResponse, GetAgentRequest, Hello, Inquiry, LeaseRef,
    Reply,
};
use consort_proto::blob::{Payload, payload::Kind};
use consort_proto::google::rpc;
use futures::channel::mpsc;
use prost::Message as _;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::server::{Server, soon};

/// A worker that the test plays.
struct Party {
    say: mpsc::UnboundedSender<ConnectRequest>,
    hear: Streaming<ConnectResponse>,
}

impl Party {
    async fn join(server: &Server, number: u8, answers: &[&str]) -> Party {
        let offer = |agent: &&str| AnswerOffer { agent: (*agent).into(), at_once: 1, ..Default::default() };
        let hello = Hello {
            worker_id: format!("w{number}"),
            session_id: format!("01939d0e-6f6b-7c3a-8a52-0123456789{number:02}"),
            min_protocol: 1,
            max_protocol: 1,
            answers: answers.iter().map(offer).collect(),
            ..Default::default()
        };
        let (say, said) = mpsc::unbounded();
        say.unbounded_send(ConnectRequest { hello: Some(hello), ..Default::default() }).unwrap();
        let mut workers = WorkerServiceClient::new(server.channel().await);
        let mut hear = workers.connect(said).await.unwrap().into_inner();
        assert!(soon(hear.message()).await.unwrap().unwrap().welcome.is_some());
        Party { say, hear }
    }

    fn ask(&self, ask: Ask) {
        self.say.unbounded_send(ConnectRequest { asks: vec![ask], ..Default::default() }).unwrap();
    }

    fn reply(&self, reply: Reply) {
        self.say.unbounded_send(ConnectRequest { replies: vec![reply], ..Default::default() }).unwrap();
    }

    async fn frame(&mut self) -> Result<ConnectResponse, Status> {
        soon(self.hear.message()).await.map(|frame| frame.expect("the stream is open"))
    }

    async fn inquiry(&mut self) -> Inquiry {
        self.frame().await.unwrap().inquiries.remove(0)
    }

    /// The reason of the refusal that comes next.
    async fn refusal(&mut self) -> (u64, i32, String) {
        let reply = self.frame().await.unwrap().replies.remove(0);
        let error = reply.error.unwrap();
        let info = tonic_types::pb::ErrorInfo::decode(error.details[0].value.as_slice()).unwrap();
        (reply.number, error.code, info.reason)
    }
}

#[allow(clippy::unnecessary_wraps)] // the fields of messages are optional
fn json(text: impl Into<String>) -> Option<Payload> {
    Some(Payload { kind: Some(Kind::Json(text.into())) })
}

fn to(agent: &str, number: u64) -> Ask {
    Ask { number, agent: agent.into(), payload: json("1"), ..Default::default() }
}

fn asking(agent: &str) -> AskAgentRequest {
    AskAgentRequest { name: format!("namespaces/default/agents/{agent}"), payload: json("{\"n\": 1}") }
}

#[tokio::test]
async fn requests_and_replies_cross_with_their_context() {
    let server = Server::start(Limits::default()).await;
    let mut asker = Party::join(&server, 1, &["asker"]).await;
    let mut oracle = Party::join(&server, 2, &["oracle"]).await;
    let task = "namespaces/default/runs/01939d0e-6f6b-7c3a-8a52-0123456789ab/steps/cost/attempts/1".to_owned();
    asker.ask(Ask { lease: Some(LeaseRef { task: task.clone(), lease_token: 3 }), ..to("oracle", 9) });
    let inquiry = oracle.inquiry().await;
    assert_eq!((inquiry.agent.as_str(), inquiry.asker.as_str(), inquiry.depth), ("oracle", "w1", 1));
    assert_eq!((inquiry.task, inquiry.payload), (task, json("1")));
    oracle.reply(Reply { number: inquiry.number, answer: json("[1,2]"), ..Default::default() });
    let reply = asker.frame().await.unwrap().replies.remove(0);
    assert_eq!((reply.number, reply.answer, reply.error), (9, json("[1,2]"), None));

    let error = rpc::Status { code: 5, message: "no such thing".into(), details: Vec::new() };
    asker.ask(to("oracle", 10));
    let number = oracle.inquiry().await.number;
    oracle.reply(Reply { number, error: Some(error.clone()), retryable: true, ..Default::default() });
    let reply = asker.frame().await.unwrap().replies.remove(0);
    assert_eq!((reply.error, reply.retryable), (Some(error), true));

    let mut agents = AgentServiceClient::new(server.channel().await);
    let name = asking("oracle").name;
    let agent = agents.get_agent(GetAgentRequest { name }).await.unwrap().into_inner();
    let metrics = agent.metrics.unwrap();
    assert_eq!((agent.workers.len(), metrics.requests_answered, metrics.requests_failed), (1, 1, 1));
}

#[tokio::test]
async fn a_bad_request_costs_itself() {
    let server = Server::start(Limits::default()).await;
    let mut asker = Party::join(&server, 1, &["asker"]).await;
    let mut oracle = Party::join(&server, 2, &["oracle"]).await;
    let long = prost_types::Duration { seconds: 601, nanos: 0 };
    let blob = consort_proto::blob::BlobRef { sha256: "0".repeat(64), ..Default::default() };
    let lease = LeaseRef { task: "cost".into(), lease_token: 1 };
    for (ask, reason) in [
        (to("a b", 1), "BAD_REQUEST"),
        (Ask { payload: json("{"), ..to("oracle", 1) }, "BAD_REQUEST"),
        (Ask { payload: json(format!("\"{}\"", "x".repeat(65_536))), ..to("oracle", 1) }, "BAD_REQUEST"),
        (Ask { payload: Some(Payload { kind: Some(Kind::Blob(blob)) }), ..to("oracle", 1) }, "BAD_REQUEST"),
        (Ask { timeout: Some(long), ..to("oracle", 1) }, "BAD_REQUEST"),
        (Ask { timeout: Some(prost_types::Duration { seconds: -1, nanos: 0 }), ..to("oracle", 1) }, "BAD_REQUEST"),
        (Ask { lease: Some(lease), ..to("oracle", 1) }, "BAD_REQUEST"),
        (Ask { within: 77, ..to("oracle", 1) }, "INQUIRY_OVER"),
        (to("nobody", 1), "AGENT_OFFLINE"),
    ] {
        asker.ask(ask.clone());
        let (number, _, found) = asker.refusal().await;
        assert_eq!((number, found.as_str()), (1, reason), "{ask:?}");
    }
    // So does an answer that is none.
    asker.ask(to("oracle", 2));
    let number = oracle.inquiry().await.number;
    oracle.reply(Reply { number, answer: json("nonsense"), ..Default::default() });
    assert_eq!(asker.refusal().await, (2, Code::Internal as i32, "BAD_ANSWER".into()));
    // A number that is open already leaves nothing that could be answered.
    asker.ask(to("oracle", 3));
    asker.ask(to("oracle", 3));
    assert_eq!(asker.frame().await.unwrap_err().code(), Code::InvalidArgument);
    let first = oracle.frame().await.unwrap();
    let withdrawn = if first.withdrawn.is_empty() { oracle.frame().await.unwrap().withdrawn } else { first.withdrawn };
    assert_eq!(withdrawn, [first.inquiries[0].number], "its end is told to who answers");
}

#[tokio::test]
async fn a_client_asks_and_gets_the_answer_or_the_handlers_own_error() {
    let server = Server::start(Limits::default()).await;
    let mut oracle = Party::join(&server, 2, &["oracle"]).await;
    let mut agents = AgentServiceClient::new(server.channel().await);
    let mut other = agents.clone();
    let asked = tokio::spawn(async move { other.ask_agent(asking("oracle")).await });
    let inquiry = oracle.inquiry().await;
    assert_eq!((inquiry.asker.as_str(), inquiry.payload), ("", json("{\"n\": 1}")));
    assert!((28..=30).contains(&inquiry.timeout.unwrap().seconds));
    oracle.reply(Reply { number: inquiry.number, answer: json("2"), ..Default::default() });
    assert_eq!(asked.await.unwrap().unwrap().into_inner().answer, json("2"));

    let mut other = agents.clone();
    let asked = tokio::spawn(async move { other.ask_agent(asking("oracle")).await });
    let number = oracle.inquiry().await.number;
    let error = rpc::Status { code: 9, message: "the till is closed".into(), details: Vec::new() };
    oracle.reply(Reply { number, error: Some(error), ..Default::default() });
    let failed = asked.await.unwrap().unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::FailedPrecondition, "the till is closed"));
    assert_eq!(failed.get_details_error_info().unwrap().reason, "AGENT_FAILED");

    let offline = agents.ask_agent(asking("nobody")).await.unwrap_err();
    assert_eq!(offline.code(), Code::Unavailable);
    assert_eq!(offline.get_details_error_info().unwrap().reason, "AGENT_OFFLINE");
    assert!(offline.message().contains("hello.answers"), "{}", offline.message());
    let bad = agents.ask_agent(AskAgentRequest { name: "oracle".into(), payload: None }).await.unwrap_err();
    assert_eq!(bad.get_details_bad_request().unwrap().field_violations[0].field, "name");
}

#[tokio::test]
async fn a_deadline_and_a_lost_answerer_are_told() {
    let server = Server::start(Limits::default()).await;
    let mut oracle = Party::join(&server, 2, &["oracle"]).await;
    let mut agents = AgentServiceClient::new(server.channel().await);
    let mut hurried = Request::new(asking("oracle"));
    hurried.metadata_mut().insert("grpc-timeout", "2S".parse().unwrap());
    let late = soon(agents.ask_agent(hurried)).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert_eq!(late.get_details_error_info().unwrap().reason, "DEADLINE_EXCEEDED");
    let first = oracle.frame().await.unwrap();
    let number = first.inquiries[0].number;
    let withdrawn = if first.withdrawn.is_empty() { oracle.frame().await.unwrap().withdrawn } else { first.withdrawn };
    assert_eq!(withdrawn, [number]);
    oracle.reply(Reply { number, ..Default::default() });

    let mut other = agents.clone();
    let asked = tokio::spawn(async move { other.ask_agent(asking("oracle")).await });
    oracle.inquiry().await;
    let mut other = agents.clone();
    let waits = tokio::spawn(async move { other.ask_agent(asking("oracle")).await });
    let begun = std::time::Instant::now();
    drop(oracle);
    let reasons = [asked, waits]
        .map(|call| async { soon(call).await.unwrap().unwrap_err().get_details_error_info().unwrap().reason });
    let reasons = futures::future::join_all(reasons).await;
    assert_eq!(reasons, ["ANSWERER_LOST", "AGENT_OFFLINE"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "at once");
}
