//! What a group tells: to its mark, to its coordinator and to whoever looks at it.

use std::collections::BTreeSet;

use tokio::time::Instant;
use uuid::Uuid;

use super::{Attention, State};
use crate::Place;
use crate::groups::mark::Standing;

/// Rows that match nothing and are passed over before the place is saved for their sake.
const IDLE_ROWS: u64 = 1_000;

impl State {
    /// Whether the place is worth saving; `last` counts everything.
    pub(in crate::groups) fn unsaved(&self, last: bool) -> bool {
        let (version, cursor) = self.saved;
        self.version != version || self.cursor() >= cursor + if last { 1 } else { IDLE_ROWS }
    }

    /// Where the group stands, with these places requeued too, and what to hand to [`State::saved`] when that is on disk.
    pub(in crate::groups) fn standing(&self, requeued: &[(Uuid, Place)]) -> (Standing, (u64, u64)) {
        let handed_out: BTreeSet<Place> = self.held.values().map(|held| held.place).collect();
        let open = self.open.iter().map(|(place, item)| {
            // What is held now is not in vain yet.
            (place, item.attempts - u32::from(handed_out.contains(place)))
        });
        let condemned = self.condemned.iter().map(|(place, item)| (place, item.attempts));
        let tried = self.tried.iter().map(|(place, attempts)| (place, *attempts));
        let mut attempts: Vec<(u64, u32, u32)> = open
            .chain(condemned)
            .chain(tried)
            .filter(|(_, attempts)| *attempts > 0)
            .map(|((position, index), attempts)| (*position, *index, attempts))
            .collect();
        attempts.sort_unstable();
        let all: BTreeSet<Place> = self.requeued_places().chain(requeued.iter().map(|(_, place)| *place)).collect();
        let standing = Standing {
            settings: self.settings.clone(),
            cursor: self.cursor(),
            within: self.low.1,
            settled: self.settled.iter().copied().collect(),
            attempts,
            requeued: all.into_iter().collect(),
        };
        (standing, (self.version, self.cursor()))
    }

    /// This is on disk.
    pub(in crate::groups) fn saved(&mut self, saved: (u64, u64)) {
        self.saved = saved;
    }

    /// Requeued events that are not settled.
    pub(in crate::groups) fn requeued_places(&self) -> impl Iterator<Item = Place> {
        let open = self.open.iter().filter(|(_, item)| item.requeued).map(|(place, _)| *place);
        let condemned = self.condemned.iter().filter(|(_, item)| item.requeued).map(|(place, _)| *place);
        self.requeued.iter().copied().chain(open).chain(condemned)
    }

    /// When the first delivery is taken back.
    pub(in crate::groups) fn first_due(&self) -> Option<Instant> {
        self.held.first_key_value().map(|(_, held)| held.until)
    }

    /// Whether the coordinator must look before it wakes by itself.
    pub(in crate::groups) fn calls(&self) -> bool {
        let Attention { working, reading, alarm } = self.attention;
        let work = self.has_condemned() || self.unsaved(false) || !self.requests.is_empty();
        (!working && work)
            || (!reading && !self.members.is_empty() && self.room() > 0)
            || self.first_due().is_some_and(|due| alarm.is_none_or(|alarm| due < alarm))
            || self.idle_since.is_some()
    }

    /// Everything up to this position is settled.
    pub(in crate::groups) fn cursor(&self) -> u64 {
        self.low.0 - 1
    }

    pub(in crate::groups) fn settled_beyond(&self) -> usize {
        self.settled.len()
    }

    pub(in crate::groups) fn in_flight(&self) -> usize {
        self.held.len()
    }

    pub(in crate::groups) fn members(&self) -> usize {
        self.members.len()
    }
}
