//! Blobs.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use consort_core::data::BlobRef;
use consort_core::ports::{BlobStore, BlobWriter, StoreError};

use super::MemoryStore;
use super::state::State;
use crate::files;

#[async_trait]
impl BlobStore for MemoryStore {
    async fn put(&self, blob: &BlobRef, bytes: &[u8]) -> Result<(), StoreError> {
        files::check(blob, bytes)?;
        self.state().put_blob(blob.clone(), bytes);
        Ok(())
    }

    async fn writer(&self, media_type: &str) -> Result<Box<dyn BlobWriter>, StoreError> {
        let (state, media_type) = (self.state.clone(), media_type.into());
        Ok(Box::new(MemoryWriter { state, media_type, bytes: Vec::new() }))
    }

    async fn stat(&self, sha256: &str) -> Result<Option<BlobRef>, StoreError> {
        Ok(self.state().blobs.get(sha256).map(|(blob, _)| blob.clone()))
    }

    async fn read(&self, sha256: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.state();
        let Some((_, bytes)) = state.blobs.get(sha256) else { return Ok(None) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(length).min(bytes.len());
        Ok(Some(bytes[start..end].to_vec()))
    }
}

struct MemoryWriter {
    state: Arc<Mutex<State>>,
    media_type: Arc<str>,
    bytes: Vec<u8>,
}

#[async_trait]
impl BlobWriter for MemoryWriter {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<BlobRef, StoreError> {
        let blob = BlobRef::of(&self.bytes, &self.media_type);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state.put_blob(blob, &self.bytes))
    }
}
