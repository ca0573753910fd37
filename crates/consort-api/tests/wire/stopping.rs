//! The end of a server: everybody is told, and it ends in time.

use std::time::Duration;

use consort_api::Limits;
use consort_proto::agent::worker_service_client::WorkerServiceClient;
use consort_proto::decision::WatchDecisionsRequest;
use consort_proto::decision::decision_service_client::DecisionServiceClient;
use futures::StreamExt as _;
use futures::stream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::server::{Server, soon};
use crate::services::hello;

#[tokio::test]
async fn everybody_is_told_and_the_server_ends() {
    let limits = Limits {
        worker_drain: Duration::from_millis(100),
        shutdown_grace: Duration::from_millis(500),
        ..Limits::default()
    };
    let mut server = Server::start(limits).await;
    let channel = server.channel().await;

    let mut workers = WorkerServiceClient::new(channel.clone());
    let said = stream::iter([hello()]).chain(stream::pending());
    let mut frames = workers.connect(said).await.unwrap().into_inner();
    assert!(soon(frames.message()).await.unwrap().unwrap().welcome.is_some());

    let mut decisions = DecisionServiceClient::new(channel.clone());
    let mut watch = decisions.watch_decisions(WatchDecisionsRequest::default()).await.unwrap().into_inner();

    let service = "consort.orchestrator.v1.OrchestratorService".to_owned();
    let mut health = HealthClient::new(channel);
    let mut healths = health.watch(HealthCheckRequest { service }).await.unwrap().into_inner();
    assert_eq!(soon(healths.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);

    server.stop.cancel();
    assert_eq!(soon(healths.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(soon(watch.message()).await.unwrap_err().code(), Code::Unavailable);
    assert!(soon(frames.message()).await.unwrap().unwrap().drain);
    assert_eq!(soon(frames.message()).await.unwrap_err().code(), Code::Unavailable);
    soon(&mut server.ended).await.unwrap();
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
}
