//! What the port answers besides gRPC, and what joins OpenAI's methods to the rest: the router's pass-through, and calls on behalf of tasks.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::Bytes;
use consort_bus::Bus;
use consort_core::Error;
use consort_core::model::{
    Budget, CachePolicy, Caller, GenerateRequest, Generation, Models, PassBody, PassHead, PassMethod, PassThrough,
    Passed, Reply, Routing,
};
use consort_core::ports::BlobStore;
use consort_engine::Engine;
use consort_gateway::{Calls, Gateway, Handler, Options, TaskRef};
use consort_inference::{PassOutcome, PassRequest, Router};
use consort_mcp::server::McpServer;
use http_body::Body as _;
use tokio_util::sync::CancellationToken;

use crate::mcp::EngineWorkflows;

/// What is no gRPC: OpenAI's methods under `/v1/`, if there are models, and MCP at `/mcp`, if there are plugins and it is not switched off.
pub(crate) fn handler(models: Option<Handler>, mcp: Option<Handler>) -> Option<Handler> {
    match (models, mcp) {
        (models, None) => models,
        (None, Some(mcp)) => Some(mcp),
        (Some(models), Some(mcp)) => {
            Some(Arc::new(move |request| if request.uri().path() == "/mcp" { mcp(request) } else { models(request) }))
        }
    }
}

/// The mesh as an MCP server: its plugins, workflows and decisions, as far as the options allow.
pub(crate) fn mcp(
    plugins: &consort_plugins::Plugins,
    engine: &Engine,
    bus: &Bus,
    options: consort_mcp::server::Options,
    end: CancellationToken,
) -> Handler {
    let workflows = EngineWorkflows {
        engine: engine.clone(),
        bus: bus.clone(),
        namespace: options.namespace.clone(),
        stop: end.clone(),
    };
    let blobs = Arc::clone(engine.store()) as Arc<dyn BlobStore>;
    let options = consort_mcp::server::Options { end, ..options };
    McpServer::new(Arc::new(plugins.clone()), Some(Arc::new(workflows)), Some(blobs), options).handler()
}

/// OpenAI's methods over a router and an engine.
pub(crate) fn openai(router: &Router, engine: &Engine) -> Handler {
    let models: Arc<dyn Models> = Arc::new(router.clone());
    let calls = Arc::new(Recorded { engine: engine.clone(), models: Arc::clone(&models) });
    let pass = Arc::new(Passing(router.clone()));
    Gateway::new(models, calls, Some(pass), Options::default()).handler()
}

/// Calls of models, in the histories of runs where they belong to a task.
struct Recorded {
    engine: Engine,
    models: Arc<dyn Models>,
}

#[async_trait]
impl Calls for Recorded {
    async fn generate(
        &self,
        request: Arc<GenerateRequest>,
        caller: &Caller,
        task: Option<&TaskRef>,
    ) -> Result<Box<dyn Generation>, Error> {
        match task {
            None => self.models.generate(request, caller).await,
            Some(task) => {
                let (_, lease) = consort_api::task_lease("x-consort-task", &task.task, task.lease_token)?;
                self.engine.generate_for(lease, Arc::unwrap_or_clone(request), caller.key.clone(), None).await
            }
        }
    }

    async fn complete(
        &self,
        request: Arc<GenerateRequest>,
        caller: &Caller,
        task: Option<&TaskRef>,
    ) -> Result<Reply, Error> {
        match task {
            None => self.models.complete(request, caller).await,
            Some(task) => {
                let (_, lease) = consort_api::task_lease("x-consort-task", &task.task, task.lease_token)?;
                self.engine.complete_for(lease, Arc::unwrap_or_clone(request), caller.key.clone(), None).await
            }
        }
    }
}

/// The router, for calls whose bytes need no translation.
struct Passing(Router);

#[async_trait]
impl PassThrough for Passing {
    async fn pass(&self, head: PassHead<'_>, body: &Bytes, caller: &Caller) -> Result<Option<Passed>, Error> {
        let is_chat = match head.method {
            PassMethod::Chat => true,
            PassMethod::Completion => false,
            PassMethod::Embedding => return Ok(None),
        };
        let request = PassRequest {
            head: consort_inference::PassHead::parse(body)?,
            body: body.clone(),
            is_chat,
            cache: CachePolicy::default(),
            routing: Routing::default(),
            budget: Budget::default(),
            timeout: None,
        };
        let passed = match self.0.pass(request, caller).await? {
            PassOutcome::Passed(passed) => passed,
            PassOutcome::Typed(_) => return Ok(None),
        };
        let headers = passed
            .headers
            .iter()
            .filter_map(|(name, value)| Some((Cow::Owned(name.as_str().to_owned()), value.to_str().ok()?.to_owned())));
        Ok(Some(Passed {
            status: passed.status.as_u16(),
            model: passed.model.to_string(),
            cost_nanos: passed.is_cached.then_some(0),
            headers: headers.collect(),
            body: Box::new(Bodily(passed.body)),
        }))
    }
}

/// The router's body as the port has it.
struct Bodily(consort_inference::PassBody);

impl PassBody for Bodily {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            match ready!(Pin::new(&mut self.0).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // Trailers have no place in OpenAI's answers.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
            }
        }
    }

    fn left(&self) -> Option<u64> {
        self.0.size_hint().exact()
    }
}
