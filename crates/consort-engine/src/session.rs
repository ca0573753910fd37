//! An attached worker, as its stream sees it.

use std::sync::Arc;
use std::time::Duration;

use consort_core::Error;
use consort_core::event::Report;

use crate::Engine;
use crate::asks::PartyId;
use crate::dispatcher::WorkerId;
use crate::ledger::Message;
use crate::outbox::Outbox;
use crate::types::{FromWorker, LeaseRef, LiveReport, ToWorker};

/// A worker's session. Dropping it detaches the worker; its leases run on until they expire.
pub struct Session {
    pub(crate) engine: Engine,
    pub(crate) worker: WorkerId,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) party: PartyId,
    /// How long a lease lasts without renewal.
    pub lease_ttl: Duration,
    /// Leases of this session that are still in force.
    pub resumed: Vec<LeaseRef>,
}

impl Session {
    /// Everything that waits to be sent; waits until there is something.
    pub async fn next(&self) -> ToWorker {
        let news = self.outbox.take().await;
        if news.drain {
            self.retire();
        }
        news
    }

    /// Passes on what the worker says. Waits while the engine is busy. Large values become blobs first.
    pub async fn send(&self, mut from: FromWorker) -> Result<(), Error> {
        match &mut from {
            FromWorker::Answers(answers) => {
                for answer in answers {
                    self.engine.prepare(answer).await?;
                }
            }
            FromWorker::Reports(reports) => {
                for report in reports {
                    if let LiveReport::Kept(Report::Note { value, .. }) = &mut report.report {
                        self.engine.spill(value).await?;
                    }
                }
            }
            FromWorker::Draining => self.retire(),
            _ => {}
        }
        self.engine.tell(Message::From { worker: self.worker, from }).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.engine.inner.asks.leave(self.party);
        let message = Message::Detach { worker: self.worker, outbox: Arc::clone(&self.outbox) };
        self.engine.tell_later(message);
    }
}
