use consort_core::data::BlobRef;
use consort_core::ports::{Batch, Store, StoreError};

use crate::build::{commit, conflict, request};

pub(super) async fn what_is_put_can_be_read(store: &dyn Store) {
    for (bytes, media_type) in [(b"{}".as_slice(), "application/json"), (b"0123456789", "text/plain"), (b"", "x/empty")]
    {
        let blob = BlobRef::of(bytes, media_type);
        store.put(&blob, bytes).await.unwrap();
        store.put(&blob, bytes).await.unwrap();
        assert_eq!(store.stat(&blob.sha256).await.unwrap(), Some(blob.clone()));
        assert_eq!(store.read(&blob.sha256, 0, 100).await.unwrap(), Some(bytes.to_vec()));
    }
    let digits = BlobRef::of(b"0123456789", "text/plain").sha256;
    for (offset, length, expected) in [(3, 4, "3456"), (8, 4, "89"), (10, 4, ""), (u64::MAX, 4, ""), (2, 0, "")] {
        assert_eq!(store.read(&digits, offset, length).await.unwrap().unwrap(), expected.as_bytes());
    }
    assert_eq!(store.read(&digits, 5, usize::MAX).await.unwrap().unwrap(), b"56789");
}

pub(super) async fn an_unknown_blob_is_absent(store: &dyn Store) {
    let unknown = BlobRef::of(b"never", "text/plain").sha256;
    for name in [&*unknown, "", "..", "ab/../../lock", &unknown.to_uppercase(), &"é".repeat(32)] {
        assert_eq!(store.stat(name).await.unwrap(), None, "{name}");
        assert_eq!(store.read(name, 0, 1).await.unwrap(), None, "{name}");
    }
}

pub(super) async fn the_first_media_type_stays(store: &dyn Store) {
    let (text, json) = (BlobRef::of(b"[1]", "text/plain"), BlobRef::of(b"[1]", "application/json"));
    store.put(&text, b"[1]").await.unwrap();
    store.put(&json, b"[1]").await.unwrap();
    assert_eq!(store.stat(&text.sha256).await.unwrap(), Some(text.clone()));
    let mut writer = store.writer("application/json").await.unwrap();
    writer.write(b"[1]").await.unwrap();
    assert_eq!(writer.finish().await.unwrap(), text);
}

pub(super) async fn bytes_under_a_wrong_name_are_refused(store: &dyn Store) {
    let blob = BlobRef::of(b"right", "text/plain");
    for wrong in [b"wrong".as_slice(), b"right!"] {
        assert!(matches!(store.put(&blob, wrong).await, Err(StoreError::Corrupt(_))));
    }
    let outside = BlobRef { sha256: "../../../outside".into(), ..blob.clone() };
    assert!(matches!(store.put(&outside, b"right").await, Err(StoreError::Corrupt(_))));
    assert_eq!(store.stat(&blob.sha256).await.unwrap(), None);
}

pub(super) async fn a_writer_names_what_it_took(store: &dyn Store) {
    let bytes: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
    let mut writer = store.writer("image/png").await.unwrap();
    for part in bytes.chunks(100_001) {
        writer.write(part).await.unwrap();
    }
    let expected = BlobRef::of(&bytes, "image/png");
    assert_eq!(store.stat(&expected.sha256).await.unwrap(), None);
    assert_eq!(writer.finish().await.unwrap(), expected);
    assert_eq!(store.stat(&expected.sha256).await.unwrap(), Some(expected.clone()));
    assert_eq!(store.read(&expected.sha256, 0, bytes.len()).await.unwrap(), Some(bytes));
    let empty = store.writer("text/plain").await.unwrap().finish().await.unwrap();
    assert_eq!(empty, BlobRef::of(b"", "text/plain"));
}

pub(super) async fn a_dropped_writer_leaves_nothing(store: &dyn Store) {
    let bytes = vec![7; 300_000];
    let mut writer = store.writer("text/plain").await.unwrap();
    writer.write(&bytes).await.unwrap();
    drop(writer);
    assert_eq!(store.stat(&BlobRef::of(&bytes, "text/plain").sha256).await.unwrap(), None);
}

pub(super) async fn a_batch_brings_its_blobs(store: &dyn Store) {
    let (first, second) = (BlobRef::of(b"first", "text/plain"), BlobRef::of(b"second", "application/json"));
    let blobs = vec![(first.clone(), b"first".to_vec()), (second.clone(), b"second".to_vec())];
    commit(store, Batch { blobs, requests: vec![request(1, 1)], ..Batch::default() }).await.unwrap();
    assert_eq!(store.stat(&first.sha256).await.unwrap(), Some(first));
    assert_eq!(store.read(&second.sha256, 0, 10).await.unwrap(), Some(b"second".to_vec()));
    // A batch that is refused after its blobs were written may leave them: nothing refers to them.
    let blobs = vec![(second.clone(), b"second".to_vec())];
    conflict(commit(store, Batch { blobs, requests: vec![request(1, 1)], ..Batch::default() }).await);
    assert_eq!(store.stat(&second.sha256).await.unwrap(), Some(second));
}
