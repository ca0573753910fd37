//! A mesh of which the test plays the part: it gets each connection of a worker and says what the mesh says.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use consort_proto::agent::agent_service_server::{AgentService, AgentServiceServer};
use consort_proto::agent::worker_service_server::{WorkerService, WorkerServiceServer};
use consort_proto::agent::*;
use consort_proto::blob::blob_service_server::{BlobService, BlobServiceServer};
use consort_proto::blob::*;
use consort_sdk::Error;
use sha2::Digest as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// Longest wait for anything a test expects.
pub const SOON: Duration = Duration::from_secs(20);

pub struct FakeMesh {
    pub addr: String,
    connections: mpsc::Receiver<Connection>,
    pub blobs: Blobs,
}

pub type Blobs = Arc<Mutex<HashMap<String, Bytes>>>;

impl FakeMesh {
    pub async fn start() -> FakeMesh {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let (sender, connections) = mpsc::channel(8);
        let blobs = Blobs::default();
        let server = tonic::transport::Server::builder()
            .add_service(WorkerServiceServer::new(Workers(sender)))
            .add_service(AgentServiceServer::new(Agents))
            .add_service(BlobServiceServer::new(Store(blobs.clone())))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        tokio::spawn(server);
        FakeMesh { addr, connections, blobs }
    }

    /// The next connection of a worker, after its hello.
    pub async fn accept(&mut self) -> Connection {
        timeout(SOON, self.connections.recv()).await.expect("a worker connects").expect("the server lives")
    }

    /// The next connection, welcomed.
    pub async fn attach(&mut self) -> Connection {
        let connection = self.accept().await;
        connection.welcome(Duration::from_secs(30), &[]).await;
        connection
    }
}

/// A worker that runs until it is told to stop.
pub struct Running {
    pub stop: oneshot::Sender<()>,
    pub life: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub fn start(mesh: &FakeMesh, worker: consort_sdk::Worker) -> Running {
        let (stop, stopped) = oneshot::channel();
        let worker = worker.addr(&mesh.addr);
        let life = tokio::spawn(worker.run_until(async {
            // Dropping the sender stops it too.
            let _ = stopped.await;
        }));
        Running { stop, life }
    }

    pub async fn end(self) -> Result<(), Error> {
        timeout(SOON, self.life).await.expect("the worker ends").expect("the worker does not panic")
    }
}

/// The mesh's end of a worker's stream.
pub struct Connection {
    pub hello: Hello,
    say: mpsc::Sender<Result<ConnectResponse, Status>>,
    hear: Streaming<ConnectRequest>,
}

impl Connection {
    pub async fn welcome(&self, ttl: Duration, resumed: &[LeaseRef]) {
        let welcome = Welcome {
            protocol: 1,
            lease_ttl: Some(ttl.try_into().unwrap()),
            resumed: resumed.to_vec(),
            server: "fake".into(),
        };
        self.say(ConnectResponse { welcome: Some(welcome), ..Default::default() }).await;
    }

    pub async fn say(&self, frame: ConnectResponse) {
        self.say.send(Ok(frame)).await.unwrap();
    }

    /// Ends the stream with a status.
    pub async fn fail(self, status: Status) {
        self.say.send(Err(status)).await.unwrap();
    }

    pub async fn assign(&self, assignments: Vec<Assignment>) {
        self.say(ConnectResponse { assignments, ..Default::default() }).await;
    }

    pub async fn ack(&self, leases: impl IntoIterator<Item = Option<LeaseRef>>) {
        let acks = leases.into_iter().map(|lease| Ack { lease, error: None }).collect();
        self.say(ConnectResponse { acks, ..Default::default() }).await;
    }

    /// Acknowledges and assigns in one frame.
    pub async fn answer(&self, leases: impl IntoIterator<Item = Option<LeaseRef>>, assignments: Vec<Assignment>) {
        let acks = leases.into_iter().map(|lease| Ack { lease, error: None }).collect();
        self.say(ConnectResponse { acks, assignments, ..Default::default() }).await;
    }

    pub async fn cancel(&self, lease: LeaseRef) {
        let cancels = vec![Cancel { lease: Some(lease), reason: "the run was cancelled".into() }];
        self.say(ConnectResponse { cancels, ..Default::default() }).await;
    }

    /// The next frame of any kind; nothing when the worker has closed its side.
    pub async fn frame(&mut self) -> Option<ConnectRequest> {
        timeout(SOON, self.hear.message()).await.expect("the worker says something").ok().flatten()
    }

    /// The next frame that is not only a renewal.
    pub async fn next(&mut self) -> ConnectRequest {
        loop {
            let frame = self.frame().await.expect("the worker's side is open");
            let only_renew = ConnectRequest { renew: frame.renew, ..Default::default() };
            if frame != only_renew {
                return frame;
            }
        }
    }

    /// Reads results until there are this many.
    pub async fn completed(&mut self, count: usize) -> Vec<Completed> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.next().await.completed);
        }
        all
    }

    /// The question in the next frame.
    pub async fn asked(&mut self) -> Asked {
        self.next().await.asked.pop().expect("a question")
    }

    /// The failure in the next frame.
    pub async fn failed(&mut self) -> Failed {
        self.next().await.failed.pop().expect("a failure")
    }
}

/// Task number `n` for an agent, with JSON text as its input.
pub fn task(n: u64, agent: &str, input: &str) -> Assignment {
    Assignment {
        task: format!("namespaces/default/runs/r/steps/s{n}/attempts/1"),
        lease_token: n,
        agent: agent.into(),
        input: Some(Payload { kind: Some(payload::Kind::Json(input.into())) }),
        idempotency_key: format!("key-{n}"),
        attempt: 1,
        deadline: None,
        workflow: "w".into(),
        clarifications: Vec::new(),
    }
}

pub fn lease(task: &Assignment) -> LeaseRef {
    LeaseRef { task: task.task.clone(), lease_token: task.lease_token }
}

pub fn inline(payload: Option<Payload>) -> String {
    match payload.unwrap().kind.unwrap() {
        payload::Kind::Json(json) => json,
        other => panic!("{other:?} is not inline"),
    }
}

pub fn name_of(bytes: &[u8]) -> String {
    hex::encode(sha2::Sha256::digest(bytes))
}

struct Workers(mpsc::Sender<Connection>);

type Frames<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl WorkerService for Workers {
    type ConnectStream = Frames<ConnectResponse>;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut hear = request.into_inner();
        let hello = hear.message().await?.and_then(|frame| frame.hello).ok_or_else(|| Status::aborted("no hello"))?;
        let (say, said) = mpsc::channel(64);
        let _ = self.0.send(Connection { hello, say, hear }).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }

    async fn lease_tasks(&self, _: Request<LeaseTasksRequest>) -> Result<Response<LeaseTasksResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn renew_leases(&self, _: Request<RenewLeasesRequest>) -> Result<Response<RenewLeasesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn complete_task(&self, _: Request<CompleteTaskRequest>) -> Result<Response<CompleteTaskResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fail_task(&self, _: Request<FailTaskRequest>) -> Result<Response<FailTaskResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn ask_task(&self, _: Request<AskTaskRequest>) -> Result<Response<AskTaskResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

struct Agents;

#[tonic::async_trait]
impl AgentService for Agents {
    type WatchAgentStream = Frames<WatchAgentResponse>;

    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Result<Response<ListWorkersResponse>, Status> {
        Ok(Response::new(ListWorkersResponse::default()))
    }

    async fn list_agents(&self, _: Request<ListAgentsRequest>) -> Result<Response<ListAgentsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_agent(&self, _: Request<GetAgentRequest>) -> Result<Response<Agent>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_agent_tasks(
        &self,
        _: Request<ListAgentTasksRequest>,
    ) -> Result<Response<ListAgentTasksResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn watch_agent(&self, _: Request<WatchAgentRequest>) -> Result<Response<Self::WatchAgentStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn ask_agent(&self, request: Request<AskAgentRequest>) -> Result<Response<AskAgentResponse>, Status> {
        let request = request.into_inner();
        match request.name.rsplit('/').next() {
            Some("echo") => Ok(Response::new(AskAgentResponse { answer: request.payload })),
            _ => Err(Status::unavailable("nobody answers")),
        }
    }

    async fn drain_worker(&self, _: Request<DrainWorkerRequest>) -> Result<Response<Worker>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Blobs in memory. Every download is cut off after its first chunk, so that whoever reads must go on where it stopped.
struct Store(Blobs);

#[tonic::async_trait]
impl BlobService for Store {
    type DownloadStream = Frames<DownloadResponse>;

    async fn upload(&self, request: Request<Streaming<UploadRequest>>) -> Result<Response<UploadResponse>, Status> {
        let mut stream = request.into_inner();
        let (mut bytes, mut media_type) = (BytesMut::new(), String::new());
        while let Some(part) = stream.message().await? {
            bytes.extend_from_slice(&part.chunk);
            media_type.push_str(&part.media_type);
        }
        let blob = BlobRef { sha256: name_of(&bytes), size_bytes: bytes.len() as i64, media_type };
        self.0.lock().unwrap().insert(blob.sha256.clone(), bytes.freeze());
        Ok(Response::new(UploadResponse { blob: Some(blob) }))
    }

    async fn download(&self, request: Request<DownloadRequest>) -> Result<Response<Self::DownloadStream>, Status> {
        let request = request.into_inner();
        let name = request.name.trim_start_matches("blobs/");
        let blob = self.0.lock().unwrap().get(name).cloned().ok_or_else(|| Status::not_found("no such blob"))?;
        let rest = blob.slice(request.offset as usize..);
        let chunk = rest.slice(..rest.len().min(64 * 1024));
        let cut = chunk.len() < rest.len();
        let parts = std::iter::once(Ok(DownloadResponse { chunk }))
            .chain(cut.then(|| Err(Status::unavailable("the connection broke"))));
        Ok(Response::new(Box::pin(tokio_stream::iter(parts.collect::<Vec<_>>()))))
    }
}
