//! `consort.agent.v1.WorkerService`.

use std::sync::Arc;
use std::time::Duration;

use consort_core::{Error, Kind};
use consort_engine::{Answer, Done};
use consort_proto::agent as wire;
use tonic::{Request, Response, Status, Streaming};
use wire::worker_service_server::WorkerService;

use crate::connect::{self, Connection};
use crate::status::answer;
use crate::{Context, convert, deadline, hello, names, request as req};

/// Tasks of one answer: their inputs, of 64 KiB each, must fit into one message.
const LEASED_AT_ONCE: i32 = 60;
/// Longest wait of LeaseTasks.
const LEASE_WAIT: Duration = Duration::from_secs(20);

/// See `proto/consort/agent/v1/worker_service.proto`.
pub(crate) struct Workers(pub(crate) Arc<Context>);

impl Workers {
    async fn lease(&self, request: Request<wire::LeaseTasksRequest>) -> Result<wire::LeaseTasksResponse, Error> {
        let (_, extensions, message) = request.into_parts();
        let hello = hello::read_unary(&message.parent, &message.worker_id, &message.session_id, message.agents)?;
        if !(0..=1_000).contains(&message.max_tasks) {
            let said = format!("`{}` is out of range; give 1 to 1,000, or 0 for 1", message.max_tasks);
            return Err(Error::bad_field("max_tasks", said));
        }
        let max = message.max_tasks.clamp(1, LEASED_AT_ONCE) as u32;
        let wait = req::duration("wait", message.wait.as_ref())?.unwrap_or_default();
        if wait > LEASE_WAIT {
            return Err(Error::bad_field(
                "wait",
                format!("{} s is too long; give at most {} s", wait.as_secs(), LEASE_WAIT.as_secs()),
            ));
        }
        let wait = deadline::wait(&extensions, Some(wait), wait, &self.0.options.limits);
        let (tasks, ttl) = self.0.unless_stopping(self.0.engine.lease_tasks(hello, max, wait)).await?;
        Ok(wire::LeaseTasksResponse {
            assignments: tasks.iter().map(convert::assignment).collect(),
            lease_ttl: Some(convert::duration(ttl)),
        })
    }

    async fn renew(&self, request: wire::RenewLeasesRequest) -> Result<wire::RenewLeasesResponse, Error> {
        let (namespace, session) = hello::read_identity(&request.parent, &request.worker_id, &request.session_id)?;
        let mut reports = Vec::with_capacity(request.reports.len());
        for (index, report) in request.reports.into_iter().enumerate() {
            reports
                .push(convert::live_report(&self.0.values, convert::At("reports", index), &namespace, report).await?);
        }
        let renewed = self.0.engine.renew_leases(&namespace, &request.worker_id, &session, reports);
        let (held, cancels) = renewed.await?;
        Ok(wire::RenewLeasesResponse {
            held: held.iter().map(|lease| convert::lease_ref(&namespace, lease)).collect(),
            cancels: cancels.iter().map(convert::cancel).collect(),
        })
    }

    async fn complete(&self, request: wire::CompleteTaskRequest) -> Result<wire::CompleteTaskResponse, Error> {
        let (namespace, lease) = names::task("task", &request.task, request.lease_token)?;
        let done = match (request.plan, request.output) {
            (plan, None) if !plan.is_empty() => Done::PlanText(plan),
            (plan, Some(_)) if !plan.is_empty() => {
                return Err(Error::bad_field("plan", "is given beside `output`; give one of them"));
            }
            (_, output) => Done::Output(self.0.values.take("output", output).await?),
        };
        self.0.engine.answer_task(namespace, Answer { lease, result: Ok(done) }).await?;
        Ok(wire::CompleteTaskResponse {})
    }

    async fn ask(&self, request: wire::AskTaskRequest) -> Result<wire::AskTaskResponse, Error> {
        let (namespace, lease) = names::task("task", &request.task, request.lease_token)?;
        let question = convert::question(&self.0.values, "question", request.question).await?;
        self.0.engine.answer_task(namespace, Answer { lease, result: Ok(Done::Asked(question)) }).await?;
        Ok(wire::AskTaskResponse {})
    }

    async fn fail(&self, request: wire::FailTaskRequest) -> Result<wire::FailTaskResponse, Error> {
        let (namespace, lease) = names::task("task", &request.task, request.lease_token)?;
        let failure = convert::answer_failure("", request.error, request.retryable, request.retry_after.as_ref())?;
        let will_retry = self.0.engine.answer_task(namespace, Answer { lease, result: Err(failure) }).await?;
        Ok(wire::FailTaskResponse { will_retry })
    }

    async fn open(&self, mut frames: Streaming<wire::ConnectRequest>) -> Result<connect::Frames, Status> {
        let of = crate::status::of;
        let limit = self.0.options.limits.first_request;
        let Ok(first) = tokio::time::timeout(limit, frames.message()).await else {
            let said = format!("the worker sent nothing for {} s; its first frame must carry `hello`", limit.as_secs());
            return Err(of(Error::new(Kind::DeadlineExceeded, "NO_HELLO", said)));
        };
        let mut first = first.map_err(crate::status::of_stream)?.unwrap_or_default();
        let Some(hello) = first.hello.take() else {
            return Err(of(Error::bad_field("hello", "is absent; the first frame must carry it")));
        };
        let hello = hello::read(hello).map_err(of)?;
        Connection::open(self.0.clone(), hello, first, frames).await.map_err(of)
    }
}

#[tonic::async_trait]
impl WorkerService for Workers {
    type ConnectStream = connect::Frames;

    async fn connect(
        &self,
        request: Request<Streaming<wire::ConnectRequest>>,
    ) -> Result<Response<connect::Frames>, Status> {
        self.open(request.into_inner()).await.map(Response::new)
    }

    async fn lease_tasks(
        &self,
        request: Request<wire::LeaseTasksRequest>,
    ) -> Result<Response<wire::LeaseTasksResponse>, Status> {
        answer(self.lease(request).await)
    }

    async fn renew_leases(
        &self,
        request: Request<wire::RenewLeasesRequest>,
    ) -> Result<Response<wire::RenewLeasesResponse>, Status> {
        answer(self.renew(request.into_inner()).await)
    }

    async fn complete_task(
        &self,
        request: Request<wire::CompleteTaskRequest>,
    ) -> Result<Response<wire::CompleteTaskResponse>, Status> {
        answer(self.complete(request.into_inner()).await)
    }

    async fn ask_task(
        &self,
        request: Request<wire::AskTaskRequest>,
    ) -> Result<Response<wire::AskTaskResponse>, Status> {
        answer(self.ask(request.into_inner()).await)
    }

    async fn fail_task(
        &self,
        request: Request<wire::FailTaskRequest>,
    ) -> Result<Response<wire::FailTaskResponse>, Status> {
        answer(self.fail(request.into_inner()).await)
    }
}
