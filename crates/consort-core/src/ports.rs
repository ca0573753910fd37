//! What the engine needs from the places where things are kept. Each port has one conformance suite, in `consort-store`,
//! that every backend passes.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::data::BlobRef;
use crate::event::{Failure, Published, Record};
use crate::ids::{Millis, RunId};
use crate::run::RunState;

/// Why a store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote first. Nothing of the batch was written.
    #[error("a guard did not hold: {0:?}")]
    Conflict(Conflict),
    /// The store cannot be reached, is busy or is full; trying again can help. Nothing of the batch was written.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store holds what this version cannot read.
    #[error("the store is damaged or from a newer version: {0}")]
    Corrupt(String),
}

/// Which guard of a batch did not hold.
#[derive(Debug, Default)]
pub struct Conflict {
    /// Request keys that are taken, with what is stored under them.
    pub requests: Vec<StoredRequest>,
    /// Runs whose next sequence is taken.
    pub runs: Vec<RunId>,
    /// Namespaces and ids of projects that exist.
    pub projects: Vec<(Arc<str>, Arc<str>)>,
}

/// Everything that must become true together. A store applies a batch in one transaction, durably, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Position in the log of the first row of `log`; the rest follow without a gap.
    pub first_position: u64,
    /// New rows of the log, in order.
    pub log: Vec<LogRow>,
    /// Runs that begin.
    pub created: Vec<RunRow>,
    /// Runs whose row changes.
    pub updated: Vec<RunUpdate>,
    /// New snapshots; each replaces the run's older one.
    pub snapshots: Vec<Snapshot>,
    /// Decisions that open or close; each replaces the row of the same id.
    pub decisions: Vec<DecisionRow>,
    /// Request ids that are used up. A key that is taken is a [`Conflict`].
    pub requests: Vec<StoredRequest>,
    /// Values that became blobs; written before the rest.
    pub blobs: Vec<(BlobRef, Vec<u8>)>,
    /// Runs that must be looked at again soon (a child is over), with the time to set if it is earlier than what is there.
    /// A run that is over stays as it is.
    pub wake: Vec<(RunId, Millis)>,
    /// Projects that begin. An id that is taken in its namespace is a [`Conflict`].
    pub new_projects: Vec<ProjectRow>,
    /// Projects that change; each replaces the row of the same namespace and id.
    pub projects: Vec<ProjectRow>,
    /// New signals.
    pub signals: Vec<SignalRow>,
    /// Places that loops must find again; each replaces the mark of the same name.
    pub marks: Vec<Mark>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.log.is_empty()
            && self.created.is_empty()
            && self.updated.is_empty()
            && self.snapshots.is_empty()
            && self.decisions.is_empty()
            && self.requests.is_empty()
            && self.blobs.is_empty()
            && self.wake.is_empty()
            && self.new_projects.is_empty()
            && self.projects.is_empty()
            && self.signals.is_empty()
            && self.marks.is_empty()
    }
}

/// A row of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum LogRow {
    /// A transition of a run. Its `(run, sequence)` must be free.
    Run(Record),
    /// A published event.
    Published(Published),
}

/// What is listed about a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// The run.
    pub id: RunId,
    /// The tenant.
    pub namespace: Arc<str>,
    /// Id of the workflow.
    pub workflow: Arc<str>,
    /// Its revision.
    pub revision: u64,
    /// Where it stands.
    pub state: RunState,
    /// Number of the last event. Reads compute it from the log; writes ignore it.
    pub sequence: u64,
    /// When it began.
    pub created_at: Millis,
    /// When its row last changed.
    pub updated_at: Millis,
    /// When it ended.
    pub ended_at: Option<Millis>,
    /// When the engine must next look at it: 0 if it has work in hand, absent if only others can move it.
    pub wake_at: Option<Millis>,
    /// The run that waits for it.
    pub parent: Option<RunId>,
    /// The project it belongs to, by id.
    pub project: Option<Arc<str>>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// Why it failed.
    pub error: Option<Failure>,
}

/// A change of a run's row.
#[derive(Clone, Debug, PartialEq)]
pub struct RunUpdate {
    /// The run.
    pub id: RunId,
    /// See [`RunRow`].
    pub state: RunState,
    /// See [`RunRow`].
    pub updated_at: Millis,
    /// See [`RunRow`].
    pub ended_at: Option<Millis>,
    /// See [`RunRow`].
    pub wake_at: Option<Millis>,
    /// See [`RunRow`].
    pub error: Option<Failure>,
}

/// The state of a run after an event, so that its older events need not be read again.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The run.
    pub run: RunId,
    /// Number of the last event it contains; the end of a record.
    pub sequence: u64,
    /// Hash of that record.
    pub hash: [u8; 32],
    /// The state, as `Run` encodes it.
    pub body: Vec<u8>,
}

/// What a store has of a run.
#[derive(Clone, Debug)]
pub struct StoredRun {
    /// Its newest snapshot.
    pub snapshot: Option<Snapshot>,
    /// Every record after the snapshot, in order.
    pub records: Vec<Record>,
}

/// A used request id.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRequest {
    /// Hash of namespace, method and request id.
    pub key: [u8; 16],
    /// Hash of the request's content.
    pub fingerprint: [u8; 16],
    /// What it made or changed, enough to give the same answer: the id of a run, for example.
    pub answer: Vec<u8>,
    /// When; it is forgotten 24 hours later.
    pub at: Millis,
}

/// What is listed about a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRow {
    /// Its id.
    pub id: Uuid,
    /// The tenant.
    pub namespace: Arc<str>,
    /// The run that asks.
    pub run: RunId,
    /// The step that asks.
    pub step: crate::ids::StepKey,
    /// What is asked.
    pub asked: crate::event::DecisionRequested,
    /// Where it stands.
    pub state: DecisionState,
    /// When it was asked.
    pub created_at: Millis,
    /// When it closed.
    pub closed_at: Option<Millis>,
    /// The chosen option.
    pub option: Option<String>,
    /// The filled form.
    pub form: Option<crate::data::Data>,
    /// Who answered.
    pub answered_by: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub kind: DecisionKind,
    /// The project of its run, by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Arc<str>>,
}

/// What a decision is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// The answer is a step's output.
    #[default]
    Choice,
    /// A step cannot go on before it is answered.
    Clarification,
}

/// Where a decision stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionState {
    /// Waits.
    Open,
    /// A person answered.
    Answered,
    /// The deadline passed.
    Expired,
    /// The run ended first.
    Cancelled,
}

/// A page of runs, newest first.
#[derive(Clone, Debug)]
pub struct RunQuery {
    /// The tenant.
    pub namespace: Arc<str>,
    /// Only this workflow.
    pub workflow: Option<Arc<str>>,
    /// Only these states; empty means any.
    pub states: Vec<RunState>,
    /// Only of this project, by id.
    pub project: Option<Arc<str>>,
    /// Only runs that began before: creation time and id of the last one of the page before.
    pub before: Option<(Millis, RunId)>,
    /// At most this many.
    pub limit: u32,
}

/// A page of decisions, newest first.
#[derive(Clone, Debug)]
pub struct DecisionQuery {
    /// The tenant.
    pub namespace: Arc<str>,
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only in this state.
    pub state: Option<DecisionState>,
    /// Only of this kind.
    pub kind: Option<DecisionKind>,
    /// Only of this project's runs, by id.
    pub project: Option<Arc<str>>,
    /// Only decisions before: creation time and id of the last one of the page before.
    pub before: Option<(Millis, Uuid)>,
    /// At most this many.
    pub limit: u32,
}

/// Keeps runs: the log, and what is derived from it.
#[async_trait]
pub trait RunStore: Send + Sync + 'static {
    /// Writes a batch, durably and in one transaction. It is written to its end even if the caller stops waiting.
    async fn commit(&self, batch: Arc<Batch>) -> Result<(), StoreError>;
    /// Position of the last row of the log; 0 if it is empty.
    async fn last_position(&self) -> Result<u64, StoreError>;
    /// Rows of the log after a position, in order, with their positions; at most `limit`. An empty `namespace` means all.
    async fn log_after(&self, position: u64, namespace: &str, limit: u32) -> Result<Vec<(u64, LogRow)>, StoreError>;
    /// What is needed to rebuild a run. `None` if there is no such run.
    async fn load(&self, run: RunId) -> Result<Option<StoredRun>, StoreError>;
    /// Records of a run that contain events numbered above `after`, in order; at most `limit` records.
    async fn records_after(&self, run: RunId, after: u64, limit: u32) -> Result<Vec<Record>, StoreError>;
    /// The listed row of a run.
    async fn run(&self, run: RunId) -> Result<Option<RunRow>, StoreError>;
    /// A page of runs.
    async fn runs(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError>;
    /// Runs whose `wake_at` is at or before a time, soonest first, at most `limit`.
    async fn due(&self, until: Millis, limit: u32) -> Result<Vec<RunId>, StoreError>;
    /// What is stored under a request key.
    async fn request(&self, key: &[u8; 16]) -> Result<Option<StoredRequest>, StoreError>;
    /// Forgets request ids used before a time; returns how many, at most `limit`.
    async fn forget_requests(&self, before: Millis, limit: u32) -> Result<u64, StoreError>;
    /// One decision.
    async fn decision(&self, id: Uuid) -> Result<Option<DecisionRow>, StoreError>;
    /// A page of decisions.
    async fn decisions(&self, query: &DecisionQuery) -> Result<Vec<DecisionRow>, StoreError>;
}

/// A piece of work that many runs belong to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProjectRow {
    /// The tenant.
    pub namespace: Arc<str>,
    /// Its id, unique in the namespace.
    pub id: Arc<str>,
    /// The correlation id of all its events.
    pub uid: Uuid,
    /// What it is called.
    pub title: String,
    /// What was asked for.
    pub request: crate::data::Data,
    /// Where it stands.
    pub state: ProjectState,
    /// When it was created.
    pub created_at: Millis,
    /// Who created it.
    pub created_by: String,
    /// When it was completed or stopped.
    pub closed_at: Option<Millis>,
    /// Why it was stopped.
    pub reason: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
}

/// Where a project stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectState {
    /// Takes runs.
    Active,
    /// Done.
    Completed,
    /// Stopped.
    Stopped,
}

/// A page of projects, newest first.
#[derive(Clone, Debug)]
pub struct ProjectQuery {
    /// The tenant.
    pub namespace: Arc<str>,
    /// Only in this state.
    pub state: Option<ProjectState>,
    /// Only projects before: creation time and uid of the last one of the page before.
    pub before: Option<(Millis, Uuid)>,
    /// At most this many.
    pub limit: u32,
}

/// Something that was noticed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalRow {
    /// Its id (UUIDv7).
    pub id: Uuid,
    /// The tenant.
    pub namespace: Arc<str>,
    /// The project it is about, by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Arc<str>>,
    /// What was noticed, and how it was classified.
    pub signal: crate::signal::Signal,
    /// Where it went.
    pub route: crate::signal::Route,
    /// The runs that act on it.
    pub runs: Vec<RunId>,
    /// When it was raised.
    pub created_at: Millis,
}

/// A page of signals, newest first.
#[derive(Clone, Debug)]
pub struct SignalQuery {
    /// The tenant.
    pub namespace: Arc<str>,
    /// Only of this type.
    pub kind: Option<String>,
    /// Only about this project, by id.
    pub project: Option<Arc<str>>,
    /// Only signals before: creation time and id of the last one of the page before.
    pub before: Option<(Millis, Uuid)>,
    /// At most this many.
    pub limit: u32,
}

/// Keeps projects and signals.
#[async_trait]
pub trait ProjectStore: Send + Sync + 'static {
    /// One project.
    async fn project(&self, namespace: &str, id: &str) -> Result<Option<ProjectRow>, StoreError>;
    /// A page of projects.
    async fn projects(&self, query: &ProjectQuery) -> Result<Vec<ProjectRow>, StoreError>;
    /// How many runs of a project are in each state; states without runs are left out.
    async fn run_counts(&self, namespace: &str, project: &str) -> Result<Vec<(RunState, u64)>, StoreError>;
    /// One signal.
    async fn signal(&self, id: Uuid) -> Result<Option<SignalRow>, StoreError>;
    /// A page of signals.
    async fn signals(&self, query: &SignalQuery) -> Result<Vec<SignalRow>, StoreError>;
}

/// A place that a loop must find again: how far it has come, in its own words.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Whose and which, for example `schedule/default/audit/0`.
    pub name: String,
    /// Its own words (JSON); absent removes the mark.
    pub value: Option<String>,
}

/// Keeps marks.
#[async_trait]
pub trait MarkStore: Send + Sync + 'static {
    /// Marks whose names begin so, by name, after a name; at most `limit`.
    async fn marks(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<Mark>, StoreError>;
    /// Sets or removes marks, durably and in one transaction.
    async fn set_marks(&self, marks: &[Mark]) -> Result<(), StoreError>;
}

/// A revision of a workflow as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowRow {
    /// The tenant.
    pub namespace: Arc<str>,
    /// Id of the workflow.
    pub id: Arc<str>,
    /// Revision, from 1.
    pub revision: u64,
    /// The definition as it was applied.
    pub source: String,
    /// SHA-256 of `source` in hexadecimal.
    pub digest: String,
    /// When.
    pub created_at: Millis,
    /// Who.
    pub created_by: String,
    /// Whether it has triggers: schedules, events or signals that start it.
    pub triggers: bool,
}

/// Keeps definitions.
#[async_trait]
pub trait WorkflowStore: Send + Sync + 'static {
    /// Stores `source` as the next revision and returns it, durably; or returns the newest revision if it has the same digest
    /// and is not deleted. `row.revision` is ignored.
    async fn apply(&self, row: &WorkflowRow) -> Result<WorkflowRow, StoreError>;
    /// A revision, or the newest one with `None`. A deleted workflow has no newest revision; its revisions stay.
    async fn workflow(
        &self,
        namespace: &str,
        id: &str,
        revision: Option<u64>,
    ) -> Result<Option<WorkflowRow>, StoreError>;
    /// The newest revisions of workflows that are not deleted, by id, after an id; at most `limit`.
    async fn workflows(&self, namespace: &str, after: &str, limit: u32) -> Result<Vec<WorkflowRow>, StoreError>;
    /// Revisions below `before` (`None` for all), newest first, at most `limit`.
    async fn revisions(
        &self,
        namespace: &str,
        id: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<WorkflowRow>, StoreError>;
    /// The newest revisions of workflows of all namespaces that have triggers and are not deleted, by namespace and id, after
    /// these; at most `limit`.
    async fn triggered(&self, after: (&str, &str), limit: u32) -> Result<Vec<WorkflowRow>, StoreError>;
    /// Marks a workflow as deleted; false if there was none.
    async fn delete(&self, namespace: &str, id: &str) -> Result<bool, StoreError>;
}

/// An event that was not accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Its id (UUIDv7).
    pub id: Uuid,
    /// The tenant.
    pub namespace: Arc<str>,
    /// The event as it came, as JSON.
    pub event: String,
    /// Why it is here.
    pub reason: String,
    /// When.
    pub at: Millis,
    /// The group that could not handle it; absent if it was not accepted at all.
    pub group: Option<Arc<str>>,
    /// How often the group tried.
    pub attempts: u32,
    /// Where it stands in the log, if it does: position, and number of the event in its row.
    pub place: Option<(u64, u32)>,
}

/// Keeps events that could not be accepted or delivered.
#[async_trait]
pub trait DeadLetterStore: Send + Sync + 'static {
    /// Keeps them, durably. One whose id is kept already is left as it is.
    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), StoreError>;
    /// A page of them, newest first, before an id.
    async fn dead_letters(
        &self,
        namespace: &str,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError>;
    /// Those of these ids that are kept, in any order.
    async fn dead_letters_of(&self, namespace: &str, ids: &[Uuid]) -> Result<Vec<DeadLetter>, StoreError>;
    /// Removes those of these ids that are kept, durably, and sets marks in the same transaction.
    async fn exhume(&self, namespace: &str, ids: &[Uuid], marks: &[Mark]) -> Result<(), StoreError>;
    /// Replaces the reasons of kept letters, durably.
    async fn restate(&self, namespace: &str, reasons: &[(Uuid, String)]) -> Result<(), StoreError>;
}

/// Keeps bytes by their SHA-256, once.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Stores bytes, durably. Storing what is there does nothing.
    async fn put(&self, blob: &BlobRef, bytes: &[u8]) -> Result<(), StoreError>;
    /// Begins to store bytes that do not fit into memory.
    async fn writer(&self, media_type: &str) -> Result<Box<dyn BlobWriter>, StoreError>;
    /// The reference of a stored blob.
    async fn stat(&self, sha256: &str) -> Result<Option<BlobRef>, StoreError>;
    /// Up to `length` bytes from `offset`; `None` if the blob is unknown.
    async fn read(&self, sha256: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError>;
}

/// Takes bytes in parts.
#[async_trait]
pub trait BlobWriter: Send {
    /// Adds bytes.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
    /// Makes the blob durable and names it. A writer that is dropped instead leaves nothing behind.
    async fn finish(self: Box<Self>) -> Result<BlobRef, StoreError>;
}

/// All ports of one backend.
pub trait Store: RunStore + ProjectStore + MarkStore + WorkflowStore + DeadLetterStore + BlobStore {}
impl<T: RunStore + ProjectStore + MarkStore + WorkflowStore + DeadLetterStore + BlobStore> Store for T {}

/// Learns what happened, after it is on disk. Must not block; what it misses stands in the store.
pub trait News: Send + Sync + 'static {
    /// Rows of the log, the first at `first_position`.
    fn committed(&self, first_position: u64, rows: Arc<[LogRow]>);
    /// A decision opened or closed.
    fn decision(&self, row: &DecisionRow);
    /// An agent said something about a task.
    fn agent(&self, news: AgentNews);
}

/// What an agent said about a task.
#[derive(Clone, Debug)]
pub struct AgentNews {
    /// The tenant.
    pub namespace: Arc<str>,
    /// The agent.
    pub agent: Arc<str>,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: crate::ids::StepKey,
    /// The attempt.
    pub attempt: u32,
    /// When.
    pub at: Millis,
    /// What.
    pub said: Said,
}

/// What was said.
#[derive(Clone, Debug)]
pub enum Said {
    /// How far the task is, from 0 to 1, and what is being done.
    Progress(f64, String),
    /// Something that is on record.
    Report(crate::event::Report),
}
