//! A backup of a running store: a copy of the database as of one moment, then the blobs, as one tar file.

use std::io;

use async_trait::async_trait;
use consort_core::keep::{KeepError, KeepStore as _, Parts};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{OwnedMutexGuard, mpsc};

use super::{Unfinished, now, unkept};
use crate::backup::{Contents, pack};
use crate::sqlite::SqliteStore;
use crate::sqlite::rows::failed;

/// Bytes of one part.
const PART: usize = 64 * 1024;
/// Parts that may wait for the reader.
const WAITING: usize = 8;

impl SqliteStore {
    /// Copies the database and begins to pack. The copy is of one moment and holds up no writer: it reads as any reader does. Blobs
    /// are only ever added while the guard is held, so all that the copy refers to are there; a few more may come along.
    pub(super) async fn begin_backup(&self, held: OwnedMutexGuard<()>) -> Result<Box<dyn Parts>, KeepError> {
        let store = self.identity().await?;
        let copy = Unfinished(self.kept.unfinished());
        let source = SqliteConnectOptions::new().filename(self.kept.folder.join("consort.db")).read_only(true);
        let mut connection = source.connect().await.map_err(failed)?;
        let path = copy.0.display().to_string();
        sqlx::query("VACUUM INTO ?1").bind(path).execute(&mut connection).await.map_err(failed)?;
        connection.close().await.map_err(failed)?;
        let mut connection =
            SqliteConnectOptions::new().filename(&copy.0).read_only(true).connect().await.map_err(failed)?;
        let last = "SELECT coalesce(max(position), 0) FROM log";
        let position: i64 = sqlx::query_scalar(last).fetch_one(&mut connection).await.map_err(failed)?;
        connection.close().await.map_err(failed)?;

        let (parts, receiver) = mpsc::channel(WAITING);
        let files = self.blobs.clone();
        let contents =
            Contents { store, created_at: now(), position: position.max(0) as u64, database: copy.0.clone() };
        tokio::task::spawn_blocking(move || {
            let _held = held;
            let copy = copy;
            let mut sink = Sink { parts, pending: Vec::with_capacity(PART) };
            let packed = pack(&contents, &files, &mut sink).and_then(|()| sink.give());
            if let Err(error) = packed {
                // Whoever reads may have gone, and then nobody hears of it.
                let _ = sink.parts.blocking_send(Err(error));
            }
            drop(copy);
        });
        Ok(Box::new(Receiver(receiver)))
    }
}

/// Gives what is written to the reader, and waits while it is slow.
struct Sink {
    parts: mpsc::Sender<io::Result<Vec<u8>>>,
    pending: Vec<u8>,
}

impl Sink {
    fn give(&mut self) -> io::Result<()> {
        let part = std::mem::replace(&mut self.pending, Vec::with_capacity(PART));
        if part.is_empty() {
            return Ok(());
        }
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader of the backup is gone");
        self.parts.blocking_send(Ok(part)).map_err(gone)
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART - self.pending.len());
        self.pending.extend_from_slice(&bytes[..taken]);
        if self.pending.len() == PART {
            self.give()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Receiver(mpsc::Receiver<io::Result<Vec<u8>>>);

#[async_trait]
impl Parts for Receiver {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, KeepError> {
        match self.0.recv().await {
            Some(Ok(part)) => Ok(Some(part)),
            Some(Err(error)) => Err(unkept(&error).into()),
            None => Ok(None),
        }
    }
}
