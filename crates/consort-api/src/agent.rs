//! `consort.agent.v1.AgentService`.

use std::sync::Arc;

use consort_core::Error;
use consort_core::ports::{AgentNews, Said};
use consort_engine::AgentView;
use consort_proto::agent as wire;
use futures::FutureExt as _;
use prost::Message as _;
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};
use wire::agent_service_server::AgentService;

use crate::paging::{self, List};
use crate::status::{self, answer};
use crate::stream::{self, Reader};
use crate::{Context, asks, convert, names, request as req};

/// See `proto/consort/agent/v1/agent_service.proto`.
pub(crate) struct Agents(pub(crate) Arc<Context>);

impl Agents {
    async fn list(&self, request: wire::ListAgentsRequest) -> Result<wire::ListAgentsResponse, Error> {
        let namespace = names::parent("parent", &request.parent)?;
        let size = paging::size(request.page_size, 50)?;
        let list = List::new("ListAgents", &[&namespace, &request.r#type, &request.capability]);
        let after = list.place(&request.page_token)?.map(String::from_utf8).transpose();
        let after = after.map_err(|_| paging::bad_token())?.unwrap_or_default();
        let mut agents = self.0.engine.agents(&namespace).await?;
        agents.retain(|agent| {
            *agent.agent > *after
                && (request.r#type.is_empty() || agent.kind == request.r#type)
                && (request.capability.is_empty() || agent.capabilities.contains(&request.capability))
        });
        agents.sort_by(|a, b| a.agent.cmp(&b.agent));
        agents.truncate(size + 1);
        let convert = |view: &AgentView| convert::agent(&namespace, view);
        let place = |view: &AgentView| view.agent.as_bytes().to_vec();
        let (agents, next_page_token) = paging::page(&list, size, &agents, convert, place);
        Ok(wire::ListAgentsResponse { agents, next_page_token })
    }

    async fn get(&self, request: wire::GetAgentRequest) -> Result<wire::Agent, Error> {
        let (namespace, id) = names::agent("name", &request.name)?;
        let agents = self.0.engine.agents(&namespace).await?;
        let agent = agents.iter().find(|agent| agent.agent == id);
        agent.map(|agent| convert::agent(&namespace, agent)).ok_or_else(|| Error::not_found("agent", &request.name))
    }

    async fn tasks(&self, request: wire::ListAgentTasksRequest) -> Result<wire::ListAgentTasksResponse, Error> {
        let (namespace, agent) = names::agent("parent", &request.parent)?;
        let size = paging::size(request.page_size, 50)?;
        let mut tasks = self.0.engine.agent_tasks(&namespace, &agent).await?;
        tasks.truncate(size);
        // There is no second page: what does not fit into a message stands in the runs' own events.
        let mut bytes = 0;
        let tasks = tasks.iter().map(|task| convert::agent_task(&namespace, task)).take_while(|task| {
            bytes += task.encoded_len();
            bytes <= paging::PAGE_BYTES
        });
        Ok(wire::ListAgentTasksResponse { tasks: tasks.collect() })
    }

    async fn watch(&self, request: wire::WatchAgentRequest) -> Result<stream::News<wire::WatchAgentResponse>, Error> {
        let (namespace, agent) = names::agent("name", &request.name)?;
        let news = self.0.bus.follow_agents();
        let agents = self.0.engine.agents(&namespace).await?;
        if !agents.iter().any(|known| known.agent == agent) {
            return Err(Error::not_found("agent", &request.name));
        }
        Ok(stream::news(&self.0, |reader| follow(reader, news, namespace, agent).boxed()))
    }

    async fn workers(&self, request: wire::ListWorkersRequest) -> Result<wire::ListWorkersResponse, Error> {
        let namespace = names::parent("parent", &request.parent)?;
        let mut workers = self.0.engine.workers(&namespace).await?;
        workers.sort_by(|a, b| a.worker.cmp(&b.worker));
        Ok(wire::ListWorkersResponse {
            workers: workers.iter().map(|view| convert::worker(&namespace, view)).collect(),
        })
    }

    async fn drain(&self, request: wire::DrainWorkerRequest) -> Result<wire::Worker, Error> {
        let (namespace, worker) = names::worker("name", &request.name)?;
        req::check_id(&request.request_id)?;
        let view = self.0.engine.drain_worker(&namespace, &worker).await?;
        Ok(convert::worker(&namespace, &view))
    }
}

async fn follow(
    reader: Reader<wire::WatchAgentResponse>,
    mut news: tokio::sync::broadcast::Receiver<AgentNews>,
    namespace: Arc<str>,
    agent: Arc<str>,
) -> Result<(), Error> {
    loop {
        let news = match news.recv().await {
            Ok(news) => news,
            Err(RecvError::Lagged(lost)) => return Err(lagged(lost)),
            Err(RecvError::Closed) => return Err(status::stopping()),
        };
        if news.agent != agent || news.namespace != namespace {
            continue;
        }
        let report = match news.said {
            Said::Progress(fraction, text) => convert::progress_report(fraction, text),
            Said::Report(report) => convert::kept_report(&report),
        };
        let task = names::of_task(&namespace, news.run, &news.step, news.attempt);
        let time = Some(convert::timestamp(news.at));
        reader.give(wire::WatchAgentResponse { task, time, report: Some(report) }).await?;
    }
}

/// A reader was so slow that news was lost: saying so is better than a gap that nobody sees.
pub(crate) fn lagged(lost: u64) -> Error {
    status::exhausted("READER_LAGGED", format!("{lost} items were lost because the reader was slow; call again"), None)
}

#[tonic::async_trait]
impl AgentService for Agents {
    async fn list_agents(
        &self,
        request: Request<wire::ListAgentsRequest>,
    ) -> Result<Response<wire::ListAgentsResponse>, Status> {
        answer(self.list(request.into_inner()).await)
    }

    async fn get_agent(&self, request: Request<wire::GetAgentRequest>) -> Result<Response<wire::Agent>, Status> {
        answer(self.get(request.into_inner()).await)
    }

    async fn list_agent_tasks(
        &self,
        request: Request<wire::ListAgentTasksRequest>,
    ) -> Result<Response<wire::ListAgentTasksResponse>, Status> {
        answer(self.tasks(request.into_inner()).await)
    }

    type WatchAgentStream = stream::News<wire::WatchAgentResponse>;

    async fn watch_agent(
        &self,
        request: Request<wire::WatchAgentRequest>,
    ) -> Result<Response<Self::WatchAgentStream>, Status> {
        answer(self.watch(request.into_inner()).await)
    }

    async fn list_workers(
        &self,
        request: Request<wire::ListWorkersRequest>,
    ) -> Result<Response<wire::ListWorkersResponse>, Status> {
        answer(self.workers(request.into_inner()).await)
    }

    async fn ask_agent(
        &self,
        request: Request<wire::AskAgentRequest>,
    ) -> Result<Response<wire::AskAgentResponse>, Status> {
        asks::ask_agent(&self.0, request).await
    }

    async fn drain_worker(&self, request: Request<wire::DrainWorkerRequest>) -> Result<Response<wire::Worker>, Status> {
        answer(self.drain(request.into_inner()).await)
    }
}
