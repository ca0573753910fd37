//! Which workflows start by themselves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use consort_core::ports::{LogRow, StoreError, WorkflowRow};
use consort_core::workflow::Workflow;
use tokio::sync::Notify;

use crate::Engine;

/// Workflows read at once.
const PAGE: u32 = 256;

/// A workflow with triggers, at its newest revision.
pub(crate) struct Triggered {
    pub namespace: Arc<str>,
    pub workflow: Arc<str>,
    pub revision: u64,
    /// When the revision was applied.
    pub applied_at: consort_core::Millis,
    pub definition: Arc<Workflow>,
}

type Name = (Arc<str>, Arc<str>);

/// The newest revisions of workflows that have triggers.
#[derive(Default)]
pub(crate) struct Registry {
    workflows: RwLock<BTreeMap<Name, Arc<Triggered>>>,
    /// Whether any workflow waits for published events.
    events: AtomicBool,
    /// Whether any workflow waits for events of runs.
    run_events: AtomicBool,
    /// Woken when workflows change.
    pub changed: Notify,
}

impl Registry {
    /// Reads all workflows with triggers.
    pub(crate) async fn load(&self, engine: &Engine) -> Result<(), StoreError> {
        let mut after: (Arc<str>, Arc<str>) = ("".into(), "".into());
        loop {
            let rows = engine.inner.store.triggered((&after.0, &after.1), PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = (last.namespace.clone(), last.id.clone());
            for row in rows {
                if let Ok(workflow) = Workflow::parse(&row.source) {
                    self.applied(&row, &Arc::new(workflow));
                } else {
                    tracing::error!(
                        namespace = %row.namespace, workflow = %row.id,
                        "a stored workflow cannot be read; its triggers are off until it is applied again"
                    );
                }
            }
        }
    }

    /// Takes the newest revision of a workflow.
    pub(crate) fn applied(&self, row: &WorkflowRow, definition: &Arc<Workflow>) {
        let name = (row.namespace.clone(), row.id.clone());
        let triggered = (!definition.triggers.is_empty()).then(|| {
            Arc::new(Triggered {
                namespace: row.namespace.clone(),
                workflow: row.id.clone(),
                revision: row.revision,
                applied_at: row.created_at,
                definition: Arc::clone(definition),
            })
        });
        self.change(name, triggered);
    }

    /// Forgets a workflow.
    pub(crate) fn deleted(&self, namespace: &Arc<str>, workflow: &Arc<str>) {
        self.change((namespace.clone(), workflow.clone()), None);
    }

    fn change(&self, name: Name, triggered: Option<Arc<Triggered>>) {
        let mut workflows = self.workflows.write().unwrap_or_else(PoisonError::into_inner);
        match triggered {
            // An older revision that was applied at the same time does not replace a newer one.
            Some(new) if workflows.get(&name).is_some_and(|known| known.revision > new.revision) => return,
            Some(new) => {
                workflows.insert(name, new);
            }
            None if workflows.remove(&name).is_none() => return,
            None => {}
        }
        let types =
            || workflows.values().flat_map(|w| w.definition.triggers.events.iter().map(|e| e.event_type.as_str()));
        self.events.store(types().next().is_some(), Ordering::Release);
        self.run_events.store(types().any(names_runs), Ordering::Release);
        drop(workflows);
        self.changed.notify_one();
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Triggered>> {
        self.workflows.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Those of a namespace.
    pub(crate) fn of(&self, namespace: &str) -> Vec<Arc<Triggered>> {
        let workflows = self.workflows.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<_> = workflows.values().filter(|w| &*w.namespace == namespace).cloned().collect();
        found.sort_by(|a, b| a.workflow.cmp(&b.workflow));
        found
    }

    /// Whether a row may fire something.
    pub(crate) fn wants(&self, row: &LogRow) -> bool {
        match row {
            LogRow::Published(event) => {
                event.event_type == super::signals::DETECTED || self.events.load(Ordering::Acquire)
            }
            LogRow::Run(_) => self.run_events.load(Ordering::Acquire),
        }
    }
}

/// Whether a pattern of event types can match events of runs.
fn names_runs(pattern: &str) -> bool {
    const OF_RUNS: [&str; 3] = ["RUN.", "STEP.", "DECISION."];
    let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
    OF_RUNS.iter().any(|of| prefix.starts_with(of) || (pattern.ends_with('*') && of.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::names_runs;

    #[test]
    fn patterns_that_can_match_runs() {
        for yes in ["*", "RUN.FAILED", "RUN.*", "R*", "STEP.SUCCEEDED", "DECISION.*"] {
            assert!(names_runs(yes), "{yes}");
        }
        for no in ["ORDER.*", "RUNNER.*", "RUN", "O*", "WORK.ITEM_STARTED"] {
            assert!(!names_runs(no), "{no}");
        }
    }
}
