//! The client: starts runs, follows them, answers decisions.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use consort_proto::admin::admin_service_client::AdminServiceClient;
use consort_proto::agent::agent_service_client::AgentServiceClient;
use consort_proto::blob::Payload;
use consort_proto::blob::blob_service_client::BlobServiceClient;
use consort_proto::decision::decision_service_client::DecisionServiceClient;
use consort_proto::event::event_service_client::EventServiceClient;
use consort_proto::orchestrator::orchestrator_service_client::OrchestratorServiceClient;
use consort_proto::orchestrator::{self, Run, RunState, Workflow};
use consort_proto::project::project_service_client::ProjectServiceClient;
use consort_proto::signal::signal_service_client::SignalServiceClient;
use serde::Serialize;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use crate::backoff::Backoff;
use crate::error::{Error, is_transient};
use crate::payload;

/// Where the mesh is looked for when nothing else is said.
pub const DEFAULT_ADDR: &str = "127.0.0.1:7420";
/// How long a call is repeated while the mesh is UNAVAILABLE.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait asked of the server at once; longer ones are asked for again.
const WAIT_AT_ONCE: Duration = Duration::from_secs(20);
/// Items of a list that are asked for at once, the most a mesh gives.
const PAGE: usize = 1_000;
/// Largest message either way.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// The address in `CONSORT_ADDR`, else [`DEFAULT_ADDR`].
pub fn addr_from_env() -> String {
    std::env::var("CONSORT_ADDR").ok().filter(|addr| !addr.is_empty()).unwrap_or_else(|| DEFAULT_ADDR.to_owned())
}

/// A connection to the mesh. Clones share it.
///
/// Names may be short: `audit` means `namespaces/default/workflows/audit`, a UUID means the run or decision of that id.
/// Mutations carry a fresh `request_id` and are repeated with it, with jittered back-off, for up to 30 s while the mesh cannot be
/// reached: a repeated call has the effect of one.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    channel: Channel,
    namespace: String,
    patience: Duration,
}

/// How a run is started.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// Revision of the workflow; 0 means the newest.
    pub revision: i64,
    /// How long to wait for the run's end; absent means not at all.
    pub wait: Option<Duration>,
    /// Makes the call idempotent for 24 hours; absent means a fresh one.
    pub request_id: Option<String>,
    /// Free labels.
    pub labels: HashMap<String, String>,
    /// The project the run belongs to; absent for none. FAILED_PRECONDITION (reason PROJECT_CLOSED) if it is closed.
    pub project: Option<String>,
}

impl Client {
    /// A client of the mesh at `host:port` or `http://host:port`. Nothing is dialled before the first call. Must be called within
    /// a tokio runtime.
    pub fn connect(addr: impl AsRef<str>) -> Result<Client, Error> {
        let endpoint = endpoint(addr.as_ref())?;
        let channel = endpoint.connect_lazy();
        Ok(Client { endpoint, channel, namespace: "default".to_owned(), patience: PATIENCE })
    }

    /// The same client over a connection of its own.
    pub fn again(&self) -> Client {
        Client { channel: self.endpoint.connect_lazy(), ..self.clone() }
    }

    /// Short names are of this namespace from now on.
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Client {
        self.namespace = namespace.into();
        self
    }

    /// Repeats calls for this long while the mesh cannot be reached; zero means each is tried once.
    pub fn with_patience(mut self, patience: Duration) -> Client {
        self.patience = patience;
        self
    }

    /// Workflows and runs.
    pub fn orchestrator(&self) -> OrchestratorServiceClient<Channel> {
        OrchestratorServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Agents and workers.
    pub fn agents(&self) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Questions to people.
    pub fn decisions(&self) -> DecisionServiceClient<Channel> {
        DecisionServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// The log.
    pub fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Projects.
    pub fn projects(&self) -> ProjectServiceClient<Channel> {
        ProjectServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Signals to the mesh.
    pub fn signals(&self) -> SignalServiceClient<Channel> {
        SignalServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Bytes.
    pub fn blobs(&self) -> BlobServiceClient<Channel> {
        BlobServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Backups and archives.
    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// The connection itself, for other generated clients.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Stores a definition as a new revision. Its mistakes come as INVALID_ARGUMENT with a BadRequest that lists them all.
    pub async fn apply(&self, source: impl Into<String>) -> Result<Workflow, Error> {
        let request = orchestrator::ApplyWorkflowRequest {
            parent: self.parent(),
            source: source.into(),
            request_id: fresh_id(),
            ..Default::default()
        };
        self.call(request, |client, request| async move { client.orchestrator().apply_workflow(request).await }).await
    }

    /// Starts a run with the given inputs, any value that serialises to a JSON object.
    pub async fn start(&self, workflow: &str, inputs: &impl Serialize, options: StartOptions) -> Result<Run, Error> {
        let inputs =
            serde_json::to_string(inputs).map_err(|source| Error::Json { what: "the inputs of the run", source })?;
        let request = orchestrator::StartRunRequest {
            workflow: self.name("workflows", workflow),
            revision: options.revision,
            inputs: Some(self.pack(inputs).await?),
            labels: options.labels,
            project: options.project.map(|project| self.name("projects", &project)).unwrap_or_default(),
            wait: options.wait.and_then(|wait| wait.try_into().ok()),
            request_id: options.request_id.unwrap_or_else(fresh_id),
        };
        let patience = self.patience + options.wait.unwrap_or_default();
        self.call_within(
            patience,
            request,
            |client, request| async move { client.orchestrator().start_run(request).await },
        )
        .await
    }

    /// A run as it stands, with its steps.
    pub async fn get(&self, run: &str) -> Result<Run, Error> {
        let request = orchestrator::GetRunRequest { name: self.name("runs", run) };
        self.call(request, |client, request| async move { client.orchestrator().get_run(request).await }).await
    }

    /// The run when it is over, or as it stands when `limit` has passed; without a limit it waits as long as it takes.
    pub async fn wait(&self, run: &str, limit: Option<Duration>) -> Result<Run, Error> {
        let name = self.name("runs", run);
        let end = limit.map(|limit| Instant::now() + limit);
        loop {
            let left = end.map_or(WAIT_AT_ONCE, |end| end.saturating_duration_since(Instant::now()).min(WAIT_AT_ONCE));
            let request = orchestrator::WaitRunRequest { name: name.clone(), wait: left.try_into().ok() };
            let run = self
                .call_within(self.patience + left, request, |client, request| async move {
                    client.orchestrator().wait_run(request).await
                })
                .await?;
            if is_over(run.state()) || end.is_some_and(|end| Instant::now() >= end) {
                return Ok(run);
            }
        }
    }

    /// Stops a run and its children.
    pub async fn cancel(&self, run: &str, reason: impl Into<String>) -> Result<Run, Error> {
        let name = self.name("runs", run);
        let request = orchestrator::CancelRunRequest { name, reason: reason.into(), request_id: fresh_id() };
        self.call(request, |client, request| async move { client.orchestrator().cancel_run(request).await }).await
    }

    /// Holds back everything of a run that has not begun.
    pub async fn pause(&self, run: &str, reason: impl Into<String>) -> Result<Run, Error> {
        let name = self.name("runs", run);
        let request = orchestrator::PauseRunRequest { name, reason: reason.into(), request_id: fresh_id() };
        self.call(request, |client, request| async move { client.orchestrator().pause_run(request).await }).await
    }

    /// Lets a paused run go on.
    pub async fn resume(&self, run: &str) -> Result<Run, Error> {
        let request = orchestrator::ResumeRunRequest { name: self.name("runs", run), request_id: fresh_id() };
        self.call(request, |client, request| async move { client.orchestrator().resume_run(request).await }).await
    }

    /// Lets a failed run go on from its failed steps.
    pub async fn retry(&self, run: &str) -> Result<Run, Error> {
        let request = orchestrator::RetryRunRequest { name: self.name("runs", run), request_id: fresh_id() };
        self.call(request, |client, request| async move { client.orchestrator().retry_run(request).await }).await
    }

    /// Sends a signal to a run: it ends the oldest step that waits for one of this name, or is kept for the first that will.
    /// FAILED_PRECONDITION if the run is over. For the whole mesh there is [`Client::raise_signal`].
    pub async fn signal(&self, run: &str, signal: &str, value: &impl Serialize) -> Result<Run, Error> {
        let value =
            serde_json::to_string(value).map_err(|source| Error::Json { what: "the value of the signal", source })?;
        let request = orchestrator::SignalRunRequest {
            name: self.name("runs", run),
            signal: signal.to_owned(),
            payload: Some(self.pack(value).await?),
            request_id: fresh_id(),
        };
        self.call(request, |client, request| async move { client.orchestrator().signal_run(request).await }).await
    }

    /// `host:port` of the mesh.
    pub fn addr(&self) -> &str {
        self.endpoint.uri().authority().map_or("", |authority| authority.as_str())
    }

    /// `namespaces/{namespace}`.
    pub fn parent(&self) -> String {
        format!("namespaces/{}", self.namespace)
    }

    /// The full name of a resource: names with a `/` are full already.
    pub fn name(&self, collection: &str, name: &str) -> String {
        if name.contains('/') { name.to_owned() } else { format!("namespaces/{}/{collection}/{name}", self.namespace) }
    }

    /// One JSON text as a payload: inline if it is small, else as a blob.
    pub(crate) async fn pack(&self, json: String) -> Result<Payload, Error> {
        if json.len() <= payload::INLINE_LIMIT {
            return Ok(payload::text(json));
        }
        Ok(payload::blob(self.upload(json, "application/json").await?))
    }

    /// At most `limit` items of a list, page by page; `page` asks for one by its size and token and gives the next token.
    pub(crate) async fn pages<T, F>(
        &self,
        limit: usize,
        page: impl Fn(Client, i32, String) -> F,
    ) -> Result<Vec<T>, Error>
    where
        F: Future<Output = Result<(Vec<T>, String), Error>>,
    {
        let (mut all, mut token) = (Vec::new(), String::new());
        while all.len() < limit {
            let size = (limit - all.len()).min(PAGE) as i32;
            let (items, next) = page(self.clone(), size, token.clone()).await?;
            all.extend(items);
            if next.is_empty() {
                break;
            }
            if next == token {
                return Err(Error::Protocol("a page of a list names itself as the next one"));
            }
            token = next;
        }
        all.truncate(limit);
        Ok(all)
    }

    /// A call that is repeated while the mesh cannot be reached.
    pub(crate) async fn call<Q, A, F>(&self, request: Q, call: impl Fn(Client, Request<Q>) -> F) -> Result<A, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.call_within(self.patience, request, call).await
    }

    /// The same with its own patience. Each try carries what is left as its deadline.
    pub(crate) async fn call_within<Q, A, F>(
        &self,
        patience: Duration,
        request: Q,
        call: impl Fn(Client, Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let end = Instant::now() + patience;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            let mut attempt = Request::new(request.clone());
            if !patience.is_zero() {
                attempt.set_timeout(end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
            }
            let status = match call(self.clone(), attempt).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            let asked = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
            let delay = backoff.delay().max(asked);
            if Instant::now() + delay >= end {
                return Err(out_of_patience(status, patience).into());
            }
            if !is_transient(&status) {
                return Err(status.into());
            }
            tokio::time::sleep(delay).await;
        }
    }
}

/// tonic reports its own expired timeout as CANCELLED; callers are told what it is.
pub(crate) fn out_of_patience(status: Status, patience: Duration) -> Status {
    let own_timeout = status.code() == Code::Cancelled && std::error::Error::source(&status).is_some();
    if own_timeout && !patience.is_zero() {
        return Status::deadline_exceeded(format!("no answer within {patience:?}"));
    }
    status
}

/// Whether a run in this state has ended.
pub(crate) fn is_over(state: RunState) -> bool {
    matches!(state, RunState::Succeeded | RunState::Failed | RunState::Cancelled)
}

/// A request id of its own for each call.
pub(crate) fn fresh_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn endpoint(addr: &str) -> Result<Endpoint, Error> {
    let bad = |why: String| Error::Address { address: addr.to_owned(), why };
    if addr.starts_with("https://") {
        return Err(bad("TLS is not built in".to_owned()));
    }
    let uri = if addr.contains("://") { addr.to_owned() } else { format!("http://{addr}") };
    let endpoint = Endpoint::from_shared(uri).map_err(|error| bad(error.to_string()))?;
    if endpoint.uri().host().is_none_or(str::is_empty) || endpoint.uri().port().is_none() {
        return Err(bad("host or port is missing".to_owned()));
    }
    Ok(endpoint
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_addresses_say_what_is_wrong() {
        for (addr, why) in [("https://x:1", "TLS"), ("localhost", "port"), ("http://:1", ""), ("a b:1", "")] {
            let error = endpoint(addr).unwrap_err().to_string();
            assert!(error.contains(addr) && error.contains(why) && error.contains("write it as"), "{error}");
        }
        endpoint("127.0.0.1:7420").unwrap();
        endpoint("http://mesh.local:7420").unwrap();
    }

    #[tokio::test]
    async fn short_names_are_made_full() {
        let client = Client::connect(DEFAULT_ADDR).unwrap().with_namespace("lab");
        assert_eq!(client.name("workflows", "audit"), "namespaces/lab/workflows/audit");
        assert_eq!(client.name("runs", "namespaces/x/runs/1"), "namespaces/x/runs/1");
    }

    #[tokio::test]
    async fn an_absent_mesh_is_unavailable_once_patience_is_over() {
        // Port 1 of the loopback is refused at once.
        let client = Client::connect("127.0.0.1:1").unwrap().with_patience(Duration::from_millis(200));
        assert_eq!(client.get("some-run").await.unwrap_err().code(), Code::Unavailable);
    }
}
