//! The thread that writes, and the one connection it has.
//!
//! A batch crosses to the thread once and its outcome crosses back once, whatever number of rows it has; on the thread a row
//! costs a bind and a step of a statement that stays prepared.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use consort_core::ports::StoreError;
use rusqlite::ffi;
use rusqlite::{CachedStatement, Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::Checkpointer;
use super::open::{CHECKPOINT_PAGES, PATIENCE, WAL_LIMIT_BYTES, WRITER_CACHE};

/// Work that waits for the thread; who has more waits for a place.
const QUEUE: usize = 64;

/// Prepared statements that the connection keeps: all there are.
const STATEMENTS: usize = 96;

/// Why a transaction was rolled back.
pub(super) enum Refused {
    /// A key was taken; the driver's words.
    Taken(String),
    /// The log does not end where the batch begins.
    Gap { last_position: u64 },
    /// Anything else.
    Failed(StoreError),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error().map_or(0, |error| error.extended_code);
        match code {
            ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_UNIQUE => Refused::Taken(error.to_string()),
            _ => Refused::Failed(match code & 0xff {
                ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => StoreError::Corrupt(error.to_string()),
                _ => StoreError::Unavailable(error.to_string()),
            }),
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Refused::Failed(error)
    }
}

impl From<Refused> for StoreError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Taken(message) => StoreError::Corrupt(format!("a key was taken unexpectedly: {message}")),
            Refused::Gap { last_position } => StoreError::Corrupt(format!("the log ends at position {last_position}")),
            Refused::Failed(error) => error,
        }
    }
}

type Job = Box<dyn FnOnce(&mut Desk) + Send>;

/// A handle of the thread. The lock of the data folder stays with the thread, so that it outlives every transaction.
pub(super) struct Writer {
    /// Absent once closed.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread. It opens the database when it is first asked for something.
    pub(super) fn start(path: PathBuf, lock: File) -> std::io::Result<Writer> {
        let checkpointer = Checkpointer::start(&path)?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let work = move || {
            let mut desk = Desk { path, connection: None, last_position: None, checkpointer };
            while let Some(job) = queue.blocking_recv() {
                job(&mut desk);
            }
            // Before the writer's connection: the last one that closes moves what is left of the write-ahead log.
            drop(desk.checkpointer);
            if let Some((_, error)) = desk.connection.take().and_then(|connection| connection.close().err()) {
                tracing::warn!(%error, "the writing connection did not close cleanly");
            }
            drop(lock);
        };
        let thread = thread::Builder::new().name("store-writer".into()).spawn(work)?;
        Ok(Writer { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)) })
    }

    /// A writer that refuses everything, for who only reads.
    pub(super) fn absent() -> Writer {
        Writer { jobs: Mutex::default(), thread: Mutex::default() }
    }

    /// Waits until the database is open and its write-ahead log empty.
    pub(super) async fn ready(&self) -> Result<(), StoreError> {
        self.with(|desk| desk.read(|_| Ok(()))).await?
    }

    /// Has work done on the thread. It is done to its end even if the caller stops waiting.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Desk) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::new(move |desk| drop(done.send(work(desk))));
        let gone = || StoreError::Unavailable("the store is closed".into());
        jobs.ok_or_else(gone)?.send(job).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| StoreError::Unavailable("the writing thread stopped in the middle".into()))
    }

    /// Runs work in one durable transaction: all or nothing.
    pub(super) async fn transaction<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.with(|desk| desk.transaction(work)).await?.map_err(StoreError::from)
    }

    /// Waits for what is queued, closes the connection for good and gives the folder free.
    pub(super) async fn close(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && !matches!(tokio::task::spawn_blocking(move || thread.join()).await, Ok(Ok(())))
        {
            tracing::error!("the writing thread has panicked; please report this");
        }
    }
}

/// What the thread works with.
pub(super) struct Desk {
    path: PathBuf,
    /// Absent after an error that leaves its transaction in doubt, until the next use opens a new one.
    connection: Option<Connection>,
    /// Position of the last row of the log, if known.
    last_position: Option<u64>,
    checkpointer: Checkpointer,
}

impl Desk {
    /// Runs a transaction that adds rows to the log.
    pub(super) fn append(
        &mut self,
        first_position: u64,
        rows: u64,
        work: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), Refused> {
        if rows == 0 {
            return self.transaction(work);
        }
        let last_position = match self.last_position.take() {
            Some(known) => known,
            None => self.read_last_position()?,
        };
        if first_position != last_position + 1 {
            self.last_position = Some(last_position);
            return Err(Refused::Gap { last_position });
        }
        self.transaction(work)?;
        self.last_position = Some(last_position + rows);
        Ok(())
    }

    /// Runs work in one durable transaction: all or nothing.
    pub(super) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Refused> {
        let connection = self.take()?;
        let done = step(&connection, "BEGIN IMMEDIATE").and_then(|()| {
            let done = work(&connection)?;
            step(&connection, "COMMIT")?;
            Ok(done)
        });
        match done {
            Ok(done) => {
                self.connection = Some(connection);
                self.checkpointer.committed();
                Ok(done)
            }
            Err(error) => {
                let refused = Refused::from(error);
                // After a failed write SQLite may have rolled back by itself, and then a ROLLBACK fails. A connection is
                // used again only if its state is certain.
                let rolled_back = step(&connection, "ROLLBACK").is_ok();
                if rolled_back && matches!(refused, Refused::Taken(_)) {
                    self.connection = Some(connection);
                } else if let Err((_, error)) = connection.close() {
                    tracing::warn!(%error, "the writing connection did not close cleanly");
                }
                Err(refused)
            }
        }
    }

    /// Reads, outside any transaction.
    pub(super) fn read<T>(&mut self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let connection = self.take()?;
        let read = work(&connection);
        self.connection = Some(connection);
        read
    }

    fn read_last_position(&mut self) -> Result<u64, StoreError> {
        self.read(|connection| {
            let read =
                connection.query_row("SELECT coalesce(max(position), 0) FROM log", [], |row| row.get::<_, i64>(0));
            Ok(read.map_err(Refused::from)? as u64)
        })
    }

    fn take(&mut self) -> Result<Connection, StoreError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let connection = open(&self.path).map_err(Refused::from)?;
        settle(&connection)?;
        Ok(connection)
    }
}

/// Writes what the write-ahead log holds into the database, makes that durable, and empties the log.
///
/// A sync that failed leaves pages that the system shows and the disk does not have: it counts them as written and never writes them
/// again. Whoever builds on such a page, by adding to the log behind it, loses everything behind it when the power goes. So after
/// any failure, and after a start that may follow one, nothing is added to the log before all of it was written anew elsewhere.
fn settle(connection: &Connection) -> Result<(), StoreError> {
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    match busy.map_err(Refused::from)? {
        0 => Ok(()),
        _ => Err(StoreError::Unavailable("readers keep the write-ahead log from being emptied".into())),
    }
}

fn open(path: &PathBuf) -> rusqlite::Result<Connection> {
    // No mutex inside SQLite: one thread has it.
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT_BYTES)?;
    connection.pragma_update(None, "cache_size", WRITER_CACHE)?;
    Ok(connection)
}

/// Runs a statement that has no values and gives no rows.
fn step(connection: &Connection, sql: &'static str) -> rusqlite::Result<()> {
    cached(connection, sql)?.execute([]).map(drop)
}

/// A statement that stays prepared.
pub(super) fn cached<'c>(connection: &'c Connection, sql: &'static str) -> rusqlite::Result<CachedStatement<'c>> {
    connection.prepare_cached(sql)
}
