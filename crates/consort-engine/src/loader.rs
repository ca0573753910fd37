//! Brings a run back from the store, and fetches what a transition needs.

use std::collections::HashMap;
use std::sync::Arc;

use consort_core::data::{BlobRef, Data, Json};
use consort_core::event::{Fact, Failure};
use consort_core::ids::{RunId, StepKey};
use consort_core::ports::{ProjectState, Store, StoreError};
use consort_core::run::{Child, ChildOutcome, Needs, Run, RunState};

use consort_core::workflow::Workflow;

use crate::definitions::Definitions;
use crate::environment::{Environment, beside};

/// Largest blob that an expression may read.
const MAX_BLOB: u64 = 256 * 1024 * 1024;

/// A run as the store has it.
pub(crate) struct Loaded {
    pub run: Run,
    /// Hash of its last record.
    pub hash: [u8; 32],
    /// Number of the last event of its newest snapshot; 0 if it has none.
    pub snapshot: u64,
    /// Children it waits for that are over.
    pub outcomes: Vec<(StepKey, RunId, ChildOutcome)>,
    /// Why it must be cancelled, if it must.
    pub stopped: Option<&'static str>,
}

/// The revision of a run that no revision describes.
const PLAN: u64 = 0;

#[derive(Clone)]
pub(crate) struct Loader {
    pub store: Arc<dyn Store>,
    pub definitions: Arc<Definitions>,
    pub environment: Arc<dyn Environment>,
}

/// What was fetched for a transition.
#[derive(Default)]
pub(crate) struct Fetched {
    pub blobs: HashMap<Arc<str>, Json>,
    pub workflows: HashMap<Arc<str>, Option<Child>>,
    /// A value that is gone for good.
    pub fault: Option<Failure>,
}

impl Loader {
    pub(crate) fn of(engine: &crate::Engine) -> Loader {
        Loader {
            store: Arc::clone(&engine.inner.store),
            definitions: Arc::clone(&engine.inner.definitions),
            environment: Arc::clone(engine.environment()),
        }
    }

    /// Rebuilds a run from its snapshot and history. `None` if there is no such run.
    pub(crate) async fn load(&self, id: RunId) -> Result<Option<Loaded>, StoreError> {
        let Some(mut loaded) = self.rebuild(id).await? else { return Ok(None) };
        loaded.stopped = self.is_stopped(&loaded.run).await?;
        for (step, child) in loaded.run.children() {
            let over = self.store.run(child).await?.is_some_and(|row| row.state.is_over());
            if !over {
                continue;
            }
            if let Some(outcome) = self.rebuild(child).await?.and_then(|child| outcome(&child.run)) {
                loaded.outcomes.push((step, child, outcome));
            }
        }
        Ok(Some(loaded))
    }

    async fn rebuild(&self, id: RunId) -> Result<Option<Loaded>, StoreError> {
        let Some(row) = self.store.run(id).await? else { return Ok(None) };
        let Some(stored) = self.store.load(id).await? else { return Ok(None) };
        let definition = if row.revision == PLAN {
            self.plan(id).await?
        } else {
            let found = self.definitions.get(&row.namespace, &row.workflow, Some(row.revision)).await?;
            let Some((_, definition)) = found else {
                let (workflow, revision) = (&row.workflow, row.revision);
                return Err(StoreError::Corrupt(format!("run {id}: workflow {workflow} revision {revision} is gone")));
            };
            definition
        };
        let mut hash = stored.snapshot.as_ref().map_or([0; 32], |s| s.hash);
        let snapshot = stored.snapshot.as_ref().map_or(0, |s| s.sequence);
        if let Some(last) = stored.records.last() {
            hash = last.hash;
        }
        let run = match &stored.snapshot {
            Some(snapshot) => Run::restore(id, definition, &snapshot.body, &stored.records),
            None => Run::replay(id, definition, &stored.records),
        };
        let run = run.map_err(|e| StoreError::Corrupt(format!("run {id}: {e}")))?;
        Ok(Some(Loaded { run, hash, snapshot, outcomes: Vec::new(), stopped: None }))
    }

    /// The definition of a run that no revision describes; it stands in the run's first event.
    async fn plan(&self, id: RunId) -> Result<Arc<Workflow>, StoreError> {
        let damaged = |why: String| StoreError::Corrupt(format!("run {id}: its plan cannot be read: {why}"));
        let first = self.store.records_after(id, 0, 1).await?.into_iter().next();
        let entries = first.map(|record| record.entries()).transpose().map_err(|e| damaged(e.to_string()))?;
        let fact = entries.and_then(|entries| entries.into_iter().next()).map(|entry| entry.fact);
        let Some(Fact::RunStarted(started)) = fact else { return Err(damaged("there is no first event".into())) };
        let json = match started.plan {
            Some(Data::Inline(json)) => json,
            Some(Data::Blob(blob)) => self.text(&blob).await?.map_err(damaged)?,
            None => return Err(damaged("there is none".into())),
        };
        let source = json.value().as_str().map(str::to_owned).ok_or_else(|| damaged("it is not a text".into()))?;
        // A large plan takes a while to check: not on a thread that others need.
        let parsed = beside(&self.environment, move || Workflow::parse(&source)).await;
        let plan = parsed.map_err(|e| StoreError::Unavailable(e.to_string()))?;
        plan.map(Arc::new).map_err(|mistakes| damaged(mistakes.first().map(|m| m.message.clone()).unwrap_or_default()))
    }

    /// Why a run must be cancelled: a crash may have come before the cancellation that was to follow.
    async fn is_stopped(&self, run: &Run) -> Result<Option<&'static str>, StoreError> {
        if run.state().is_over() {
            return Ok(None);
        }
        if let Some(project) = run.project() {
            let row = self.store.project(run.namespace(), &project.id).await?;
            if row.is_some_and(|row| row.state == ProjectState::Stopped) {
                return Ok(Some("its project was stopped"));
            }
        }
        Ok(self.is_orphan(run).await?.then_some("the run that waited for it is over"))
    }

    /// Whether nobody waits for a child any more. A parent that goes on is read only if somebody asked for the child to be looked
    /// at: it may have ten thousand children.
    async fn is_orphan(&self, run: &Run) -> Result<bool, StoreError> {
        let Some(parent) = run.parent() else { return Ok(false) };
        if self.store.run(parent.run).await?.is_some_and(|row| row.state.is_over()) {
            return Ok(true);
        }
        let wake = self.store.run(run.id).await?.and_then(|row| row.wake_at).filter(|at| *at > 0);
        let asked_for = wake.is_some_and(|at| run.next_wake().is_none_or(|own| at < own));
        if !asked_for {
            return Ok(false);
        }
        let parent_run = self.rebuild(parent.run).await?;
        Ok(parent_run.is_some_and(|it| it.run.unit(&parent.step).and_then(|unit| unit.child) != Some(run.id)))
    }

    /// Fetches what a run needs before it can go on.
    pub(crate) async fn fetch(&self, namespace: &Arc<str>, needs: &Needs) -> Result<Fetched, StoreError> {
        let mut fetched = Fetched::default();
        for id in &needs.workflows {
            fetched.workflows.insert(id.clone(), self.definitions.newest(namespace, id).await?);
        }
        for blob in &needs.blobs {
            match self.text(blob).await? {
                Ok(json) => drop(fetched.blobs.insert(blob.sha256.clone(), json)),
                Err(why) => {
                    let message = format!("blob {}: {why}", blob.sha256);
                    fetched.fault = Some(Failure::new(consort_core::event::Code::DataLoss, message));
                }
            }
        }
        Ok(fetched)
    }

    pub(crate) async fn text(&self, blob: &BlobRef) -> Result<Result<Json, String>, StoreError> {
        if blob.size > MAX_BLOB {
            return Ok(Err(format!("its {} bytes are more than an expression may read", blob.size)));
        }
        let Some(bytes) = self.store.read(&blob.sha256, 0, blob.size as usize).await? else {
            return Ok(Err("it is not in the store".into()));
        };
        let parsed = beside(&self.environment, move || {
            let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
            Json::parse(text).map_err(|e| format!("it is not JSON: {e}"))
        });
        Ok(parsed.await.unwrap_or_else(|_| Err("it could not be read".into())))
    }
}

/// How a run ended, for its parent. `None` while it is not over.
pub(crate) fn outcome(run: &Run) -> Option<ChildOutcome> {
    match run.state() {
        RunState::Succeeded => {
            Some(ChildOutcome::Succeeded(run.output().cloned().unwrap_or_else(consort_core::Data::null)))
        }
        RunState::Failed => Some(ChildOutcome::Failed(
            run.error().cloned().unwrap_or_else(|| Failure::new(consort_core::event::Code::Unknown, "it failed")),
        )),
        RunState::Cancelled => Some(ChildOutcome::Cancelled),
        _ => None,
    }
}
