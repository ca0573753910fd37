//! What a run's expressions can see.

use std::collections::HashMap;
use std::sync::Arc;

use super::state::{Run, StepState};
use crate::data::{BlobRef, Data, Json};
use crate::event::Code;
use crate::workflow::{EvalError, Local, Scope, StepView, Template};

/// The run, the item at hand, and the blobs that were fetched.
pub(super) struct RunScope<'a> {
    pub run: &'a Run,
    pub round: Round,
    /// The answer to the step's `clarify`.
    pub clarified: Option<Data>,
    pub blobs: &'a HashMap<Arc<str>, Json>,
}

/// Which time a step is done that is done more than once.
#[derive(Clone)]
pub(super) enum Round {
    /// It is done once.
    Once,
    /// For an item of a `for_each`: the item and its number.
    Item(Data, u32),
    /// An iteration of a `while`: the output of the one before and the number.
    Iteration(Data, u32),
}

impl Scope for RunScope<'_> {
    fn inputs(&self) -> &Data {
        &self.run.s.inputs
    }

    fn step(&self, id: &str) -> Option<StepView> {
        let step = *self.run.definition.index.get(id)?;
        let unit = &self.run.s.steps[step].unit;
        let error = unit.error.as_ref().filter(|_| unit.state == StepState::Failed);
        let error = error.map(|e| serde_json::json!({"code": Code::name_of(e.code), "message": e.message}));
        Some(StepView {
            status: unit.state.name(),
            output: unit.output.clone().unwrap_or_else(Data::null),
            error: error.map_or_else(Data::null, |error| Data::of(&error)),
        })
    }

    fn local(&self, local: Local) -> Option<Data> {
        match (local, &self.round) {
            (Local::Item, Round::Item(data, _)) | (Local::Last, Round::Iteration(data, _)) => Some(data.clone()),
            (Local::Index, Round::Item(_, n) | Round::Iteration(_, n)) => Some(Data::of(&(*n).into())),
            (Local::Clarification, _) => Some(self.clarified.clone().unwrap_or_else(Data::null)),
            _ => None,
        }
    }

    fn project(&self) -> Option<&str> {
        self.run.s.project.as_ref().map(|project| &*project.id)
    }

    fn run_id(&self) -> String {
        self.run.id.to_string()
    }

    fn workflow(&self) -> &str {
        &self.run.s.workflow
    }

    fn blob(&self, blob: &BlobRef) -> Option<Json> {
        self.blobs.get(&blob.sha256).cloned()
    }
}

impl RunScope<'_> {
    /// The text of a value, wherever it is.
    pub(super) fn text(&self, data: &Data) -> Result<Json, EvalError> {
        match data {
            Data::Inline(json) => Ok(json.clone()),
            Data::Blob(blob) => self.blob(blob).ok_or_else(|| EvalError::NeedsBlobs(vec![blob.clone()])),
        }
    }

    /// The value of a template, loaded.
    pub(super) fn value(&self, template: &Template) -> Result<serde_json::Value, EvalError> {
        let data = template.eval(self)?;
        Ok(self.text(&data)?.value())
    }

    /// The value of a template as text: strings as they are, others as JSON.
    pub(super) fn string(&self, template: &Template) -> Result<String, EvalError> {
        Ok(match self.value(template)? {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        })
    }

    /// The elements of a list.
    pub(super) fn list(&self, list: &Data) -> Result<Vec<Data>, EvalError> {
        let text = self.text(list)?;
        let items: Vec<Json> = serde_json::from_str(text.as_str()).map_err(|_| {
            EvalError::Failed(format!("`for_each` must give a list, but gave {}", brief(text.as_str())))
        })?;
        Ok(items.into_iter().map(Data::Inline).collect())
    }
}

pub(super) fn brief(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
