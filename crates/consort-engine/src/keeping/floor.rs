//! What somebody has still to see: it stays, whatever its age.

use std::collections::HashSet;
use std::sync::Arc;

use consort_core::Error;
use consort_core::ids::RunId;
use consort_core::keep::KeepStore;
use consort_core::ports::{LogRow, Store, StoreError};
use serde::Deserialize;

use crate::store_error;

/// Marks that are read at a time.
const PAGE: u32 = 500;
/// Dead letters that name an event of the log: each costs a few bytes of memory.
const LETTERS: usize = 1_000_000;

/// How far everybody is.
#[derive(Debug, Default)]
pub(super) struct Floor {
    /// Rows up to here were seen by all; the last row of the log is never among them, because it shows where the log ends.
    pub(super) until: u64,
    /// Positions up to there that are to be delivered again, or that a dead letter names.
    pub(super) places: HashSet<u64>,
    /// Runs with a row at one of them.
    pub(super) runs: HashSet<RunId>,
}

/// What is read of a group's mark.
#[derive(Deserialize)]
struct Standing {
    cursor: u64,
    #[serde(default)]
    requeued: Vec<(u64, u32)>,
}

impl Floor {
    pub(super) async fn find(store: &Arc<dyn Store>, keep: &Arc<dyn KeepStore>) -> Result<Floor, Error> {
        let mut floor = Floor::default();
        // A letter is on disk before the group's mark says that its event is settled, and it goes with the mark that says that its
        // event is to be tried again. So letters are read on both sides of the marks.
        floor.letters(keep).await?;
        let end = store.last_position().await.map_err(|e| store_error(&e))?;
        floor.until = end.saturating_sub(1);
        let triggers = store.marks("triggers/position", "", 1).await.map_err(|e| store_error(&e))?;
        let position = triggers.first().and_then(|mark| mark.value.as_deref()).and_then(|value| value.parse().ok());
        floor.until = floor.until.min(position.unwrap_or(0));
        let mut after = String::new();
        loop {
            let marks = store.marks("group/", &after, PAGE).await.map_err(|e| store_error(&e))?;
            let Some(last) = marks.last() else { break };
            after.clone_from(&last.name);
            for mark in &marks {
                let standing: Standing = serde_json::from_str(mark.value.as_deref().unwrap_or_default())
                    .map_err(|why| Error::internal(format!("the mark `{}` cannot be read: {why}", mark.name)))?;
                floor.until = floor.until.min(standing.cursor);
                floor.places.extend(standing.requeued.into_iter().map(|(position, _)| position));
            }
        }
        floor.letters(keep).await?;
        floor.find_runs(store).await.map_err(|e| store_error(&e))?;
        Ok(floor)
    }

    async fn letters(&mut self, keep: &Arc<dyn KeepStore>) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let places = keep.letter_places(after, PAGE).await.map_err(|e| store_error(&e))?;
            let Some(last) = places.last() else { return Ok(()) };
            after = *last;
            self.places.extend(places);
            if self.places.len() > LETTERS {
                let text = format!("more than {LETTERS} dead letters name events; requeue or prune them first");
                return Err(Error::precondition("TOO_MANY_LETTERS", text));
            }
        }
    }

    async fn find_runs(&mut self, store: &Arc<dyn Store>) -> Result<(), StoreError> {
        for position in &self.places {
            if let Some((found, LogRow::Run(record))) = store.log_after(position - 1, "", 1).await?.first()
                && found == position
            {
                self.runs.insert(record.run);
            }
        }
        Ok(())
    }
}
