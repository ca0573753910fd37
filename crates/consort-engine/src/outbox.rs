//! What waits to be sent to one worker. The ledger puts, the worker's stream takes everything at once: a slow stream gets
//! fewer and larger frames, and the ledger never waits. Its size is bounded by the worker's slots and offers, by [`MAX_ACKS`] and by
//! [`MAX_ASK_BYTES`].

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::asks::AskNews;
use crate::types::ToWorker;

/// Acknowledgements that may wait; a worker that answers and does not read is cut off.
const MAX_ACKS: usize = 100_000;

/// Bytes of replies and inquiries that may wait; a worker that asks and does not read is cut off.
const MAX_ASK_BYTES: usize = 64 * 1024 * 1024;

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
        if pending.asks.bytes > MAX_ASK_BYTES {
            pending.asks = AskNews::default();
            pending.close = Some("the worker asks but does not read its replies");
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

    /// Bytes of requests and replies that wait.
    pub(crate) fn ask_bytes(&self) -> usize {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).asks.bytes
    }

    /// Takes what waits, if anything does.
    pub(crate) fn try_take(&self) -> Option<ToWorker> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let ToWorker { assignments, cancels, acks, asks, drain, close } = &*pending;
        let tasks = assignments.is_empty() && cancels.is_empty() && acks.is_empty();
        let empty = tasks && asks.is_empty() && !drain && close.is_none();
        (!empty).then(|| std::mem::take(&mut *pending))
    }
}
