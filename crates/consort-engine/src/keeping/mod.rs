//! Moving what is over and old to archives, and bringing it back.
//!
//! ```text
//! find what is due ─▶ the ledger leaves it alone ─▶ archive, on disk ─▶ take out in small steps ─▶ the ledger may see it is gone
//! ```

mod floor;
mod prune;

use std::sync::Arc;
use std::time::Duration;

use consort_core::Error;
use consort_core::keep::{Archive, Intake, KeepError, KeepStore, Parts};
use tokio_util::sync::CancellationToken;

use crate::{Engine, store_error};

/// What goes, and what stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Only this tenant's; absent for all.
    pub namespace: Option<Arc<str>>,
    /// Runs that ended longer ago go; absent for any age. Without this and `keep_last` no runs go.
    pub older_than: Option<Duration>,
    /// So many of the newest finished runs of each workflow stay; 0 for none.
    pub keep_last: u32,
    /// Failed runs stay.
    pub keep_failed: bool,
    /// Published events, signals, dead letters and closed projects older than this go; absent for none.
    pub others_older_than: Option<Duration>,
    /// Whether blobs that nothing refers to go.
    pub blobs: bool,
}

/// What went, or would go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Runs.
    pub runs: u64,
    /// Runs that are due and stay, because somebody needs them.
    pub runs_held: u64,
    /// Published events.
    pub events: u64,
    /// Signals to the mesh.
    pub signals: u64,
    /// Dead letters.
    pub letters: u64,
    /// Closed projects.
    pub projects: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of these blobs.
    pub blob_bytes: u64,
    /// What was written.
    pub archives: Vec<Archive>,
}

impl Engine {
    /// Gives the engine the place where archives and backups are made: the same store, in its other role.
    pub fn keep_in(&self, keep: Arc<dyn KeepStore>) {
        if self.inner.keep.set(keep).is_err() {
            tracing::error!("an engine was given a second place for archives; please report this");
        }
    }

    pub(crate) fn keeper(&self) -> Result<&Arc<dyn KeepStore>, Error> {
        let none = || Error::precondition("NO_KEEPER", "this server has no place for archives and backups");
        self.inner.keep.get().ok_or_else(none)
    }

    /// Begins a backup.
    pub async fn backup(&self) -> Result<Box<dyn Parts>, Error> {
        self.keeper()?.backup().await.map_err(|error| keep_error(&error))
    }

    /// Begins to take an archive back.
    pub async fn import(&self) -> Result<Box<dyn Intake>, Error> {
        Arc::clone(self.keeper()?).import().await.map_err(|error| keep_error(&error))
    }

    /// The archives that are there, by name.
    pub async fn archives(&self) -> Result<Vec<Archive>, Error> {
        self.keeper()?.archives().await.map_err(|error| store_error(&error))
    }

    /// Up to `length` bytes of an archive.
    pub async fn read_archive(&self, name: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, Error> {
        self.keeper()?.read_archive(name, offset, length).await.map_err(|error| store_error(&error))
    }

    /// Prunes by a policy, again and again, until it is cancelled.
    pub async fn keep_pruned(self, policy: Policy, every: Duration, stop: CancellationToken) {
        let mut round = tokio::time::interval(every);
        round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = round.tick() => {}
            }
            match stop.run_until_cancelled(self.prune(&policy, false)).await {
                None => return,
                Some(Ok(pruned)) if pruned != Pruned { runs_held: pruned.runs_held, ..Pruned::default() } => {
                    let Pruned { runs, events, blobs, .. } = pruned;
                    tracing::info!(runs, events, blobs, archives = pruned.archives.len(), "pruned by policy");
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => tracing::warn!(%error, "the policy could not prune; it tries again later"),
            }
        }
    }
}

/// A keeper's error for callers.
pub fn keep_error(error: &KeepError) -> Error {
    match error {
        KeepError::Store(error) => store_error(error),
        KeepError::Damaged(text) => Error::bad_field("chunk", text.clone()),
        KeepError::Taken(text) => Error::precondition("ARCHIVE_REFUSED", text.clone()),
        KeepError::Refused(text) => Error::precondition("KEEPER_BUSY", text.clone()),
        KeepError::Unsupported(text) => Error::precondition("NOT_SUPPORTED", text.clone()),
    }
}
