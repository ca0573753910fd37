//! Reading runs.

use std::sync::Arc;

use async_trait::async_trait;
use consort_core::event::Record;
use consort_core::ids::{Millis, RunId};
use consort_core::ports::{
    Batch, DecisionQuery, DecisionRow, LogRow, RunQuery, RunRow, RunStore, StoreError, StoredRequest, StoredRun,
};
use uuid::Uuid;

use super::MemoryStore;
use crate::files;

#[async_trait]
impl RunStore for MemoryStore {
    async fn commit(&self, batch: Arc<Batch>) -> Result<(), StoreError> {
        for (blob, bytes) in &batch.blobs {
            files::check(blob, bytes)?;
        }
        self.state().commit(&batch)
    }

    async fn last_position(&self) -> Result<u64, StoreError> {
        Ok(self.state().log.len() as u64)
    }

    async fn log_after(&self, position: u64, namespace: &str, limit: u32) -> Result<Vec<(u64, LogRow)>, StoreError> {
        let state = self.state();
        let after = usize::try_from(position).unwrap_or(usize::MAX);
        let rows = (position + 1..).zip(state.log.iter().skip(after));
        let rows = rows.filter_map(|(position, row)| row.as_ref().map(|row| (position, row)));
        let of_namespace = rows.filter(|(_, row)| namespace.is_empty() || namespace_of(row) == namespace);
        Ok(of_namespace.take(limit as usize).map(|(position, row)| (position, row.clone())).collect())
    }

    async fn load(&self, run: RunId) -> Result<Option<StoredRun>, StoreError> {
        let state = self.state();
        let snapshot = state.snapshots.get(&run).cloned();
        let after = snapshot.as_ref().map_or(0, |snapshot| snapshot.sequence);
        let records: Vec<Record> = state.records_after(run, after).cloned().collect();
        Ok((snapshot.is_some() || !records.is_empty()).then_some(StoredRun { snapshot, records }))
    }

    async fn records_after(&self, run: RunId, after: u64, limit: u32) -> Result<Vec<Record>, StoreError> {
        Ok(self.state().records_after(run, after).take(limit as usize).cloned().collect())
    }

    async fn run(&self, run: RunId) -> Result<Option<RunRow>, StoreError> {
        Ok(self.state().run(run))
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
        let state = self.state();
        let wanted = |run: &RunRow| {
            query.workflow.as_ref().is_none_or(|workflow| *workflow == run.workflow)
                && (query.states.is_empty() || query.states.contains(&run.state))
                && query.before.is_none_or(|before| (run.created_at, run.id) < before)
        };
        let newest_first: Box<dyn Iterator<Item = RunId>> = if let Some(project) = &query.project {
            let runs = state.of_project.get(&(query.namespace.clone(), project.clone()));
            Box::new(runs.into_iter().flatten().rev().map(|(_, id)| *id))
        } else {
            let of_namespace = state.by_age.iter().rev().filter(|(namespace, _, _)| *namespace == query.namespace);
            Box::new(of_namespace.map(|(_, _, id)| *id))
        };
        let runs = newest_first.filter_map(|id| state.run(id)).filter(wanted);
        Ok(runs.take(query.limit as usize).collect())
    }

    async fn due(&self, until: Millis, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let state = self.state();
        let due = state.to_wake.iter().take_while(|(at, _)| *at <= until);
        Ok(due.take(limit as usize).map(|(_, id)| *id).collect())
    }

    async fn request(&self, key: &[u8; 16]) -> Result<Option<StoredRequest>, StoreError> {
        Ok(self.state().requests.get(key).cloned())
    }

    async fn forget_requests(&self, before: Millis, limit: u32) -> Result<u64, StoreError> {
        let mut state = self.state();
        let mut old: Vec<(Millis, [u8; 16])> = state
            .requests
            .values()
            .filter(|request| request.at < before)
            .map(|request| (request.at, request.key))
            .collect();
        old.sort_unstable();
        old.truncate(limit as usize);
        for (_, key) in &old {
            state.requests.remove(key);
        }
        Ok(old.len() as u64)
    }

    async fn decision(&self, id: Uuid) -> Result<Option<DecisionRow>, StoreError> {
        Ok(self.state().decisions.get(&id).cloned())
    }

    async fn decisions(&self, query: &DecisionQuery) -> Result<Vec<DecisionRow>, StoreError> {
        let state = self.state();
        let wanted = |decision: &&DecisionRow| {
            decision.namespace == query.namespace
                && query.run.is_none_or(|run| run == decision.run)
                && query.state.is_none_or(|state| state == decision.state)
                && query.kind.is_none_or(|kind| kind == decision.kind)
                && query.project.as_ref().is_none_or(|project| decision.project.as_ref() == Some(project))
                && query.before.is_none_or(|before| (decision.created_at, decision.id) < before)
        };
        let mut found: Vec<&DecisionRow> = state.decisions.values().filter(wanted).collect();
        found.sort_unstable_by_key(|decision| std::cmp::Reverse((decision.created_at, decision.id)));
        Ok(found.into_iter().take(query.limit as usize).cloned().collect())
    }
}

fn namespace_of(row: &LogRow) -> &str {
    match row {
        LogRow::Run(record) => &record.namespace,
        LogRow::Published(event) => &event.namespace,
    }
}
