//! Requests to agents and inquiries from others: what is open on this side, and what is to be sent.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use consort_proto::agent::{self as wire, ConnectRequest, LeaseRef};
use consort_proto::blob::Payload;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::client::Client;
use crate::task_error::TaskError;

/// Requests that may be open at once.
const OPEN: usize = 10_000;
/// How long an asker waits who does not say, as the protocol has it.
const USUAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How much later than its end a request is given up here, where the mesh should have said so.
const LATE: Duration = Duration::from_secs(1);
/// How often open requests are looked through.
const SWEEP: Duration = Duration::from_millis(250);

/// What a request led to.
type Outcome = Result<Option<Payload>, TaskError>;

/// A request that waits for its reply.
struct Pending {
    reply: oneshot::Sender<Outcome>,
    end: Instant,
}

#[derive(Default)]
struct State {
    /// The last number given.
    last: u64,
    pending: HashMap<u64, Pending>,
    /// Requests that are to be sent; they may wait for a connection.
    asks: Vec<wire::Ask>,
    withdrawn: Vec<u64>,
    /// Inquiries that are not answered, with what stops their handlers.
    hand: HashMap<u64, CancellationToken>,
    /// Replies that are to be sent.
    replies: Vec<wire::Reply>,
    /// The worker has ended.
    over: bool,
    /// Connections that broke: numbers of inquiries mean nothing on the next one.
    connection: u64,
}

/// What a worker asks and answers beside its tasks. It belongs to one connection at a time: when that breaks, what was sent fails,
/// and what was to be answered is dropped.
#[derive(Default)]
pub(super) struct Asks {
    state: Mutex<State>,
    /// Something is to be sent, or no inquiry is in hand any more.
    pub(super) changed: Notify,
    /// A request is open.
    begun: Notify,
    /// Set when the worker runs.
    pub(super) client: OnceLock<Client>,
}

/// Where a request comes from.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    /// The task in which it is asked.
    pub(super) lease: Option<LeaseRef>,
    /// The inquiry in whose handling it is asked.
    pub(super) within: Option<Held>,
}

/// An inquiry in hand: its number, and the connection on which that means something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) number: u64,
    connection: u64,
}

impl Asks {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and waits for its reply. Dropping the future withdraws it.
    pub(super) async fn ask(
        &self,
        agent: String,
        payload: Payload,
        timeout: Option<Duration>,
        origin: Origin,
    ) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let end = Instant::now() + timeout.unwrap_or(USUAL_TIMEOUT);
        let number = {
            let mut state = self.state();
            if state.over {
                return Err(stopped());
            }
            if origin.within.is_some_and(|held| held.connection != state.connection) {
                let said = "the inquiry within which this is asked went with its connection; stop handling it";
                return Err(TaskError::new(Code::FailedPrecondition, said).with_reason("INQUIRY_OVER"));
            }
            if state.pending.len() >= OPEN {
                let said = format!("this worker has {OPEN} requests open; wait for their replies");
                return Err(TaskError::new(Code::ResourceExhausted, said).with_reason("BUSY"));
            }
            state.last += 1;
            let number = state.last;
            if state.pending.is_empty() {
                self.begun.notify_one();
            }
            state.pending.insert(number, Pending { reply, end });
            let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
            let Origin { lease, within } = origin;
            let within = within.map_or(0, |held| held.number);
            state.asks.push(wire::Ask { number, agent, payload: Some(payload), timeout, lease, within });
            number
        };
        self.changed.notify_one();
        let mut waiting = Waiting { asks: self, number: Some(number) };
        let outcome = answer.await.unwrap_or_else(|_| Err(stopped()));
        waiting.number = None;
        outcome
    }

    fn withdraw(&self, number: u64) {
        let mut state = self.state();
        if state.pending.remove(&number).is_none() {
            return;
        }
        match state.asks.iter().position(|ask| ask.number == number) {
            Some(unsent) => drop(state.asks.remove(unsent)),
            None => state.withdrawn.push(number),
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Takes the mesh's replies.
    pub(super) fn replies(&self, replies: Vec<wire::Reply>) {
        let mut state = self.state();
        for reply in replies {
            let Some(pending) = state.pending.remove(&reply.number) else { continue };
            let outcome = match reply.error {
                None => Ok(reply.answer),
                Some(error) => Err(TaskError::from_reply(error, reply.retryable)),
            };
            // Who asked may be gone.
            let _ = pending.reply.send(outcome);
        }
    }

    /// Takes an inquiry in hand and returns what stops its handler.
    pub(super) fn take(&self, number: u64) -> (Held, CancellationToken) {
        let stop = CancellationToken::new();
        let mut state = self.state();
        state.hand.insert(number, stop.clone());
        (Held { number, connection: state.connection }, stop)
    }

    /// Inquiries whose reply no longer matters.
    pub(super) fn withdrawn(&self, numbers: &[u64]) {
        let state = self.state();
        for number in numbers {
            if let Some(stop) = state.hand.get(number) {
                stop.cancel();
            }
        }
    }

    /// Sends the reply to an inquiry, unless it went with its connection.
    pub(super) fn answer(&self, held: Held, reply: wire::Reply) {
        let mut state = self.state();
        if held.connection != state.connection || state.hand.remove(&held.number).is_none() {
            return;
        }
        state.replies.push(reply);
        drop(state);
        self.changed.notify_one();
    }

    /// Moves what is to be sent into a frame.
    pub(super) fn owed(&self) -> ConnectRequest {
        let mut state = self.state();
        ConnectRequest {
            asks: std::mem::take(&mut state.asks),
            replies: std::mem::take(&mut state.replies),
            withdrawn: std::mem::take(&mut state.withdrawn),
            ..ConnectRequest::default()
        }
    }

    /// Whether every inquiry is answered and every answer sent.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        state.hand.is_empty() && state.replies.is_empty()
    }

    /// The connection broke: what was sent on it is lost, what was not waits for the next one.
    pub(super) fn broken(&self) {
        let mut state = self.state();
        state.connection += 1;
        // What was asked within an inquiry goes with it.
        state.asks.retain(|ask| ask.within == 0);
        let unsent: HashSet<u64> = state.asks.iter().map(|ask| ask.number).collect();
        let lost = state.pending.extract_if(|number, _| !unsent.contains(number));
        for (_, pending) in lost.collect::<Vec<_>>() {
            let said =
                "the connection to the mesh broke; the request may have been acted on: ask again if that does no harm";
            let _ = pending.reply.send(Err(TaskError::new(Code::Unavailable, said).with_reason("CONNECTION_LOST")));
        }
        state.withdrawn.clear();
        state.replies.clear();
        for (_, stop) in state.hand.drain() {
            stop.cancel();
        }
    }

    /// Answers every inquiry in hand with UNAVAILABLE and stops its handler.
    pub(super) fn give_back(&self) {
        let mut state = self.state();
        for (number, stop) in std::mem::take(&mut state.hand) {
            stop.cancel();
            let error = Some(TaskError::new(Code::Unavailable, "the answering worker stops").into_status());
            state.replies.push(wire::Reply { number, answer: None, error, retryable: true });
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The worker has ended: nothing is asked any more.
    pub(super) fn close(&self) {
        self.broken();
        let mut state = self.state();
        state.over = true;
        state.asks.clear();
        for (_, pending) in state.pending.drain() {
            let _ = pending.reply.send(Err(stopped()));
        }
    }

    /// Gives up requests whose end has passed without a word, as when the mesh cannot be reached.
    pub(super) async fn sweep(&self) {
        loop {
            if self.state().pending.is_empty() {
                self.begun.notified().await;
            }
            tokio::time::sleep(SWEEP).await;
            let now = Instant::now();
            let mut state = self.state();
            let unsent: HashSet<u64> = state.asks.iter().map(|ask| ask.number).collect();
            let is_late = |number: &u64, pending: &Pending| {
                now > if unsent.contains(number) { pending.end } else { pending.end + LATE }
            };
            let late: Vec<u64> =
                state.pending.iter().filter(|(number, it)| is_late(number, it)).map(|(number, _)| *number).collect();
            for number in late {
                state.asks.retain(|ask| ask.number != number);
                let Some(pending) = state.pending.remove(&number) else { continue };
                let said = "no reply came in time, and the mesh cannot be reached";
                let _ = pending.reply.send(Err(TaskError::new(Code::DeadlineExceeded, said)));
            }
        }
    }
}

fn stopped() -> TaskError {
    TaskError::new(Code::Unavailable, "the worker has ended, and with it what it asks")
}

/// Withdraws a request when nobody waits for it any more.
struct Waiting<'a> {
    asks: &'a Asks,
    number: Option<u64>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.asks.withdraw(number);
        }
    }
}
