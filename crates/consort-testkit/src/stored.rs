//! What the store holds: the other side that the checker compares.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use consort_core::data::Data;
use consort_core::event::{Fact, Record};
use consort_core::ids::RunId;
use consort_core::ports::{
    BlobStore as _, DecisionRow, LogRow, RunQuery, RunRow, RunStore as _, Snapshot, WorkflowStore as _,
};
use consort_core::workflow::Workflow;
use consort_store::SqliteStore;
use serde_json::Value;
use uuid::Uuid;

/// Rows that are read at a time.
const PAGE: u32 = 500;

/// A copy of everything a store holds about runs. It can be tampered with, to see whether the checker notices.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Histories: the records of each run in the order of the log.
    pub records: BTreeMap<RunId, Vec<Record>>,
    /// The listed rows.
    pub rows: BTreeMap<RunId, RunRow>,
    /// Snapshots of runs that have one.
    pub snapshots: BTreeMap<RunId, Snapshot>,
    /// Listed decisions.
    pub decisions: BTreeMap<Uuid, DecisionRow>,
    /// Definitions by id and revision.
    pub definitions: HashMap<(Arc<str>, u64), Arc<Workflow>>,
    /// Outputs of runs that are blobs, by digest.
    pub blobs: HashMap<Arc<str>, Value>,
    /// What the store's own check of itself found.
    pub damage: Vec<String>,
}

impl Stored {
    /// Reads the data folder of a server that has stopped, all in the namespace `default`.
    pub async fn read(data: &Path) -> Stored {
        let store = SqliteStore::open(data).await.expect("the data folder of a stopped server opens");
        let mut stored =
            Stored { damage: store.integrity().await.expect("the store can be checked").problems, ..Stored::default() };
        let mut position = 0;
        loop {
            let page = store.log_after(position, "", PAGE).await.expect("the log can be read");
            let Some((last, _)) = page.last() else { break };
            position = *last;
            for (_, row) in page {
                if let LogRow::Run(record) = row {
                    stored.records.entry(record.run).or_default().push(record);
                }
            }
        }
        stored.read_rows(&store).await;
        for run in stored.rows.keys() {
            let loaded = store.load(*run).await.expect("a run can be loaded").expect("a listed run is there");
            stored.snapshots.extend(loaded.snapshot.map(|snapshot| (*run, snapshot)));
        }
        for fact in stored.records.values().flatten().filter_map(|record| record.entries().ok()).flatten() {
            match fact.fact {
                Fact::DecisionRequested(asked) | Fact::ClarificationRequested { question: asked, .. } => {
                    let row = store.decision(asked.decision).await.expect("decisions can be read");
                    stored.decisions.extend(row.map(|row| (asked.decision, row)));
                }
                Fact::RunSucceeded { output: Data::Blob(blob) } => {
                    let bytes = store.read(&blob.sha256, 0, blob.size as usize).await.expect("blobs can be read");
                    let value = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                    stored.blobs.extend(value.map(|value| (blob.sha256, value)));
                }
                _ => {}
            }
        }
        store.close().await;
        stored
    }

    async fn read_rows(&mut self, store: &SqliteStore) {
        let mut query = RunQuery {
            namespace: "default".into(),
            workflow: None,
            states: Vec::new(),
            project: None,
            before: None,
            limit: PAGE,
        };
        loop {
            let page = store.runs(&query).await.expect("runs can be listed");
            let Some(last) = page.last() else { break };
            query.before = Some((last.created_at, last.id));
            for row in page {
                let name = (Arc::clone(&row.workflow), row.revision);
                if let std::collections::hash_map::Entry::Vacant(e) = self.definitions.entry(name) {
                    let found = store.workflow(&row.namespace, &row.workflow, Some(row.revision)).await;
                    let source = found.expect("workflows can be read").expect("a run's revision is kept").source;
                    let definition = Workflow::parse(&source).expect("what was applied still parses");
                    e.insert(Arc::new(definition));
                }
                self.rows.insert(row.id, row);
            }
        }
    }
}
