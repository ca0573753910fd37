//! The state of the room, and how it changes. Synchronous; the time comes in as an argument.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use consort_core::Data;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::types::{AnswerOffer, Ask, AskError, AskMetrics, Inquiry, Reply, weight};
use super::{LONGEST_TIMEOUT, PartyId, USUAL_TIMEOUT, faults};
use crate::outbox::Outbox;
use crate::types::LeaseRef;

/// Requests that one worker may have open.
const OPEN_PER_WORKER: usize = 10_000;
/// Requests that may be open in all.
const OPEN_IN_ALL: usize = 100_000;
/// Requests that may wait for room at one agent.
const WAITING_PER_AGENT: usize = 1_024;
/// Bytes of payloads that may wait for room in all.
const WAITING_BYTES: usize = 64 * 1024 * 1024;
/// Bytes on their way to a worker above which it gets no more inquiries.
const HEAVY: usize = 8 * 1024 * 1024;
/// Inquiries within inquiries.
const DEPTH: u32 = 16;

/// Who waits for a reply.
pub(super) enum Asker {
    /// A worker, by its own number for the request.
    Worker(PartyId, u64),
    /// A caller.
    Client(oneshot::Sender<Result<Data, AskError>>),
}

/// A request that is not over.
struct Open {
    asker: Asker,
    desk: DeskId,
    deadline: Instant,
    depth: u32,
    task: Option<LeaseRef>,
    place: Place,
}

/// Where a request is.
enum Place {
    /// It waits for room.
    Waiting(Data),
    /// A worker has it.
    With(PartyId),
}

/// A worker's stream.
struct Party {
    namespace: Arc<str>,
    worker: Arc<str>,
    outbox: Arc<Outbox>,
    /// Its open requests: its own numbers, and the room's.
    asked: HashMap<u64, u64>,
    offers: Vec<Offer>,
    /// Inquiries it has not replied to, with the index of the offer whose room they take. They stay when they are withdrawn.
    hand: HashMap<u64, usize>,
}

struct Offer {
    desk: DeskId,
    at_once: u32,
    in_hand: u32,
}

type DeskId = usize;

/// An agent that somebody answers for, or did.
struct Desk {
    agent: Arc<str>,
    /// Who answers, with the index of the offer.
    answerers: Vec<(PartyId, usize)>,
    turn: usize,
    waiting: VecDeque<u64>,
    metrics: AskMetrics,
}

/// The room.
#[derive(Default)]
pub(super) struct Room {
    desks: Vec<Desk>,
    /// By namespace and agent.
    names: HashMap<Arc<str>, HashMap<Arc<str>, DeskId>>,
    parties: HashMap<PartyId, Party>,
    open: HashMap<u64, Open>,
    /// The last number given to a request or a party.
    last: u64,
    waiting: usize,
    waiting_bytes: usize,
    /// No deadline of an open request is earlier; absent if none is open.
    earliest: Option<Instant>,
}

impl Room {
    pub(super) fn join(
        &mut self,
        namespace: Arc<str>,
        worker: Arc<str>,
        offers: &[AnswerOffer],
        outbox: Arc<Outbox>,
        now: Instant,
    ) -> PartyId {
        let id = self.number();
        let mut mine = Vec::with_capacity(offers.len());
        for (index, offer) in offers.iter().enumerate() {
            let desk = self.desk(&namespace, &offer.agent);
            self.desks[desk].answerers.push((id, index));
            mine.push(Offer { desk, at_once: offer.at_once, in_hand: 0 });
        }
        let party = Party { namespace, worker, outbox, asked: HashMap::new(), offers: mine, hand: HashMap::new() };
        self.parties.insert(id, party);
        self.serve_offers_of(id, now);
        id
    }

    /// The desk of an agent. There are never more than agents that were ever offered.
    fn desk(&mut self, namespace: &Arc<str>, agent: &Arc<str>) -> DeskId {
        let next = self.desks.len();
        let desk = *self.names.entry(namespace.clone()).or_default().entry(agent.clone()).or_insert(next);
        if desk == next {
            let (answerers, waiting) = (Vec::new(), VecDeque::new());
            let metrics = AskMetrics::default();
            self.desks.push(Desk { agent: agent.clone(), answerers, turn: 0, waiting, metrics });
        }
        desk
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn leave(&mut self, id: PartyId) {
        let Some(party) = self.parties.remove(&id) else { return };
        for number in party.asked.values() {
            self.withdraw(*number);
        }
        for offer in &party.offers {
            self.take_from_desk(id, offer.desk);
        }
        for number in party.hand.keys() {
            if let Some(open) = self.open.remove(number) {
                let why = faults::lost(&self.desks[open.desk].agent, &party.worker);
                self.end(open, Err(why.into()));
            }
        }
    }

    pub(super) fn retire(&mut self, id: PartyId) {
        let Some(party) = self.parties.get(&id) else { return };
        let desks: Vec<DeskId> = party.offers.iter().map(|offer| offer.desk).collect();
        for desk in desks {
            self.take_from_desk(id, desk);
        }
    }

    /// A party answers for an agent no more; if nobody else does, nobody needs to wait.
    fn take_from_desk(&mut self, id: PartyId, desk: DeskId) {
        let desk = &mut self.desks[desk];
        desk.answerers.retain(|(party, _)| *party != id);
        desk.turn = 0;
        if !desk.answerers.is_empty() {
            return;
        }
        let agent = desk.agent.clone();
        for number in std::mem::take(&mut desk.waiting) {
            if let Some(open) = self.open.remove(&number) {
                self.forget_waiting(&open);
                self.end(open, Err(faults::offline(&agent).into()));
            }
        }
    }

    pub(super) fn has_open(&self, party: PartyId, number: u64) -> bool {
        self.parties.get(&party).is_some_and(|party| party.asked.contains_key(&number))
    }

    /// Takes a worker's request. True if its deadline is the earliest of all.
    pub(super) fn ask_of(&mut self, id: PartyId, ask: Ask, now: Instant) -> bool {
        let Some(party) = self.parties.get(&id) else { return false };
        let (namespace, worker) = (party.namespace.clone(), party.worker.clone());
        let full = party.asked.len() >= OPEN_PER_WORKER;
        let asker = Asker::Worker(id, ask.number);
        let checked = if full {
            let said = format!("this worker has {OPEN_PER_WORKER} requests open; wait for their replies");
            Err(faults::busy(said))
        } else {
            self.bounds(id, &ask, now)
        };
        let (deadline, depth, task) = match checked {
            Ok(bounds) => bounds,
            Err(why) => {
                self.tell(asker, Err(why.into()));
                return false;
            }
        };
        self.take(&namespace, &ask.agent, ask.payload, &worker, asker, (deadline, depth, task), now).1
    }

    pub(super) fn ask_from_outside(
        &mut self,
        namespace: &str,
        agent: &str,
        payload: Data,
        timeout: Duration,
        asker: Asker,
        now: Instant,
    ) -> (Option<u64>, bool) {
        let bounds = (now + timeout.min(LONGEST_TIMEOUT), 1, None);
        self.take(namespace, agent, payload, &Arc::from(""), asker, bounds, now)
    }

    /// When a request ends, how deep it is and in which task it is asked.
    fn bounds(
        &self,
        id: PartyId,
        ask: &Ask,
        now: Instant,
    ) -> Result<(Instant, u32, Option<LeaseRef>), consort_core::Error> {
        let timeout = ask.timeout.unwrap_or(USUAL_TIMEOUT);
        if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
            return Err(faults::timeout(timeout));
        }
        let deadline = now + timeout;
        let Some(number) = ask.within else { return Ok((deadline, 1, ask.task.clone())) };
        let held = self.parties.get(&id).is_some_and(|party| party.hand.contains_key(&number));
        let outer = self.open.get(&number).filter(|_| held).ok_or_else(|| faults::over(number))?;
        if outer.depth >= DEPTH {
            return Err(faults::deep(&ask.agent, DEPTH));
        }
        Ok((deadline.min(outer.deadline), outer.depth + 1, outer.task.clone()))
    }

    /// Hands a request out, or lets it wait, or refuses it. The number it has then, and whether its deadline is the earliest.
    #[allow(clippy::too_many_arguments)] // the parts of a request, from its two sources
    fn take(
        &mut self,
        namespace: &str,
        agent: &str,
        payload: Data,
        worker: &Arc<str>,
        asker: Asker,
        (deadline, depth, task): (Instant, u32, Option<LeaseRef>),
        now: Instant,
    ) -> (Option<u64>, bool) {
        let known = self.names.get(namespace).and_then(|agents| agents.get(agent)).copied();
        let Some(desk) = known.filter(|desk| !self.desks[*desk].answerers.is_empty()) else {
            self.tell(asker, Err(faults::offline(agent).into()));
            return (None, false);
        };
        if self.open.len() >= OPEN_IN_ALL {
            let said = format!("{OPEN_IN_ALL} requests are open in the mesh; try again later");
            self.tell(asker, Err(faults::busy(said).into()));
            return (None, false);
        }
        let number = self.number();
        let place = match self.free(desk) {
            Some((party, offer)) => {
                let timeout = deadline.saturating_duration_since(now);
                let agent = self.desks[desk].agent.clone();
                let asker = worker.clone();
                let inquiry = Inquiry { number, agent, payload, timeout, asker, task: task.clone(), depth };
                self.hand(party, offer, inquiry);
                Place::With(party)
            }
            None if self.desks[desk].waiting.len() >= WAITING_PER_AGENT || self.waiting_bytes >= WAITING_BYTES => {
                self.desks[desk].metrics.failed += 1;
                let said = format!(
                    "every worker of agent `{agent}` is full and {} requests wait; try again later, let it answer more at \
                     once, or start another",
                    self.desks[desk].waiting.len()
                );
                self.tell(asker, Err(faults::busy(said).into()));
                return (None, false);
            }
            None => {
                self.desks[desk].waiting.push_back(number);
                self.waiting += 1;
                self.waiting_bytes += weight(&payload);
                Place::Waiting(payload)
            }
        };
        if let Asker::Worker(id, own) = &asker
            && let Some(party) = self.parties.get_mut(id)
        {
            party.asked.insert(*own, number);
        }
        self.desks[desk].metrics.open += 1;
        self.open.insert(number, Open { asker, desk, deadline, depth, task, place });
        let sooner = self.earliest.is_none_or(|earliest| deadline < earliest);
        if sooner {
            self.earliest = Some(deadline);
        }
        (Some(number), sooner)
    }

    /// An answerer with room, the next in turn. Nobody has room while others wait.
    fn free(&mut self, desk: DeskId) -> Option<(PartyId, usize)> {
        let desk = &mut self.desks[desk];
        if !desk.waiting.is_empty() {
            return None;
        }
        Self::next_free(desk, &self.parties)
    }

    fn next_free(desk: &mut Desk, parties: &HashMap<PartyId, Party>) -> Option<(PartyId, usize)> {
        let count = desk.answerers.len();
        for n in 0..count {
            let (id, index) = desk.answerers[(desk.turn + n) % count];
            let Some(party) = parties.get(&id) else { continue };
            let offer = &party.offers[index];
            if offer.in_hand < offer.at_once && party.outbox.ask_bytes() < HEAVY {
                desk.turn = (desk.turn + n + 1) % count;
                return Some((id, index));
            }
        }
        None
    }

    fn hand(&mut self, id: PartyId, offer: usize, inquiry: Inquiry) {
        let Some(party) = self.parties.get_mut(&id) else { return };
        party.offers[offer].in_hand += 1;
        party.hand.insert(inquiry.number, offer);
        party.outbox.put(|out| {
            out.asks.bytes += weight(&inquiry.payload);
            out.asks.inquiries.push(inquiry);
        });
    }

    pub(super) fn reply(&mut self, id: PartyId, reply: Reply, now: Instant) {
        let Some(party) = self.parties.get_mut(&id) else { return };
        let Some(offer) = party.hand.remove(&reply.number) else { return };
        party.offers[offer].in_hand -= 1;
        if let Some(open) = self.open.remove(&reply.number) {
            self.end(open, reply.result);
        }
        if self.waiting > 0 {
            self.serve_offers_of(id, now);
        }
    }

    /// Hands out what waits for the agents that a party answers for.
    fn serve_offers_of(&mut self, id: PartyId, now: Instant) {
        let Some(party) = self.parties.get(&id) else { return };
        let desks: Vec<DeskId> = party.offers.iter().map(|offer| offer.desk).collect();
        for desk in desks {
            while let Some(number) = self.desks[desk].waiting.front().copied() {
                let Some((party, offer)) = Self::next_free(&mut self.desks[desk], &self.parties) else { break };
                self.desks[desk].waiting.pop_front();
                let agent = self.desks[desk].agent.clone();
                let Some(open) = self.open.get_mut(&number) else { continue };
                let Place::Waiting(payload) = std::mem::replace(&mut open.place, Place::With(party)) else { continue };
                self.waiting -= 1;
                self.waiting_bytes -= weight(&payload);
                let timeout = open.deadline.saturating_duration_since(now);
                let (depth, task) = (open.depth, open.task.clone());
                let asker = match &open.asker {
                    Asker::Worker(id, _) => self.parties.get(id).map(|party| party.worker.clone()),
                    Asker::Client(_) => None,
                };
                let asker = asker.unwrap_or_else(|| Arc::from(""));
                self.hand(party, offer, Inquiry { number, agent, payload, timeout, asker, task, depth });
            }
        }
    }

    pub(super) fn refuse(&mut self, id: PartyId, number: u64, why: AskError) {
        self.tell(Asker::Worker(id, number), Err(why));
    }

    pub(super) fn withdraw_own(&mut self, id: PartyId, own: u64) {
        let number = self.parties.get_mut(&id).and_then(|party| party.asked.remove(&own));
        if let Some(number) = number {
            self.withdraw(number);
        }
    }

    /// Nobody waits for a request any more.
    pub(super) fn withdraw(&mut self, number: u64) {
        let Some(open) = self.open.remove(&number) else { return };
        self.call_off(number, &open);
        let metrics = &mut self.desks[open.desk].metrics;
        metrics.open -= 1;
        metrics.failed += 1;
    }

    /// Takes a request out of the queue, or tells the worker that has it.
    fn call_off(&mut self, number: u64, open: &Open) {
        match &open.place {
            Place::Waiting(_) => {
                self.desks[open.desk].waiting.retain(|waiting| *waiting != number);
                self.forget_waiting(open);
            }
            Place::With(id) => {
                if let Some(party) = self.parties.get(id) {
                    party.outbox.put(|out| out.asks.withdrawn.push(number));
                }
            }
        }
    }

    fn forget_waiting(&mut self, open: &Open) {
        if let Place::Waiting(payload) = &open.place {
            self.waiting -= 1;
            self.waiting_bytes -= weight(payload);
        }
    }

    /// Ends a request that is no longer among the open ones.
    fn end(&mut self, open: Open, result: Result<Data, AskError>) {
        let metrics = &mut self.desks[open.desk].metrics;
        metrics.open -= 1;
        match &result {
            Ok(_) => metrics.answered += 1,
            Err(_) => metrics.failed += 1,
        }
        self.tell(open.asker, result);
    }

    fn tell(&mut self, asker: Asker, result: Result<Data, AskError>) {
        match asker {
            // The caller may be gone.
            Asker::Client(reply) => drop(reply.send(result)),
            Asker::Worker(id, number) => {
                let Some(party) = self.parties.get_mut(&id) else { return };
                party.asked.remove(&number);
                party.outbox.put(|out| {
                    out.asks.bytes += result.as_ref().map_or(512, weight);
                    out.asks.replies.push(Reply { number, result });
                });
            }
        }
    }

    pub(super) fn metrics(&self, namespace: &str, agent: &str) -> AskMetrics {
        let desk = self.names.get(namespace).and_then(|agents| agents.get(agent));
        desk.map_or_else(AskMetrics::default, |desk| self.desks[*desk].metrics)
    }

    /// Before this moment no deadline passes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// Ends what is late.
    pub(super) fn expire(&mut self, now: Instant) {
        let late: Vec<u64> =
            self.open.iter().filter(|(_, open)| open.deadline <= now).map(|(number, _)| *number).collect();
        for number in late {
            let Some(open) = self.open.remove(&number) else { continue };
            self.call_off(number, &open);
            let waiting = matches!(open.place, Place::Waiting(_));
            let why = faults::late(&self.desks[open.desk].agent, waiting);
            self.end(open, Err(why.into()));
        }
        self.earliest = self.open.values().map(|open| open.deadline).min();
    }
}
