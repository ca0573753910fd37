//! Workers inside the test, and what tests read from runs and errors.

use std::process::Command;

use consort_proto::blob::{Payload, payload::Kind};
use consort_proto::orchestrator::{Run, StepState};
use consort_sdk::{Error, Worker};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::mesh::Mesh;
use crate::process::{Process, binary};
use crate::wait::soon;

/// A worker of the test's own process. It is gone, as if it had crashed, when this is dropped.
#[derive(Debug)]
pub struct LocalWorker {
    stop: CancellationToken,
    handle: JoinHandle<Result<(), Error>>,
}

/// Runs a worker against a mesh within the test.
pub fn serve(mesh: &Mesh, worker: Worker) -> LocalWorker {
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    LocalWorker { stop, handle: tokio::spawn(worker.addr(mesh.addr()).run_until(stopped)) }
}

impl LocalWorker {
    /// Lets it finish what it holds, and waits for its end.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.stop.cancel();
        soon(&mut self.handle).await.expect("a worker does not panic")
    }

    /// Waits until it ends by itself, as it does when somebody drains it.
    pub async fn ended(mut self) -> Result<(), Error> {
        soon(&mut self.handle).await.expect("a worker does not panic")
    }
}

impl Drop for LocalWorker {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Mesh {
    /// Starts `consort-test-worker` for this mesh: the agents `next`, `flaky` and `bulk`, each task after 0 to `max_ms` ms.
    pub fn worker(&self, id: &str, seed: u64, max_ms: u64) -> Process {
        let mut command = Command::new(binary("consort-test-worker"));
        command.args([id, &seed.to_string(), &max_ms.to_string()]).env("CONSORT_ADDR", self.addr());
        command.env_remove("CONSORT_WORKER_ID").env_remove("CONSORT_NAMESPACE");
        Process::start(&format!("worker {id}"), &mut command, &self.folder().join(format!("{id}.log")))
    }
}

/// The value of an inline payload; `null` if there is none.
pub fn json_of(payload: Option<&Payload>) -> Value {
    match payload.and_then(|payload| payload.kind.as_ref()) {
        None => Value::Null,
        Some(Kind::Json(text)) => serde_json::from_str(text).expect("the mesh answers with JSON"),
        Some(other) => panic!("the mesh answered with {other:?} where a small value was expected"),
    }
}

/// The inline output of a run.
pub fn output_of(run: &Run) -> Value {
    json_of(run.output.as_ref())
}

/// Steps of a run and their states.
pub fn steps_of(run: &Run) -> Vec<(&str, StepState)> {
    run.steps.iter().map(|step| (step.step.as_str(), step.state())).collect()
}

/// The machine-readable reason of an error. Panics if the error lacks the details that every error of the mesh has.
pub fn refusal(status: &Status) -> String {
    let info = status.get_details_error_info();
    let info = info.unwrap_or_else(|| panic!("an error without ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "consort.dev", "{status:?}");
    assert!(!info.reason.is_empty() && !status.message().is_empty(), "an error that says nothing: {status:?}");
    info.reason
}
