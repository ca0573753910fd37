//! What a client can ask of the mesh: rmcp's handler over our tools.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use consort_core::plugin::Plugins;
use consort_core::ports::BlobStore;
use consort_core::{Error, Kind, glob};
use rmcp::ServerHandler;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, ClientResult, ElicitRequest, ElicitResult,
    ErrorData, Implementation, InputRequest, InputRequiredResult, ListToolsResult, PaginatedRequestParams,
    ProtocolVersion, ServerCapabilities, ServerConfig, ServerRequest, Tool,
};
use rmcp::service::{PeerRequestOptions, RequestContext, RoleServer};
use serde_json::json;
use uuid::Uuid;

use crate::server::exposed::{self, Target};
use crate::server::tools::{Arguments, Own};
use crate::server::workflows::{Answer, DecisionView, RunView, Workflows};
use crate::server::{Options, ask, operation};

/// Tools of a page.
const PAGE: usize = 500;
/// How long a list may be taken for fresh.
const FRESH: Duration = Duration::from_secs(5);
/// Decisions that are listed.
const DECISIONS: usize = 100;
/// Questions to newer clients that are not answered yet; the oldest is forgotten for a further one, and stays in the inbox.
const ASKED: usize = 1_000;
/// The key of the one question of a round.
const QUESTION: &str = "decision";

/// The mesh for all clients.
#[derive(Clone)]
pub(crate) struct Mesh {
    pub(crate) plugins: Arc<dyn Plugins>,
    pub(crate) blobs: Option<Arc<dyn BlobStore>>,
    pub(crate) options: Arc<Options>,
    workflows: Option<Arc<dyn Workflows>>,
    /// Clients see a handle only, so that none can answer what it was not asked.
    asked: Arc<Mutex<HashMap<String, Waiting>>>,
}

/// A client that waits for a run.
struct Waiting {
    run: String,
    until: Instant,
    /// Decisions that it has seen; the last one is what it is asked.
    seen: Vec<String>,
    since: Instant,
}

impl Mesh {
    pub(crate) fn new(
        plugins: Arc<dyn Plugins>,
        workflows: Option<Arc<dyn Workflows>>,
        blobs: Option<Arc<dyn BlobStore>>,
        options: Options,
    ) -> Mesh {
        Mesh { plugins, blobs, options: Arc::new(options), workflows, asked: Arc::default() }
    }

    fn exposed(&self) -> std::collections::BTreeMap<String, Target> {
        exposed::all(self.plugins.list(), self.workflows.is_some(), &self.options.allow)
    }

    async fn own(
        &self,
        own: Own,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(workflows) = self.workflows.clone() else { return Err(unknown(own.name(), &[])) };
        let mut given = Arguments::new(request.arguments);
        let done = match own {
            Own::Start => {
                let workflow = given.text("workflow");
                let inputs = given.object("inputs").unwrap_or_else(|| json!({}));
                let wait = given.seconds("wait_s", self.options.wait.as_secs_f64());
                given.end().map_err(|error| operation::bad(&error))?;
                if !glob::any(&self.options.workflows, &workflow) {
                    let said = format!("`{workflow}` is not among the workflows that may be started here");
                    return Err(operation::bad(&Error::bad_field("arguments.workflow", said)));
                }
                if let Some(handle) = request.request_state {
                    return self
                        .resume(&*workflows, &handle, request.input_responses.unwrap_or_default(), context)
                        .await;
                }
                match workflows.start(&workflow, inputs).await {
                    Err(error) => Err(error),
                    Ok(run) if wait == 0.0 || run.is_over => Ok(run.json()),
                    Ok(run) => {
                        let now = Instant::now();
                        let until = now + Duration::from_secs_f64(wait);
                        let waiting = Waiting { run: run.run, until, seen: Vec::new(), since: now };
                        return self.follow(&*workflows, waiting, context).await;
                    }
                }
            }
            Own::Status => {
                let run = given.text("run");
                given.end().map_err(|error| operation::bad(&error))?;
                workflows.status(&run).await.map(|run| run.json())
            }
            Own::Decisions => {
                let run = given.optional("run");
                given.end().map_err(|error| operation::bad(&error))?;
                let open = workflows.decisions(run.as_deref(), DECISIONS).await;
                open.map(|open| json!({"decisions": open.iter().map(DecisionView::json).collect::<Vec<_>>()}))
            }
            Own::Answer => {
                let (decision, option, person) = (given.text("decision"), given.text("option"), given.text("by"));
                let form = given.object("form");
                given.end().map_err(|error| operation::bad(&error))?;
                let by = format!("{} via {}", operation::short(&person), by(context));
                let answered = json!({"answered": decision});
                workflows.answer(Answer { decision, option, form, by }).await.map(|()| answered)
            }
        };
        match done {
            Ok(value) => Ok(operation::of_value(value).into()),
            Err(error) if error.kind == Kind::NotFound => {
                Ok(operation::unsuccessful(&format!("NOT_FOUND: {}", error.message)).into())
            }
            Err(error) => operation::unmade(error).map(CallToolResponse::from),
        }
    }

    /// Waits for a run, and asks the client what the run asks.
    async fn follow(
        &self,
        workflows: &dyn Workflows,
        mut waiting: Waiting,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let can_ask = ask::can_ask(context.client_capabilities().as_ref());
        let modern = context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
        let by = by(context);
        loop {
            let left = waiting.until.saturating_duration_since(Instant::now());
            let run = tokio::select! {
                run = workflows.wait(&waiting.run, &waiting.seen, left) => run,
                () = context.ct.cancelled() => return Ok(operation::unsuccessful("CANCELLED: the call was cancelled; the run goes on").into()),
            };
            let run = match run {
                Ok(run) => run,
                Err(error) => return operation::unmade(error).map(CallToolResponse::from),
            };
            let open = run.decisions.iter().find(|decision| !waiting.seen.contains(&decision.decision)).cloned();
            let Some(decision) = open.filter(|_| !run.is_over) else { return Ok(seen(&run)) };
            let Some(question) = ask::question(&decision).filter(|_| can_ask) else {
                // Nobody here can be asked: the client hears of it, and the question waits in the inbox.
                return Ok(seen(&run));
            };
            waiting.seen.push(decision.decision.clone());
            if modern {
                let handle = self.keep(waiting);
                let asked = InputRequest::Elicitation(ElicitRequest::new(question));
                return Ok(InputRequiredResult::new(Some([(QUESTION.to_owned(), asked)].into()), Some(handle)).into());
            }
            let left = waiting.until.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
            let options = PeerRequestOptions::with_timeout(left);
            let request = ServerRequest::ElicitRequest(ElicitRequest::new(question));
            let sent = context.peer.send_request_with_option(request, options).await;
            let said = match sent {
                Ok(handle) => tokio::select! {
                    said = handle.await_response() => said,
                    () = context.ct.cancelled() => return Ok(seen(&run)),
                },
                Err(error) => Err(error),
            };
            let answer = match said {
                Ok(ClientResult::ElicitResult(said)) => ask::answer(&decision.decision, said, &by),
                _ => None,
            };
            let Some(answer) = answer else { return Ok(seen(&run)) };
            if let Err(error) = answered(workflows.answer(answer).await) {
                return operation::unmade(error).map(CallToolResponse::from);
            }
        }
    }

    /// A newer client comes back with the answer.
    async fn resume(
        &self,
        workflows: &dyn Workflows,
        handle: &str,
        mut responses: rmcp::model::InputResponses,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let waiting = self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(handle);
        let (Some(waiting), true) = (waiting, handle.len() <= 100) else {
            let said = "requestState: is not known any more; look for the run with workflow_status, or answer with decision_answer";
            return Err(ErrorData::invalid_params(said, None));
        };
        let said = responses.remove(QUESTION).and_then(|said| serde_json::from_value::<ElicitResult>(said).ok());
        let decision = waiting.seen.last().cloned().unwrap_or_default();
        let Some(answer) = said.and_then(|said| ask::answer(&decision, said, &by(context))) else {
            let run = workflows.status(&waiting.run).await;
            return run.map(|run| seen(&run)).or_else(|error| operation::unmade(error).map(CallToolResponse::from));
        };
        if let Err(error) = answered(workflows.answer(answer).await) {
            return operation::unmade(error).map(CallToolResponse::from);
        }
        self.follow(workflows, waiting, context).await
    }

    fn keep(&self, waiting: Waiting) -> String {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() >= ASKED
            && let Some(oldest) =
                asked.iter().min_by_key(|(_, waiting)| waiting.since).map(|(handle, _)| handle.clone())
        {
            asked.remove(&oldest);
        }
        let handle = Uuid::new_v4().to_string();
        asked.insert(handle.clone(), Waiting { since: Instant::now(), ..waiting });
        handle
    }
}

/// Somebody else may have answered meanwhile: then the run goes on all the same.
fn answered(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if matches!(error.kind, Kind::FailedPrecondition | Kind::AlreadyExists | Kind::NotFound) => Ok(()),
        other => other,
    }
}

fn seen(run: &RunView) -> CallToolResponse {
    CallToolResponse::from(operation::of_value(run.json()))
}

/// Who answers by elicitation: the person before this client. What the mesh itself signs with has no such beginning.
fn by(context: &RequestContext<RoleServer>) -> String {
    let name = context.client_info().map(|client| client.name).unwrap_or_default();
    let name: String = operation::short(&name).chars().filter(|c| !c.is_control()).take(80).collect();
    format!("mcp:{}", if name.is_empty() { "client" } else { &name })
}

fn unknown(name: &str, known: &[&str]) -> ErrorData {
    let near = consort_core::workflow::nearest(name, known.iter().copied());
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    let said = format!("name: there is no tool `{}`, or it is not exposed{hint}", operation::short(name));
    ErrorData::invalid_params(said, Some(json!({"violations": [{"field": "name", "description": "is unknown"}]})))
}

impl ServerHandler for Mesh {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        let mut info = ServerConfig::new(capabilities);
        info.server_info = Implementation::new("consort", env!("CARGO_PKG_VERSION"));
        info
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.exposed().get(name).map(|target| exposed::tool(name, target))
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let after = request.and_then(|request| request.cursor).unwrap_or_default();
        let exposed = self.exposed();
        let mut rest = exposed.iter().filter(|(name, _)| **name > after);
        let tools: Vec<Tool> = rest.by_ref().take(PAGE).map(|(name, target)| exposed::tool(name, target)).collect();
        let more = rest.next().is_some();
        let next = tools.last().filter(|_| more).map(|tool| tool.name.to_string());
        let mut page = ListToolsResult::with_all_items(tools)
            .with_ttl_ms(FRESH.as_millis() as u64)
            .with_cache_scope(CacheScope::Private);
        page.next_cursor = next;
        Ok(page)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let exposed = self.exposed();
        match exposed.get(&*request.name) {
            None => Err(unknown(&request.name, &exposed.keys().map(String::as_str).collect::<Vec<_>>())),
            Some(Target::Own(own)) => self.own(*own, request, &context).await,
            Some(Target::Operation(name, _, is_mcp)) => {
                let done: CallToolResult = operation::call(self, name, *is_mcp, request.arguments, &context).await?;
                Ok(done.into())
            }
        }
    }
}
