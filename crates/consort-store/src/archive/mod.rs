//! Archives: what is over, as lines of JSON in a gzip file, so that it can be read without this program.
//!
//! ```text
//! consort_archive   version, identity of the store, time
//! workflow          a revision, before the first run of it
//! blob, part …      a value that is kept by its SHA-256, before the first row that refers to it; parts are hexadecimal
//! run, row …, over  a run with all its rows: positions, hashes and bodies as they stood in the log
//! event, signal, letter, project
//! end               how many of each, and the SHA-256 of all lines before it
//! ```

mod intake;
mod line;
mod read;
mod write;

use async_trait::async_trait;
use consort_core::event::{Published, Record};
use consort_core::ids::RunId;
use consort_core::keep::KeepStore;
use consort_core::ports::{DeadLetter, DecisionRow, ProjectRow, RunRow, SignalRow, Store, StoreError, WorkflowRow};
use uuid::Uuid;

pub(crate) use intake::{Spool, take_in};
pub(crate) use write::write;

/// Rows of the log that one step takes out or brings back; a commit waits no longer than that takes.
pub(crate) const STEP: usize = 512;

/// What comes back in one small transaction.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A revision that is not there; its workflow counts as deleted.
    Workflow(Box<WorkflowRow>),
    /// Some rows of a run, in order; `over` comes with the last of them, and only then the run is there.
    Rows {
        run: RunId,
        rows: Vec<(u64, Record)>,
        over: Option<Box<(RunRow, Vec<DecisionRow>)>>,
    },
    Event(u64, Box<Published>),
    Signal(Box<SignalRow>),
    Letter(Box<DeadLetter>),
    Project(Box<ProjectRow>),
}

/// What a backend does for archives beyond its ports.
#[async_trait]
pub(crate) trait Shelf: Store + KeepStore {
    /// Gives an empty store the identity of the one whose archive it takes, and makes room behind the end of its log.
    async fn adopt(&self, identity: Uuid, end: u64) -> Result<(), StoreError>;
    /// Brings a piece back, durably.
    async fn restore(&self, piece: Piece) -> Result<(), StoreError>;
    /// Whether rows may come back behind the end of the log: nobody else writes.
    fn is_alone(&self) -> bool;
}
