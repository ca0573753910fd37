//! Agents, workers and their tasks as the registry sees them.

use consort_core::event::{Code, Failure};
use consort_engine::{AgentView, TaskOutcome, TaskView, WorkerState, WorkerView};
use consort_proto::agent as wire;
use consort_proto::google::rpc;

use super::{duration, rpc_status, timestamp};
use crate::names;

/// An agent of a namespace.
pub(crate) fn agent(namespace: &str, view: &AgentView) -> wire::Agent {
    let status = if view.workers.is_empty() {
        wire::AgentStatus::Offline
    } else if view.metrics.running > 0 || view.asks.open > 0 {
        wire::AgentStatus::Busy
    } else {
        wire::AgentStatus::Idle
    };
    wire::Agent {
        name: names::of(namespace, "agents", &view.agent),
        r#type: view.kind.clone(),
        description: view.description.clone(),
        capabilities: view.capabilities.clone(),
        status: status as i32,
        last_activity_time: Some(timestamp(view.last_activity)),
        workers: view.workers.iter().map(|id| names::of(namespace, "workers", id)).collect(),
        metrics: Some(wire::AgentMetrics {
            tasks_started: view.metrics.started as i64,
            tasks_succeeded: view.metrics.succeeded as i64,
            tasks_failed: view.metrics.failed as i64,
            leases_lost: view.metrics.lost as i64,
            tasks_running: view.metrics.running as i64,
            busy_time: Some(duration(view.metrics.busy)),
            requests_answered: view.asks.answered as i64,
            requests_failed: view.asks.failed as i64,
            requests_open: view.asks.open as i64,
        }),
        cpu: view.cpu,
        memory_bytes: view.memory_bytes as i64,
    }
}

/// A task of an agent.
pub(crate) fn agent_task(namespace: &str, view: &TaskView) -> wire::AgentTask {
    let error = |code, message| rpc_status(&Failure::new(code, message));
    let outcome = view.outcome.as_ref().map(|outcome| match outcome {
        TaskOutcome::Succeeded => rpc::Status::default(),
        TaskOutcome::Failed(failure) => rpc_status(failure),
        TaskOutcome::Lost(loss) => error(Code::Aborted, format!("the lease was lost: {}", loss.as_str())),
        TaskOutcome::Cancelled => error(Code::Cancelled, "its run was stopped".to_owned()),
    });
    wire::AgentTask {
        task: names::of_task(namespace, view.lease.run, &view.lease.step, view.lease.attempt),
        worker: names::of(namespace, "workers", &view.worker),
        start_time: Some(timestamp(view.started_at)),
        end_time: view.ended_at.map(timestamp),
        outcome,
    }
}

/// A worker of a namespace.
pub(crate) fn worker(namespace: &str, view: &WorkerView) -> wire::Worker {
    let state = match view.state {
        WorkerState::Active => wire::WorkerState::Active,
        WorkerState::Draining => wire::WorkerState::Draining,
        WorkerState::Lost => wire::WorkerState::Lost,
    };
    wire::Worker {
        name: names::of(namespace, "workers", &view.worker),
        session_id: view.session.to_string(),
        agents: view.agents.iter().map(ToString::to_string).collect(),
        sdk: view.sdk.clone(),
        state: state as i32,
        slots: view.slots as i32,
        running: view.running as i32,
        connect_time: Some(timestamp(view.connected_at)),
        last_heard_time: Some(timestamp(view.last_heard)),
        cpu: view.cpu,
        memory_bytes: view.memory_bytes as i64,
    }
}
