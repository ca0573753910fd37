//! Taking out what was archived, in steps that no commit has to wait long for.

use std::time::{Duration, Instant};

use consort_core::ids::{Millis, RunId};
use consort_core::keep::{KeepStore as _, Selection};
use consort_core::ports::StoreError;

use super::change::{Change, Value, bytes, change};
use super::ranges::{erase, spans};
use crate::archive::STEP;
use crate::sqlite::SqliteStore;
use crate::sqlite::rows::{failed, get, uuid};
use crate::sqlite::runs::read;

/// Runs of one step.
const RUNS: usize = 64;
/// Small things of one step.
const OTHERS: usize = 256;
/// Longest pause between two steps.
const PAUSE: Duration = Duration::from_millis(200);

impl SqliteStore {
    /// [`consort_core::keep::KeepStore::remove`].
    pub(super) async fn take_out(&self, selection: &Selection) -> Result<(), StoreError> {
        let (mut step, mut rows, mut runs): (Vec<Change>, Vec<u64>, usize) = (Vec::new(), Vec::new(), 0);
        for run in &selection.runs {
            let positions = self.positions(*run).await?;
            if positions.len() > STEP {
                self.take_out_large(*run, &positions).await?;
                continue;
            }
            if rows.len() + positions.len() > STEP || runs == RUNS {
                self.do_step(&mut step, &mut rows).await?;
                runs = 0;
            }
            step.extend(unlist(*run));
            step.push(change("DELETE FROM log WHERE run = ?1", [id(*run)]));
            rows.extend(positions);
            runs += 1;
        }
        self.do_step(&mut step, &mut rows).await?;
        for positions in selection.events.chunks(OTHERS) {
            let mut wanted = positions.to_vec();
            wanted.sort_unstable();
            for (first, last) in spans(&wanted) {
                // What is gone already must not be marked as empty again.
                let there = self.published(first - 1, last, Millis::MAX, OTHERS as u32).await?;
                rows.extend(there.into_iter().map(|(position, _)| position));
                let sql = "DELETE FROM log WHERE position BETWEEN ?1 AND ?2 AND run IS NULL";
                step.push(change(sql, [Value::Integer(first as i64), Value::Integer(last as i64)]));
            }
            self.do_step(&mut step, &mut rows).await?;
        }
        let signals =
            selection.signals.iter().map(|id| change("DELETE FROM signals WHERE id = ?1", [bytes(id.as_bytes())]));
        let letters = selection.letters.iter().map(|(namespace, id)| {
            let values = [Value::Text(namespace.to_string()), bytes(id.as_bytes())];
            change("DELETE FROM dead_letters WHERE namespace = ?1 AND id = ?2", values)
        });
        let projects = selection.projects.iter().map(|(namespace, id)| {
            let sql = "DELETE FROM projects WHERE namespace = ?1 AND id = ?2 AND state <> 'active' AND NOT EXISTS \
                (SELECT 1 FROM runs WHERE runs.namespace = ?1 AND runs.project = ?2)";
            change(sql, [Value::Text(namespace.to_string()), Value::Text(id.to_string())])
        });
        for other in signals.chain(letters).chain(projects) {
            step.push(other);
            if step.len() >= OTHERS {
                self.do_step(&mut step, &mut rows).await?;
            }
        }
        self.do_step(&mut step, &mut rows).await
    }

    /// Finishes what a crash interrupted: of a run that was leaving, or only half back, nothing stays.
    pub(super) async fn finish_leaving(&self) -> Result<(), StoreError> {
        let found = sqlx::query("SELECT run FROM leaving").fetch_all(&self.readers).await.map_err(failed)?;
        for run in read(&found, |row| uuid(get(row, 0)?).map(RunId))? {
            tracing::info!(%run, "a run that was being taken out or brought back goes");
            let positions = self.positions(run).await?;
            self.take_out_large(run, &positions).await?;
        }
        Ok(())
    }

    /// A run that one step cannot hold: it is not listed any more from the first step on, and its last rows go first, so that
    /// what is left is always the beginning of a history.
    async fn take_out_large(&self, run: RunId, positions: &[u64]) -> Result<(), StoreError> {
        let mut step: Vec<Change> = unlist(run).into();
        step.push(change("INSERT OR IGNORE INTO leaving (run) VALUES (?1)", [id(run)]));
        self.do_step(&mut step, &mut Vec::new()).await?;
        for some in positions.rchunks(STEP) {
            for (first, last) in spans(some) {
                let sql = "DELETE FROM log WHERE position BETWEEN ?1 AND ?2 AND run = ?3";
                step.push(change(sql, [Value::Integer(first as i64), Value::Integer(last as i64), id(run)]));
            }
            self.do_step(&mut step, &mut some.to_vec()).await?;
        }
        self.do_step(&mut vec![change("DELETE FROM leaving WHERE run = ?1", [id(run)])], &mut Vec::new()).await
    }

    /// Does what was collected, marks the positions of these rows as empty for good, and leaves the writer alone for as long as
    /// it took.
    async fn do_step(&self, step: &mut Vec<Change>, rows: &mut Vec<u64>) -> Result<(), StoreError> {
        let mut changes = std::mem::take(step);
        rows.sort_unstable();
        changes.extend(spans(rows).into_iter().flat_map(|(first, last)| erase(first, last)));
        rows.clear();
        if changes.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        self.change(changes).await?;
        tokio::time::sleep(begun.elapsed().min(PAUSE)).await;
        Ok(())
    }
}

fn id(run: RunId) -> Value {
    bytes(run.0.as_bytes())
}

/// Removes what is derived from a run's rows.
fn unlist(run: RunId) -> [Change; 3] {
    [
        change("DELETE FROM runs WHERE id = ?1", [id(run)]),
        change("DELETE FROM snapshots WHERE run = ?1", [id(run)]),
        change("DELETE FROM decisions WHERE run = ?1", [id(run)]),
    ]
}
