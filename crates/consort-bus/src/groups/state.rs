//! What a live group knows: which events are waiting, who holds which, and what is settled. Everything here is synchronous and happens
//! under one lock, so a delivery is in exactly one place at any time:
//!
//! ```text
//!  log ──admit──▶ waiting ──assign──▶ held ──done──▶ settled ──advance──▶ behind the cursor
//!                    ▲                  │
//!                    └── refused, late, ┴─ final, or too often ──▶ condemned ──buried──▶ settled
//!                        member gone
//! ```

mod account;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use consort_core::Error;
use consort_core::event::Published;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::mark::Standing;
use super::member::{Delivery, Refused, Settlement};
use super::settings::Settings;
use crate::{Place, Wanted};

/// Events that are delivered, wait for delivery or are settled beyond the cursor; the log is not read further then.
pub(super) const WINDOW: usize = 1_000;
/// Events that one member may have been granted and not settled.
const OUTSTANDING: usize = 100_000;

pub(super) struct State {
    pub(super) settings: Settings,
    /// Everything before this place is settled. It may lie within a row, because one row can hold more events than the window.
    low: Place,
    /// Everything before this place was admitted, or does not match.
    reached: Place,
    /// Events that are waiting or held.
    open: BTreeMap<Place, Item>,
    /// Those that nobody holds, the earliest first.
    waiting: BTreeSet<Place>,
    /// What members hold, by delivery. Ids grow with time, so the first falls due first.
    held: BTreeMap<u64, Held>,
    /// Events that will become dead letters.
    condemned: BTreeMap<Place, Condemned>,
    /// The events that the cursor waits for: open or condemned, and not requeued.
    unsettled: BTreeSet<Place>,
    /// Events beyond the cursor that are settled.
    settled: BTreeSet<Place>,
    /// Vain attempts, from before the restart, at events that are not open again yet.
    tried: BTreeMap<Place, u32>,
    /// Dead letters to try again that are not open yet.
    pub(super) requeued: BTreeSet<Place>,
    members: BTreeMap<u64, Seat>,
    /// Members that have credit, in turn.
    ready: VecDeque<u64>,
    next_member: u64,
    next_delivery: u64,
    /// Grows with every change that is worth saving.
    version: u64,
    /// Version and cursor that are on disk.
    saved: (u64, u64),
    /// Dead letters that somebody wants tried again.
    pub(super) requests: VecDeque<Requeue>,
    /// Why the group is over, once it is.
    pub(super) ended: Option<Error>,
    /// Since when nobody is here.
    pub(super) idle_since: Option<Instant>,
    /// What the coordinator waits for, so that it is woken for nothing else.
    pub(super) attention: Attention,
}

/// What the coordinator is busy with or waits for.
#[derive(Default)]
pub(super) struct Attention {
    /// The store is at work for it.
    pub(super) working: bool,
    /// It reads the log.
    pub(super) reading: bool,
    /// When it wakes by itself.
    pub(super) alarm: Option<Instant>,
}

/// Dead letters to try again, and who wants to know.
pub(super) struct Requeue {
    pub(super) letters: Vec<(Uuid, Place)>,
    pub(super) reply: oneshot::Sender<Result<(), Error>>,
}

struct Item {
    event: Arc<Published>,
    cursor: u64,
    /// How often it was handed out.
    attempts: u32,
    /// It is a dead letter that is tried again; the cursor has nothing to do with it.
    requeued: bool,
    /// The delivery it was last handed out with.
    delivery: u64,
}

struct Held {
    place: Place,
    member: u64,
    until: Instant,
}

/// An event that will become a dead letter.
#[derive(Clone)]
pub(super) struct Condemned {
    pub(super) event: Arc<Published>,
    pub(super) attempts: u32,
    pub(super) reason: String,
    requeued: bool,
}

struct Seat {
    credit: usize,
    outbox: VecDeque<Delivery>,
    /// Deliveries that it holds no longer and has not settled.
    late: BTreeMap<u64, Place>,
    filled: Arc<Notify>,
}

impl State {
    pub(super) fn new(standing: Standing, now: Instant) -> State {
        let Standing { settings, cursor, within, settled, attempts, requeued } = standing;
        let low = (cursor + 1, within);
        State {
            settings,
            low,
            reached: low,
            open: BTreeMap::new(),
            waiting: BTreeSet::new(),
            held: BTreeMap::new(),
            condemned: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            settled: settled.into_iter().collect(),
            tried: attempts.into_iter().map(|(position, index, times)| ((position, index), times)).collect(),
            requeued: requeued.into_iter().collect(),
            members: BTreeMap::new(),
            ready: VecDeque::new(),
            next_member: 1,
            next_delivery: 1,
            version: 0,
            saved: (0, cursor),
            requests: VecDeque::new(),
            ended: None,
            idle_since: Some(now),
            attention: Attention::default(),
        }
    }

    /// A new member.
    pub(super) fn join(&mut self, credit: usize, filled: Arc<Notify>, now: Instant) -> u64 {
        let id = self.next_member;
        self.next_member += 1;
        self.members.insert(id, Seat { credit: 0, outbox: VecDeque::new(), late: BTreeMap::new(), filled });
        self.idle_since = None;
        self.give_credit(id, credit);
        self.assign(now);
        id
    }

    /// A member is gone: what it held is handed out again. What it never took does not count as tried.
    pub(super) fn leave(&mut self, member: u64, now: Instant) {
        let Some(seat) = self.members.remove(&member) else { return };
        let untaken: BTreeSet<u64> = seat.outbox.iter().map(|delivery| delivery.id).collect();
        let ids: Vec<u64> = self.held.iter().filter(|(_, held)| held.member == member).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(held) = self.held.remove(&id) else { continue };
            if untaken.contains(&id) {
                self.take_back(held.place);
            } else {
                self.fail(held.place, "the member that held it left");
            }
        }
        if self.members.is_empty() {
            self.idle_since = Some(now);
        }
        self.assign(now);
    }

    /// A member can take more; an error if it has been granted too much.
    pub(super) fn grant(&mut self, member: u64, credit: usize, now: Instant) -> Result<(), Error> {
        let Some(seat) = self.members.get(&member) else { return Ok(()) };
        let held = self.held.values().filter(|held| held.member == member).count();
        if seat.credit + seat.late.len() + held + credit > OUTSTANDING {
            let said = format!("more than {OUTSTANDING} would be outstanding; settle what has come");
            return Err(Error::bad_field("credit", said));
        }
        self.give_credit(member, credit);
        self.assign(now);
        Ok(())
    }

    /// A member says what became of deliveries.
    pub(super) fn settle(&mut self, member: u64, settlement: Settlement, now: Instant) {
        for id in settlement.done {
            if let Some(place) = self.returned(member, id) {
                self.finish(place);
            }
        }
        for Refused { delivery, reason, last } in settlement.refused {
            if let Some(place) = self.returned(member, delivery) {
                if last { self.condemn(place, reason) } else { self.fail(place, &reason) }
            }
        }
        self.assign(now);
    }

    /// The place of a delivery that its member answers for: it is neither waiting nor held then. `None` if it counts no longer.
    fn returned(&mut self, member: u64, delivery: u64) -> Option<Place> {
        if self.held.get(&delivery).is_some_and(|held| held.member == member) {
            let place = self.held.remove(&delivery)?.place;
            self.give_credit(member, 1);
            return Some(place);
        }
        let place = self.members.get_mut(&member)?.late.remove(&delivery)?;
        self.give_credit(member, 1);
        // An answer that comes late still counts while nobody else has it.
        let unclaimed = self.open.get(&place).is_some_and(|item| item.delivery == delivery);
        (unclaimed && self.waiting.remove(&place)).then_some(place)
    }

    /// Takes deliveries back that were held too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(first) = self.held.first_entry().filter(|first| first.get().until <= now) {
            let (id, held) = first.remove_entry();
            let seat = self.members.get_mut(&held.member).expect("who holds a delivery is a member");
            if let Some(at) = seat.outbox.iter().position(|delivery| delivery.id == id) {
                seat.outbox.remove(at);
                self.take_back(held.place);
                self.give_credit(held.member, 1);
                continue;
            }
            seat.late.insert(id, held.place);
            let reason = format!("not acknowledged within {} s", self.settings.ack_timeout.as_secs_f64());
            self.fail(held.place, &reason);
        }
        self.assign(now);
    }

    /// How many more events may be admitted now.
    pub(super) fn room(&self) -> usize {
        WINDOW.saturating_sub(self.open.len() + self.condemned.len() + self.settled.len())
    }

    /// An event of the log that the group wants. [`State::assign`] hands it out.
    pub(super) fn admit(&mut self, wanted: Wanted) {
        let place = wanted.place;
        if place < self.low || self.settled.contains(&place) || self.unsettled.contains(&place) {
            return;
        }
        self.unsettled.insert(place);
        // What is requeued and unsettled too, after a crash, is tried once.
        self.requeued.remove(&place);
        if let Some(item) = self.open.get_mut(&place) {
            item.requeued = false;
        } else if let Some(condemned) = self.condemned.get_mut(&place) {
            condemned.requeued = false;
        } else {
            self.begin(wanted, false);
        }
    }

    /// A dead letter that was asked for and is loaded; `None` if the log has no such event.
    pub(super) fn admit_again(&mut self, place: Place, wanted: Option<Wanted>) {
        let asked = self.requeued.remove(&place);
        let Some(wanted) = wanted else {
            tracing::error!(position = place.0, index = place.1, "a requeued event is not in the log");
            self.version += 1;
            return;
        };
        if asked && !self.open.contains_key(&place) && !self.condemned.contains_key(&place) {
            self.begin(wanted, true);
        }
    }

    fn begin(&mut self, wanted: Wanted, requeued: bool) {
        let Wanted { place, cursor, event, breach } = wanted;
        let attempts = self.tried.remove(&place).unwrap_or(0);
        let event = Arc::new(event);
        if let Some(reason) = breach {
            self.condemned.insert(place, Condemned { event, attempts, reason, requeued });
            return;
        }
        self.open.insert(place, Item { event, cursor, attempts, requeued, delivery: 0 });
        self.waiting.insert(place);
        // The limit may have been reached before the restart.
        if attempts >= self.settings.max_attempts {
            self.fail(place, "it was tried too often");
        }
    }

    /// Everything before this place was admitted, or does not match.
    pub(super) fn reach(&mut self, place: Place) {
        self.reached = self.reached.max(place);
        self.advance();
    }

    /// Adds requeued places; the letters are gone.
    pub(super) fn requeue(&mut self, letters: &[(Uuid, Place)]) {
        for (_, place) in letters {
            // After a crash it may be in hand although it has a letter; once is enough.
            if !self.open.contains_key(place) && !self.condemned.contains_key(place) {
                self.requeued.insert(*place);
            }
        }
        self.version += 1;
    }

    /// What must become dead letters.
    pub(super) fn condemned(&self) -> Vec<(Place, Condemned)> {
        self.condemned.iter().map(|(place, item)| (*place, item.clone())).collect()
    }

    /// Whether anything must become a dead letter.
    pub(super) fn has_condemned(&self) -> bool {
        !self.condemned.is_empty()
    }

    /// These are dead letters now, durably.
    pub(super) fn buried(&mut self, places: &[Place]) {
        for place in places {
            if let Some(item) = self.condemned.remove(place) {
                self.close(*place, item.requeued);
            }
        }
    }

    /// Hands out what waits, the earliest first, to members with credit in turn.
    pub(super) fn assign(&mut self, now: Instant) {
        if self.ended.is_some() {
            return;
        }
        while let Some(&place) = self.waiting.first() {
            let Some(member) = self.ready.pop_front() else { return };
            let Some(seat) = self.members.get_mut(&member) else { continue };
            let item = self.open.get_mut(&place).expect("what waits is open");
            self.waiting.pop_first();
            let id = self.next_delivery;
            self.next_delivery += 1;
            item.attempts += 1;
            item.delivery = id;
            seat.credit -= 1;
            let event = item.event.clone();
            seat.outbox.push_back(Delivery { id, attempt: item.attempts, cursor: item.cursor, event });
            seat.filled.notify_one();
            if seat.credit > 0 {
                self.ready.push_back(member);
            }
            self.held.insert(id, Held { place, member, until: now + self.settings.ack_timeout });
        }
    }

    /// The next delivery of a member.
    pub(super) fn take(&mut self, member: u64) -> Option<Delivery> {
        self.members.get_mut(&member)?.outbox.pop_front()
    }

    /// Ends the group: nothing is handed out any more, and every member hears why. What members hold does not count as tried.
    pub(super) fn end(&mut self, why: Error) {
        self.ended.get_or_insert(why);
        while let Some((_, held)) = self.held.pop_first() {
            self.take_back(held.place);
        }
        for seat in self.members.values() {
            seat.filled.notify_one();
        }
    }

    fn give_credit(&mut self, member: u64, credit: usize) {
        let Some(seat) = self.members.get_mut(&member) else { return };
        if seat.credit == 0 && credit > 0 {
            self.ready.push_back(member);
        }
        seat.credit += credit;
    }

    /// A delivery that never reached its member: it was not tried.
    fn take_back(&mut self, place: Place) {
        let item = self.open.get_mut(&place).expect("what is held is open");
        item.attempts -= 1;
        self.waiting.insert(place);
    }

    /// An attempt was in vain.
    fn fail(&mut self, place: Place, reason: &str) {
        let tried = self.open.get(&place).map_or(0, |item| item.attempts);
        if tried >= self.settings.max_attempts {
            return self.condemn(place, reason.to_owned());
        }
        self.waiting.insert(place);
        self.version += 1;
    }

    fn condemn(&mut self, place: Place, reason: String) {
        self.waiting.remove(&place);
        if let Some(Item { event, attempts, requeued, .. }) = self.open.remove(&place) {
            self.condemned.insert(place, Condemned { event, attempts, reason, requeued });
        }
    }

    fn finish(&mut self, place: Place) {
        if let Some(item) = self.open.remove(&place) {
            self.close(place, item.requeued);
        }
    }

    fn close(&mut self, place: Place, requeued: bool) {
        self.version += 1;
        if !requeued {
            self.unsettled.remove(&place);
            self.settled.insert(place);
            self.advance();
        }
    }

    fn advance(&mut self) {
        let first = self.unsettled.first().copied().unwrap_or(self.reached);
        self.low = self.low.max(self.reached.min(first));
        while self.settled.first().is_some_and(|place| *place < self.low) {
            self.settled.pop_first();
        }
    }
}
