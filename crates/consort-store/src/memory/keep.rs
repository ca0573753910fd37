//! Keeping in memory: archives live as long as the store does, and nothing can be backed up.

use std::io::Cursor;
use std::sync::Arc;

use async_trait::async_trait;
use consort_core::event::{Published, Record};
use consort_core::ids::{Millis, RunId};
use consort_core::keep::{Aged, Archive, Collected, Imported, Intake, KeepError, KeepStore, Parts, Selection};
use consort_core::ports::{DeadLetterStore, LogRow, ProjectState, StoreError};
use uuid::Uuid;

use super::MemoryStore;
use super::state::{State, Workflow};
use crate::archive::{Piece, Shelf, Spool, take_in, write};

#[async_trait]
impl KeepStore for MemoryStore {
    async fn identity(&self) -> Result<Uuid, StoreError> {
        Ok(*self.state().identity.get_or_insert_with(Uuid::new_v4))
    }

    async fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn erased(&self, first: u64, last: u64) -> Result<u64, StoreError> {
        let state = self.state();
        let rows = state.log.iter().skip(first.saturating_sub(1) as usize).take((last + 1 - first) as usize);
        Ok(rows.filter(|row| row.is_none()).count() as u64)
    }

    async fn is_leaving(&self, _: RunId) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn next_namespace(&self, after: &str) -> Result<Option<Arc<str>>, StoreError> {
        let state = self.state();
        let later = state.by_age.iter().map(|(namespace, _, _)| namespace).find(|namespace| &***namespace > after);
        Ok(later.cloned())
    }

    async fn children(&self, run: RunId, after: Option<RunId>, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let state = self.state();
        let of =
            |row: &&consort_core::ports::RunRow| row.parent == Some(run) && after.is_none_or(|after| row.id > after);
        let mut children: Vec<RunId> = state.runs.values().filter(of).map(|row| row.id).collect();
        children.sort_unstable();
        children.truncate(limit as usize);
        Ok(children)
    }

    async fn rows_of(&self, run: RunId, after: u64, limit: u32) -> Result<Vec<(u64, Record)>, StoreError> {
        let state = self.state();
        let rows = state.records.get(&run).into_iter().flat_map(|records| records.range(after + 1..));
        let row = |(_, index): (&u64, &usize)| match state.log.get(*index) {
            Some(Some(LogRow::Run(record))) => Some((*index as u64 + 1, record.clone())),
            _ => None,
        };
        Ok(rows.filter_map(row).take(limit as usize).collect())
    }

    async fn published(
        &self,
        after: u64,
        until: u64,
        before: Millis,
        limit: u32,
    ) -> Result<Vec<(u64, Published)>, StoreError> {
        let state = self.state();
        let rows = (1..).zip(&state.log).filter_map(|(position, row)| match row {
            Some(LogRow::Published(event)) => Some((position, event)),
            _ => None,
        });
        let wanted = rows.filter(|(at, event)| *at > after && *at <= until && event.timestamp < before);
        Ok(wanted.take(limit as usize).map(|(position, event)| (position, event.clone())).collect())
    }

    async fn letter_places(&self, after: u64, limit: u32) -> Result<Vec<u64>, StoreError> {
        let state = self.state();
        let places = state.dead_letters.values().filter_map(|letter| letter.place).map(|(position, _)| position);
        let places: std::collections::BTreeSet<u64> = places.filter(|position| *position > after).collect();
        Ok(places.into_iter().take(limit as usize).collect())
    }

    async fn aged(&self, before: Millis, limit: u32) -> Result<Aged, StoreError> {
        let (state, limit) = (self.state(), limit as usize);
        let signals = state.signals.values().filter(|signal| signal.created_at < before).take(limit);
        let letters = state.dead_letters.values().filter(|letter| letter.at < before).take(limit);
        let projects = state.projects.iter().filter(|(name, row)| {
            let idle = !state.runs.values().any(|run| run.namespace == name.0 && run.project.as_ref() == Some(&name.1));
            row.state != ProjectState::Active && row.closed_at.is_some_and(|at| at < before) && idle
        });
        Ok(Aged {
            signals: signals.cloned().collect(),
            letters: letters.cloned().collect(),
            projects: projects.map(|(_, row)| row.clone()).take(limit).collect(),
        })
    }

    async fn archive(&self, selection: &Selection) -> Result<Archive, KeepError> {
        let bytes = write(self, selection, 0, Vec::new()).await?;
        let mut state = self.state();
        let archive = Archive { name: format!("{}.jsonl.gz", state.archives.len() + 1), size: bytes.len() as u64 };
        state.archives.push((archive.clone(), bytes.into()));
        Ok(archive)
    }

    async fn archives(&self) -> Result<Vec<Archive>, StoreError> {
        Ok(self.state().archives.iter().map(|(archive, _)| archive.clone()).collect())
    }

    async fn read_archive(&self, name: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.state();
        let found = state.archives.iter().find(|(archive, _)| archive.name == name);
        Ok(found.map(|(_, bytes)| bytes.iter().skip(offset as usize).take(length).copied().collect()))
    }

    async fn remove(&self, selection: &Selection) -> Result<(), StoreError> {
        self.state().remove(selection);
        Ok(())
    }

    async fn import(self: Arc<Self>) -> Result<Box<dyn Intake>, KeepError> {
        Ok(Box::new(MemoryIntake { store: self, bytes: Vec::new() }))
    }

    /// A store in memory keeps no times, so no blob is known to be old.
    async fn collect_blobs(&self, _: Millis) -> Result<Collected, StoreError> {
        Ok(Collected::default())
    }

    async fn backup(&self) -> Result<Box<dyn Parts>, KeepError> {
        Err(KeepError::Unsupported(
            "this server keeps everything in memory and has nothing that could be restored".into(),
        ))
    }
}

struct MemoryIntake {
    store: Arc<MemoryStore>,
    bytes: Vec<u8>,
}

#[async_trait]
impl Intake for MemoryIntake {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), KeepError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Imported, KeepError> {
        let bytes: Arc<[u8]> = self.bytes.into();
        let spool: Spool = Box::new(move || Ok(Box::new(Cursor::new(Arc::clone(&bytes)))));
        take_in(&*self.store, &spool).await
    }
}

#[async_trait]
impl Shelf for MemoryStore {
    async fn adopt(&self, identity: Uuid, end: u64) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.log.is_empty() {
            state.identity = Some(identity);
        }
        while (state.log.len() as u64) < end {
            state.log.push(None);
        }
        Ok(())
    }

    async fn restore(&self, piece: Piece) -> Result<(), StoreError> {
        if let Piece::Letter(letter) = &piece {
            return self.bury(&[(**letter).clone()]).await;
        }
        self.state().restore(piece);
        Ok(())
    }

    fn is_alone(&self) -> bool {
        false
    }
}

impl State {
    fn remove(&mut self, selection: &Selection) {
        for id in &selection.runs {
            for index in self.records.remove(id).into_iter().flat_map(std::collections::BTreeMap::into_values) {
                self.log[index] = None;
            }
            self.snapshots.remove(id);
            self.decisions.retain(|_, decision| decision.run != *id);
            let Some(row) = self.runs.remove(id) else { continue };
            self.by_age.remove(&(row.namespace.clone(), row.created_at, row.id));
            if let Some(project) = row.project
                && let Some(runs) = self.of_project.get_mut(&(row.namespace, project))
            {
                runs.remove(&(row.created_at, row.id));
            }
        }
        for position in &selection.events {
            if let Some(row) = self.log.get_mut((position - 1) as usize)
                && matches!(row, Some(LogRow::Published(_)))
            {
                *row = None;
            }
        }
        self.signals.retain(|id, _| !selection.signals.contains(id));
        self.dead_letters.retain(|key, _| !selection.letters.contains(key));
        self.projects.retain(|key, _| !selection.projects.contains(key));
    }

    fn restore(&mut self, piece: Piece) {
        match piece {
            Piece::Workflow(row) => {
                let of = self.workflows.entry((row.namespace.clone(), row.id.clone()));
                let of = of.or_insert_with(|| Workflow { revisions: Vec::new(), deleted: true });
                if of.revisions.iter().all(|known| known.revision != row.revision) {
                    of.revisions.push(*row);
                    of.revisions.sort_unstable_by_key(|known| known.revision);
                }
            }
            Piece::Rows { run, rows, over } => {
                for (position, record) in rows {
                    let index = (position - 1) as usize;
                    self.records.entry(run).or_default().insert(record.sequence, index);
                    self.log[index] = Some(LogRow::Run(record));
                }
                if let Some(over) = over {
                    let (row, decisions) = *over;
                    self.list(&row);
                    self.decisions.extend(decisions.into_iter().map(|decision| (decision.id, decision)));
                }
            }
            Piece::Event(position, event) => self.log[(position - 1) as usize] = Some(LogRow::Published(*event)),
            Piece::Signal(signal) => drop(self.signals.insert(signal.id, *signal)),
            Piece::Project(row) => drop(self.projects.insert((row.namespace.clone(), row.id.clone()), *row)),
            Piece::Letter(_) => {}
        }
    }
}
