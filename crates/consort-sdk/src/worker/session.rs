//! One life of a worker: as many connections as it takes.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use consort_proto::agent::worker_service_client::WorkerServiceClient;
use consort_proto::agent::{ConnectRequest, ConnectResponse, Hello, ListWorkersRequest, TaskReport, Welcome};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use super::Handlers;
use super::asks::Asks;
use super::held::Held;
use super::inquiry;
use super::outbox;
use super::perform::{Desk, perform};
use crate::backoff::Backoff;
use crate::client::Client;
use crate::error::Error;

/// The version of the worker protocol spoken here.
pub(super) const PROTOCOL: i32 = 1;
/// How long the mesh may take to welcome a worker, and to close a stream that the worker has closed.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a worker whose grace is over may take to say what it gives back.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Reports that wait to be sent.
const REPORTS: usize = 1024;
/// Longest message from the mesh.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// Serves until `shutdown`, a drain by the mesh, or a refusal.
pub(super) async fn run(
    client: Client,
    hello: Hello,
    handlers: Handlers,
    asks: Arc<Asks>,
    grace: Duration,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let slots: usize = hello.slots.iter().map(|slot| slot.credits as usize).sum();
    // Twice the slots: the mesh may hand out the next task before it has seen that an answer was acknowledged.
    let held = Arc::new(Held::new(slots * 2));
    let (reports_in, reports) = mpsc::channel(REPORTS);
    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();
    // Only the first run of a worker sets it.
    let _ = asks.client.set(client.clone());
    let desk = Arc::new(Desk { client, held: held.clone(), reports: reports_in, asks: asks.clone() });
    let mut session = Session { desk, hello, handlers, reports, tasks: tasks.clone(), stop: stop.clone() };

    let mut life = pin!(session.live());
    let result = tokio::select! {
        result = &mut life => result,
        () = asks.sweep() => unreachable!("the sweep has no end"),
        () = shutdown => {
            stop.cancel();
            if let Ok(result) = timeout(grace, &mut life).await {
                result
            } else {
                tracing::warn!(?grace, "tasks are unfinished after the grace period; giving them back");
                held.release_all();
                asks.give_back();
                timeout(LAST_WORDS, &mut life).await.unwrap_or(Ok(()))
            }
        }
    };
    // Whatever ended the life, no handler outlives it.
    held.cancel_all();
    asks.close();
    tasks.close();
    if timeout(LAST_WORDS + HANDSHAKE, tasks.wait()).await.is_err() {
        tracing::warn!("a handler neither awaits nor ends; leaving it behind");
    }
    result
}

struct Session {
    desk: Arc<Desk>,
    hello: Hello,
    handlers: Handlers,
    reports: mpsc::Receiver<TaskReport>,
    tasks: TaskTracker,
    /// The owner wants the worker to end.
    stop: CancellationToken,
}

/// How a connection ended.
enum End {
    /// Everything was said, and the stream closed in good order after a drain.
    Drained,
    /// The mesh does not want this worker.
    Refused(Error),
    /// Anything else; worth another try.
    Broken(Status),
}

impl Session {
    async fn live(&mut self) -> Result<(), Error> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            if self.stop.is_cancelled() && self.desk.held.is_empty() {
                return Ok(());
            }
            let began = Instant::now();
            let end = self.connection().await;
            self.desk.asks.broken();
            match end {
                End::Refused(error) => return Err(error),
                End::Drained if self.stop.is_cancelled() => return Ok(()),
                End::Drained if self.mesh_stays().await => {
                    tracing::info!("drained by the mesh");
                    return Ok(());
                }
                End::Drained => tracing::info!("the mesh went away; looking for it again"),
                End::Broken(status) => {
                    let (addr, code) = (self.desk.client.addr(), status.code());
                    tracing::warn!(addr, ?code, "no connection to the mesh, trying again: {}", status.message());
                }
            }
            if began.elapsed() > Duration::from_secs(1) {
                backoff.reset();
            }
            let stopping = self.stop.is_cancelled();
            tokio::select! {
                () = tokio::time::sleep(backoff.delay()) => {}
                () = self.stop.cancelled(), if !stopping => {}
            }
        }
    }

    /// Tells why the mesh drained us. A mesh that still takes new connections wants this worker gone; one that does not is
    /// going away itself, and the worker must be there when it comes back.
    async fn mesh_stays(&self) -> bool {
        let client = self.desk.client.again().with_patience(Duration::ZERO);
        let request = ListWorkersRequest { parent: client.parent() };
        let probe = client.call(request, |client, request| async move { client.agents().list_workers(request).await });
        matches!(timeout(HANDSHAKE, probe).await, Ok(Ok(_)))
    }

    async fn connection(&mut self) -> End {
        let (frames, outgoing) = mpsc::channel(4);
        let first = ConnectRequest { hello: Some(self.hello.clone()), ..Default::default() };
        frames.try_send(first).expect("a new channel has room");
        let (inbound, first, welcome) = match timeout(HANDSHAKE, self.handshake(outgoing)).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(status)) if is_refusal(&status) => return End::Refused(status.into()),
            Ok(Err(status)) => return End::Broken(status),
            Err(_) => return End::Broken(Status::deadline_exceeded("no welcome within 10 s")),
        };
        if welcome.protocol != PROTOCOL {
            return End::Refused(Error::Protocol("it chose a protocol version that was not offered"));
        }
        let lost = self.desk.held.resume(&welcome.resumed);
        let worker = self.hello.worker_id.as_str();
        tracing::info!(worker, server = welcome.server, resumed = welcome.resumed.len(), lost, "attached");

        let ttl = welcome.lease_ttl.and_then(|ttl| Duration::try_from(ttl).ok()).unwrap_or(Duration::from_secs(30));
        let renew_every = (ttl / 3).max(Duration::from_millis(10));
        let draining = self.stop.child_token();
        let Session { desk, handlers, reports, tasks, .. } = self;
        let reader = Reader { desk, handlers, tasks, draining: &draining };
        let mut read = pin!(reader.read(inbound, first));
        let ended = tokio::select! {
            ended = &mut read => ended,
            () = outbox::write(&desk.held, &desk.asks, reports, frames, renew_every, &draining) => {
                // The worker has said everything and closed its side; now the mesh closes its own.
                timeout(HANDSHAKE, read).await.unwrap_or(Ok(()))
            }
        };
        match ended {
            Ok(()) if draining.is_cancelled() && desk.held.is_empty() && desk.asks.is_idle() => End::Drained,
            Ok(()) => End::Broken(Status::unavailable("the mesh closed the stream")),
            Err(status) if is_replaced(&status) => End::Refused(status.into()),
            Err(status) => End::Broken(status),
        }
    }

    async fn handshake(
        &self,
        outgoing: mpsc::Receiver<ConnectRequest>,
    ) -> Result<(Streaming<ConnectResponse>, ConnectResponse, Welcome), Status> {
        let mut service = WorkerServiceClient::new(self.desk.client.channel()).max_decoding_message_size(MAX_MESSAGE);
        let mut inbound = service.connect(ReceiverStream::new(outgoing)).await?.into_inner();
        let closed = || Status::unavailable("the mesh closed the stream before its welcome");
        let mut first = inbound.message().await?.ok_or_else(closed)?;
        let welcome =
            first.welcome.take().ok_or_else(|| Status::unavailable("the mesh's first frame has no welcome"))?;
        Ok((inbound, first, welcome))
    }
}

/// Takes what the mesh says. Never waits for anything but the next frame, so a slow handler or a full connection cannot keep
/// a cancellation from being heard.
struct Reader<'a> {
    desk: &'a Arc<Desk>,
    handlers: &'a Handlers,
    tasks: &'a TaskTracker,
    draining: &'a CancellationToken,
}

impl Reader<'_> {
    async fn read(&self, mut inbound: Streaming<ConnectResponse>, first: ConnectResponse) -> Result<(), Status> {
        self.take(first);
        while let Some(frame) = inbound.message().await? {
            self.take(frame);
        }
        Ok(())
    }

    fn take(&self, frame: ConnectResponse) {
        let held = &self.desk.held;
        for assignment in frame.assignments {
            let Some((key, cancel)) = held.take(&assignment, self.draining.is_cancelled()) else { continue };
            let handler = self.handlers.tasks.get(&assignment.agent).cloned();
            self.tasks.spawn(perform(self.desk.clone(), handler, key, assignment, cancel));
        }
        for cancel in frame.cancels {
            if let Some(lease) = &cancel.lease {
                tracing::info!(task = lease.task, reason = cancel.reason, "told to stop");
                held.cancel(lease);
            }
        }
        for ack in frame.acks {
            let Some(lease) = &ack.lease else { continue };
            if let Some(error) = ack.error.filter(|error| error.code != Code::Ok as i32) {
                tracing::warn!(task = lease.task, code = error.code, "answer refused: {}", error.message);
            }
            held.acknowledge(lease);
        }
        if !frame.replies.is_empty() {
            self.desk.asks.replies(frame.replies);
        }
        for inquiry in frame.inquiries {
            let held = self.desk.asks.take(inquiry.number);
            let answerer = self.handlers.inquiries.get(&inquiry.agent).cloned();
            self.tasks.spawn(inquiry::answer(self.desk.clone(), answerer, inquiry, held));
        }
        if !frame.withdrawn.is_empty() {
            self.desk.asks.withdrawn(&frame.withdrawn);
        }
        if frame.drain {
            tracing::info!("asked to drain");
            self.draining.cancel();
        }
    }
}

/// Whether the mesh will never welcome this worker as it is. A status that has a source was made on this side.
fn is_refusal(status: &Status) -> bool {
    let refusing = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::Unauthenticated
    );
    (refusing && std::error::Error::source(status).is_none()) || is_replaced(status)
}

/// Whether another process with the same worker id took this one's place: coming back would only push it out again.
fn is_replaced(status: &Status) -> bool {
    status.get_details_error_info().is_some_and(|info| info.reason == "SESSION_REPLACED")
}
