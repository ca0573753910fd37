//! Requests between live processes: who answers for which agent, and what is open. All of it is in memory and beside the ledger: a
//! request is on no record, waits for no commit, and is lost with any of the processes that take part.
//!
//! One lock guards the room; nothing is awaited under it, and what a frame of a worker holds is dealt with at once. A request
//! has one deadline and no timer of its own: one loop looks when the earliest of all may have passed.

mod faults;
mod room;
mod types;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use consort_core::{Data, Error};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Engine;
use crate::outbox::Outbox;
use crate::session::Session;
use room::{Asker, Room};

pub use types::{AnswerOffer, Ask, AskError, AskMetrics, AskNews, Inquiry, Reply};

/// How long an asker waits who does not say.
pub const USUAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time an asker may wait.
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// A worker's stream, by a number that is never used again.
pub(crate) type PartyId = u64;

/// The room, for those who use it.
#[derive(Default)]
pub(crate) struct Asks {
    room: Mutex<Room>,
    /// Rung when a deadline is earlier than the loop knows.
    sooner: Notify,
}

impl Asks {
    fn room(&self) -> MutexGuard<'_, Room> {
        // No code that can panic runs under the lock.
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's stream joins, with what it answers.
    pub(crate) fn join(
        &self,
        namespace: Arc<str>,
        worker: Arc<str>,
        offers: &[AnswerOffer],
        outbox: Arc<Outbox>,
    ) -> PartyId {
        self.room().join(namespace, worker, offers, outbox, Instant::now())
    }

    /// A stream is gone: what it asked is withdrawn, what it should have answered is lost.
    pub(crate) fn leave(&self, party: PartyId) {
        self.room().leave(party);
    }

    /// A worker takes nothing new.
    pub(crate) fn retire(&self, party: PartyId) {
        self.room().retire(party);
    }

    /// Requests of a worker. Each that cannot be passed on is answered with its error.
    pub(crate) fn ask(&self, party: PartyId, asks: Vec<Ask>) -> Result<(), Error> {
        let now = Instant::now();
        let mut room = self.room();
        let mut sooner = false;
        let mut result = Ok(());
        for ask in asks {
            if room.has_open(party, ask.number) {
                result = Err(faults::number_twice(ask.number));
                break;
            }
            sooner |= room.ask_of(party, ask, now);
        }
        drop(room);
        self.ring(sooner);
        result
    }

    /// A request of a client, with what ends it.
    fn ask_of_client(
        &self,
        namespace: &str,
        agent: &str,
        payload: Data,
        timeout: Duration,
        asker: Asker,
    ) -> Option<u64> {
        let (number, sooner) = self.room().ask_from_outside(namespace, agent, payload, timeout, asker, Instant::now());
        self.ring(sooner);
        number
    }

    fn ring(&self, sooner: bool) {
        if sooner {
            self.sooner.notify_one();
        }
    }

    /// A request that could not be passed on, for a worker: its reply.
    pub(crate) fn refuse(&self, party: PartyId, number: u64, why: AskError) {
        self.room().refuse(party, number, why);
    }

    /// Replies of a worker to its inquiries. A reply to none that it has is passed over.
    pub(crate) fn reply(&self, party: PartyId, replies: Vec<Reply>) {
        let now = Instant::now();
        let mut room = self.room();
        for reply in replies {
            room.reply(party, reply, now);
        }
    }

    /// A worker waits no more for these of its own requests.
    pub(crate) fn withdraw(&self, party: PartyId, numbers: &[u64]) {
        let mut room = self.room();
        for number in numbers {
            room.withdraw_own(party, *number);
        }
    }

    /// What became of the requests to an agent.
    pub(crate) fn metrics(&self, namespace: &str, agent: &str) -> AskMetrics {
        self.room().metrics(namespace, agent)
    }

    /// Ends requests whose time is up, until it is told to stop.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        loop {
            let next = self.room().next_deadline();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.room().expire(Instant::now()),
                () = self.sooner.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

/// Withdraws a client's request when its caller goes away.
struct Waiting<'a> {
    asks: &'a Asks,
    number: Option<u64>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.asks.room().withdraw(number);
        }
    }
}

impl Engine {
    /// Passes a client's request to a worker that answers for the agent, and waits for the reply, at most for `timeout`. Dropping it
    /// tells the handler.
    pub async fn ask_agent(
        &self,
        namespace: &str,
        agent: &str,
        payload: Data,
        timeout: Duration,
    ) -> Result<Data, AskError> {
        let asks = &self.inner.asks;
        let (reply, answer) = oneshot::channel();
        let number = asks.ask_of_client(namespace, agent, payload, timeout, Asker::Client(reply));
        let mut waiting = Waiting { asks, number };
        let answer = answer.await.unwrap_or_else(|_| Err(crate::closing().into()));
        waiting.number = None;
        answer
    }

    /// What became of the requests to an agent since the server started.
    pub fn ask_metrics(&self, namespace: &str, agent: &str) -> AskMetrics {
        self.inner.asks.metrics(namespace, agent)
    }
}

impl Session {
    /// Passes on the worker's requests. The error is one of the protocol: a number that is open already.
    pub fn ask(&self, asks: Vec<Ask>) -> Result<(), Error> {
        self.engine.inner.asks.ask(self.party, asks)
    }

    /// Answers a request that could not be read with why.
    pub fn refuse(&self, number: u64, why: Error) {
        self.engine.inner.asks.refuse(self.party, number, why.into());
    }

    /// Passes on the worker's replies to its inquiries.
    pub fn reply(&self, replies: Vec<Reply>) {
        self.engine.inner.asks.reply(self.party, replies);
    }

    /// The worker waits no more for these of its own requests.
    pub fn withdraw(&self, numbers: &[u64]) {
        self.engine.inner.asks.withdraw(self.party, numbers);
    }

    /// The worker gets no more inquiries.
    pub fn retire(&self) {
        self.engine.inner.asks.retire(self.party);
    }
}
