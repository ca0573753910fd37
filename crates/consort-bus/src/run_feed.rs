//! Following one run.

use std::sync::Arc;

use consort_core::event::Record;
use consort_core::ids::{Millis, RunId, StepKey};
use consort_core::ports::{Said, StoreError};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::{Inner, RunWake};

/// Records read from the store at once.
const PAGE: u32 = 64;

/// News of one run.
#[derive(Clone, Debug)]
pub enum RunNews {
    /// The next records, in order and without a gap. The first may begin at or below the event that was asked for.
    Records(Vec<Record>),
    /// How far a step is: fraction, text, when. May be left out.
    Progress(StepKey, f64, String, Millis),
}

/// A place in a run's history that moves forward.
pub struct RunFeed {
    bus: Arc<Inner>,
    run: RunId,
    sequence: u64,
    stale: bool,
    live: broadcast::Receiver<RunWake>,
}

impl RunFeed {
    pub(crate) fn new(bus: Arc<Inner>, run: RunId, sequence: u64, live: broadcast::Receiver<RunWake>) -> RunFeed {
        RunFeed { bus, run, sequence, stale: true, live }
    }

    /// The next news. Waits until there is some. May be dropped and called again.
    pub async fn next(&mut self) -> Result<RunNews, StoreError> {
        loop {
            if self.stale {
                let records = self.bus.store.records_after(self.run, self.sequence, PAGE).await?;
                match records.last() {
                    Some(last) => {
                        self.sequence = last.last_sequence();
                        return Ok(RunNews::Records(records));
                    }
                    None => self.stale = false,
                }
            }
            match self.live.recv().await {
                Ok(RunWake::Grew) | Err(RecvError::Lagged(_)) => self.stale = true,
                Ok(RunWake::Progress(news)) => {
                    if let Said::Progress(fraction, text) = news.said {
                        return Ok(RunNews::Progress(news.step, fraction, text, news.at));
                    }
                }
                Err(RecvError::Closed) => return Err(StoreError::Unavailable("the bus is closing".into())),
            }
        }
    }
}
