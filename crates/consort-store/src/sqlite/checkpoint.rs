//! Moves the write-ahead log into the database beside the writer.
//!
//! SQLite would do this inside a commit, every [`CHECKPOINT_PAGES`] pages: some commits would take tens of milliseconds. Here a
//! thread does most of it while commits go on, and what is left for the writer, so that the log begins anew, is little. If this
//! thread lags or is gone, the writer does it all: nothing depends on it but speed.
//!
//! [`CHECKPOINT_PAGES`]: super::open::CHECKPOINT_PAGES

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, OpenFlags};

use super::open::PATIENCE;

/// Commits after which there is something to move.
const EVERY: u32 = 64;

/// A handle of the thread, which ends when it is dropped.
pub(super) struct Checkpointer {
    commits: u32,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(path: &Path) -> std::io::Result<Checkpointer> {
        let (wake, woken) = sync_channel(1);
        let path = path.to_owned();
        let thread = thread::Builder::new().name("store-checkpointer".into()).spawn(move || work(&path, &woken))?;
        Ok(Checkpointer { commits: 0, wake: Some(wake), thread: Some(thread) })
    }

    /// Counts a commit. Never waits: a thread that is still busy is not woken again.
    pub(super) fn committed(&mut self) {
        self.commits += 1;
        if self.commits >= EVERY {
            self.commits = 0;
            let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.wake.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the checkpointing thread has panicked; please report this");
        }
    }
}

fn work(path: &Path, woken: &Receiver<()>) {
    let mut connection = None;
    while woken.recv().is_ok() {
        let moved = connection.take().map_or_else(|| open(path), Ok).and_then(|connection| {
            // Gives way to everybody, and says how far it came; who is in its way does not matter.
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
            Ok(connection)
        });
        match moved {
            Ok(used) => connection = Some(used),
            Err(error) => tracing::debug!(%error, "the write-ahead log was not moved; the writer does it"),
        }
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}
