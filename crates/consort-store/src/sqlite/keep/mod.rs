//! Keeping on SQLite: see [`consort_core::keep`].

mod backup;
mod change;
mod collect;
mod doctor;
mod ranges;
mod remove;
mod shelf;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use consort_core::event::{Published, Record};
use consort_core::ids::{Millis, RunId};
use consort_core::keep::{Aged, Archive, Collected, Intake, KeepError, KeepStore, Parts, Selection};
use consort_core::ports::{LogRow, MarkStore, ProjectRow, ProjectState, StoreError};
use tokio::sync::{Mutex, OwnedMutexGuard};
use uuid::Uuid;

use super::SqliteStore;
use super::rows::{self, dead_letter_columns, failed, get, log_columns, number};
use super::runs::read;
use crate::archive::{Spool, take_in, write};
use crate::files::{blocking, sync_folder};

/// The mark with the store's identity.
const IDENTITY: &str = "store/identity";
/// How the names of files begin that a crash may leave.
const UNFINISHED: &str = "unfinished-";

/// What the keeper of a data folder needs beside the database.
pub(super) struct Kept {
    folder: PathBuf,
    /// Held by whoever backs up, archives, imports or collects: one at a time.
    busy: Arc<Mutex<()>>,
    /// Whether nobody else writes, so that rows may come back behind the end of the log.
    alone: bool,
}

impl Kept {
    pub(super) fn new(folder: &Path) -> Kept {
        Kept { folder: folder.to_owned(), busy: Arc::default(), alone: false }
    }

    fn archives(&self) -> PathBuf {
        self.folder.join("archive")
    }

    /// A file that counts only once it has another name.
    fn unfinished(&self) -> PathBuf {
        self.folder.join(format!("{UNFINISHED}{}", Uuid::new_v4().simple()))
    }

    /// Waits for nobody: who comes second is told so.
    fn occupy(&self) -> Result<OwnedMutexGuard<()>, KeepError> {
        let busy =
            || KeepError::Refused("a backup, a prune or an import is under way; try again when it is done".to_owned());
        self.busy.clone().try_lock_owned().map_err(|_| busy())
    }
}

/// A file that goes unless it got another name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What stays is removed when the store is next opened.
        let _ = fs::remove_file(&self.0);
    }
}

impl SqliteStore {
    /// Says that nobody else writes: rows of an archive may come back behind the end of the log.
    pub fn alone(mut self) -> SqliteStore {
        self.kept.alone = true;
        self
    }

    /// Positions of a run's rows, in order.
    async fn positions(&self, run: RunId) -> Result<Vec<u64>, StoreError> {
        let query = sqlx::query("SELECT position FROM log WHERE run = ?1 ORDER BY sequence");
        let found = query.bind(run.0.as_bytes().as_slice()).fetch_all(&self.readers).await.map_err(failed)?;
        read(&found, |row| number(row, 0))
    }
}

#[async_trait]
impl KeepStore for SqliteStore {
    async fn identity(&self) -> Result<Uuid, StoreError> {
        let find = || async {
            let marks = self.marks(IDENTITY, "", 1).await?;
            let known = marks.into_iter().find(|mark| mark.name == IDENTITY).and_then(|mark| mark.value);
            known
                .map(|value| value.parse().map_err(|_| StoreError::Corrupt(format!("`{value}` is no UUID"))))
                .transpose()
        };
        if let Some(known) = find().await? {
            return Ok(known);
        }
        let named = change::change(
            "INSERT OR IGNORE INTO marks (name, value) VALUES (?1, ?2)",
            [change::Value::Text(IDENTITY.into()), change::Value::Text(Uuid::new_v4().to_string())],
        );
        self.change(vec![named]).await?;
        find().await?.ok_or_else(|| StoreError::Corrupt("the store's identity is not there".into()))
    }

    async fn settle(&self) -> Result<(), StoreError> {
        let folders = [self.kept.folder.clone(), self.kept.archives()];
        blocking(move || {
            for folder in folders.iter().filter(|folder| folder.exists()) {
                for entry in fs::read_dir(folder).map_err(|e| unkept(&e))? {
                    let entry = entry.map_err(|e| unkept(&e))?;
                    if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                        fs::remove_file(entry.path()).map_err(|e| unkept(&e))?;
                    }
                }
            }
            Ok(())
        })
        .await?;
        self.finish_leaving().await
    }

    async fn erased(&self, first: u64, last: u64) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(sum(min(last, ?2) - max(first, ?1) + 1), 0) FROM erased \
            WHERE first BETWEEN coalesce((SELECT max(first) FROM erased WHERE first <= ?1), ?1) AND ?2 AND last >= ?1";
        let query = sqlx::query(sql).bind(first as i64).bind(last as i64);
        number(&query.fetch_one(&self.readers).await.map_err(failed)?, 0)
    }

    async fn is_leaving(&self, run: RunId) -> Result<bool, StoreError> {
        let query = sqlx::query("SELECT 1 FROM leaving WHERE run = ?1").bind(run.0.as_bytes().as_slice());
        Ok(query.fetch_optional(&self.readers).await.map_err(failed)?.is_some())
    }

    async fn next_namespace(&self, after: &str) -> Result<Option<Arc<str>>, StoreError> {
        let query = sqlx::query("SELECT namespace FROM runs WHERE namespace > ?1 ORDER BY namespace LIMIT 1");
        let row = query.bind(after).fetch_optional(&self.readers).await.map_err(failed)?;
        row.map(|row| rows::text(&row, 0)).transpose()
    }

    async fn children(&self, run: RunId, after: Option<RunId>, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let query = sqlx::query("SELECT id FROM runs WHERE parent = ?1 AND id > ?2 ORDER BY id LIMIT ?3");
        let after = after.map(|id| id.0.into_bytes().to_vec()).unwrap_or_default();
        let query = query.bind(run.0.as_bytes().as_slice()).bind(after).bind(i64::from(limit));
        read(&query.fetch_all(&self.readers).await.map_err(failed)?, |row| rows::uuid(get(row, 0)?).map(RunId))
    }

    async fn rows_of(&self, run: RunId, after: u64, limit: u32) -> Result<Vec<(u64, Record)>, StoreError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            log_columns!(),
            " FROM log WHERE run = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3"
        ));
        let query = query.bind(run.0.as_bytes().as_slice()).bind(after as i64).bind(i64::from(limit));
        read(&query.fetch_all(&self.readers).await.map_err(failed)?, |row| Ok((number(row, 0)?, rows::record(row)?)))
    }

    async fn published(
        &self,
        after: u64,
        until: u64,
        before: Millis,
        limit: u32,
    ) -> Result<Vec<(u64, Published)>, StoreError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            log_columns!(),
            " FROM log INDEXED BY log_published WHERE run IS NULL AND position > ?1 AND position <= ?2 AND at < ?3 \
             ORDER BY position LIMIT ?4"
        ));
        let query =
            query.bind(after as i64).bind(until.min(i64::MAX as u64) as i64).bind(before).bind(i64::from(limit));
        let found = read(&query.fetch_all(&self.readers).await.map_err(failed)?, rows::log_row)?;
        let event = |(position, row)| match row {
            LogRow::Published(event) => Some((position, event)),
            LogRow::Run(_) => None,
        };
        Ok(found.into_iter().filter_map(event).collect())
    }

    async fn letter_places(&self, after: u64, limit: u32) -> Result<Vec<u64>, StoreError> {
        let sql = "SELECT DISTINCT position FROM dead_letters WHERE position > ?1 ORDER BY position LIMIT ?2";
        let query = sqlx::query(sql).bind(after as i64).bind(i64::from(limit));
        read(&query.fetch_all(&self.readers).await.map_err(failed)?, |row| number(row, 0))
    }

    async fn aged(&self, before: Millis, limit: u32) -> Result<Aged, StoreError> {
        let limit = i64::from(limit);
        let signals = sqlx::query("SELECT body FROM signals WHERE created_at < ?1 LIMIT ?2").bind(before).bind(limit);
        let signals = signals.fetch_all(&self.readers).await.map_err(failed)?;
        let letters = concat!("SELECT ", dead_letter_columns!(), " FROM dead_letters WHERE at < ?1 LIMIT ?2");
        let letters = sqlx::query(letters).bind(before).bind(limit).fetch_all(&self.readers).await.map_err(failed)?;
        let projects = "SELECT body FROM projects WHERE state <> 'active' AND created_at < ?1 AND NOT EXISTS \
            (SELECT 1 FROM runs WHERE runs.namespace = projects.namespace AND runs.project = projects.id) LIMIT ?2";
        let projects = sqlx::query(projects).bind(before).bind(limit).fetch_all(&self.readers).await.map_err(failed)?;
        let projects: Vec<ProjectRow> = read(&projects, |row| rows::json("a project", get(row, 0)?))?;
        let closed =
            |row: &ProjectRow| row.state != ProjectState::Active && row.closed_at.is_some_and(|at| at < before);
        Ok(Aged {
            signals: read(&signals, |row| rows::json("a signal", get(row, 0)?))?,
            letters: read(&letters, rows::dead_letter)?,
            projects: projects.into_iter().filter(closed).collect(),
        })
    }

    async fn archive(&self, selection: &Selection) -> Result<Archive, KeepError> {
        let _held = self.kept.occupy()?;
        let folder = self.kept.archives();
        let draft = Unfinished(folder.join(format!("{UNFINISHED}{}", Uuid::new_v4().simple())));
        let (made, path) = (folder.clone(), draft.0.clone());
        let file =
            blocking(move || fs::create_dir_all(&made).and_then(|()| private(&path)).map_err(|error| unkept(&error)))
                .await?;
        let now = now();
        let file = write(self, selection, now, io::BufWriter::new(file)).await?;
        // Sorts by time, and names say when.
        let time = consort_core::rfc3339(now).replace([':', '.'], "-");
        let name = format!("{time}-{}.jsonl.gz", &Uuid::new_v4().simple().to_string()[..8]);
        let path = folder.join(&name);
        let size = blocking(move || {
            let named = || {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.sync_all()?;
                fs::rename(&draft.0, &path)?;
                sync_folder(&folder)?;
                Ok(file.metadata()?.len())
            };
            named().map_err(|error| unkept(&error))
        })
        .await?;
        Ok(Archive { name, size })
    }

    async fn archives(&self) -> Result<Vec<Archive>, StoreError> {
        let folder = self.kept.archives();
        blocking(move || {
            let list = || {
                let mut all = Vec::new();
                for entry in fs::read_dir(&folder)? {
                    let entry = entry?;
                    let name = entry.file_name().to_string_lossy().into_owned();
                    if is_archive(&name) {
                        all.push(Archive { name, size: entry.metadata()?.len() });
                    }
                }
                all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                io::Result::Ok(all)
            };
            match list() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                listed => listed.map_err(|error| unkept(&error)),
            }
        })
        .await
    }

    async fn read_archive(&self, name: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
        if !is_archive(name) {
            return Ok(None);
        }
        let path = self.kept.archives().join(name);
        blocking(move || crate::files::read_part(&path, offset, length).map_err(|error| unkept(&error))).await
    }

    async fn remove(&self, selection: &Selection) -> Result<(), StoreError> {
        self.take_out(selection).await
    }

    async fn import(self: Arc<Self>) -> Result<Box<dyn Intake>, KeepError> {
        let held = self.kept.occupy()?;
        let path = self.kept.unfinished();
        let made = path.clone();
        let file = blocking(move || private(&made).map_err(|error| unkept(&error))).await?;
        Ok(Box::new(FileIntake { store: self, path: Unfinished(path), file: Some(file), _held: held }))
    }

    async fn collect_blobs(&self, before: Millis) -> Result<Collected, StoreError> {
        let Ok(_held) = self.kept.occupy() else { return Ok(Collected::default()) };
        self.collect(before).await
    }

    async fn backup(&self) -> Result<Box<dyn Parts>, KeepError> {
        let held = self.kept.occupy()?;
        self.begin_backup(held).await
    }
}

/// Takes an archive to a file of its own before anything looks at it.
struct FileIntake {
    store: Arc<SqliteStore>,
    path: Unfinished,
    file: Option<File>,
    _held: OwnedMutexGuard<()>,
}

#[async_trait]
impl Intake for FileIntake {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), KeepError> {
        let Some(mut file) = self.file.take() else {
            return Err(KeepError::Refused("an earlier part could not be written; import again".into()));
        };
        let bytes = bytes.to_vec();
        let written =
            blocking(move || io::Write::write_all(&mut file, &bytes).map(|()| file).map_err(|error| unkept(&error)));
        self.file = Some(written.await?);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<consort_core::keep::Imported, KeepError> {
        drop(self.file.take());
        let path = self.path.0.clone();
        let spool: Spool = Box::new(move || Ok(Box::new(File::open(&path)?)));
        let imported = take_in(&*self.store, &spool).await;
        if imported.is_err() {
            // A run that came only in part goes again.
            self.store.finish_leaving().await?;
        }
        imported
    }
}

fn is_archive(name: &str) -> bool {
    name.ends_with(".jsonl.gz") && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as Millis)
}

fn unkept(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("a file of the data folder could not be read or written: {error}"))
}
