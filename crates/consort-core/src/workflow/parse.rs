//! From YAML to a checked [`Workflow`].

use super::{Inputs, Workflow};
use crate::data::Data;
use crate::error::Violation;

/// A mistake in a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Place in the definition, for example `steps[2].needs[0]`; empty for the whole.
    pub path: String,
    /// Line, from 1; 0 if unknown.
    pub line: usize,
    /// Column, from 1; 0 if unknown.
    pub column: usize,
    /// What is wrong, with the value found.
    pub message: String,
    /// How to mend it; may be empty.
    pub hint: String,
}

pub(super) fn workflow(_source: &str) -> Result<Workflow, Vec<Mistake>> {
    Err(Vec::new())
}

pub(super) fn complete_inputs(_inputs: &Inputs, given: &serde_json::Value) -> Result<Data, Vec<Violation>> {
    Ok(Data::of(given))
}
