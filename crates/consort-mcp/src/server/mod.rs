//! The mesh as an MCP server: a handler of plain HTTP for the path `/mcp`.
//!
//! - [`McpServer`]: the handler. 2026-07-28 is spoken without sessions, older versions with them.
//! - `exposed`: which tools there are, and who may see them. `operation`: a call of a plugin. `workflows`: runs and decisions.
//! - `options`: what an operator sets, and the check of it.
//! - `ask`: a decision as an elicitation: in the middle of a call for clients with a session, as an `input_required` result for newer ones.

mod ask;
mod exposed;
mod mesh;
mod operation;
mod options;
mod tools;
mod workflows;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consort_core::plugin::Plugins;
use consort_core::ports::BlobStore;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;

pub use options::Options;
pub use workflows::{Answer, DecisionView, RunView, Workflows};

use mesh::Mesh;

/// The body of an answer.
pub type HttpBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// What the front desk calls.
pub type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<HttpBody>> + Send + Sync>;

/// The mesh as an MCP server. Cloning is cheap.
#[derive(Clone)]
pub struct McpServer {
    service: StreamableHttpService<Mesh, LocalSessionManager>,
    sessions: Arc<LocalSessionManager>,
    body: usize,
    body_time: Duration,
    most: usize,
}

impl McpServer {
    /// Over the mesh's plugins, and its workflows if they shall be reachable. `blobs` has the outputs that are too large to travel inline;
    /// without it a client sees their names instead.
    pub fn new(
        plugins: Arc<dyn Plugins>,
        workflows: Option<Arc<dyn Workflows>>,
        blobs: Option<Arc<dyn BlobStore>>,
        options: Options,
    ) -> McpServer {
        let mut sessions = LocalSessionManager::default();
        sessions.session_config.keep_alive = Some(options.session_idle);
        let sessions = Arc::new(sessions);
        let mut config = StreamableHttpServerConfig::default().with_allowed_hosts(options.hosts.clone());
        config.json_response = true;
        config.max_request_body_bytes = options.body;
        config.cancellation_token = options.end.clone();
        let (body, body_time, most) = (options.body, options.body_time, options.sessions);
        let mesh = Mesh::new(plugins, workflows, blobs, options);
        let service = StreamableHttpService::new(move || Ok(mesh.clone()), Arc::clone(&sessions), config);
        McpServer { service, sessions, body, body_time, most }
    }

    /// As the front desk wants it.
    pub fn handler(self) -> Handler {
        Arc::new(move |request| {
            let server = self.clone();
            async move { server.answer(request).await }.boxed()
        })
    }

    /// Answers a request. Dropping the future, or the answer's body, cancels the call of a client that has no session; one with a session
    /// cancels by a message.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<HttpBody>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let begins = head.method == Method::POST
            && !head.headers.contains_key("mcp-session-id")
            && !head.headers.contains_key("mcp-protocol-version");
        if begins && self.sessions.sessions.read().await.len() >= self.most {
            let said = format!("there are {} sessions, which is the limit; close one, or try again later", self.most);
            return refuse(StatusCode::SERVICE_UNAVAILABLE, -32000, &said);
        }
        let reading = Limited::new(body, self.body).collect();
        let bytes = match tokio::time::timeout(self.body_time, reading).await {
            Ok(Ok(bytes)) => bytes.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let said = format!("the body has more than {} bytes, which is the limit; send less", self.body);
                return refuse(StatusCode::PAYLOAD_TOO_LARGE, -32600, &said);
            }
            Ok(Err(error)) => return refuse(StatusCode::BAD_REQUEST, -32600, &format!("the body broke off: {error}")),
            Err(_) => {
                let said = format!("the body was not there within {} s", self.body_time.as_secs());
                return refuse(StatusCode::REQUEST_TIMEOUT, -32600, &said);
            }
        };
        let answer = self.service.handle(Request::from_parts(head, Full::new(bytes))).await;
        answer.map(|body| body.map_err(|never| match never {}).boxed_unsync())
    }
}

/// A refusal as JSON-RPC has it.
fn refuse(status: StatusCode, code: i32, message: &str) -> Response<HttpBody> {
    let error = json!({"jsonrpc": "2.0", "id": null, "error": {"code": code, "message": message}});
    let body = Full::new(Bytes::from(error.to_string())).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
