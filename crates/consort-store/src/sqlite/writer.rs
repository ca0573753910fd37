//! The one connection that writes.

use std::fs::File;

use consort_core::ports::StoreError;
use futures::TryStreamExt;
use sqlx::error::DatabaseError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions, Connection, Either, Executor};

use super::rows::{failed, number};
use super::statements::Statement;

/// Why a transaction was rolled back.
pub(super) enum Refused {
    /// A key was taken; the driver's words.
    Taken(String),
    /// The log does not end where the batch begins.
    Gap { last_position: u64 },
    /// Anything else.
    Failed(StoreError),
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

/// What a transaction did.
#[derive(Default)]
pub(super) struct Done {
    /// Rows that changed.
    pub(super) changed: u64,
    /// Rows that were asked for.
    pub(super) rows: Vec<SqliteRow>,
}

/// Owns the writing connection and the lock of the data folder, so that the lock outlives every transaction.
pub(super) struct Writer {
    options: SqliteConnectOptions,
    /// Absent after an error that leaves its transaction in doubt, until the next use opens a new one.
    connection: Option<SqliteConnection>,
    /// Position of the last row of the log, if known.
    last_position: Option<u64>,
    /// The lock of the data folder; absent once closed.
    lock: Option<File>,
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions, connection: SqliteConnection, lock: File) -> Writer {
        Writer { options, connection: Some(connection), last_position: None, lock: Some(lock) }
    }

    /// A writer that refuses everything, for who only reads.
    pub(super) fn absent(options: SqliteConnectOptions) -> Writer {
        Writer { options, connection: None, last_position: None, lock: None }
    }

    /// Runs a transaction that adds rows to the log.
    pub(super) async fn append(
        &mut self,
        first_position: u64,
        rows: u64,
        statements: Vec<Statement>,
    ) -> Result<(), Refused> {
        if rows == 0 {
            return self.transaction(statements).await.map(drop);
        }
        let last_position = match self.last_position {
            Some(known) => known,
            None => self.read_last_position().await?,
        };
        self.last_position = Some(last_position);
        if first_position != last_position + 1 {
            return Err(Refused::Gap { last_position });
        }
        self.last_position = None;
        self.transaction(statements).await?;
        self.last_position = Some(last_position + rows);
        Ok(())
    }

    /// Runs statements in one durable transaction: all or nothing.
    pub(super) async fn transaction(&mut self, statements: Vec<Statement>) -> Result<Done, Refused> {
        let mut connection = self.take().await?;
        match apply(&mut connection, statements).await {
            Ok(done) => {
                self.connection = Some(connection);
                Ok(done)
            }
            Err(error) => {
                let taken = is_constraint(&error);
                // After a failed write SQLite may have rolled back by itself, and then a ROLLBACK fails. A connection is
                // used again only if its state is certain.
                let rolled_back = sqlx::query("ROLLBACK").execute(&mut connection).await.is_ok();
                if taken && rolled_back {
                    self.connection = Some(connection);
                } else if let Err(error) = connection.close().await {
                    tracing::warn!(%error, "the writing connection did not close cleanly");
                }
                Err(if taken { Refused::Taken(error.to_string()) } else { Refused::Failed(failed(error)) })
            }
        }
    }

    /// Closes the connection for good and gives the folder free.
    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the writing connection did not close cleanly");
        }
        self.lock = None;
    }

    async fn read_last_position(&mut self) -> Result<u64, StoreError> {
        let mut connection = self.take().await?;
        let row = sqlx::query("SELECT coalesce(max(position), 0) FROM log").fetch_one(&mut connection).await;
        self.connection = Some(connection);
        number(&row.map_err(failed)?, 0)
    }

    async fn take(&mut self) -> Result<SqliteConnection, StoreError> {
        if self.lock.is_none() {
            return Err(StoreError::Unavailable("the store is closed".into()));
        }
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.options.connect().await.map_err(failed),
        }
    }
}

async fn apply(connection: &mut SqliteConnection, statements: Vec<Statement>) -> Result<Done, sqlx::Error> {
    let mut done = Done::default();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    for Statement { sql, values } in statements {
        let mut results = connection.fetch_many(sqlx::query_with(sql, values.0));
        while let Some(result) = results.try_next().await? {
            match result {
                Either::Left(result) => done.changed += result.rows_affected(),
                Either::Right(row) => done.rows.push(row),
            }
        }
    }
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(done)
}

fn is_constraint(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(DatabaseError::is_unique_violation)
}
