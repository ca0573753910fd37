//! Blobs are files beside the database: see [`crate::files`].

use async_trait::async_trait;
use consort_core::data::BlobRef;
use consort_core::ports::{BlobStore, BlobWriter, StoreError};

use super::SqliteStore;

#[async_trait]
impl BlobStore for SqliteStore {
    async fn put(&self, blob: &BlobRef, bytes: &[u8]) -> Result<(), StoreError> {
        self.blobs.put(vec![(blob.clone(), bytes.to_vec())]).await
    }

    async fn writer(&self, media_type: &str) -> Result<Box<dyn BlobWriter>, StoreError> {
        self.blobs.writer(media_type).await
    }

    async fn stat(&self, sha256: &str) -> Result<Option<BlobRef>, StoreError> {
        self.blobs.stat(sha256).await
    }

    async fn read(&self, sha256: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
        self.blobs.read(sha256, offset, length).await
    }
}
