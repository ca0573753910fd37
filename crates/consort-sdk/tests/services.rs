//! Projects and signals against a mesh that remembers what it was asked.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::sync::{Arc, Mutex};

use consort_proto::blob::{Payload, payload};
use consort_proto::project::project_service_server::{ProjectService, ProjectServiceServer};
use consort_proto::project::*;
use consort_proto::signal::signal_service_server::{SignalService, SignalServiceServer};
use consort_proto::signal::*;
use consort_sdk::{Client, Code, ProjectOptions, SignalFilter, SignalOptions};
use serde_json::json;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// What was asked, newest last, as it prints.
#[derive(Clone, Default)]
struct Fake {
    projects: Arc<Mutex<Vec<CreateProjectRequest>>>,
    signals: Arc<Mutex<Vec<RaiseSignalRequest>>>,
    asked: Arc<Mutex<Vec<String>>>,
    unavailable: Arc<Mutex<usize>>,
}

impl Fake {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
}

async fn serve(fake: &Fake) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let server = tonic::transport::Server::builder()
        .add_service(ProjectServiceServer::new(fake.clone()))
        .add_service(SignalServiceServer::new(fake.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    Client::connect(addr).unwrap()
}

fn inline(payload: Option<&Payload>) -> &str {
    match payload.unwrap().kind.as_ref().unwrap() {
        payload::Kind::Json(json) => json,
        other => panic!("{other:?} is not inline"),
    }
}

fn project(name: &str, state: ProjectState) -> Response<Project> {
    Response::new(Project { name: name.into(), state: state.into(), ..Default::default() })
}

/// A page of numbered items: 1,000 at most, 1,500 in all.
fn page(size: i32, token: &str) -> (std::ops::Range<usize>, String) {
    let from: usize = token.parse().unwrap_or(0);
    let to = (from + size as usize).min(1_500);
    (from..to, if to < 1_500 { to.to_string() } else { String::new() })
}

#[tonic::async_trait]
impl ProjectService for Fake {
    async fn create_project(&self, request: Request<CreateProjectRequest>) -> Result<Response<Project>, Status> {
        self.projects.lock().unwrap().push(request.into_inner());
        let mut left = self.unavailable.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return Err(Status::unavailable("starting"));
        }
        Ok(project("namespaces/default/projects/p", ProjectState::Active))
    }

    async fn get_project(&self, request: Request<GetProjectRequest>) -> Result<Response<Project>, Status> {
        Ok(project(&request.into_inner().name, ProjectState::Active))
    }

    async fn list_projects(
        &self,
        request: Request<ListProjectsRequest>,
    ) -> Result<Response<ListProjectsResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("{} {:?} {:?}", request.page_size, request.page_token, request.state()));
        let (numbers, next_page_token) = page(request.page_size, &request.page_token);
        let projects = numbers.map(|n| Project { name: n.to_string(), ..Default::default() }).collect();
        Ok(Response::new(ListProjectsResponse { projects, next_page_token }))
    }

    async fn complete_project(&self, request: Request<CompleteProjectRequest>) -> Result<Response<Project>, Status> {
        let request = request.into_inner();
        assert!(!request.request_id.is_empty());
        Ok(project(&request.name, ProjectState::Completed))
    }

    async fn stop_project(&self, request: Request<StopProjectRequest>) -> Result<Response<Project>, Status> {
        let request = request.into_inner();
        self.note(request.reason);
        Ok(project(&request.name, ProjectState::Stopped))
    }
}

#[tonic::async_trait]
impl SignalService for Fake {
    async fn raise_signal(&self, request: Request<RaiseSignalRequest>) -> Result<Response<Signal>, Status> {
        self.signals.lock().unwrap().push(request.into_inner());
        Ok(Response::new(Signal { name: "namespaces/default/signals/s".into(), ..Default::default() }))
    }

    async fn get_signal(&self, request: Request<GetSignalRequest>) -> Result<Response<Signal>, Status> {
        Err(Status::not_found(request.into_inner().name))
    }

    async fn list_signals(
        &self,
        request: Request<ListSignalsRequest>,
    ) -> Result<Response<ListSignalsResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("{:?} {} {}", request.page_token, request.r#type, request.project));
        // A page that names itself as the next one.
        Ok(Response::new(ListSignalsResponse { signals: vec![Signal::default()], next_page_token: "again".into() }))
    }
}

#[tokio::test]
async fn a_project_is_created_once_however_often_it_is_asked() {
    let fake = Fake::default();
    *fake.unavailable.lock().unwrap() = 1;
    let client = serve(&fake).await;
    let options = ProjectOptions { id: Some("p".into()), created_by: "ada".into(), ..Default::default() };
    let made = client.create_project("Invoices", &json!({"goal": "faster"}), options).await.unwrap();
    assert_eq!((made.name.as_str(), made.state()), ("namespaces/default/projects/p", ProjectState::Active));
    let asked = fake.projects.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], asked[1]);
    let first = &asked[0];
    assert_eq!((first.parent.as_str(), first.project_id.as_str()), ("namespaces/default", "p"));
    assert_eq!((first.title.as_str(), first.created_by.as_str()), ("Invoices", "ada"));
    assert_eq!(inline(first.request.as_ref()), r#"{"goal":"faster"}"#);
    assert!(!first.request_id.is_empty());
}

#[tokio::test]
async fn projects_are_named_and_closed() {
    let fake = Fake::default();
    let client = serve(&fake).await;
    let name = "namespaces/default/projects/p";
    assert_eq!(client.get_project("p").await.unwrap().name, name);
    assert_eq!(client.complete_project("p").await.unwrap().state(), ProjectState::Completed);
    let stopped = client.stop_project(name, "no money").await.unwrap();
    assert_eq!((stopped.name.as_str(), stopped.state()), (name, ProjectState::Stopped));
    assert_eq!(*fake.asked.lock().unwrap(), ["no money"]);
}

#[tokio::test]
async fn a_list_is_read_page_by_page_up_to_its_limit() {
    let fake = Fake::default();
    let client = serve(&fake).await;
    // On a task of its own, as callers do.
    let other = client.clone();
    let some = tokio::spawn(async move { other.list_projects(ProjectState::Active, 1_200).await });
    let some = some.await.unwrap().unwrap();
    assert_eq!((some.len(), some[1_199].name.as_str()), (1_200, "1199"));
    assert_eq!(client.list_projects(ProjectState::Unspecified, 9_999).await.unwrap().len(), 1_500);
    assert!(client.list_projects(ProjectState::Unspecified, 0).await.unwrap().is_empty());
    let asked = ["1000 \"\" Active", "200 \"1000\" Active", "1000 \"\" Unspecified", "1000 \"1000\" Unspecified"];
    assert_eq!(*fake.asked.lock().unwrap(), asked);
}

#[tokio::test]
async fn a_signal_says_all_that_is_known_of_it() {
    let fake = Fake::default();
    let client = serve(&fake).await;
    let options = SignalOptions {
        urgency: Urgency::Critical,
        impact: Impact::High,
        description: "*All* of them.".into(),
        source: "ci".into(),
        project: Some("p".into()),
        agent: "fixer".into(),
        request_id: Some("once".into()),
    };
    client.raise_signal("QUALITY_ISSUE", "Tests are red", &json!({"count": 3}), options).await.unwrap();
    client.raise_signal("REQUIREMENT", "New", &json!({}), SignalOptions::default()).await.unwrap();
    let raised = fake.signals.lock().unwrap();
    let first = &raised[0];
    assert_eq!((first.r#type.as_str(), first.title.as_str()), ("QUALITY_ISSUE", "Tests are red"));
    assert_eq!((first.urgency(), first.impact()), (Urgency::Critical, Impact::High));
    assert_eq!((first.source.as_str(), first.agent.as_str()), ("ci", "fixer"));
    assert_eq!((first.project.as_str(), first.request_id.as_str()), ("namespaces/default/projects/p", "once"));
    assert_eq!(first.description, "*All* of them.");
    assert_eq!(inline(first.payload.as_ref()), r#"{"count":3}"#);
    assert_eq!((raised[1].urgency(), raised[1].project.as_str()), (Urgency::Unspecified, ""));
    assert_eq!(raised[1].request_id.len(), 36);
}

#[tokio::test]
async fn signals_are_named_and_a_list_without_an_end_is_refused() {
    let fake = Fake::default();
    let client = serve(&fake).await;
    let error = client.get_signal("s").await.unwrap_err();
    assert_eq!(error.to_string(), "NOT_FOUND: namespaces/default/signals/s");
    let filter = SignalFilter { r#type: Some("REQUIREMENT".into()), project: Some("p".into()) };
    assert_eq!(client.list_signals(filter.clone(), 1).await.unwrap().len(), 1);
    assert_eq!(client.list_signals(filter, 9).await.unwrap_err().code(), Code::Internal);
    let first = r#""" REQUIREMENT namespaces/default/projects/p"#;
    assert_eq!(fake.asked.lock().unwrap()[0], first);
}
