//! Definitions.

use async_trait::async_trait;
use consort_core::ports::{StoreError, WorkflowRow, WorkflowStore};

use super::MemoryStore;
use super::state::Workflow;

#[async_trait]
impl WorkflowStore for MemoryStore {
    async fn apply(&self, row: &WorkflowRow) -> Result<WorkflowRow, StoreError> {
        let mut state = self.state();
        let Workflow { revisions, deleted } =
            state.workflows.entry((row.namespace.clone(), row.id.clone())).or_default();
        if let Some(newest) = revisions.last()
            && newest.digest == row.digest
            && !*deleted
        {
            return Ok(newest.clone());
        }
        let applied = WorkflowRow { revision: revisions.last().map_or(0, |newest| newest.revision) + 1, ..row.clone() };
        revisions.push(applied.clone());
        *deleted = false;
        Ok(applied)
    }

    async fn workflow(
        &self,
        namespace: &str,
        id: &str,
        revision: Option<u64>,
    ) -> Result<Option<WorkflowRow>, StoreError> {
        let state = self.state();
        let Some(workflow) = state.workflows.get(&(namespace.into(), id.into())) else { return Ok(None) };
        let found = match revision {
            Some(revision) => workflow.revisions.iter().find(|row| row.revision == revision),
            None if workflow.deleted => None,
            None => workflow.revisions.last(),
        };
        Ok(found.cloned())
    }

    async fn workflows(&self, namespace: &str, after: &str, limit: u32) -> Result<Vec<WorkflowRow>, StoreError> {
        let state = self.state();
        let all = state.workflows.iter().filter(|((of, id), _)| &**of == namespace && &**id > after);
        let newest =
            all.filter(|(_, workflow)| !workflow.deleted).filter_map(|(_, workflow)| workflow.revisions.last());
        Ok(newest.take(limit as usize).cloned().collect())
    }

    async fn revisions(
        &self,
        namespace: &str,
        id: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<WorkflowRow>, StoreError> {
        let state = self.state();
        let Some(workflow) = state.workflows.get(&(namespace.into(), id.into())) else { return Ok(Vec::new()) };
        let older = workflow.revisions.iter().rev().filter(|row| before.is_none_or(|before| row.revision < before));
        Ok(older.take(limit as usize).cloned().collect())
    }

    async fn triggered(&self, after: (&str, &str), limit: u32) -> Result<Vec<WorkflowRow>, StoreError> {
        let state = self.state();
        let later = state.workflows.iter().filter(|((namespace, id), _)| (&**namespace, &**id) > after);
        let newest =
            later.filter(|(_, workflow)| !workflow.deleted).filter_map(|(_, workflow)| workflow.revisions.last());
        Ok(newest.filter(|row| row.triggers).take(limit as usize).cloned().collect())
    }

    async fn delete(&self, namespace: &str, id: &str) -> Result<bool, StoreError> {
        let mut state = self.state();
        let found = state.workflows.get_mut(&(namespace.into(), id.into()));
        Ok(found.is_some_and(|workflow| !std::mem::replace(&mut workflow.deleted, true)))
    }
}
