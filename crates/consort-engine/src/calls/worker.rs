//! The worker for `infer` and `call` steps. It lives in the mesh and is a worker like any other: leases, retries, deadlines and restarts are
//! theirs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use consort_core::event::{Code, Failure};
use consort_core::model::{Gather, GenerateRequest, Reply};
use consort_core::workflow::{CALL, INFER};
use consort_core::{Data, Error, Kind};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::infer;
use super::operate::Operated;
use crate::Engine;
use crate::types::{
    AgentOffer, Answer, Assignment, Done, FromWorker, Hello, LeaseRef, LiveReport, TaskFailure, TaskReport,
};

/// How soon it comes back after it was cut off.
const AGAIN: Duration = Duration::from_millis(200);
/// Steps that are in work at once; models and plugins have queues and limits of their own.
const AT_ONCE: u32 = 256;
/// Reports that wait for the ledger.
const REPORTS: usize = 256;

/// Where steps report to.
pub(super) struct Told(mpsc::Sender<TaskReport>);

impl Told {
    /// Says how a step goes.
    pub(super) async fn say(&self, lease: &LeaseRef, report: LiveReport) {
        // The session is over when nobody listens, and with it the step.
        let _ = self.0.send(TaskReport { lease: lease.clone(), report }).await;
    }
}

impl Engine {
    /// Does the steps that the mesh does itself, until it is stopped: `infer` if it has models, `call` if it has plugins. What is in work then is handed out again at the next start, and calls that are on record are
    /// not made again.
    pub async fn do_own_steps(self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            match self.attend(&stop).await {
                // A process that stood still for longer than a lease is cut off like any worker, and comes back like one.
                Err(error) if !stop.is_cancelled() => {
                    tracing::warn!(%error, "the worker of `infer` and `call` steps attaches again");
                    stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
                }
                ended => return ended,
            }
        }
    }

    /// One session of it.
    async fn attend(&self, stop: &CancellationToken) -> Result<(), Error> {
        let slot: Arc<str> = "calls".into();
        let offer = |agent: &str, kind: &str| AgentOffer {
            agent: agent.into(),
            kind: kind.to_owned(),
            description: format!("Does `{}` steps.", agent.trim_end_matches("@mesh")),
            capabilities: Vec::new(),
            slot: slot.clone(),
        };
        let mut agents = Vec::new();
        agents.extend(self.models().is_ok().then(|| offer(INFER, "model")));
        agents.extend(self.plugins().is_ok().then(|| offer(CALL, "plugin")));
        let hello = Hello {
            namespace: "".into(),
            worker: "mesh@mesh".into(),
            session: self.environment().new_id().to_string().into(),
            agents,
            slots: [(slot.clone(), AT_ONCE)].into(),
            sdk: format!("mesh {}", env!("CARGO_PKG_VERSION")),
            answers: Vec::new(),
        };
        let session = self.attach(hello).await?;
        let mut renewal = tokio::time::interval((session.lease_ttl / 3).max(Duration::from_millis(10)));
        let mut work: JoinSet<Answer> = JoinSet::new();
        let mut held: HashMap<LeaseRef, AbortHandle> = HashMap::new();
        let (said, mut reports) = mpsc::channel(REPORTS);
        loop {
            tokio::select! {
                news = session.next() => {
                    for cancel in news.cancels {
                        if let Some(task) = held.remove(&cancel.lease) {
                            task.abort();
                        }
                    }
                    for assignment in news.assignments {
                        let lease = assignment.lease.clone();
                        held.insert(lease, work.spawn(self.clone().step(assignment, Told(said.clone()))));
                    }
                    if let Some(why) = news.close {
                        return Err(Error::internal(format!("the worker of `infer` and `call` steps was cut off: {why}")));
                    }
                }
                Some(done) = work.join_next(), if !work.is_empty() => {
                    // A task that was stopped has nothing to say.
                    if let Ok(answer) = done {
                        held.remove(&answer.lease);
                        session.send(FromWorker::Answers(vec![answer])).await?;
                    }
                }
                Some(first) = reports.recv() => {
                    let mut all = vec![first];
                    while let Ok(next) = reports.try_recv() {
                        all.push(next);
                    }
                    session.send(FromWorker::Reports(all)).await?;
                }
                _ = renewal.tick() => session.send(FromWorker::Renew { cpu: 0.0, memory_bytes: 0 }).await?,
                () = stop.cancelled() => {
                    let leases = held.into_keys().collect();
                    work.shutdown().await;
                    return session.send(FromWorker::Released(leases)).await;
                }
            }
        }
    }

    async fn step(self, assignment: Assignment, told: Told) -> Answer {
        let lease = assignment.lease.clone();
        let result = if *assignment.agent == *CALL {
            match self.answer_call(&assignment, &told).await {
                Ok(Operated::Done(done)) => Ok(done),
                Ok(Operated::Failed(failure)) => Err(TaskFailure {
                    // What can pass with time, or another try.
                    retryable: [Code::Unavailable, Code::ResourceExhausted, Code::DeadlineExceeded, Code::Aborted]
                        .iter()
                        .any(|code| *code as i32 == failure.code),
                    failure,
                    retry_after: None,
                }),
                Err(error) => Err(task_failure(error)),
            }
        } else {
            self.answer_infer(assignment).await.map(Done::Output).map_err(task_failure)
        };
        Answer { lease, result }
    }

    async fn answer_infer(&self, assignment: Assignment) -> Result<Data, Error> {
        let input = match &assignment.input {
            Data::Inline(json) => json.clone(),
            Data::Blob(blob) => self.json_of(blob).await?,
        };
        let request = infer::request(&input)?;
        // As it comes, for those who watch.
        let reply = match self.streamed(assignment.lease.clone(), request.clone()).await {
            // What was sent cannot be taken back: asked again, it is waited for.
            Err(error) if error.reason == "OUTPUT_INVALID" => {
                self.complete_for(assignment.lease, request.clone(), None, None).await?
            }
            reply => reply?,
        };
        infer::output(&request, &reply).map(|output| Data::of(&output))
    }

    async fn streamed(&self, lease: LeaseRef, request: GenerateRequest) -> Result<Reply, Error> {
        let mut generation = self.generate_for(lease, request, None, None).await?;
        let mut gather = Gather::default();
        while let Some(delta) = generation.next().await {
            if let Some(reply) = gather.push(delta?) {
                return Ok(reply);
            }
        }
        Err(Error::unavailable("the model's answer ended before it was whole", Duration::from_secs(1)))
    }
}

fn task_failure(error: Error) -> TaskFailure {
    TaskFailure {
        failure: Failure::new(code(error.kind), error.message.clone()),
        retryable: error.retryable() || error.kind == Kind::Internal,
        retry_after: error.retry_after,
    }
}

/// The code of an error on record.
pub(super) fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::Aborted => Code::Aborted,
        Kind::OutOfRange => Code::OutOfRange,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}
