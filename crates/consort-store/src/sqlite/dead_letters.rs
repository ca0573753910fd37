//! Events that could not be accepted or delivered.

use std::collections::BTreeSet;

use async_trait::async_trait;
use consort_core::ports::{DeadLetter, DeadLetterStore, Mark, StoreError};
use rusqlite::{CachedStatement, Connection, params};
use uuid::Uuid;

use super::rows::{self, dead_letter_columns, failed};
use super::runs::read;
use super::writer::cached;
use super::{SqliteStore, marks};

#[async_trait]
impl DeadLetterStore for SqliteStore {
    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        if letters.is_empty() {
            return Ok(());
        }
        let letters = letters.to_vec();
        // Burying twice is what a sender does that did not hear of the first time.
        let sql = concat!(
            "INSERT OR IGNORE INTO dead_letters (",
            dead_letter_columns!(),
            ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        );
        let bury = move |connection: &Connection| {
            let mut insert = cached(connection, sql)?;
            letters.iter().try_for_each(|letter| add_letter(&mut insert, letter))
        };
        self.writer.transaction(bury).await
    }

    async fn dead_letters(
        &self,
        namespace: &str,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            dead_letter_columns!(),
            " FROM dead_letters WHERE namespace = ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3",
        ));
        let before = before.map(|id| id.into_bytes().to_vec());
        let query = query.bind(namespace).bind(before).bind(i64::from(limit));
        read(&query.fetch_all(&self.readers).await.map_err(failed)?, rows::dead_letter)
    }

    async fn dead_letters_of(&self, namespace: &str, ids: &[Uuid]) -> Result<Vec<DeadLetter>, StoreError> {
        let mut found = Vec::new();
        for id in once(ids) {
            let query = sqlx::query(concat!(
                "SELECT ",
                dead_letter_columns!(),
                " FROM dead_letters WHERE namespace = ?1 AND id = ?2"
            ));
            let row = query.bind(namespace).bind(id.as_bytes().as_slice()).fetch_optional(&self.readers).await;
            found.extend(row.map_err(failed)?);
        }
        read(&found, rows::dead_letter)
    }

    async fn exhume(&self, namespace: &str, ids: &[Uuid], marks: &[Mark]) -> Result<(), StoreError> {
        if ids.is_empty() && marks.is_empty() {
            return Ok(());
        }
        let (namespace, ids, marks) = (namespace.to_owned(), ids.to_vec(), marks.to_vec());
        let exhume = move |connection: &Connection| {
            let mut delete = cached(connection, "DELETE FROM dead_letters WHERE namespace = ?1 AND id = ?2")?;
            for id in &ids {
                delete.execute(params![namespace, id.as_bytes().as_slice()])?;
            }
            marks::write(connection, &marks)
        };
        self.writer.transaction(exhume).await
    }

    async fn restate(&self, namespace: &str, reasons: &[(Uuid, String)]) -> Result<(), StoreError> {
        if reasons.is_empty() {
            return Ok(());
        }
        let (namespace, reasons) = (namespace.to_owned(), reasons.to_vec());
        let restate = move |connection: &Connection| {
            let sql = "UPDATE dead_letters SET reason = ?3 WHERE namespace = ?1 AND id = ?2";
            let mut update = cached(connection, sql)?;
            for (id, reason) in &reasons {
                update.execute(params![namespace, id.as_bytes().as_slice(), reason])?;
            }
            Ok(())
        };
        self.writer.transaction(restate).await
    }
}

/// Each id once.
fn once(ids: &[Uuid]) -> Vec<Uuid> {
    ids.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}

fn add_letter(insert: &mut CachedStatement<'_>, letter: &DeadLetter) -> rusqlite::Result<()> {
    let row = params![
        letter.id.as_bytes().as_slice(),
        letter.namespace,
        letter.event,
        letter.reason,
        letter.at,
        letter.group,
        letter.attempts,
        letter.place.map(|(position, _)| position as i64),
        letter.place.map(|(_, number)| number)
    ];
    insert.execute(row).map(drop)
}
