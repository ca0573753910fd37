//! Events that were not accepted.

use async_trait::async_trait;
use consort_core::ports::{DeadLetter, DeadLetterStore, StoreError};
use uuid::Uuid;

use super::SqliteStore;
use super::rows::{self, failed};
use super::runs::read;
use super::statements::Statement;

#[async_trait]
impl DeadLetterStore for SqliteStore {
    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        if letters.is_empty() {
            return Ok(());
        }
        // Burying twice is what a sender does that did not hear of the first time.
        let sql = "INSERT OR IGNORE INTO dead_letters (id, namespace, event, reason, at) VALUES (?1, ?2, ?3, ?4, ?5)";
        let bury = |letter: &DeadLetter| {
            Statement::new(sql, |values| {
                values.add(letter.id.as_bytes().as_slice());
                values.add(letter.namespace.clone());
                values.add(letter.event.as_str());
                values.add(letter.reason.as_str());
                values.add(letter.at);
            })
        };
        self.write(letters.iter().map(bury).collect()).await.map(drop)
    }

    async fn dead_letters(
        &self,
        namespace: &str,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let query = sqlx::query(
            "SELECT id, namespace, event, reason, at FROM dead_letters WHERE namespace = ?1 \
             AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3",
        );
        let before = before.map(|id| id.into_bytes().to_vec());
        let query = query.bind(namespace).bind(before).bind(i64::from(limit));
        read(&query.fetch_all(&self.readers).await.map_err(failed)?, rows::dead_letter)
    }
}
