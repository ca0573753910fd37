//! Events that could not be accepted or delivered.

use std::collections::BTreeSet;

use async_trait::async_trait;
use consort_core::ports::{DeadLetter, DeadLetterStore, Mark, StoreError};
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

    async fn dead_letters_of(&self, namespace: &str, ids: &[Uuid]) -> Result<Vec<DeadLetter>, StoreError> {
        let state = self.state();
        let ids: BTreeSet<Uuid> = ids.iter().copied().collect();
        Ok(ids.into_iter().filter_map(|id| state.dead_letters.get(&(namespace.into(), id))).cloned().collect())
    }

    async fn exhume(&self, namespace: &str, ids: &[Uuid], marks: &[Mark]) -> Result<(), StoreError> {
        let mut state = self.state();
        for id in ids {
            state.dead_letters.remove(&(namespace.into(), *id));
        }
        state.set_marks(marks);
        Ok(())
    }

    async fn restate(&self, namespace: &str, reasons: &[(Uuid, String)]) -> Result<(), StoreError> {
        let mut state = self.state();
        for (id, reason) in reasons {
            if let Some(letter) = state.dead_letters.get_mut(&(namespace.into(), *id)) {
                letter.reason.clone_from(reason);
            }
        }
        Ok(())
    }
}
