//! Events that were not accepted.

use async_trait::async_trait;
use consort_core::ports::{DeadLetter, DeadLetterStore, StoreError};
use uuid::Uuid;

use super::MemoryStore;

#[async_trait]
impl DeadLetterStore for MemoryStore {
    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        let mut state = self.state();
        for letter in letters {
            state.dead_letters.entry((letter.namespace.clone(), letter.id)).or_insert_with(|| letter.clone());
        }
        Ok(())
    }

    async fn dead_letters(
        &self,
        namespace: &str,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let state = self.state();
        let wanted = |letter: &&DeadLetter| &*letter.namespace == namespace && before.is_none_or(|id| letter.id < id);
        Ok(state.dead_letters.values().rev().filter(wanted).take(limit as usize).cloned().collect())
    }
}
