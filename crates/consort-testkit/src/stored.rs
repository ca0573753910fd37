//! What the store holds: the other side that the checker compares.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use consort_core::data::Data;
use consort_core::event::{Fact, Record, RunStarted};
use consort_core::ids::RunId;
use consort_core::ports::{DecisionRow, LogRow, RunQuery, RunRow, Snapshot, Store};
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
    /// Definitions of runs that no revision describes.
    pub plans: BTreeMap<RunId, Arc<Workflow>>,
    /// Outputs of runs that are blobs, by digest.
    pub blobs: HashMap<Arc<str>, Value>,
    /// What the store's own check of itself found.
    pub damage: Vec<String>,
}

impl Stored {
    /// Reads the data folder of a server that has stopped, all in the namespace `default`.
    pub async fn read(data: &Path) -> Stored {
        let store = SqliteStore::open(data).await.expect("the data folder of a stopped server opens");
        let damage = store.integrity().await.expect("the store can be checked").problems;
        let stored = Stored::of(&store, damage).await;
        store.close().await;
        stored
    }

    /// Reads a store that nobody writes to, all in the namespace `default`. `damage` is what the store's own check of itself found.
    pub async fn of(store: &dyn Store, damage: Vec<String>) -> Stored {
        let mut stored = Stored { damage, ..Stored::default() };
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
        stored.read_rows(store).await;
        for run in stored.rows.keys() {
            let loaded = store.load(*run).await.expect("a run can be loaded").expect("a listed run is there");
            stored.snapshots.extend(loaded.snapshot.map(|snapshot| (*run, snapshot)));
        }
        let facts = stored.records.values().flatten();
        let facts =
            facts.flat_map(|record| record.entries().unwrap_or_default().into_iter().map(|e| (record.run, e.fact)));
        for (run, fact) in facts {
            match fact {
                Fact::DecisionRequested(asked) | Fact::ClarificationRequested { question: asked, .. } => {
                    let row = store.decision(asked.decision).await.expect("decisions can be read");
                    stored.decisions.extend(row.map(|row| (asked.decision, row)));
                }
                Fact::RunSucceeded { output: Data::Blob(blob) } => {
                    let bytes = store.read(&blob.sha256, 0, blob.size as usize).await.expect("blobs can be read");
                    let value = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                    stored.blobs.extend(value.map(|value| (blob.sha256, value)));
                }
                // A plan that became a blob is left out, and its run is not folded.
                Fact::RunStarted(RunStarted { plan: Some(Data::Inline(plan)), .. }) => {
                    let source = plan.value().as_str().unwrap_or_default().to_owned();
                    let definition = Workflow::parse(&source).expect("a plan that was started still parses");
                    stored.plans.insert(run, Arc::new(definition));
                }
                _ => {}
            }
        }
        stored
    }

    async fn read_rows(&mut self, store: &dyn Store) {
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
                if row.revision > 0
                    && let std::collections::hash_map::Entry::Vacant(e) = self.definitions.entry(name)
                {
                    let found = store.workflow(&row.namespace, &row.workflow, Some(row.revision)).await;
                    let source = found.expect("workflows can be read").expect("a run's revision is kept").source;
                    let definition = Workflow::parse(&source).expect("what was applied still parses");
                    e.insert(Arc::new(definition));
                }
                self.rows.insert(row.id, row);
            }
        }
    }

    /// What a run executes.
    pub(crate) fn definition(&self, row: &RunRow) -> Option<Arc<Workflow>> {
        let known = self.plans.get(&row.id).or_else(|| self.definitions.get(&(row.workflow.clone(), row.revision)));
        known.cloned()
    }
}
