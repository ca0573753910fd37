//! Reading projects and signals.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use async_trait::async_trait;
use consort_core::ports::{ProjectQuery, ProjectRow, ProjectStore, SignalQuery, SignalRow, StoreError};
use consort_core::run::RunState;
use uuid::Uuid;

use super::MemoryStore;

#[async_trait]
impl ProjectStore for MemoryStore {
    async fn project(&self, namespace: &str, id: &str) -> Result<Option<ProjectRow>, StoreError> {
        Ok(self.state().projects.get(&(namespace.into(), id.into())).cloned())
    }

    async fn projects(&self, query: &ProjectQuery) -> Result<Vec<ProjectRow>, StoreError> {
        let state = self.state();
        let wanted = |project: &&ProjectRow| {
            project.namespace == query.namespace
                && query.state.is_none_or(|state| state == project.state)
                && query.before.is_none_or(|before| (project.created_at, project.uid) < before)
        };
        let mut found: Vec<&ProjectRow> = state.projects.values().filter(wanted).collect();
        found.sort_unstable_by_key(|project| Reverse((project.created_at, project.uid)));
        Ok(found.into_iter().take(query.limit as usize).cloned().collect())
    }

    async fn run_counts(&self, namespace: &str, project: &str) -> Result<Vec<(RunState, u64)>, StoreError> {
        let state = self.state();
        let runs = state.of_project.get(&(namespace.into(), project.into())).into_iter().flatten();
        let mut counts = BTreeMap::new();
        for run in runs.filter_map(|(_, id)| state.runs.get(id)) {
            counts.entry(run.state as u8).or_insert((run.state, 0)).1 += 1;
        }
        Ok(counts.into_values().collect())
    }

    async fn signal(&self, id: Uuid) -> Result<Option<SignalRow>, StoreError> {
        Ok(self.state().signals.get(&id).cloned())
    }

    async fn signals(&self, query: &SignalQuery) -> Result<Vec<SignalRow>, StoreError> {
        let state = self.state();
        let wanted = |signal: &&SignalRow| {
            signal.namespace == query.namespace
                && query.kind.as_ref().is_none_or(|kind| *kind == signal.signal.kind)
                && query.project.as_ref().is_none_or(|project| signal.project.as_ref() == Some(project))
                && query.before.is_none_or(|before| (signal.created_at, signal.id) < before)
        };
        let mut found: Vec<&SignalRow> = state.signals.values().filter(wanted).collect();
        found.sort_unstable_by_key(|signal| Reverse((signal.created_at, signal.id)));
        Ok(found.into_iter().take(query.limit as usize).cloned().collect())
    }
}
