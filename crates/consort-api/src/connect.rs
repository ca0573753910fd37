//! `WorkerService.Connect`: the switchboard between a worker's stream and its session in the engine.
//!
//! One task reads the worker's frames into the session; the response stream pulls what the session has for the worker, directly
//! and without a channel between. A worker that does not read therefore costs nothing but what waits in its session, which the
//! engine bounds.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use consort_core::event::{Code, Failure};
use consort_core::{Error, Kind};
use consort_engine::{Answer, Done, FromWorker, Hello, Session, TaskFailure, ToWorker};
use consort_proto::agent as wire;
use futures::stream::{self, BoxStream, StreamExt as _};
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Status, Streaming};

use crate::convert::{self, At};
use crate::stream::AbortOnDrop;
use crate::{Context, asks, hello, status};

/// Bytes of a frame after which the next one begins.
const FRAME: usize = 1024 * 1024;

/// What a worker is sent.
pub(crate) type Frames = BoxStream<'static, Result<wire::ConnectResponse, Status>>;

/// The mesh's side of a worker's stream.
pub(crate) struct Connection {
    session: Arc<Session>,
    context: Arc<Context>,
    namespace: Arc<str>,
    /// Frames that are ready to go.
    frames: VecDeque<wire::ConnectResponse>,
    /// How the stream ends once `frames` is empty.
    end: Option<Result<(), Status>>,
    /// How reading the worker's frames ended.
    read: oneshot::Receiver<Result<(), Status>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Runs once the server is stopping and the worker was asked to drain.
    drain: Option<Pin<Box<Sleep>>>,
    _reader: AbortOnDrop,
}

impl Connection {
    /// Attaches a worker and begins to read its frames, the rest of the first one before all others. Dropping the stream
    /// detaches the worker; its leases run on until they expire.
    pub(crate) async fn open(
        context: Arc<Context>,
        hello: Hello,
        first: wire::ConnectRequest,
        incoming: Streaming<wire::ConnectRequest>,
    ) -> Result<Frames, Error> {
        let namespace = hello.namespace.clone();
        let session = Arc::new(context.engine.attach(hello).await?);
        let welcome = wire::Welcome {
            protocol: hello::PROTOCOL,
            lease_ttl: Some(convert::duration(session.lease_ttl)),
            resumed: session.resumed.iter().map(|lease| convert::lease_ref(&namespace, lease)).collect(),
            server: context.options.server.clone(),
        };
        let frames = VecDeque::from([wire::ConnectResponse { welcome: Some(welcome), ..Default::default() }]);

        let (ended, read) = oneshot::channel();
        let reader = Reader { session: session.clone(), context: context.clone(), namespace: namespace.clone() };
        let task = tokio::spawn(async move {
            // The stream may be gone.
            let _ = ended.send(reader.read(first, incoming).await);
        });
        let stop = Box::pin(context.stop.clone().cancelled_owned());
        let connection = Connection {
            session,
            context,
            namespace,
            frames,
            end: None,
            read,
            stop,
            drain: None,
            _reader: AbortOnDrop(task),
        };
        let frames = stream::unfold(connection, |mut connection| async {
            let frame = connection.next().await?;
            Some((frame, connection))
        });
        Ok(frames.boxed())
    }

    async fn next(&mut self) -> Option<Result<wire::ConnectResponse, Status>> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(Ok(frame));
            }
            if let Some(end) = &mut self.end {
                // After an error there is nothing more.
                return std::mem::replace(end, Ok(())).err().map(Err);
            }
            tokio::select! {
                // A worker that is always busy must hear of the end too, so the rare things are looked at first.
                biased;
                () = &mut self.stop, if self.drain.is_none() => {
                    self.drain = Some(Box::pin(sleep(self.context.options.limits.worker_drain)));
                    self.frames.push_back(wire::ConnectResponse { drain: true, ..Default::default() });
                }
                () = async { if let Some(drain) = &mut self.drain { drain.await } }, if self.drain.is_some() => {
                    self.end = Some(Err(status::of(status::stopping())));
                }
                read = &mut self.read => {
                    // A reader that ended without a word panicked.
                    let lost = |_| Err(status::of(Error::internal("the reader of a worker's stream panicked")));
                    self.end = Some(read.unwrap_or_else(lost));
                }
                news = self.session.next() => {
                    self.end = news.close.map(|why| Err(status::of(closed(why))));
                    pack(&news, &mut self.frames);
                    asks::pack(&self.namespace, news.asks, FRAME, &mut self.frames);
                }
            }
        }
    }
}

/// Why the engine closed a session. A worker whose place was taken by another process must not come back; every other one may.
fn closed(why: &'static str) -> Error {
    if why.contains("another session") {
        return Error::precondition("SESSION_REPLACED", why);
    }
    Error::new(Kind::Unavailable, "SESSION_CLOSED", why)
}

/// Packs what waits for a worker into as few frames as hold it.
fn pack(news: &ToWorker, frames: &mut VecDeque<wire::ConnectResponse>) {
    let mut frame = wire::ConnectResponse { drain: news.drain, ..Default::default() };
    let mut size = 0;
    let mut room_for = |frame: &mut wire::ConnectResponse, bytes: usize| {
        size += bytes;
        if size > FRAME && size > bytes {
            size = bytes;
            frames.push_back(std::mem::take(frame));
        }
    };
    frame.assignments.reserve_exact(news.assignments.len());
    for task in &news.assignments {
        let task = convert::assignment(task);
        room_for(&mut frame, task.encoded_len());
        frame.assignments.push(task);
    }
    frame.cancels.reserve_exact(news.cancels.len());
    for cancel in &news.cancels {
        let cancel = convert::cancel(cancel);
        room_for(&mut frame, cancel.encoded_len());
        frame.cancels.push(cancel);
    }
    frame.acks.reserve_exact(news.acks.len());
    for ack in &news.acks {
        let ack = convert::ack(ack);
        room_for(&mut frame, ack.encoded_len());
        frame.acks.push(ack);
    }
    if frame != wire::ConnectResponse::default() {
        frames.push_back(frame);
    }
}

/// Reads what a worker says.
struct Reader {
    session: Arc<Session>,
    context: Arc<Context>,
    namespace: Arc<str>,
}

impl Reader {
    /// Reads until the worker closes its side.
    async fn read(
        &self,
        first: wire::ConnectRequest,
        mut incoming: Streaming<wire::ConnectRequest>,
    ) -> Result<(), Status> {
        let mut frame = first;
        loop {
            self.take(frame).await.map_err(status::of)?;
            match incoming.message().await.map_err(status::of_stream)? {
                Some(next) => frame = next,
                None => return Ok(()),
            }
        }
    }

    /// Hands the messages of a frame to the session, in the order of their fields. A message that names no task of this worker is
    /// an error of the protocol and ends the stream.
    async fn take(&self, frame: wire::ConnectRequest) -> Result<(), Error> {
        let session = &self.session;
        if frame.hello.is_some() {
            return Err(Error::bad_field("hello", "came again; only the first frame carries it"));
        }
        if let Some(renew) = frame.renew {
            let cpu = if renew.cpu.is_finite() { renew.cpu.max(0.0) } else { 0.0 };
            session.send(FromWorker::Renew { cpu, memory_bytes: renew.memory_bytes.max(0) as u64 }).await?;
        }
        if !frame.reports.is_empty() {
            let mut reports = Vec::with_capacity(frame.reports.len());
            for (index, report) in frame.reports.into_iter().enumerate() {
                let values = &self.context.values;
                reports.push(convert::live_report(values, At("reports", index), &self.namespace, report).await?);
            }
            session.send(FromWorker::Reports(reports)).await?;
        }
        if frame.completed.len() + frame.failed.len() + frame.asked.len() > 0 {
            let mut answers = self.answers(frame.completed, frame.failed).await?;
            answers.extend(self.questions(frame.asked).await?);
            session.send(FromWorker::Answers(answers)).await?;
        }
        if !frame.released.is_empty() {
            let leases = frame.released.iter().enumerate();
            let lease = |(index, release): (usize, &wire::Release)| {
                convert::lease(At("released", index), &self.namespace, release.lease.as_ref())
            };
            session.send(FromWorker::Released(leases.map(lease).collect::<Result<_, _>>()?)).await?;
        }
        if frame.asks.len() + frame.replies.len() + frame.withdrawn.len() > 0 {
            let (asks, replies) = (frame.asks, frame.replies);
            asks::take(&self.context, session, &self.namespace, asks, replies, &frame.withdrawn).await?;
        }
        if frame.draining {
            session.send(FromWorker::Draining).await?;
        }
        Ok(())
    }

    async fn answers(&self, completed: Vec<wire::Completed>, failed: Vec<wire::Failed>) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::with_capacity(completed.len() + failed.len());
        for (index, done) in completed.into_iter().enumerate() {
            let lease = convert::lease(At("completed", index), &self.namespace, done.lease.as_ref())?;
            if !done.plan.is_empty() {
                answers.push(Answer { lease, result: Ok(Done::PlanText(done.plan)) });
                continue;
            }
            let result = match self.context.values.take_inline("output", done.output).await {
                Ok(output) => Ok(Done::Output(output)),
                // A result nobody can read would be the same at the next attempt: the task has failed, the worker lives on.
                Err(error) if error.kind == Kind::InvalidArgument => Err(TaskFailure {
                    failure: Failure::new(Code::InvalidArgument, format!("the worker's result was refused: {error}")),
                    retryable: false,
                    retry_after: None,
                }),
                Err(error) => return Err(error),
            };
            answers.push(Answer { lease, result });
        }
        for (index, failed) in failed.into_iter().enumerate() {
            let at = At("failed", index);
            let lease = convert::lease(at, &self.namespace, failed.lease.as_ref())?;
            let field = format_args!("{at}.");
            let failure = convert::answer_failure(field, failed.error, failed.retryable, failed.retry_after.as_ref())?;
            answers.push(Answer { lease, result: Err(failure) });
        }
        Ok(answers)
    }

    async fn questions(&self, asked: Vec<wire::Asked>) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::with_capacity(asked.len());
        for (index, asked) in asked.into_iter().enumerate() {
            let lease = convert::lease(At("asked", index), &self.namespace, asked.lease.as_ref())?;
            let result = match convert::question(&self.context.values, "question", asked.question).await {
                Ok(question) => Ok(Done::Asked(question)),
                // A question nobody can read would be the same at the next attempt.
                Err(error) if error.kind == Kind::InvalidArgument => Err(TaskFailure {
                    failure: Failure::new(Code::InvalidArgument, format!("the worker's question was refused: {error}")),
                    retryable: false,
                    retry_after: None,
                }),
                Err(error) => return Err(error),
            };
            answers.push(Answer { lease, result });
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_core::{Data, RunId, StepKey};
    use consort_engine::{Ack, Assignment, LeaseRef};
    use uuid::Uuid;

    fn lease(token: u64) -> LeaseRef {
        LeaseRef { run: RunId(Uuid::from_u128(7)), step: StepKey::step("cost"), attempt: 1, token }
    }

    fn assignment(token: u64, bytes: usize) -> Assignment {
        Assignment {
            lease: lease(token),
            namespace: "acme".into(),
            agent: "cost".into(),
            input: Data::of(&"x".repeat(bytes).into()),
            deadline: None,
            workflow: "audit".into(),
            clarified: Vec::new(),
        }
    }

    fn ack(token: u64) -> Ack {
        Ack { namespace: "acme".into(), lease: lease(token), outcome: Ok(false) }
    }

    fn packed(news: &ToWorker) -> Vec<wire::ConnectResponse> {
        let mut frames = VecDeque::new();
        pack(news, &mut frames);
        frames.into()
    }

    #[test]
    fn what_waits_goes_in_one_frame() {
        let news = ToWorker {
            assignments: (0..500).map(|n| assignment(n, 10)).collect(),
            acks: (0..500).map(ack).collect(),
            drain: true,
            ..Default::default()
        };
        let frames = packed(&news);
        assert_eq!(frames.len(), 1);
        assert_eq!((frames[0].assignments.len(), frames[0].acks.len(), frames[0].drain), (500, 500, true));
        assert!(packed(&ToWorker { close: Some("over"), ..Default::default() }).is_empty());
    }

    #[test]
    fn large_news_are_split_and_nothing_is_lost() {
        let news = ToWorker {
            assignments: (0..100).map(|n| assignment(n, 60_000)).collect(),
            acks: (0..10).map(ack).collect(),
            ..Default::default()
        };
        let frames = packed(&news);
        assert!(frames.len() > 5);
        assert!(frames.iter().all(|frame| frame.encoded_len() < FRAME + 1_000));
        let tokens: Vec<_> = frames.iter().flat_map(|f| &f.assignments).map(|task| task.lease_token).collect();
        assert_eq!(tokens, (0..100).collect::<Vec<_>>());
        assert_eq!(frames.iter().map(|f| f.acks.len()).sum::<usize>(), 10);
    }

    #[test]
    fn only_a_replaced_worker_must_stay_away() {
        assert_eq!(closed("another session of this worker took its place").reason, "SESSION_REPLACED");
        assert_eq!(closed("the worker opened another stream with the same session").kind, Kind::Unavailable);
    }
}
