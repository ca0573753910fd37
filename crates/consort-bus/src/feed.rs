//! Following the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use consort_core::ports::{LogRow, StoreError};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::{Commit, Inner};

/// Rows read from the store at once.
const PAGE: u32 = 256;

/// A place in the log that moves forward.
pub struct Feed {
    bus: Arc<Inner>,
    namespace: Arc<str>,
    position: u64,
    live: broadcast::Receiver<Commit>,
}

impl Feed {
    pub(crate) fn new(bus: Arc<Inner>, position: u64, namespace: Arc<str>) -> Feed {
        // Subscribe before anything is read, so that nothing falls between the store and the live rows.
        let live = bus.live.subscribe();
        Feed { bus, namespace, position, live }
    }

    /// Position of the last row that was looked at: start here to get what comes after.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next rows with their positions, in log order, never none. Waits until there are some. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Vec<(u64, LogRow)>, StoreError> {
        loop {
            if self.position < self.bus.end.load(Ordering::Acquire) {
                let end = self.bus.end.load(Ordering::Acquire);
                let rows = self.bus.store.log_after(self.position, &self.namespace, PAGE).await?;
                match rows.last() {
                    Some((last, _)) => self.position = *last,
                    None => self.position = end,
                }
                if !rows.is_empty() {
                    return Ok(rows);
                }
                continue;
            }
            match self.live.recv().await {
                Ok(commit) if commit.first_position == self.position + 1 => {
                    self.position += commit.rows.len() as u64;
                    let rows = (commit.first_position..).zip(commit.rows.iter().cloned());
                    let rows: Vec<_> = rows.filter(|(_, row)| self.wants(row)).collect();
                    if !rows.is_empty() {
                        return Ok(rows);
                    }
                }
                // Known already, or a gap: the store has it.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(StoreError::Unavailable("the bus is closing".into())),
            }
        }
    }

    fn wants(&self, row: &LogRow) -> bool {
        let namespace = match row {
            LogRow::Run(record) => &record.namespace,
            LogRow::Published(event) => &event.namespace,
        };
        self.namespace.is_empty() || *namespace == self.namespace
    }
}
