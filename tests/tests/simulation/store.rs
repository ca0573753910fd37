//! The store of one life of the server: the memory of the world, behind a disk that is slow, fails before and after it has written,
//! and takes the server with it. A dead server's store never answers, so that nothing of an old life reaches a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use consort_core::data::BlobRef;
use consort_core::event::Record;
use consort_core::ids::{Millis, RunId};
use consort_core::ports::{
    Batch, BlobStore, BlobWriter, DeadLetter, DeadLetterStore, DecisionQuery, DecisionRow, LogRow, Mark, MarkStore,
    ProjectQuery, ProjectRow, ProjectStore, RunQuery, RunRow, RunStore, SignalQuery, SignalRow, StoreError,
    StoredRequest, StoredRun, WorkflowRow, WorkflowStore,
};
use consort_core::run::RunState;
use consort_store::MemoryStore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{Plant, World};

type Answer<T> = Result<T, StoreError>;

pub(crate) struct SimStore {
    pub world: Arc<World>,
    pub dead: CancellationToken,
    /// How many positions a store lost sight of that begins anew.
    pub hidden: AtomicU64,
}

impl SimStore {
    fn inner(&self) -> &MemoryStore {
        &self.world.store
    }

    async fn live<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.dead.cancelled() => std::future::pending().await,
            done = future => done,
        }
    }

    async fn crash<T>(&self) -> T {
        self.world.crash();
        std::future::pending().await
    }

    async fn read<T>(&self, read: impl Future<Output = Answer<T>>) -> Answer<T> {
        self.live(self.world.store_delay()).await;
        if self.world.strikes(self.world.weather.fail_read) {
            return Err(StoreError::Unavailable("simulated: it cannot be read".into()));
        }
        self.live(read).await
    }

    async fn write<T>(&self, write: impl Future<Output = Answer<T>>) -> Answer<T> {
        let weather = &self.world.weather;
        self.live(self.world.store_delay()).await;
        if self.world.strikes(weather.crash_at_commit) {
            return self.crash().await;
        }
        if self.world.strikes(weather.fail_before) {
            return Err(StoreError::Unavailable("simulated: the disk is full".into()));
        }
        let done = self.live(write).await;
        if self.world.strikes(weather.crash_at_commit) {
            return self.crash().await;
        }
        if self.world.strikes(weather.fail_after) {
            return Err(StoreError::Unavailable("simulated: written, and the answer is lost".into()));
        }
        self.live(self.world.store_delay()).await;
        done
    }

    /// What a faulty store makes of a batch.
    fn spoil(&self, batch: &Batch) -> Batch {
        let mut batch = batch.clone();
        match self.world.plant {
            Some(Plant::NoDedupe) => batch.requests.clear(),
            Some(Plant::TokensBeginAnew) => batch.first_position += self.hidden.load(Ordering::SeqCst),
            Some(Plant::SequenceSkipped) if self.world.strikes(0.05) => {
                for row in &mut batch.log {
                    if let LogRow::Run(record) = row {
                        record.sequence += u64::from(record.sequence > 1);
                    }
                }
            }
            _ => {}
        }
        batch
    }
}

#[async_trait]
impl RunStore for SimStore {
    async fn commit(&self, batch: Arc<Batch>) -> Answer<()> {
        if self.world.plant == Some(Plant::AcknowledgedBeforeCommit) && self.world.strikes(0.02) {
            let world = Arc::clone(&self.world);
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(600)).await;
                world.crash();
            });
            return Ok(());
        }
        let batch = self.spoil(&batch).into();
        self.write(self.inner().commit(batch)).await
    }
    async fn last_position(&self) -> Answer<u64> {
        let last = self.read(self.inner().last_position()).await?;
        Ok(last - self.hidden.load(Ordering::SeqCst))
    }
    async fn log_after(&self, position: u64, namespace: &str, limit: u32) -> Answer<Vec<(u64, LogRow)>> {
        self.read(self.inner().log_after(position, namespace, limit)).await
    }
    async fn load(&self, run: RunId) -> Answer<Option<StoredRun>> {
        self.read(self.inner().load(run)).await
    }
    async fn records_after(&self, run: RunId, after: u64, limit: u32) -> Answer<Vec<Record>> {
        self.read(self.inner().records_after(run, after, limit)).await
    }
    async fn run(&self, run: RunId) -> Answer<Option<RunRow>> {
        self.read(self.inner().run(run)).await
    }
    async fn runs(&self, query: &RunQuery) -> Answer<Vec<RunRow>> {
        self.read(self.inner().runs(query)).await
    }
    async fn due(&self, until: Millis, limit: u32) -> Answer<Vec<RunId>> {
        self.read(self.inner().due(until, limit)).await
    }
    async fn request(&self, key: &[u8; 16]) -> Answer<Option<StoredRequest>> {
        self.read(self.inner().request(key)).await
    }
    async fn forget_requests(&self, before: Millis, limit: u32) -> Answer<u64> {
        self.write(self.inner().forget_requests(before, limit)).await
    }
    async fn decision(&self, id: Uuid) -> Answer<Option<DecisionRow>> {
        self.read(self.inner().decision(id)).await
    }
    async fn decisions(&self, query: &DecisionQuery) -> Answer<Vec<DecisionRow>> {
        self.read(self.inner().decisions(query)).await
    }
}

#[async_trait]
impl WorkflowStore for SimStore {
    async fn apply(&self, row: &WorkflowRow) -> Answer<WorkflowRow> {
        self.write(self.inner().apply(row)).await
    }
    async fn workflow(&self, namespace: &str, id: &str, revision: Option<u64>) -> Answer<Option<WorkflowRow>> {
        self.read(self.inner().workflow(namespace, id, revision)).await
    }
    async fn workflows(&self, namespace: &str, after: &str, limit: u32) -> Answer<Vec<WorkflowRow>> {
        self.read(self.inner().workflows(namespace, after, limit)).await
    }
    async fn revisions(&self, namespace: &str, id: &str, before: Option<u64>, limit: u32) -> Answer<Vec<WorkflowRow>> {
        self.read(self.inner().revisions(namespace, id, before, limit)).await
    }
    async fn triggered(&self, after: (&str, &str), limit: u32) -> Answer<Vec<WorkflowRow>> {
        self.read(self.inner().triggered(after, limit)).await
    }
    async fn delete(&self, namespace: &str, id: &str) -> Answer<bool> {
        self.write(self.inner().delete(namespace, id)).await
    }
}

#[async_trait]
impl DeadLetterStore for SimStore {
    async fn bury(&self, letters: &[DeadLetter]) -> Answer<()> {
        self.write(self.inner().bury(letters)).await
    }
    async fn dead_letters(&self, namespace: &str, before: Option<Uuid>, limit: u32) -> Answer<Vec<DeadLetter>> {
        self.read(self.inner().dead_letters(namespace, before, limit)).await
    }
    async fn dead_letters_of(&self, namespace: &str, ids: &[Uuid]) -> Answer<Vec<DeadLetter>> {
        self.read(self.inner().dead_letters_of(namespace, ids)).await
    }
    async fn exhume(&self, namespace: &str, ids: &[Uuid], marks: &[Mark]) -> Answer<()> {
        self.write(self.inner().exhume(namespace, ids, marks)).await
    }
    async fn restate(&self, namespace: &str, reasons: &[(Uuid, String)]) -> Answer<()> {
        self.write(self.inner().restate(namespace, reasons)).await
    }
}

#[async_trait]
impl ProjectStore for SimStore {
    async fn project(&self, namespace: &str, id: &str) -> Answer<Option<ProjectRow>> {
        self.read(self.inner().project(namespace, id)).await
    }
    async fn projects(&self, query: &ProjectQuery) -> Answer<Vec<ProjectRow>> {
        self.read(self.inner().projects(query)).await
    }
    async fn run_counts(&self, namespace: &str, project: &str) -> Answer<Vec<(RunState, u64)>> {
        self.read(self.inner().run_counts(namespace, project)).await
    }
    async fn signal(&self, id: Uuid) -> Answer<Option<SignalRow>> {
        self.read(self.inner().signal(id)).await
    }
    async fn signals(&self, query: &SignalQuery) -> Answer<Vec<SignalRow>> {
        self.read(self.inner().signals(query)).await
    }
}

#[async_trait]
impl MarkStore for SimStore {
    async fn marks(&self, prefix: &str, after: &str, limit: u32) -> Answer<Vec<Mark>> {
        self.read(self.inner().marks(prefix, after, limit)).await
    }
    async fn set_marks(&self, marks: &[Mark]) -> Answer<()> {
        self.write(self.inner().set_marks(marks)).await
    }
}

#[async_trait]
impl BlobStore for SimStore {
    async fn put(&self, blob: &BlobRef, bytes: &[u8]) -> Answer<()> {
        self.write(self.inner().put(blob, bytes)).await
    }
    async fn writer(&self, media_type: &str) -> Answer<Box<dyn BlobWriter>> {
        self.inner().writer(media_type).await
    }
    async fn stat(&self, sha256: &str) -> Answer<Option<BlobRef>> {
        self.read(self.inner().stat(sha256)).await
    }
    async fn read(&self, sha256: &str, offset: u64, length: usize) -> Answer<Option<Vec<u8>>> {
        SimStore::read(self, self.inner().read(sha256, offset, length)).await
    }
}
