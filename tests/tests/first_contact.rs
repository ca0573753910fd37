//! A stranger with grpcurl finds out what the server offers: reflection in both versions, health, one ready line, one file.
#![allow(clippy::panic, clippy::unwrap_used)]

use consort_testkit::{Mesh, soon};
use futures::stream;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

/// What every port serves.
const SERVICES: [&str; 8] = [
    "consort.admin.v1.AdminService",
    "consort.agent.v1.AgentService",
    "consort.agent.v1.WorkerService",
    "consort.blob.v1.BlobService",
    "consort.decision.v1.DecisionService",
    "consort.event.v1.EventService",
    "consort.orchestrator.v1.OrchestratorService",
    "grpc.health.v1.Health",
];

fn assert_complete(listed: &[String]) {
    for service in SERVICES {
        assert!(listed.iter().any(|name| name == service), "{service} is not in {listed:?}");
    }
}

#[tokio::test]
async fn reflection_v1_lists_the_services_and_describes_them() {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let mesh = Mesh::start().await;
    let mut reflection = v1::server_reflection_client::ServerReflectionClient::new(mesh.client().channel());
    let ask = |what| v1::ServerReflectionRequest { host: String::new(), message_request: Some(what) };
    let requests = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("consort.orchestrator.v1.OrchestratorService".into())),
    ];
    let mut answers = soon(reflection.server_reflection_info(stream::iter(requests))).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        soon(answers.message()).await.unwrap().unwrap().message_response
    else {
        panic!("not a list")
    };
    assert_complete(&list.service.into_iter().map(|service| service.name).collect::<Vec<_>>());
    let Some(MessageResponse::FileDescriptorResponse(files)) =
        soon(answers.message()).await.unwrap().unwrap().message_response
    else {
        panic!("not a description")
    };
    let described = files.file_descriptor_proto.concat();
    assert!(described.windows(8).any(|bytes| bytes == b"StartRun"), "the description lacks StartRun");
}

#[tokio::test]
async fn reflection_v1alpha_lists_the_services() {
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;
    let mesh = Mesh::start().await;
    let mut reflection = v1alpha::server_reflection_client::ServerReflectionClient::new(mesh.client().channel());
    let what = Some(MessageRequest::ListServices(String::new()));
    let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: what };
    let mut answers = soon(reflection.server_reflection_info(stream::iter([request]))).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        soon(answers.message()).await.unwrap().unwrap().message_response
    else {
        panic!("not a list")
    };
    assert_complete(&list.service.into_iter().map(|service| service.name).collect::<Vec<_>>());
}

#[tokio::test]
async fn every_service_says_that_it_serves() {
    let mesh = Mesh::start().await;
    let mut health = HealthClient::new(mesh.client().channel());
    for service in ["", "consort.orchestrator.v1.OrchestratorService", "consort.agent.v1.WorkerService"] {
        let answer = soon(health.check(HealthCheckRequest { service: service.into() })).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "`{service}`");
    }
    let unknown = soon(health.check(HealthCheckRequest { service: "no.such.Service".into() })).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn what_is_not_served_is_unimplemented() {
    let mesh = Mesh::start().await;
    let mut grpc = tonic::client::Grpc::new(mesh.client().channel());
    soon(grpc.ready()).await.unwrap();
    let path =
        tonic::codegen::http::uri::PathAndQuery::from_static("/consort.orchestrator.v1.OrchestratorService/Dance");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let error = soon(grpc.unary(tonic::Request::new(()), path, codec)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

#[tokio::test]
async fn one_server_a_folder_and_one_file_that_says_where() {
    let mut mesh = Mesh::start().await;
    let endpoint = mesh.data().join("endpoint");
    assert_eq!(std::fs::read_to_string(&endpoint).unwrap().trim(), mesh.addr());
    assert!(mesh.process().tail().contains(&format!("ready on {}", mesh.addr())), "{}", mesh.process().tail());

    let mut second = std::process::Command::new(consort_testkit::binary("consort"));
    let second = second.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(mesh.data()).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("is in use by process"), "{said}");

    let mut open = std::process::Command::new(consort_testkit::binary("consort"));
    let open =
        open.args(["serve", "--listen", "0.0.0.0:0", "--data"]).arg(mesh.folder().join("other")).output().unwrap();
    let said = String::from_utf8_lossy(&open.stderr).into_owned();
    assert!(!open.status.success() && said.contains("--insecure-no-auth"), "{said}");

    let (_, status) = mesh.stop().await;
    assert!(status.success() && !endpoint.exists(), "a stopped server takes its address with it");
}
