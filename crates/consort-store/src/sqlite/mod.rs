//! All ports on one SQLite database and a folder of blobs.
//!
//! One connection writes, inside `BEGIN IMMEDIATE`, in WAL mode with `synchronous=FULL`: when a commit returns, it is on
//! disk. A few others read, and never wait for the writer.

mod blobs;
mod commit;
mod dead_letters;
mod integrity;
mod keep;
mod marks;
mod open;
mod projects;
mod rows;
mod runs;
mod statements;
mod tables;
mod workflows;
mod writer;

use std::sync::Arc;

use consort_core::ports::StoreError;
use sqlx::SqlitePool;
use tokio::sync::Mutex;

use crate::files::BlobFiles;
use commit::Taken;
use dead_letters::Letters;
pub use open::OpenError;
use statements::Statement;
use tables::Tables;
use writer::{Done, Refused, Writer};

/// Keeps everything in one folder: `consort.db`, `blobs/` and `lock`.
pub struct SqliteStore {
    writer: Arc<Mutex<Writer>>,
    readers: SqlitePool,
    blobs: BlobFiles,
    tables: Tables,
    taken: Taken,
    letters: Letters,
    kept: keep::Kept,
}

impl SqliteStore {
    /// Waits for running transactions and closes all connections. Later calls fail as unavailable.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.lock().await.close().await;
    }

    /// Runs a transaction in a task of its own: a caller who stops waiting does not stop it half-way.
    async fn write(&self, statements: Vec<Statement>) -> Result<Done, StoreError> {
        let writer = self.writer.clone();
        let task = tokio::spawn(async move { writer.lock_owned().await.transaction(statements).await });
        joined(task.await).map_err(StoreError::from)
    }
}

fn joined<T>(result: Result<Result<T, Refused>, tokio::task::JoinError>) -> Result<T, Refused> {
    result.unwrap_or_else(|stopped| {
        Err(Refused::Failed(StoreError::Unavailable(format!("the writing task did not finish: {stopped}"))))
    })
}
