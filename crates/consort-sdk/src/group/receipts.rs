//! What a member says about its deliveries, over one connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use consort_proto::event::subscribe_request::Kind;
use consort_proto::event::{Refusal, Settle, SubscribeRequest, SubscribeStart};
use futures::Stream;
use tokio::sync::Notify;

/// Longest reason, in characters.
const REASON_CHARS: usize = 1_000;
/// Refusals in one message: with the longest reasons they stay below 4 MiB.
const REFUSALS: usize = 500;

/// Collects what is settled until it is sent. There is never more than the deliveries that credit was granted for.
#[derive(Default)]
pub(super) struct Receipts {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    settled: Settle,
    /// Nothing more will be settled; what is here is still sent.
    closed: bool,
    /// The connection is gone: the mesh delivers again what was not settled, so what is settled now is not heard.
    broken: bool,
}

impl Receipts {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, delivery_id: i64, refusal: Option<(&str, bool)>) {
        let mut state = self.state();
        if state.broken {
            return;
        }
        match refusal {
            None => state.settled.done.push(delivery_id),
            Some((reason, is_final)) => {
                let reason = reason.chars().take(REASON_CHARS).collect();
                state.settled.refused.push(Refusal { delivery_id, reason, r#final: is_final });
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    pub(super) fn break_off(&self) {
        *self.state() = State { broken: true, closed: true, ..State::default() };
        self.changed.notify_one();
    }

    /// What is to be sent now; nothing after the end.
    async fn next(&self) -> Option<Settle> {
        loop {
            {
                let mut state = self.state();
                let refused = &mut state.settled.refused;
                let rest = refused.split_off(refused.len().min(REFUSALS));
                let settle = std::mem::take(&mut state.settled);
                state.settled.refused = rest;
                if !settle.done.is_empty() || !settle.refused.is_empty() {
                    return Some(settle);
                }
                if state.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }
}

/// What a member says over a connection: what it wants, then what became of its deliveries.
pub(super) fn say(start: SubscribeStart, receipts: Arc<Receipts>) -> impl Stream<Item = SubscribeRequest> + Send {
    futures::stream::unfold((Some(start), receipts), |(start, receipts)| async move {
        let kind = match start {
            Some(start) => Kind::Start(start),
            None => Kind::Settle(receipts.next().await?),
        };
        Some((SubscribeRequest { kind: Some(kind) }, (None, receipts)))
    })
}

/// The obligation to settle a delivery. One that is forgotten is refused, since the mesh would wait for it and grant no credit.
pub(super) struct Receipt {
    receipts: Arc<Receipts>,
    /// None once it is settled.
    delivery_id: Mutex<Option<i64>>,
}

impl Receipt {
    pub(super) fn new(receipts: Arc<Receipts>, delivery_id: i64) -> Receipt {
        Receipt { receipts, delivery_id: Mutex::new(Some(delivery_id)) }
    }

    pub(super) fn done(&self) {
        self.settle(None);
    }

    pub(super) fn refuse(&self, reason: &str, is_final: bool) {
        self.settle(Some((reason, is_final)));
    }

    fn settle(&self, refusal: Option<(&str, bool)>) {
        let id = self.delivery_id.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(id) = id {
            self.receipts.settle(id, refusal);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.refuse("the subscriber dropped it without settling it", false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_settled_is_said_once_in_bounded_messages() {
        let receipts = Arc::new(Receipts::default());
        for id in 0..=REFUSALS as i64 {
            Receipt::new(receipts.clone(), id).refuse(&"é".repeat(2_000), true);
        }
        let done = Receipt::new(receipts.clone(), -1);
        done.done();
        drop(done);
        receipts.close();
        let first = receipts.next().await.unwrap();
        assert_eq!((first.done.as_slice(), first.refused.len()), ([-1].as_slice(), REFUSALS));
        assert_eq!(first.refused[0].reason.chars().count(), REASON_CHARS);
        assert_eq!(receipts.next().await.unwrap().refused.len(), 1);
        assert!(receipts.next().await.is_none());
    }

    #[tokio::test]
    async fn after_a_break_nothing_gathers() {
        let receipts = Arc::new(Receipts::default());
        receipts.break_off();
        drop(Receipt::new(receipts.clone(), 1));
        assert!(receipts.next().await.is_none());
    }
}
