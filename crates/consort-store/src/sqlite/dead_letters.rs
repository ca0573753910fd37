//! Events that could not be accepted or delivered.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use consort_core::ports::{DeadLetter, DeadLetterStore, Mark, StoreError};
use uuid::Uuid;

use super::SqliteStore;
use super::commit::fetch;
use super::rows::{self, dead_letter_columns, failed};
use super::runs::read;
use super::statements::{Bulk, Values};

/// How dead letters are kept, found by id, changed and removed.
pub(super) struct Letters {
    bury: Bulk,
    find: Bulk,
    restate: Bulk,
    exhume: Bulk,
}

impl Letters {
    pub(super) fn new() -> Letters {
        Letters {
            // Burying twice is what a sender does that did not hear of the first time.
            bury: Bulk::new(concat!("INSERT OR IGNORE INTO dead_letters (", dead_letter_columns!(), ") VALUES"), 9, ""),
            find: Bulk::new(
                concat!("SELECT ", dead_letter_columns!(), " FROM (VALUES"),
                2,
                ") AS v JOIN dead_letters ON namespace = v.column1 AND id = v.column2",
            ),
            restate: Bulk::new(
                "UPDATE dead_letters SET reason = v.column3 FROM (VALUES",
                3,
                ") AS v WHERE namespace = v.column1 AND id = v.column2",
            ),
            // By rowid, because SQLite looks a list of pairs up by reading the whole table.
            exhume: Bulk::new(
                "DELETE FROM dead_letters WHERE rowid IN (SELECT d.rowid FROM (VALUES",
                2,
                ") AS v JOIN dead_letters AS d ON d.namespace = v.column1 AND d.id = v.column2)",
            ),
        }
    }
}

#[async_trait]
impl DeadLetterStore for SqliteStore {
    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        if letters.is_empty() {
            return Ok(());
        }
        self.write(self.letters.bury.statements(letters, add_letter)).await.map(drop)
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
        let lookups = self.letters.find.statements(&once(ids), |id, values| add_key(values, namespace, *id));
        read(&fetch(&self.readers, lookups).await?, rows::dead_letter)
    }

    async fn exhume(&self, namespace: &str, ids: &[Uuid], marks: &[Mark]) -> Result<(), StoreError> {
        if ids.is_empty() && marks.is_empty() {
            return Ok(());
        }
        let mut all = self.letters.exhume.statements(&once(ids), |id, values| add_key(values, namespace, *id));
        all.extend(self.tables.marks.statements(marks));
        self.write(all).await.map(drop)
    }

    async fn restate(&self, namespace: &str, reasons: &[(Uuid, String)]) -> Result<(), StoreError> {
        if reasons.is_empty() {
            return Ok(());
        }
        // One statement changes a letter once: its last reason counts.
        let reasons: BTreeMap<Uuid, &str> = reasons.iter().map(|(id, reason)| (*id, reason.as_str())).collect();
        let reasons: Vec<(Uuid, &str)> = reasons.into_iter().collect();
        let statements = self.letters.restate.statements(&reasons, |(id, reason), values| {
            add_key(values, namespace, *id);
            values.add(*reason);
        });
        self.write(statements).await.map(drop)
    }
}

/// Each id once.
fn once(ids: &[Uuid]) -> Vec<Uuid> {
    ids.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}

fn add_key(values: &mut Values, namespace: &str, id: Uuid) {
    values.add(namespace);
    values.add(id.as_bytes().as_slice());
}

fn add_letter(letter: &DeadLetter, values: &mut Values) {
    values.add(letter.id.as_bytes().as_slice());
    values.add(letter.namespace.clone());
    values.add(letter.event.as_str());
    values.add(letter.reason.as_str());
    values.add(letter.at);
    values.add(letter.group.clone());
    values.add(i64::from(letter.attempts));
    values.add(letter.place.map(|(position, _)| position as i64));
    values.add(letter.place.map(|(_, number)| i64::from(number)));
}
