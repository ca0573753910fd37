//! Keeping a store healthy for years: archives of what is over, what comes back from them, blobs that nobody refers to, and
//! backups. A store that offers this implements [`KeepStore`] beside the ports of [`crate::ports`].

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::event::{Published, Record};
use crate::ids::{Millis, RunId};
use crate::ports::{DeadLetter, ProjectRow, SignalRow, StoreError};

/// Why something was not kept, or not brought back.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What came is not what it should be. Nothing was changed.
    #[error("{0}")]
    Damaged(String),
    /// What came is of another store, or its places are taken. Nothing was changed.
    #[error("{0}")]
    Taken(String),
    /// Not now: somebody else is at it.
    #[error("{0}")]
    Refused(String),
    /// This store cannot do it.
    #[error("{0}")]
    Unsupported(String),
}

/// What is archived, or taken out, together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Runs that are over, each child before its parent.
    pub runs: Vec<RunId>,
    /// Positions of published events.
    pub events: Vec<u64>,
    /// Ids of signals to the mesh.
    pub signals: Vec<Uuid>,
    /// Namespaces and ids of dead letters.
    pub letters: Vec<(Arc<str>, Uuid)>,
    /// Namespaces and ids of projects that are closed and have no runs.
    pub projects: Vec<(Arc<str>, Arc<str>)>,
}

impl Selection {
    /// Whether nothing is selected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many things are selected.
    pub fn len(&self) -> usize {
        self.runs.len() + self.events.len() + self.signals.len() + self.letters.len() + self.projects.len()
    }
}

/// A file of archived things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Its name, unique in the store.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
}

/// What an import brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Runs that came back.
    pub runs: u64,
    /// Runs that were there already.
    pub known: u64,
    /// Rows of the log that came back.
    pub rows: u64,
    /// Published events, signals, dead letters and projects that came back.
    pub others: u64,
}

/// Blobs that went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Things that are over and old, apart from runs and events.
#[derive(Clone, Debug, Default)]
pub struct Aged {
    /// Signals to the mesh.
    pub signals: Vec<SignalRow>,
    /// Dead letters.
    pub letters: Vec<DeadLetter>,
    /// Projects that are closed and have no runs.
    pub projects: Vec<ProjectRow>,
}

/// Bytes that are given in parts.
#[async_trait]
pub trait Parts: Send {
    /// The next bytes, never none; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, KeepError>;
}

/// An archive that is taken in parts.
#[async_trait]
pub trait Intake: Send {
    /// Adds bytes.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), KeepError>;
    /// Checks all of it, and brings back what is not there. An intake that is dropped instead changes nothing.
    async fn finish(self: Box<Self>) -> Result<Imported, KeepError>;
}

/// Archives, imports, collects and backs up. Nothing of it holds up a commit for longer than a small transaction takes.
#[async_trait]
pub trait KeepStore: Send + Sync + 'static {
    /// Names this store. It stays the same for ever; a restored backup has it too.
    async fn identity(&self) -> Result<Uuid, StoreError>;
    /// Finishes, or takes back, what a crash interrupted. Called once, before anything else writes.
    async fn settle(&self) -> Result<(), StoreError>;
    /// How many positions from `first` to `last` are empty because their rows were taken out on purpose.
    async fn erased(&self, first: u64, last: u64) -> Result<u64, StoreError>;
    /// Whether a run is half taken out or half brought back; it counts as absent.
    async fn is_leaving(&self, run: RunId) -> Result<bool, StoreError>;
    /// The first namespace behind this one that has runs.
    async fn next_namespace(&self, after: &str) -> Result<Option<Arc<str>>, StoreError>;
    /// Runs that a run started as its children, by id after an id; at most `limit`.
    async fn children(&self, run: RunId, after: Option<RunId>, limit: u32) -> Result<Vec<RunId>, StoreError>;
    /// Records of a run that begin after an event, in order, with their positions; at most `limit`.
    async fn rows_of(&self, run: RunId, after: u64, limit: u32) -> Result<Vec<(u64, Record)>, StoreError>;
    /// Published events behind a position and up to another one that happened before a time; at most `limit`.
    async fn published(
        &self,
        after: u64,
        until: u64,
        before: Millis,
        limit: u32,
    ) -> Result<Vec<(u64, Published)>, StoreError>;
    /// Positions that dead letters of groups name, in order, after a position; at most `limit`.
    async fn letter_places(&self, after: u64, limit: u32) -> Result<Vec<u64>, StoreError>;
    /// Signals, dead letters and closed projects of before a time; at most `limit` of each.
    async fn aged(&self, before: Millis, limit: u32) -> Result<Aged, StoreError>;

    /// Writes an archive of all that is selected, durably.
    async fn archive(&self, selection: &Selection) -> Result<Archive, KeepError>;
    /// The archives that are there, by name.
    async fn archives(&self) -> Result<Vec<Archive>, StoreError>;
    /// Up to `length` bytes of an archive from `offset`; `None` if there is no such archive.
    async fn read_archive(&self, name: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError>;
    /// Takes out all that is selected, in small durable steps. A crash leaves each run whole, or absent once the store has
    /// settled. What is not there is passed over. The last row of the log must not be among it: its position shows where
    /// the log ends.
    async fn remove(&self, selection: &Selection) -> Result<(), StoreError>;
    /// Takes an archive. Rows come back to the positions they had, which must be free; rows behind the end of the log come back
    /// only where nobody else writes.
    async fn import(self: Arc<Self>) -> Result<Box<dyn Intake>, KeepError>;

    /// Deletes blobs that nothing refers to and that were not written, asked for or put again since a time.
    async fn collect_blobs(&self, before: Millis) -> Result<Collected, StoreError>;
    /// Begins a backup of everything as it is now.
    async fn backup(&self) -> Result<Box<dyn Parts>, KeepError>;
}
