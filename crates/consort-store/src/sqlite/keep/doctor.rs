//! Holding everything that is listed against the log, and mending it from there.

use std::path::Path;

use consort_core::data::Data;
use consort_core::ports::{BlobStore, ProjectRow, SignalRow, StoreError};
use futures::TryStreamExt;

use super::change::{Change, bytes, change};
use super::shelf::{decision_row, run_row};
use crate::folds::{Folds, Repair};
use crate::integrity::{Integrity, Progress, Walk};
use crate::sqlite::SqliteStore;
use crate::sqlite::rows::{self, failed, get};

impl SqliteStore {
    /// Checks everything that [`SqliteStore::integrity`] checks, and also that each run's row, decisions and snapshot are what
    /// its history says, and that every blob that is referred to is there. Works beside a running server. Memory is bounded
    /// by the largest run.
    pub async fn examine(&self, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Integrity, StoreError> {
        self.look_through(progress).await.map(|(report, _)| report)
    }

    /// Writes rows, decisions and snapshots that are not what their histories say again from the histories, in one transaction,
    /// and says what was changed. Nothing is done for histories that are damaged themselves; the log is never changed. The
    /// report is of before.
    pub async fn repair(
        &self,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(Integrity, Vec<String>), StoreError> {
        let (report, repairs) = self.look_through(progress).await?;
        let changed = repairs.iter().map(Repair::what).collect();
        if !repairs.is_empty() {
            self.change(repairs.iter().map(mend).collect()).await?;
        }
        Ok((report, changed))
    }

    async fn look_through(
        &self,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(Integrity, Vec<Repair>), StoreError> {
        let mut folds = Folds::new(self);
        let walk = Walk { store: self, shelf: Some(self), folds: Some(&mut folds), progress };
        let mut report = walk.check().await?;
        self.check_texts(&mut report).await?;
        let repairs = std::mem::take(&mut folds.repairs);
        Ok((self.check_rest(report).await?, repairs))
    }

    /// Blobs that projects and signals refer to.
    async fn check_texts(&self, report: &mut Integrity) -> Result<(), StoreError> {
        let mut projects = sqlx::query("SELECT body FROM projects").fetch(&self.readers);
        while let Some(row) = projects.try_next().await.map_err(failed)? {
            let project: ProjectRow = rows::json("a project", get(&row, 0)?)?;
            self.check_data(&format!("project {}", project.id), &project.request, report).await?;
        }
        drop(projects);
        let mut signals = sqlx::query("SELECT body FROM signals").fetch(&self.readers);
        while let Some(row) = signals.try_next().await.map_err(failed)? {
            let signal: SignalRow = rows::json("a signal", get(&row, 0)?)?;
            self.check_data(&format!("signal {}", signal.id), &signal.signal.payload, report).await?;
        }
        Ok(())
    }

    async fn check_data(&self, what: &str, data: &Data, report: &mut Integrity) -> Result<(), StoreError> {
        if let Data::Blob(blob) = data
            && self.stat(&blob.sha256).await?.is_none()
        {
            report.problem(format!("{what}: blob {} is not there", blob.sha256));
        }
        Ok(())
    }

    /// Opens the data in a folder for reading only, beside the server that may have it open.
    pub async fn look(folder: &Path) -> Result<SqliteStore, crate::OpenError> {
        SqliteStore::open_reading(folder).await
    }
}

fn mend(repair: &Repair) -> Change {
    match repair {
        Repair::Row(row) => run_row(row),
        Repair::Decision(row) => decision_row(row),
        Repair::NoDecision(_, id) => change("DELETE FROM decisions WHERE id = ?1", [bytes(id.as_bytes())]),
        Repair::NoSnapshot(run) => change("DELETE FROM snapshots WHERE run = ?1", [bytes(run.0.as_bytes())]),
    }
}
