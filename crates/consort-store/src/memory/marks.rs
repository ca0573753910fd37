//! Places that loops must find again.

use std::ops::Bound;

use async_trait::async_trait;
use consort_core::ports::{Mark, MarkStore, StoreError};

use super::MemoryStore;

#[async_trait]
impl MarkStore for MemoryStore {
    async fn marks(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<Mark>, StoreError> {
        let state = self.state();
        let first = if after.is_empty() || after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let named =
            state.marks.range::<str, _>((first, Bound::Unbounded)).take_while(|(name, _)| name.starts_with(prefix));
        let mark = |(name, value): (&String, &String)| Mark { name: name.clone(), value: Some(value.clone()) };
        Ok(named.take(limit as usize).map(mark).collect())
    }

    async fn set_marks(&self, marks: &[Mark]) -> Result<(), StoreError> {
        self.state().set_marks(marks);
        Ok(())
    }
}
