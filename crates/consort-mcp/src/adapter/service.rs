//! consort.plugin.v1 over a connected MCP server.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use consort_proto::blob::{Payload, payload};
use consort_proto::plugin as wire;
use futures::Stream;
use rmcp::RoleClient;
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest, JsonObject, RequestMetaObject, ServerResult};
use rmcp::service::{Peer, PeerRequestOptions, RequestHandle, ServiceError};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::adapter::ears::{Ears, News};
use crate::adapter::tools::Tools;
use crate::adapter::{convert, output};

/// Messages that wait for the mesh.
const NEWS: usize = 64;
/// How long a call whose server is gone waits for the end of this process, which is what tells the mesh that the call was lost.
const LOST: Duration = Duration::from_secs(10);

/// The plugin.
pub(crate) struct Plugin {
    pub hello: wire::HelloResponse,
    pub tools: Arc<Tools>,
    pub peer: Peer<RoleClient>,
    pub ears: Ears,
    pub work: Work,
}

/// The calls in work.
#[derive(Clone)]
pub(crate) struct Work {
    count: watch::Sender<usize>,
    draining: CancellationToken,
    over: CancellationToken,
}

impl Work {
    pub(crate) fn new() -> Work {
        let (count, _) = watch::channel(0);
        Work { count, draining: CancellationToken::new(), over: CancellationToken::new() }
    }

    fn begin(&self) -> Place {
        self.count.send_modify(|count| *count += 1);
        Place(self.count.clone())
    }
}

/// One call's place among those in work.
struct Place(watch::Sender<usize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[async_trait]
impl wire::plugin_service_server::PluginService for Plugin {
    async fn hello(&self, _: Request<wire::HelloRequest>) -> Result<Response<wire::HelloResponse>, Status> {
        Ok(Response::new(self.hello.clone()))
    }

    async fn configure(&self, _: Request<wire::ConfigureRequest>) -> Result<Response<wire::ConfigureResponse>, Status> {
        Ok(Response::new(wire::ConfigureResponse {}))
    }

    type InvokeStream = Pin<Box<dyn Stream<Item = Result<wire::InvokeResponse, Status>> + Send>>;

    async fn invoke(&self, request: Request<wire::InvokeRequest>) -> Result<Response<Self::InvokeStream>, Status> {
        let request = request.into_inner();
        if self.work.draining.is_cancelled() {
            return Err(output::status(Code::Unavailable, "DRAINING", "the plugin ends; call the next one"));
        }
        let Some(entry) = self.tools.entries.get(&request.operation) else {
            let near =
                consort_core::workflow::nearest(&request.operation, self.tools.entries.keys().map(String::as_str));
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let said = format!("there is no operation `{}`{hint}", request.operation);
            return Err(output::status(Code::NotFound, "NOT_FOUND", &said));
        };
        if request.dry_run {
            let said = format!("`{}` cannot say what it would do; call it without dry_run", request.operation);
            return Err(output::status(Code::FailedPrecondition, "NO_DRY_RUN", &said));
        }
        let arguments = arguments(request.input)?;
        let params = CallToolRequestParams::new(entry.tool.clone()).with_arguments(arguments);
        let mut meta = RequestMetaObject::new();
        if !request.idempotency_key.is_empty() {
            // For servers that look; others pass over it.
            meta.0.insert("consort/idempotency-key".to_owned(), request.idempotency_key.into());
        }
        let options = PeerRequestOptions::no_options().with_meta(meta);
        let (news, taken) = mpsc::channel(NEWS);
        let call = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let sending = self.peer.send_cancellable_request(call, options);
        let handle = match self.ears.listen(news.clone(), sending).await {
            Ok(handle) => handle,
            Err(error) => return Err(lost(&error, entry.effect).await),
        };
        let (ears, work, effect) = (self.ears.clone(), self.work.clone(), entry.effect);
        let place = work.begin();
        tokio::spawn(async move {
            let token = handle.progress_token.clone();
            attend(handle, &news, &work.over, effect).await;
            ears.forget(&token).await;
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(taken))))
    }

    async fn drain(&self, request: Request<wire::DrainRequest>) -> Result<Response<wire::DrainResponse>, Status> {
        self.work.draining.cancel();
        let grace = request.into_inner().grace.and_then(|grace| Duration::try_from(grace).ok()).unwrap_or_default();
        let mut count = self.work.count.subscribe();
        let done = tokio::time::timeout(grace, count.wait_for(|count| *count == 0)).await.is_ok();
        let cancelled = if done { 0 } else { *count.borrow() };
        self.work.over.cancel();
        // Those that were cancelled say so to the server.
        let _ = tokio::time::timeout(Duration::from_secs(2), count.wait_for(|count| *count == 0)).await;
        Ok(Response::new(wire::DrainResponse { cancelled: cancelled as i32 }))
    }
}

/// The input as a tool's arguments.
fn arguments(input: Option<Payload>) -> Result<JsonObject, Status> {
    let bad = |said: String| output::status(Code::InvalidArgument, "BAD_REQUEST", &format!("input: {said}"));
    let value = match input.and_then(|input| input.kind) {
        None => Value::Object(JsonObject::new()),
        Some(payload::Kind::Json(text)) => serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?,
        Some(payload::Kind::Value(value)) => convert::json(value),
        Some(payload::Kind::Blob(_)) => return Err(bad("is a blob; send it inline".to_owned())),
    };
    match value {
        Value::Object(members) => Ok(members),
        other => Err(bad(format!("`{}` is no object", crate::adapter::words::cut(&other.to_string(), 100)))),
    }
}

/// Waits for a call's answer, and cancels it when nobody wants it any more.
async fn attend(mut handle: RequestHandle<RoleClient>, news: &News, over: &CancellationToken, effect: wire::Effect) {
    let (answer, why) = tokio::select! {
        answer = &mut handle.rx => (Some(answer), ""),
        () = news.closed() => (None, "the caller left"),
        () = over.cancelled() => (None, "the plugin ends"),
    };
    let Some(answer) = answer else {
        // The server may be gone as well.
        let _ = handle.cancel(Some(why.to_owned())).await;
        let _ = news.try_send(Err(output::status(Code::Cancelled, "CANCELLED", why)));
        return;
    };
    let said = match answer.unwrap_or(Err(ServiceError::TransportClosed)) {
        Ok(ServerResult::CallToolResult(result)) => output::of(result),
        Ok(ServerResult::InputRequiredResult(_)) => {
            let said = "the tool asks its caller for input, which a plugin cannot give";
            Err(output::status(Code::FailedPrecondition, "INPUT_REQUIRED", said))
        }
        Ok(ServerResult::CreateTaskResult(_)) => {
            let said = "the tool made a task of the call although nobody asked for one";
            Err(output::status(Code::Internal, "UNEXPECTED_TASK", said))
        }
        Ok(other) => {
            let shown = format!("{other:?}");
            let said = format!("the tool answered with something else: {}", crate::adapter::words::cut(&shown, 200));
            Err(output::status(Code::Internal, "UNEXPECTED_ANSWER", &said))
        }
        Err(error) => Err(lost(&error, effect).await),
    };
    match said {
        Ok(messages) => {
            for message in messages {
                if news.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        }
        Err(status) => drop(news.send(Err(status)).await),
    }
}

/// What a call that got no answer ends with. If the server is gone this process is about to end; until then nothing is said.
async fn lost(error: &ServiceError, effect: wire::Effect) -> Status {
    if let ServiceError::McpError(error) = error {
        return output::of_error(error);
    }
    if matches!(error, ServiceError::TransportClosed) {
        tokio::time::sleep(LOST).await;
    }
    let said = format!("the MCP server was not reached, or left the call unanswered: {error}");
    match effect {
        wire::Effect::Read | wire::Effect::IdempotentWrite => output::status(Code::Unavailable, "MCP_LOST", &said),
        _ => {
            let said = format!("{said}; it is a write, and nobody knows whether it was done");
            output::status(Code::Aborted, "OUTCOME_UNKNOWN", &said)
        }
    }
}
