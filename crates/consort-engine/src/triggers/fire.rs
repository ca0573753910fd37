//! Evaluating a trigger: whether it fires, and with which inputs.

use std::sync::Arc;

use consort_core::data::{BlobRef, Data, Json};
use consort_core::event::{Cause, ProjectRef, RunStarted, Trigger};
use consort_core::ids::RunId;
use consort_core::workflow::{EvalError, Local, Scope, StepView, Template, Workflow};
use serde_json::Value;
use uuid::Uuid;

use super::registry::Triggered;

/// Triggered runs that may lead to one another.
pub(super) const MAX_CHAIN: u32 = 16;

/// What the expressions of a trigger can see.
pub(super) struct Fired {
    local: Local,
    value: Data,
    nothing: Data,
}

impl Fired {
    pub(super) fn new(local: Local, value: &Value) -> Fired {
        Fired { local, value: Data::of(value), nothing: Data::null() }
    }

    /// Whether a condition holds; an absent one does.
    pub(super) fn holds(&self, condition: Option<&Template>) -> Result<bool, String> {
        condition.map_or(Ok(true), |condition| condition.eval_bool(self).map_err(why))
    }

    /// The inputs of a run, complete.
    pub(super) fn inputs(&self, template: &Template, definition: &Workflow) -> Result<Data, String> {
        let given = match template.eval(self).map_err(why)? {
            Data::Inline(json) => json.value(),
            Data::Blob(_) => Value::Null,
        };
        definition.inputs.complete(&given).map_err(|violations| consort_core::Error::bad_fields(violations).message)
    }
}

fn why(error: EvalError) -> String {
    match error {
        EvalError::Failed(text) => text,
        EvalError::NeedsBlobs(_) => "a value is too large".to_owned(),
    }
}

impl Scope for Fired {
    fn inputs(&self) -> &Data {
        &self.nothing
    }

    fn step(&self, _: &str) -> Option<StepView> {
        None
    }

    fn local(&self, local: Local) -> Option<Data> {
        (local == self.local).then(|| self.value.clone())
    }

    fn run_id(&self) -> String {
        String::new()
    }

    fn workflow(&self) -> &'static str {
        ""
    }

    fn project(&self) -> Option<&str> {
        None
    }

    fn blob(&self, _: &BlobRef) -> Option<Json> {
        None
    }
}

/// A run that a trigger starts.
pub(super) fn start(
    id: RunId,
    of: &Triggered,
    inputs: Data,
    trigger: Trigger,
    depth: u32,
    project: Option<ProjectRef>,
    event: Option<Uuid>,
) -> (RunId, RunStarted, Arc<Workflow>) {
    let started = RunStarted {
        project,
        cause: Some(Cause { trigger, depth, event }),
        ..RunStarted::new(of.namespace.clone(), of.workflow.clone(), of.revision, inputs)
    };
    (id, started, Arc::clone(&of.definition))
}
