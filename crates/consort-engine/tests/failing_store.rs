//! Commits that fail, before they are written and after: nothing is lost, nothing is applied twice, and everything ends.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use common::*;
use consort_core::data::BlobRef;
use consort_core::event::{Fact, Record};
use consort_core::ids::{Millis, RunId};
use consort_core::ports::{
    Batch, BlobStore, BlobWriter, DeadLetter, DeadLetterStore, DecisionQuery, DecisionRow, LogRow, Mark, MarkStore,
    ProjectQuery, ProjectRow, ProjectStore, RunQuery, RunRow, RunStore, SignalQuery, SignalRow, StoreError,
    StoredRequest, StoredRun, WorkflowRow, WorkflowStore,
};
use consort_core::run::RunState;
use consort_engine::{Options, RequestId, StartRun};
use consort_store::MemoryStore;
use serde_json::json;
use uuid::Uuid;

/// A store whose commits fail now and then: some before anything is written, some after, with the answer lost.
struct FailingStore {
    inner: MemoryStore,
    commits: AtomicU64,
}

type Answer<T> = Result<T, StoreError>;

#[async_trait]
impl RunStore for FailingStore {
    async fn commit(&self, batch: Arc<Batch>) -> Answer<()> {
        match self.commits.fetch_add(1, Ordering::SeqCst) % 7 {
            3 => Err(StoreError::Unavailable("planted: the disk is full".into())),
            5 => {
                self.inner.commit(batch).await?;
                Err(StoreError::Unavailable("planted: written, but the answer is lost".into()))
            }
            _ => self.inner.commit(batch).await,
        }
    }
    async fn last_position(&self) -> Answer<u64> {
        self.inner.last_position().await
    }
    async fn log_after(&self, position: u64, namespace: &str, limit: u32) -> Answer<Vec<(u64, LogRow)>> {
        self.inner.log_after(position, namespace, limit).await
    }
    async fn load(&self, run: RunId) -> Answer<Option<StoredRun>> {
        self.inner.load(run).await
    }
    async fn records_after(&self, run: RunId, after: u64, limit: u32) -> Answer<Vec<Record>> {
        self.inner.records_after(run, after, limit).await
    }
    async fn run(&self, run: RunId) -> Answer<Option<RunRow>> {
        self.inner.run(run).await
    }
    async fn runs(&self, query: &RunQuery) -> Answer<Vec<RunRow>> {
        self.inner.runs(query).await
    }
    async fn due(&self, until: Millis, limit: u32) -> Answer<Vec<RunId>> {
        self.inner.due(until, limit).await
    }
    async fn request(&self, key: &[u8; 16]) -> Answer<Option<StoredRequest>> {
        self.inner.request(key).await
    }
    async fn forget_requests(&self, before: Millis, limit: u32) -> Answer<u64> {
        self.inner.forget_requests(before, limit).await
    }
    async fn decision(&self, id: Uuid) -> Answer<Option<DecisionRow>> {
        self.inner.decision(id).await
    }
    async fn decisions(&self, query: &DecisionQuery) -> Answer<Vec<DecisionRow>> {
        self.inner.decisions(query).await
    }
}

#[async_trait]
impl WorkflowStore for FailingStore {
    async fn apply(&self, row: &WorkflowRow) -> Answer<WorkflowRow> {
        self.inner.apply(row).await
    }
    async fn workflow(&self, namespace: &str, id: &str, revision: Option<u64>) -> Answer<Option<WorkflowRow>> {
        self.inner.workflow(namespace, id, revision).await
    }
    async fn workflows(&self, namespace: &str, after: &str, limit: u32) -> Answer<Vec<WorkflowRow>> {
        self.inner.workflows(namespace, after, limit).await
    }
    async fn revisions(&self, namespace: &str, id: &str, before: Option<u64>, limit: u32) -> Answer<Vec<WorkflowRow>> {
        self.inner.revisions(namespace, id, before, limit).await
    }
    async fn triggered(&self, after: (&str, &str), limit: u32) -> Answer<Vec<WorkflowRow>> {
        self.inner.triggered(after, limit).await
    }
    async fn delete(&self, namespace: &str, id: &str) -> Answer<bool> {
        self.inner.delete(namespace, id).await
    }
}

#[async_trait]
impl DeadLetterStore for FailingStore {
    async fn bury(&self, letters: &[DeadLetter]) -> Answer<()> {
        self.inner.bury(letters).await
    }
    async fn dead_letters(&self, namespace: &str, before: Option<Uuid>, limit: u32) -> Answer<Vec<DeadLetter>> {
        self.inner.dead_letters(namespace, before, limit).await
    }
    async fn dead_letters_of(&self, namespace: &str, ids: &[Uuid]) -> Answer<Vec<DeadLetter>> {
        self.inner.dead_letters_of(namespace, ids).await
    }
    async fn exhume(&self, namespace: &str, ids: &[Uuid], marks: &[Mark]) -> Answer<()> {
        self.inner.exhume(namespace, ids, marks).await
    }
    async fn restate(&self, namespace: &str, reasons: &[(Uuid, String)]) -> Answer<()> {
        self.inner.restate(namespace, reasons).await
    }
}

#[async_trait]
impl ProjectStore for FailingStore {
    async fn project(&self, namespace: &str, id: &str) -> Answer<Option<ProjectRow>> {
        self.inner.project(namespace, id).await
    }
    async fn projects(&self, query: &ProjectQuery) -> Answer<Vec<ProjectRow>> {
        self.inner.projects(query).await
    }
    async fn run_counts(&self, namespace: &str, project: &str) -> Answer<Vec<(RunState, u64)>> {
        self.inner.run_counts(namespace, project).await
    }
    async fn signal(&self, id: Uuid) -> Answer<Option<SignalRow>> {
        self.inner.signal(id).await
    }
    async fn signals(&self, query: &SignalQuery) -> Answer<Vec<SignalRow>> {
        self.inner.signals(query).await
    }
}

#[async_trait]
impl MarkStore for FailingStore {
    async fn marks(&self, prefix: &str, after: &str, limit: u32) -> Answer<Vec<Mark>> {
        self.inner.marks(prefix, after, limit).await
    }
    async fn set_marks(&self, marks: &[Mark]) -> Answer<()> {
        self.inner.set_marks(marks).await
    }
}

#[async_trait]
impl BlobStore for FailingStore {
    async fn put(&self, blob: &BlobRef, bytes: &[u8]) -> Answer<()> {
        self.inner.put(blob, bytes).await
    }
    async fn writer(&self, media_type: &str) -> Answer<Box<dyn BlobWriter>> {
        self.inner.writer(media_type).await
    }
    async fn stat(&self, sha256: &str) -> Answer<Option<BlobRef>> {
        self.inner.stat(sha256).await
    }
    async fn read(&self, sha256: &str, offset: u64, length: usize) -> Answer<Option<Vec<u8>>> {
        self.inner.read(sha256, offset, length).await
    }
}

#[tokio::test]
async fn every_run_ends_once_although_commits_fail() {
    let store = Arc::new(FailingStore { inner: MemoryStore::new(), commits: AtomicU64::new(0) });
    let mesh = Mesh::over(Arc::clone(&store) as Arc<_>, Options::default()).await;
    mesh.apply("name: three\ninputs: {n: {type: integer}}\nsteps:\n  - {id: a, agent: echo, with: {n: '${{ inputs.n }}'}}\n  - {id: b, agent: echo, needs: a, for_each: [1, 2], with: {n: '${{ steps.a.output.n + item }}'}}\n  - {id: c, agent: echo, needs: b, with: {n: '${{ size(steps.b.output) }}'}}\noutput: '${{ steps.b.output }}'\n").await;
    mesh.scripted(&["echo"], 1, |task| Ok(value(&task.input))).await;
    let mut lanes = Vec::new();
    for n in 0..6_u32 {
        let engine = mesh.engine.clone();
        lanes.push(tokio::spawn(async move {
            let start = StartRun {
                request: Some(RequestId { id: format!("run-{n}"), fingerprint: [1; 16] }),
                ..request("three", json!({"n": n}))
            };
            // A client does what the error says: it tries again.
            loop {
                match engine.start_run(start.clone(), None).await {
                    Ok(view) => return (n, view.id),
                    Err(error) => assert!(error.retryable(), "{error:?}"),
                }
            }
        }));
    }
    for lane in lanes {
        let (n, id) = lane.await.unwrap();
        let view = mesh.end_of(id).await;
        assert_eq!(output(&view), json!([{"n": n + 1}, {"n": n + 2}]));
        let mut results = 0;
        for record in mesh.store.records_after(id, 0, 1_000).await.unwrap() {
            let entries = record.entries().unwrap();
            results += entries.iter().filter(|e| matches!(e.fact, Fact::StepSucceeded { token: Some(_), .. })).count();
        }
        assert_eq!(results, 4, "each task has one result");
    }
    let query = RunQuery {
        namespace: "default".into(),
        workflow: None,
        states: vec![],
        project: None,
        before: None,
        limit: 100,
    };
    assert!(store.commits.load(Ordering::SeqCst) > 14, "several commits have failed");
    assert_eq!(mesh.store.runs(&query).await.unwrap().len(), 6, "one run for each request id");
}
