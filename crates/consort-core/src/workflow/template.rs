//! Values with `${{ }}` in them.

use std::sync::Arc;

use crate::data::{BlobRef, Data, Json};

/// A step as expressions see it.
#[derive(Debug, Clone)]
pub struct StepView {
    /// Lower-case name of its state, for example `done`, `failed`, `skipped`.
    pub status: &'static str,
    /// What it yielded; `null` if it did not.
    pub output: Data,
}

/// What expressions can see: `inputs`, `steps.<id>.output`, `steps.<id>.status`, `item`, `index`, `run.id`, `run.workflow`.
pub trait Scope {
    /// The run's inputs.
    fn inputs(&self) -> &Data;
    /// A step by id. `None` if the definition has none of that id.
    fn step(&self, id: &str) -> Option<StepView>;
    /// The item of a `for_each` and its number.
    fn item(&self) -> Option<(&Data, u32)>;
    /// The run's id.
    fn run_id(&self) -> String;
    /// The workflow's id.
    fn workflow(&self) -> &str;
    /// The text of a blob, if it is at hand.
    fn blob(&self, blob: &BlobRef) -> Option<Json>;
}

/// Why a template has no value.
#[derive(Debug, Clone, PartialEq)]
pub enum EvalError {
    /// These blobs must be at hand first.
    NeedsBlobs(Vec<BlobRef>),
    /// The expression failed; the text says which and why.
    Failed(String),
}

/// A value with `${{ }}` in it, compiled.
#[derive(Debug)]
pub struct Template {
    pub(super) constant: Arc<Data>,
}

impl Template {
    /// The value in a scope. A template that is nothing but `${{ steps.x.output }}` gives the very [`Data`] of the step, so a blob stays
    /// a blob and is not loaded.
    pub fn eval(&self, _scope: &dyn Scope) -> Result<Data, EvalError> {
        Ok((*self.constant).clone())
    }

    /// A template without expressions.
    pub fn constant(value: &serde_json::Value) -> Template {
        Template { constant: Arc::new(Data::of(value)) }
    }
}
