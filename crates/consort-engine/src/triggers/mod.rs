//! What starts runs by itself: events, signals to the mesh, and schedules.
//!
//! The loop for events and signals follows the log from a mark; the start of a run and the new mark are one commit, so each
//! event fires exactly once, whatever crashes. The ledger hands over the rows that may matter; what does not fit, and what was
//! committed before a restart, is read from the log.

mod events;
mod fire;
mod registry;
mod schedules;
mod signals;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use consort_core::ports::{LogRow, StoreError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use registry::Registry;
pub(crate) use signals::{DETECTED, Waiting, detected};

use crate::Engine;

/// Batches of rows that may wait for the loop; beyond that it reads the log.
const QUEUE: usize = 1_024;

/// Rows that may matter, and the position up to which everything that matters was handed over.
pub(crate) struct Rows {
    pub rows: Vec<(u64, LogRow)>,
    pub end: u64,
}

/// The ledger's end.
pub(crate) struct TriggerTap {
    registry: Arc<Registry>,
    rows: mpsc::Sender<Rows>,
    seen: Arc<AtomicU64>,
    lagged: Arc<AtomicBool>,
}

impl TriggerTap {
    /// Takes what was committed. Never blocks.
    pub(crate) fn committed(&self, first_position: u64, rows: &[LogRow]) {
        let end = first_position + rows.len() as u64 - 1;
        let wanted = (first_position..).zip(rows).filter(|(_, row)| self.registry.wants(row));
        let wanted: Vec<_> = wanted.map(|(position, row)| (position, row.clone())).collect();
        if !wanted.is_empty() && self.rows.try_send(Rows { rows: wanted, end }).is_err() {
            self.lagged.store(true, Ordering::Release);
        }
        self.seen.store(end, Ordering::Release);
    }
}

/// The loop's end.
pub(crate) struct TriggerFeed {
    pub rows: mpsc::Receiver<Rows>,
    pub seen: Arc<AtomicU64>,
    pub lagged: Arc<AtomicBool>,
}

/// Both ends of what the ledger tells the triggers.
pub(crate) fn tap(registry: Arc<Registry>, position: u64) -> (TriggerTap, TriggerFeed) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (seen, lagged) = (Arc::new(AtomicU64::new(position)), Arc::new(AtomicBool::new(false)));
    let tap = TriggerTap { registry, rows: sender, seen: Arc::clone(&seen), lagged: Arc::clone(&lagged) };
    (tap, TriggerFeed { rows: receiver, seen, lagged })
}

/// The loops.
pub(crate) struct Triggers {
    events: events::Loop,
    schedules: schedules::Loop,
}

impl Triggers {
    /// Loops that go on where their marks are.
    pub(crate) async fn open(engine: Engine, feed: TriggerFeed, position: u64) -> Result<Triggers, StoreError> {
        engine.inner.registry.load(&engine).await?;
        let events = events::Loop::open(engine.clone(), feed, position).await?;
        let schedules = schedules::Loop::open(engine).await?;
        Ok(Triggers { events, schedules })
    }

    /// Works until it is cancelled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::join!(self.events.run(stop.clone()), self.schedules.run(stop));
    }
}
