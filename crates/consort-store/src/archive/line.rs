//! The lines of an archive. Their names are a contract.

use consort_core::data::BlobRef;
use consort_core::event::{Published, Record};
use consort_core::ids::{Millis, RunId};
use consort_core::ports::{DeadLetter, ProjectRow, SignalRow, WorkflowRow};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// The version that is written. Older ones are read for ever.
pub(super) const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    ConsortArchive(Header),
    Workflow(Revision),
    Blob(BlobRef),
    Part(String),
    Run(RunHead),
    Row(Box<Row>),
    Over(RunId),
    Event(Event),
    Signal(SignalRow),
    Letter(Letter),
    Project(ProjectRow),
    End(End),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) version: u32,
    /// Identity of the store.
    pub(super) store: Uuid,
    pub(super) created_at: Millis,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunHead {
    pub(super) id: RunId,
    pub(super) namespace: std::sync::Arc<str>,
    pub(super) workflow: std::sync::Arc<str>,
    pub(super) revision: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Revision {
    namespace: std::sync::Arc<str>,
    id: std::sync::Arc<str>,
    revision: u64,
    source: String,
    digest: String,
    created_at: Millis,
    created_by: String,
    #[serde(default)]
    triggers: bool,
}

impl From<WorkflowRow> for Revision {
    fn from(row: WorkflowRow) -> Self {
        let WorkflowRow { namespace, id, revision, source, digest, created_at, created_by, triggers } = row;
        Revision { namespace, id, revision, source, digest, created_at, created_by, triggers }
    }
}

impl From<Revision> for WorkflowRow {
    fn from(line: Revision) -> Self {
        let Revision { namespace, id, revision, source, digest, created_at, created_by, triggers } = line;
        WorkflowRow { namespace, id, revision, source, digest, created_at, created_by, triggers }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) position: u64,
    namespace: std::sync::Arc<str>,
    /// Correlation id, if it is not the run itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<RunId>,
    sequence: u64,
    count: u32,
    at: Millis,
    hash: String,
    /// The events, byte for byte as they were hashed.
    body: Box<RawValue>,
}

impl Row {
    /// `None` if the body is not JSON, which a store that is sound does not hold.
    pub(super) fn of(position: u64, record: &Record) -> Option<Row> {
        let text = String::from_utf8(record.body.clone()).ok().filter(|text| !text.contains('\n'))?;
        Some(Row {
            position,
            namespace: record.namespace.clone(),
            root: (record.root != record.run).then_some(record.root),
            sequence: record.sequence,
            count: record.count,
            at: record.at,
            hash: hex::encode(record.hash),
            body: RawValue::from_string(text).ok()?,
        })
    }

    pub(super) fn record(self, run: RunId) -> Option<(u64, Record)> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.hash, &mut hash).ok()?;
        let record = Record {
            run,
            namespace: self.namespace,
            root: self.root.unwrap_or(run),
            sequence: self.sequence,
            count: self.count,
            at: self.at,
            body: self.body.get().as_bytes().to_vec(),
            hash,
        };
        Some((self.position, record))
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) position: u64,
    pub(super) event: Published,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Letter {
    id: Uuid,
    namespace: std::sync::Arc<str>,
    event: String,
    reason: String,
    at: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<std::sync::Arc<str>>,
    #[serde(default)]
    attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<(u64, u32)>,
}

impl From<DeadLetter> for Letter {
    fn from(letter: DeadLetter) -> Self {
        let DeadLetter { id, namespace, event, reason, at, group, attempts, place } = letter;
        Letter { id, namespace, event, reason, at, group, attempts, place }
    }
}

impl From<Letter> for DeadLetter {
    fn from(line: Letter) -> Self {
        let Letter { id, namespace, event, reason, at, group, attempts, place } = line;
        DeadLetter { id, namespace, event, reason, at, group, attempts, place }
    }
}

/// How many of each stand before it, and their hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) runs: u64,
    pub(super) rows: u64,
    pub(super) events: u64,
    pub(super) others: u64,
    pub(super) blobs: u64,
    /// Of all bytes before this line; empty while lines are counted.
    pub(super) sha256: String,
}

impl End {
    pub(super) fn count(&mut self, line: &Line) {
        match line {
            Line::Run(_) => self.runs += 1,
            Line::Row(_) => self.rows += 1,
            Line::Event(_) => self.events += 1,
            Line::Signal(_) | Line::Letter(_) | Line::Project(_) => self.others += 1,
            Line::Blob(_) => self.blobs += 1,
            Line::ConsortArchive(_) | Line::Workflow(_) | Line::Part(_) | Line::Over(_) | Line::End(_) => {}
        }
    }
}
