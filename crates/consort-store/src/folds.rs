//! What is listed, held against the fold of each history.

use std::collections::HashMap;
use std::sync::Arc;

use consort_core::data::Data;
use consort_core::event::{Entry, Fact, Record, RunStarted};
use consort_core::ids::RunId;
use consort_core::ports::{DecisionQuery, DecisionRow, RunRow, Snapshot, StoreError};
use consort_core::run::{Fold, Run, differences};
use consort_core::workflow::Workflow;
use uuid::Uuid;

use crate::archive::Shelf;
use crate::integrity::Integrity;

/// Records that are read at a time.
const PAGE: u32 = 256;
/// How often a run that changes while it is looked at is looked at again.
const LOOKS: usize = 20;
/// Definitions that are remembered; when there are more, all are dropped and read again as needed.
const DEFINITIONS: usize = 1_000;
/// Rows that one repair writes; a further repair writes the rest.
const REPAIRS: usize = 100_000;

/// A listed thing that must be written again.
#[derive(Clone, Debug)]
pub(crate) enum Repair {
    Row(Box<RunRow>),
    Decision(Box<DecisionRow>),
    /// A decision that no history asks for.
    NoDecision(RunId, Uuid),
    /// A snapshot that its history does not lead to; the history makes do without.
    NoSnapshot(RunId),
}

impl Repair {
    /// What it changes, for people.
    pub(crate) fn what(&self) -> String {
        match self {
            Repair::Row(row) => format!("run {}: its row was written from its history", row.id),
            Repair::Decision(row) => {
                format!("run {}: decision {} was written from its history", row.run, row.id)
            }
            Repair::NoDecision(run, id) => {
                format!("run {run}: decision {id}, which its history does not have, was removed")
            }
            Repair::NoSnapshot(run) => format!("run {run}: its snapshot was removed; its history is whole without it"),
        }
    }
}

/// Holds runs against their histories.
pub(crate) struct Folds<'a> {
    store: &'a dyn Shelf,
    definitions: HashMap<(Arc<str>, Arc<str>, u64), Arc<Workflow>>,
    /// What would mend what was found.
    pub(crate) repairs: Vec<Repair>,
}

/// A run as it was read.
struct Read {
    fold: Fold,
    snapshot: Option<String>,
    child_over: bool,
    decisions: Vec<DecisionRow>,
}

impl<'a> Folds<'a> {
    pub(crate) fn new(store: &'a dyn Shelf) -> Folds<'a> {
        Folds { store, definitions: HashMap::new(), repairs: Vec::new() }
    }

    /// Holds a run's row, decisions and snapshot against its history.
    pub(crate) async fn check(&mut self, run: RunId, report: &mut Integrity) -> Result<(), StoreError> {
        for _ in 0..LOOKS {
            let before = self.store.run(run).await?;
            if before.is_none() && self.store.is_leaving(run).await? {
                return Ok(());
            }
            let read = match self.read(run).await {
                Ok(Some(read)) => read,
                // Taken out meanwhile.
                Ok(None) => return Ok(()),
                // The row of the log is reported where it stands.
                Err(Unreadable::Store(StoreError::Corrupt(why))) => {
                    report.problem(format!("run {run}: {why}"));
                    return Ok(());
                }
                Err(Unreadable::Store(other)) => return Err(other),
                Err(Unreadable::Why(why)) => {
                    if self.store.run(run).await? == before {
                        report.problem(format!("run {run}: {why}"));
                        return Ok(());
                    }
                    continue;
                }
            };
            // All that a commit changes about a run changes with the number of its last event or with its row, so what was read
            // between two equal looks is of one moment.
            if self.store.run(run).await? == before {
                self.compare(before.as_ref(), read, report);
                return Ok(());
            }
        }
        tracing::debug!(%run, "a run changes too fast to be checked");
        Ok(())
    }

    fn compare(&mut self, listed: Option<&RunRow>, read: Read, report: &mut Integrity) {
        let Read { fold, snapshot, child_over, decisions } = read;
        let (id, mut row) = (fold.run().id, fold.run().row());
        let mut wrong = match listed {
            // Reported with all that are not listed.
            None => vec![String::new()],
            Some(listed) => differences(listed, &row, child_over),
        };
        if !wrong.is_empty() {
            if child_over {
                row.wake_at = Some(0);
            }
            self.repair(Repair::Row(Box::new(row)));
        }
        if let Some(why) = snapshot {
            wrong.push(why);
            self.repair(Repair::NoSnapshot(id));
        }
        for listed in &decisions {
            if !fold.decisions().contains_key(&listed.id) {
                wrong.push(format!("decision {} is listed and its history does not ask it", listed.id));
                self.repair(Repair::NoDecision(id, listed.id));
            }
        }
        for folded in fold.decisions().values() {
            match decisions.iter().find(|listed| listed.id == folded.id) {
                Some(listed) if listed == folded => continue,
                Some(listed) => wrong.push(format!(
                    "decision {} is listed as {:?} and its history says {:?}, or they differ otherwise",
                    folded.id, listed.state, folded.state
                )),
                None => wrong.push(format!("decision {} is not listed", folded.id)),
            }
            self.repair(Repair::Decision(Box::new(folded.clone())));
        }
        for problem in wrong.into_iter().filter(|problem| !problem.is_empty()) {
            report.problem(format!("run {id}: {problem}"));
        }
    }

    fn repair(&mut self, repair: Repair) {
        if self.repairs.len() < REPAIRS {
            self.repairs.push(repair);
        }
    }

    async fn read(&mut self, run: RunId) -> Result<Option<Read>, Unreadable> {
        let Some(stored) = self.store.load(run).await? else { return Ok(None) };
        let mut page = self.store.records_after(run, 0, PAGE).await?;
        let Some(first) = page.first() else { return Ok(None) };
        let definition = self.definition(run, first).await?;
        let mut fold = Fold::begin(run, Arc::clone(&definition), first).map_err(|e| Unreadable::Why(e.to_string()))?;
        let mut snapshot = stored.snapshot;
        let mut wrong = None;
        let mut later = &page[1..];
        loop {
            check_snapshot(&fold, &mut snapshot, &mut wrong);
            for record in later {
                fold.add(record).map_err(|e| Unreadable::Why(e.to_string()))?;
                check_snapshot(&fold, &mut snapshot, &mut wrong);
            }
            page = self.store.records_after(run, fold.run().sequence(), PAGE).await?;
            if page.is_empty() {
                break;
            }
            later = &page;
        }
        if snapshot.is_some() {
            wrong = Some("it has a snapshot that is not of the end of one of its records".to_owned());
        }
        let mut child_over = false;
        for (_, child) in fold.run().children() {
            child_over |= self.store.run(child).await?.is_some_and(|row| row.state.is_over());
        }
        let decisions = self.decisions(&fold).await?;
        Ok(Some(Read { fold, snapshot: wrong, child_over, decisions }))
    }

    async fn decisions(&self, fold: &Fold) -> Result<Vec<DecisionRow>, StoreError> {
        let mut query = DecisionQuery {
            namespace: fold.run().namespace().clone(),
            run: Some(fold.run().id),
            state: None,
            kind: None,
            project: None,
            before: None,
            limit: PAGE,
        };
        let mut all = Vec::new();
        loop {
            let page = self.store.decisions(&query).await?;
            let Some(last) = page.last() else { return Ok(all) };
            query.before = Some((last.created_at, last.id));
            all.extend(page);
        }
    }

    /// The definition that a history's first event names.
    pub(crate) async fn definition(&mut self, run: RunId, first: &Record) -> Result<Arc<Workflow>, Unreadable> {
        let started = started(first).ok_or_else(|| Unreadable::Why("it does not begin with RUN.STARTED".into()))?;
        let name = (started.namespace.clone(), started.workflow.clone(), started.revision);
        if let Some(plan) = started.plan {
            return self.plan(plan).await;
        }
        if let Some(known) = self.definitions.get(&name) {
            return Ok(Arc::clone(known));
        }
        let (workflow, revision) = (&name.1, name.2);
        let found = self.store.workflow(&name.0, workflow, Some(revision)).await?;
        let row = found.ok_or_else(|| Unreadable::Why(format!("workflow {workflow} revision {revision} is gone")))?;
        let parsed = Workflow::parse(&row.source)
            .map_err(|_| Unreadable::Why(format!("workflow {workflow} revision {revision} cannot be read")))?;
        if self.definitions.len() >= DEFINITIONS {
            self.definitions.clear();
        }
        tracing::trace!(%run, %workflow, revision, "read a definition");
        Ok(Arc::clone(self.definitions.entry(name).or_insert(Arc::new(parsed))))
    }

    /// The definition of a run that no revision describes.
    async fn plan(&self, plan: Data) -> Result<Arc<Workflow>, Unreadable> {
        let bad = |why: &str| Unreadable::Why(format!("its plan cannot be read: {why}"));
        let text = match plan {
            Data::Inline(json) => json.as_str().as_bytes().to_vec(),
            Data::Blob(blob) => {
                let bytes = self.store.read(&blob.sha256, 0, blob.size as usize).await?;
                bytes.ok_or_else(|| bad("its blob is not there"))?
            }
        };
        let source: String = serde_json::from_slice(&text).map_err(|_| bad("it is not a text"))?;
        Workflow::parse(&source).map(Arc::new).map_err(|_| bad("it is not a workflow"))
    }
}

/// Why a run could not be read.
pub(crate) enum Unreadable {
    Store(StoreError),
    Why(String),
}

impl Unreadable {
    /// The store's error, or else why the history itself cannot be read.
    pub(crate) fn into_store(self) -> Result<StoreError, String> {
        match self {
            Unreadable::Store(error) => Ok(error),
            Unreadable::Why(why) => Err(why),
        }
    }
}

impl From<StoreError> for Unreadable {
    fn from(error: StoreError) -> Self {
        Unreadable::Store(error)
    }
}

/// The first fact of a history.
pub(crate) fn started(first: &Record) -> Option<RunStarted> {
    match first.entries().ok()?.into_iter().next()? {
        Entry { step: None, fact: Fact::RunStarted(started) } => Some(started),
        _ => None,
    }
}

/// Holds a snapshot against the fold when it has come to the same event.
fn check_snapshot(fold: &Fold, snapshot: &mut Option<Snapshot>, wrong: &mut Option<String>) {
    let run = fold.run();
    let Some(found) = snapshot.take_if(|snapshot| snapshot.sequence == run.sequence()) else { return };
    let restored = Run::restore(run.id, run.definition().clone(), &found.body, &[]);
    match restored {
        Ok(restored) if restored.snapshot() == run.snapshot() => {}
        Ok(_) => *wrong = Some("its snapshot and its history lead to different states".into()),
        Err(damaged) => *wrong = Some(format!("its snapshot cannot be used: {damaged}")),
    }
}
