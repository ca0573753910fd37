//! What a run's expressions can see.

use std::collections::HashMap;
use std::sync::Arc;

use super::state::Run;
use crate::data::{BlobRef, Data, Json};
use crate::workflow::{EvalError, Scope, StepView, Template};

/// The run, the item at hand, and the blobs that were fetched.
pub(super) struct RunScope<'a> {
    pub run: &'a Run,
    pub item: Option<(Data, u32)>,
    pub blobs: &'a HashMap<Arc<str>, Json>,
}

impl Scope for RunScope<'_> {
    fn inputs(&self) -> &Data {
        &self.run.s.inputs
    }

    fn step(&self, id: &str) -> Option<StepView> {
        let step = *self.run.definition.index.get(id)?;
        let unit = &self.run.s.steps[step].unit;
        Some(StepView { status: unit.state.name(), output: unit.output.clone().unwrap_or_else(Data::null) })
    }

    fn item(&self) -> Option<(&Data, u32)> {
        self.item.as_ref().map(|(data, n)| (data, *n))
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

fn brief(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
