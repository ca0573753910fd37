//! Frames that no client of ours would send: the server answers each with a status that has details, and lives on.
//!
//! `CASES=10000 cargo test -p consort-api --test wire fuzz` tries more; a failing case prints its seed.

use consort_api::Limits;
use consort_proto::agent::agent_service_client::AgentServiceClient;
use consort_proto::agent::worker_service_client::WorkerServiceClient;
use consort_proto::agent::{self as wire, ConnectRequest, Hello, LeaseRef};
use consort_proto::blob::{BlobRef, Payload, payload::Kind};
use consort_proto::event::event_service_client::EventServiceClient;
use consort_proto::event::{
    Event, PublishRequest, SubscribeRequest, SubscribeStart, subscribe_request, subscribe_start,
};
use consort_proto::orchestrator::ListRunsRequest;
use consort_proto::orchestrator::orchestrator_service_client::OrchestratorServiceClient;
use futures::StreamExt as _;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::server::{Server, soon};

fn cases() -> u64 {
    std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150)
}

/// Texts that have broken parsers before.
const TEXTS: [&str; 20] = [
    "",
    "x",
    "namespaces/default",
    "namespaces/../default",
    "namespaces/default/runs/00000000-0000-0000-0000-000000000000",
    "namespaces/default/runs/00000000-0000-0000-0000-000000000000/steps/a/attempts/1",
    "namespaces/default/runs/00000000-0000-0000-0000-000000000000/steps/a[4294967295]/attempts/4294967295",
    "namespaces/default/runs/00000000-0000-0000-0000-000000000000/steps/a[99999999999]/attempts/-1",
    "00000000-0000-0000-0000-000000000000",
    "\0\u{1}\u{7f}",
    "é🦀\u{202e}",
    "${{ inputs.x }}",
    "'; DROP TABLE log; --",
    "*",
    "RUN.STARTED",
    "ORDER.VALIDATED",
    "default",
    "9223372036854775808",
    "{\"a\": [1, 2",
    "null",
];

struct Dice(SmallRng);

impl Dice {
    fn text(&mut self) -> String {
        match self.0.random_range(0..10) {
            0 => "n".repeat(self.0.random_range(0..3_000)),
            1 => (0..self.0.random_range(0..40)).map(|_| self.0.random::<char>()).collect(),
            _ => (*TEXTS.choose(&mut self.0).unwrap()).to_owned(),
        }
    }

    fn int(&mut self) -> i32 {
        *[0, 1, -1, 2, 255, 10_000, 10_001, i32::MAX, i32::MIN].choose(&mut self.0).unwrap()
    }

    fn some(&mut self) -> bool {
        self.0.random_range(0..3) > 0
    }

    fn lease(&mut self) -> Option<LeaseRef> {
        self.some().then(|| LeaseRef { task: self.text(), lease_token: self.0.random() })
    }

    fn payload(&mut self) -> Option<Payload> {
        let kind = match self.0.random_range(0..5) {
            0 => return None,
            1 => None,
            2 => Some(Kind::Json("[".repeat(self.0.random_range(0..20_000)))),
            3 => Some(Kind::Json(self.text())),
            _ => Some(Kind::Blob(BlobRef {
                sha256: self.text(),
                size_bytes: i64::from(self.int()),
                media_type: self.text(),
            })),
        };
        Some(Payload { kind })
    }

    fn duration(&mut self) -> Option<prost_types::Duration> {
        self.some().then(|| prost_types::Duration { seconds: i64::from(self.int()), nanos: self.int() })
    }

    fn question(&mut self) -> Option<wire::Question> {
        self.some().then(|| wire::Question {
            title: self.text(),
            description: self.text(),
            options: (0..self.0.random_range(0..4)).map(|_| self.text()).collect(),
            form: self.payload(),
            deadline: self.duration(),
            default_option: self.text(),
        })
    }

    fn frame(&mut self) -> ConnectRequest {
        let mut frame = ConnectRequest { draining: self.0.random_range(0..20) == 0, ..Default::default() };
        for _ in 0..self.0.random_range(0..3) {
            match self.0.random_range(0..6) {
                0 => frame.completed.push(wire::Completed {
                    lease: self.lease(),
                    output: self.payload(),
                    plan: self.text(),
                }),
                1 => frame.failed.push(wire::Failed {
                    lease: self.lease(),
                    error: None,
                    retryable: true,
                    retry_after: self.duration(),
                }),
                2 => frame.released.push(wire::Release { lease: self.lease() }),
                3 => frame.asked.push(wire::Asked { lease: self.lease(), question: self.question() }),
                4 => frame.renew = Some(wire::Renew { cpu: f64::NAN, memory_bytes: i64::from(self.int()) }),
                _ => {
                    let kind = wire::step_report::Kind::Progress(wire::Progress {
                        fraction: f64::INFINITY,
                        text: self.text(),
                    });
                    let report = self.some().then_some(wire::StepReport { kind: Some(kind) });
                    frame.reports.push(wire::TaskReport { lease: self.lease(), report, time: None });
                }
            }
        }
        frame
    }

    fn hello(&mut self) -> Option<Hello> {
        let mut hello = Hello {
            worker_id: "w".into(),
            session_id: "01939d0e-6f6b-7c3a-8a52-0123456789ab".into(),
            min_protocol: 1,
            max_protocol: 1,
            agents: vec![wire::AgentOffer { agent: "a".into(), ..Default::default() }],
            ..Default::default()
        };
        match self.0.random_range(0..8) {
            0 => return None,
            1 => hello.worker_id = self.text(),
            2 => hello.session_id = self.text(),
            3 => (hello.min_protocol, hello.max_protocol) = (self.int(), self.int()),
            4 => {
                hello.agents = (0..self.0.random_range(0..3))
                    .map(|_| wire::AgentOffer { agent: self.text(), slot: self.text(), ..Default::default() })
                    .collect();
            }
            5 => hello.slots.push(wire::SlotOffer { slot: self.text(), credits: self.int() }),
            _ => {}
        }
        Some(hello)
    }
}

/// An error of the mesh says what kind it is and gives details; nothing is a bug of ours.
fn fair(status: &Status) {
    let fine = !matches!(status.code(), Code::Internal | Code::Unknown | Code::Ok);
    assert!(fine && status.get_details_error_info().is_some(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fuzz_worker_frames() {
    let server = Server::start(Limits::default()).await;
    let channel = server.channel().await;
    for seed in 0..cases() {
        let mut dice = Dice(SmallRng::seed_from_u64(seed));
        let mut frames = vec![ConnectRequest { hello: dice.hello(), ..dice.frame() }];
        frames.extend((0..dice.0.random_range(0..4)).map(|_| dice.frame()));
        let answer = soon(WorkerServiceClient::new(channel.clone()).connect(futures::stream::iter(frames))).await;
        match answer {
            Err(status) => fair(&status),
            Ok(answer) => {
                let mut answers = answer.into_inner();
                let ended = soon(async {
                    loop {
                        match answers.next().await {
                            Some(Ok(_)) => {}
                            Some(Err(status)) => return Some(status),
                            None => return None,
                        }
                    }
                });
                if let Some(status) = ended.await {
                    fair(&status);
                }
            }
        }
    }
    let agents = AgentServiceClient::new(channel).list_agents(wire::ListAgentsRequest::default()).await;
    agents.expect("the server lives on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fuzz_page_tokens() {
    let server = Server::start(Limits::default()).await;
    let mut runs = OrchestratorServiceClient::new(server.channel().await);
    for seed in 0..cases() {
        let mut dice = Dice(SmallRng::seed_from_u64(seed));
        let token = match dice.0.random_range(0..3) {
            0 => dice.text(),
            1 => (0..dice.0.random_range(1..200))
                .map(|_| char::from(b"0123456789abcdef"[dice.0.random_range(0..16)]))
                .collect(),
            _ => format!("{}{}", "0".repeat(dice.0.random_range(0..64)), dice.text()),
        };
        let request = ListRunsRequest { page_token: token.clone(), page_size: dice.int(), ..Default::default() };
        match soon(runs.list_runs(request)).await {
            Ok(_) => assert!(token.is_empty(), "`{token}` was taken for a page token"),
            Err(status) => {
                assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
                fair(&status);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fuzz_events() {
    let server = Server::start(Limits::default()).await;
    let mut events = EventServiceClient::new(server.channel().await);
    for seed in 0..cases() {
        let mut dice = Dice(SmallRng::seed_from_u64(seed));
        let event = Event {
            event_id: dice.text(),
            event_type: dice.text(),
            event_version: dice.int(),
            timestamp: dice
                .some()
                .then(|| prost_types::Timestamp { seconds: i64::from(dice.int()), nanos: dice.int() }),
            source: dice.text(),
            correlation_id: dice.text(),
            payload: dice.payload(),
            namespace: dice.text(),
            subject: dice.text(),
            ..Default::default()
        };
        if let Err(status) = soon(events.publish(PublishRequest { parent: String::new(), events: vec![event] })).await {
            fair(&status);
        }
        let start = SubscribeStart {
            parent: dice.text(),
            from: Some(subscribe_start::From::Cursor(i64::from(dice.int()))),
            credit: dice.int(),
            group: dice.text(),
            ack_timeout: dice.duration(),
            max_attempts: dice.int(),
            ..Default::default()
        };
        let frames = [
            SubscribeRequest { kind: Some(subscribe_request::Kind::Start(start)) },
            SubscribeRequest { kind: Some(subscribe_request::Kind::Credit(dice.int())) },
            SubscribeRequest { kind: None },
        ];
        let frames: Vec<_> = frames.into_iter().skip(usize::from(dice.0.random_range(0..9) == 0)).collect();
        match soon(events.subscribe(futures::stream::iter(frames))).await {
            Err(status) => fair(&status),
            Ok(answer) => {
                let mut deliveries = answer.into_inner();
                while let Some(delivery) = soon(deliveries.next()).await {
                    if let Err(status) = delivery {
                        fair(&status);
                        break;
                    }
                }
            }
        }
    }
}

/// A message as a client would send it that does not know that texts are UTF-8.
#[derive(Clone, PartialEq, prost::Message)]
struct RawApply {
    #[prost(bytes = "vec", tag = "2")]
    source: Vec<u8>,
}

#[tokio::test]
async fn texts_that_are_not_utf_8_are_refused() {
    let server = Server::start(Limits::default()).await;
    let channel = server.channel().await;
    let mut raw = tonic::client::Grpc::new(channel.clone());
    raw.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/consort.orchestrator.v1.OrchestratorService/ApplyWorkflow");
    let codec = tonic_prost::ProstCodec::<RawApply, consort_proto::orchestrator::Workflow>::default();
    let request = tonic::Request::new(RawApply { source: b"name: \xff\xfe".to_vec() });
    let status = soon(raw.unary(request, path, codec)).await.unwrap_err();
    assert!(status.message().contains("UTF-8"), "{status:?}");
    fair(&status);
    let agents = AgentServiceClient::new(channel).list_agents(wire::ListAgentsRequest::default()).await;
    agents.expect("the server lives on");
}
