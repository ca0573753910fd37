//! The domain: what a workflow is, what a run is, and how a run changes. Nothing here knows a network, a database or an
//! async runtime; nothing here reads a clock or rolls dice.
//!
//! - [`workflow`]: definitions, their language and their checks.
//! - [`run`]: the state of one run and its transitions. `Run::decide` turns a command into events, `Run::apply` turns
//!   events into state; nothing else changes a run.
//! - [`event`]: the facts of a run's history, and how they are stored.
//! - [`signal`]: what was noticed, and how it is classified.
//! - [`contract`]: what the payloads of events must be, by type and version.
//! - [`model`]: calls of models, and the ports behind which models live.
//! - [`ports`]: what the engine needs from stores; [`keep`]: what keeps a store healthy for years.
//! - [`glob`]: patterns of what is allowed.
//! - [`error`]: the one error type that crosses room walls.

pub mod contract;
pub mod data;
pub mod envelope;
pub mod error;
pub mod event;
pub mod glob;
pub mod ids;
pub mod keep;
pub mod letter;
pub mod model;
pub mod plugin;
pub mod ports;
pub mod run;
pub mod signal;
pub mod workflow;

pub use data::{BlobRef, Data, Json};
pub use error::{Error, Kind, Violation};
pub use ids::{Millis, RunId, StepKey, rfc3339};
