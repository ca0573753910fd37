//! A small world for runs: a clock that is set by hand, workers that do what a script says, and child runs that begin and end by
//! themselves. It writes down what happens, a line for each event.

pub(crate) mod golden;
mod script;
mod show;
mod world;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

pub(crate) use world::World;

/// One example.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What it shows, in a sentence.
    pub(crate) case: String,
    /// The project of the run.
    pub(crate) project: Option<String>,
    /// The definition.
    pub(crate) workflow: String,
    /// Definitions of child workflows by id.
    #[serde(default)]
    pub(crate) workflows: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) inputs: Value,
    /// Agents whose workers always answer with this.
    #[serde(default)]
    pub(crate) agents: BTreeMap<String, Value>,
    /// What happens.
    #[serde(default)]
    pub(crate) script: Vec<Value>,
}
