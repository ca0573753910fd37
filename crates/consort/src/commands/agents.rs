//! `consort agents`, `workers` and `drain`.

use clap::Args;
use consort_proto::agent::{DrainWorkerRequest, ListAgentsRequest, ListWorkersRequest};

use crate::context::{Context, request_id};
use crate::failure::Result;
use crate::names;
use crate::output::{Table, text};

/// List agents and how they are.
#[derive(Debug, Args)]
pub(crate) struct Agents {
    /// Only agents of this type.
    #[arg(long = "type", value_name = "TYPE", default_value = "")]
    pub kind: String,
    /// Only agents with this capability.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub capability: String,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    pub limit: i32,
}

impl Agents {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let request = ListAgentsRequest {
            parent: context.parent.clone(),
            page_size: self.limit,
            page_token: String::new(),
            r#type: self.kind,
            capability: self.capability,
        };
        let page = context.mesh.answer(context.mesh.client.agents().list_agents(request).await)?;
        context.format.print(&page, || {
            let mut table =
                Table::new(&["AGENT", "STATUS", "WORKERS", "DONE", "FAILED", "CPU", "MEMORY", "ACTIVE", "FOR"]);
            for agent in &page.agents {
                let metrics = agent.metrics.unwrap_or_default();
                table.row([
                    text::id(&agent.name).to_owned(),
                    text::agent_status(agent.status).to_owned(),
                    agent.workers.len().to_string(),
                    metrics.tasks_succeeded.to_string(),
                    metrics.tasks_failed.to_string(),
                    format!("{:.0} %", agent.cpu * 100.0),
                    text::bytes(agent.memory_bytes),
                    text::ago(agent.last_activity_time.as_ref()),
                    text::one_line(&agent.description, 60),
                ]);
            }
            table.render_or("no agents; a worker that connects brings them")
        })
    }
}

/// List the processes that serve agents.
#[derive(Debug, Args)]
pub(crate) struct Workers {}

impl Workers {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let request = ListWorkersRequest { parent: context.parent.clone() };
        let page = context.mesh.answer(context.mesh.client.agents().list_workers(request).await)?;
        context.format.print(&page, || {
            let headings = ["WORKER", "STATE", "AGENTS", "TASKS", "SDK", "CPU", "MEMORY", "SINCE", "HEARD"];
            let mut table = Table::new(&headings);
            for worker in &page.workers {
                table.row([
                    text::id(&worker.name).to_owned(),
                    text::worker_state(worker.state).to_owned(),
                    worker.agents.join(" "),
                    format!("{}/{}", worker.running, worker.slots),
                    worker.sdk.clone(),
                    format!("{:.0} %", worker.cpu * 100.0),
                    text::bytes(worker.memory_bytes),
                    text::ago(worker.connect_time.as_ref()),
                    text::ago(worker.last_heard_time.as_ref()),
                ]);
            }
            table.render_or("no workers are connected")
        })
    }
}

/// Let a worker finish what it has and leave.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The worker.
    pub worker: String,
}

impl Drain {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let name = names::named(context, "workers", &self.worker)?;
        let request = DrainWorkerRequest { name, request_id: request_id() };
        let worker = context.mesh.answer(context.mesh.client.agents().drain_worker(request).await)?;
        context.format.print(&worker, || {
            let state = text::worker_state(worker.state);
            format!("{} is {state} with {} tasks in hand\n", text::id(&worker.name), worker.running)
        })
    }
}
