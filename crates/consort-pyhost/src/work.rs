//! One call in work.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use consort_proto::plugin as wire;
use futures::Stream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::{Code, Status};
use wire::InvokeResponse;
use wire::invoke_response::Kind;

use crate::answer::{Answer, End, Next};
use crate::desk::Desk;
use crate::status::refusal;

/// What is asked of Python.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    /// Name of the operation; empty for Configure.
    pub operation: String,
    /// JSON text, unless it is a blob.
    pub text: Option<String>,
    /// An encoded `Payload` with a blob; for Configure the encoded permissions.
    pub raw: Option<Bytes>,
    pub call_id: String,
    pub idempotency_key: String,
    pub dry_run: bool,
    pub namespace: String,
    pub step: String,
    pub agent: String,
}

/// A call in work: known to its stream, to the desk, and to Python by way of its ticket.
pub(crate) struct Work {
    pub id: u64,
    pub ask: Ask,
    /// Whether a thread does it.
    pub plain: bool,
    pub until: Option<Instant>,
    /// The Python thread that is in its function, 0 if none is.
    pub thread: AtomicU64,
    /// Whether its function was called.
    pub begun: AtomicBool,
    /// When it was cancelled.
    pub stopped_at: OnceLock<Instant>,
    /// Whether it was told that its function does not stop.
    pub told: AtomicBool,
    stopped: Mutex<bool>,
    on_stop: Condvar,
    answer: Mutex<Answer>,
    news: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks; what they guard is whole at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Work {
    pub(crate) fn new(id: u64, ask: Ask, plain: bool, until: Option<Instant>) -> Work {
        Work {
            id,
            ask,
            plain,
            until,
            thread: AtomicU64::new(0),
            begun: AtomicBool::new(false),
            stopped_at: OnceLock::new(),
            told: AtomicBool::new(false),
            stopped: Mutex::new(false),
            on_stop: Condvar::new(),
            answer: Mutex::new(Answer::default()),
            news: Notify::new(),
        }
    }

    /// Whether nobody waits for it any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped_at.get().is_some()
    }

    /// Sets its flag; whether it was not set.
    pub(crate) fn stop(&self) -> bool {
        let first = self.stopped_at.set(Instant::now()).is_ok();
        *lock(&self.stopped) = true;
        self.on_stop.notify_all();
        first
    }

    /// Waits for the flag, for at most so long; whether it is set.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let waited = self.on_stop.wait_timeout_while(lock(&self.stopped), patience, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    pub(crate) fn tell(&self, kind: Kind) {
        if !self.is_stopped() {
            lock(&self.answer).tell(kind);
            self.news.notify_one();
        }
    }

    /// Takes a piece of a stream; whether there is room for another.
    pub(crate) fn piece(&self, piece: Bytes) -> bool {
        let room = lock(&self.answer).piece(piece);
        self.news.notify_one();
        room
    }

    pub(crate) fn end(&self, end: End, would: Vec<String>, actions: Vec<String>) {
        lock(&self.answer).end(end, would, actions);
        self.news.notify_one();
    }

    /// Ends it as cancelled.
    pub(crate) fn cancelled(&self) {
        let said = format!("'{}' was cancelled", self.ask.operation);
        self.end(End::Failed(Status::new(Code::Cancelled, said)), Vec::new(), Vec::new());
    }

    /// Whether its generator waits for room.
    pub(crate) fn is_parked(&self) -> bool {
        lock(&self.answer).is_parked()
    }

    /// The next message. Tells the desk when there is room that its generator waits for.
    async fn next(self: &Arc<Self>, desk: &Arc<Desk>) -> Next {
        loop {
            let (next, room) = lock(&self.answer).next();
            if room {
                desk.room(self);
            }
            if let Some(next) = next {
                return next;
            }
            match self.until {
                None => self.news.notified().await,
                Some(until) => {
                    tokio::select! {
                        () = self.news.notified() => {}
                        () = tokio::time::sleep_until(until) => {
                            let said = format!("'{}' took longer than its caller waits", self.ask.operation);
                            return Next::Last(Err(refusal(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", said)));
                        }
                    }
                }
            }
        }
    }

    /// How it ended, without what it told.
    pub(crate) async fn outcome(self: &Arc<Self>, desk: &Arc<Desk>) -> Result<(), Status> {
        let listener = Listener { work: self.clone(), desk: desk.clone() };
        loop {
            if let Next::Last(last) = listener.work.next(desk).await {
                return last.map(drop);
            }
        }
    }
}

/// Who reads the messages of a call. When it goes, the call is stopped unless it has ended.
struct Listener {
    work: Arc<Work>,
    desk: Arc<Desk>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.desk.leave(&self.work);
    }
}

/// What a call tells, as it comes, and its result.
pub(crate) fn messages(work: Arc<Work>, desk: Arc<Desk>) -> impl Stream<Item = Result<InvokeResponse, Status>> + Send {
    futures::stream::unfold(Some(Listener { work, desk }), |listener| async move {
        let listener = listener?;
        Some(match listener.work.next(&listener.desk).await {
            Next::Message(kind) => (Ok(InvokeResponse { kind: Some(kind) }), Some(listener)),
            Next::Last(last) => (last.map(|kind| InvokeResponse { kind: Some(kind) }), None),
        })
    })
}
