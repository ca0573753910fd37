//! Checked definitions, kept at hand. Revisions never change, so only "which is the newest" can grow old, and only this
//! process changes that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use consort_core::ports::{StoreError, WorkflowRow, WorkflowStore};
use consort_core::run::Child;
use consort_core::workflow::Workflow;

/// Revisions kept; when there are more, all are dropped and read again as needed.
const MAX_KEPT: usize = 1_000;

type Name = (Arc<str>, Arc<str>);

#[derive(Default)]
struct Kept {
    revisions: HashMap<(Name, u64), (Arc<WorkflowRow>, Arc<Workflow>)>,
    newest: HashMap<Name, u64>,
}

pub(crate) struct Definitions {
    store: Arc<dyn WorkflowStore>,
    kept: Mutex<Kept>,
}

impl Definitions {
    pub(crate) fn new(store: Arc<dyn WorkflowStore>) -> Definitions {
        Definitions { store, kept: Mutex::default() }
    }

    /// A revision, or the newest one. `None` if there is none.
    pub(crate) async fn get(
        &self,
        namespace: &Arc<str>,
        id: &Arc<str>,
        revision: Option<u64>,
    ) -> Result<Option<(Arc<WorkflowRow>, Arc<Workflow>)>, StoreError> {
        let name = (namespace.clone(), id.clone());
        if let Some(found) = self.kept(&name, revision) {
            return Ok(Some(found));
        }
        let Some(row) = self.store.workflow(namespace, id, revision).await? else { return Ok(None) };
        let workflow = Workflow::parse(&row.source).map_err(|mistakes| {
            let first = mistakes.first().map(|m| m.message.clone()).unwrap_or_default();
            StoreError::Corrupt(format!("workflow {id} revision {}: {first}", row.revision))
        })?;
        let found = (Arc::new(row), Arc::new(workflow));
        self.keep(name, revision.is_none(), found.clone());
        Ok(Some(found))
    }

    /// The newest revision, as child runs need it.
    pub(crate) async fn newest(&self, namespace: &Arc<str>, id: &Arc<str>) -> Result<Option<Child>, StoreError> {
        let found = self.get(namespace, id, None).await?;
        Ok(found.map(|(row, definition)| Child { revision: row.revision, definition }))
    }

    /// Remembers what was applied just now.
    pub(crate) fn applied(&self, row: &WorkflowRow, workflow: &Arc<Workflow>) {
        let name = (row.namespace.clone(), row.id.clone());
        self.keep(name, true, (Arc::new(row.clone()), Arc::clone(workflow)));
    }

    /// Forgets which revision is the newest.
    pub(crate) fn deleted(&self, namespace: &Arc<str>, id: &Arc<str>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.newest.remove(&(namespace.clone(), id.clone()));
    }

    fn kept(&self, name: &Name, revision: Option<u64>) -> Option<(Arc<WorkflowRow>, Arc<Workflow>)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = revision.or_else(|| kept.newest.get(name).copied())?;
        kept.revisions.get(&(name.clone(), revision)).cloned()
    }

    fn keep(&self, name: Name, newest: bool, found: (Arc<WorkflowRow>, Arc<Workflow>)) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.revisions.len() >= MAX_KEPT {
            *kept = Kept::default();
        }
        let revision = found.0.revision;
        if newest {
            kept.newest.insert(name.clone(), revision);
        }
        kept.revisions.insert((name, revision), found);
    }
}
