//! What waits to be sent to one worker. The ledger puts, the worker's stream takes everything at once: a slow stream gets
//! fewer and larger frames, and the ledger never waits. Its size is bounded by the worker's slots, and by [`MAX_ACKS`].

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::types::ToWorker;

/// Acknowledgements that may wait; a worker that answers and does not read is cut off.
const MAX_ACKS: usize = 100_000;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pending: Mutex<ToWorker>,
    filled: Notify,
}

impl Outbox {
    /// Adds to what waits and wakes the stream.
    pub(crate) fn put(&self, add: impl FnOnce(&mut ToWorker)) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut pending);
        if pending.acks.len() > MAX_ACKS {
            pending.acks.clear();
            pending.close = Some("the worker answers but does not read its acknowledgements");
        }
        drop(pending);
        self.filled.notify_one();
    }

    /// Takes what waits; waits until there is something.
    pub(crate) async fn take(&self) -> ToWorker {
        loop {
            if let Some(pending) = self.try_take() {
                return pending;
            }
            self.filled.notified().await;
        }
    }

    /// Takes what waits, if anything does.
    pub(crate) fn try_take(&self) -> Option<ToWorker> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let ToWorker { assignments, cancels, acks, drain, close } = &*pending;
        let empty = assignments.is_empty() && cancels.is_empty() && acks.is_empty() && !drain && close.is_none();
        (!empty).then(|| std::mem::take(&mut *pending))
    }
}
