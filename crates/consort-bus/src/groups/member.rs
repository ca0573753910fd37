//! A member of a group: takes deliveries as far as it grants credit, and says what became of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use consort_core::Error;
use consort_core::event::Published;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::state::State;

/// An event, handed to one member.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What to settle it by. Unique as long as the group is live, and growing.
    pub id: u64,
    /// How often it has been tried, this time included, from 1.
    pub attempt: u32,
    /// A position to begin at to get what comes after it; see [`crate::Wanted::cursor`].
    pub cursor: u64,
    /// The event.
    pub event: Arc<Published>,
}

/// What became of deliveries.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// Those that were handled, by id.
    pub done: Vec<u64>,
    /// Those that could not be.
    pub refused: Vec<Refused>,
}

/// A delivery that could not be handled.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Which.
    pub delivery: u64,
    /// Why.
    pub reason: String,
    /// Trying again cannot help: it becomes a dead letter at once.
    pub last: bool,
}

/// What a group's coordinator and its members share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes the coordinator.
    pub(super) wake: Notify,
}

impl Shared {
    pub(super) fn new(state: State) -> Shared {
        Shared { state: Mutex::new(state), wake: Notify::new() }
    }

    /// Nobody panics while holding the state, and nobody waits while holding it.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the coordinator if it must look.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        if state.calls() {
            self.wake.notify_one();
        }
        result
    }
}

/// A place in a group. Dropping it leaves the group: what it holds is handed to others.
pub struct Member {
    shared: Arc<Shared>,
    id: u64,
    filled: Arc<Notify>,
}

impl Member {
    /// Joins, unless the group is over.
    pub(super) fn join(shared: &Arc<Shared>, credit: usize) -> Option<Member> {
        let filled = Arc::new(Notify::new());
        let id = shared
            .change(|state| state.ended.is_none().then(|| state.join(credit, Arc::clone(&filled), Instant::now())))?;
        // The coordinator may sleep until the group would have ended.
        shared.wake.notify_one();
        Some(Member { shared: Arc::clone(shared), id, filled })
    }

    /// The next delivery; waits until there is one. An error when the group ends, because the server stops or its log cannot be read.
    /// May be dropped and called again.
    pub async fn next(&self) -> Result<Delivery, Error> {
        loop {
            {
                let mut state = self.shared.state();
                if let Some(why) = &state.ended {
                    return Err(why.clone());
                }
                if let Some(delivery) = state.take(self.id) {
                    return Ok(delivery);
                }
            }
            self.filled.notified().await;
        }
    }

    /// Grants further deliveries. An error if far more than the group ever has in flight would be outstanding.
    pub fn grant(&self, credit: usize) -> Result<(), Error> {
        self.shared.change(|state| state.grant(self.id, credit, Instant::now()))
    }

    /// Says what became of deliveries; each grants a further one. What counts no longer, because somebody else has it meanwhile, is
    /// ignored.
    pub fn settle(&self, settlement: Settlement) {
        self.shared.change(|state| state.settle(self.id, settlement, Instant::now()));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shared.change(|state| state.leave(self.id, Instant::now()));
    }
}
