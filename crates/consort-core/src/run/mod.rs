//! One run: its state, what may change it, and how.
//!
//! ```text
//! command ──decide──▶ events ──apply──▶ state
//! ```
//!
//! [`Run::decide`] takes a [`Command`] and answers with the events it causes; each event has been applied before the next
//! one is decided, and [`Run::apply`] is the only code that changes state. Nothing here reads a clock, rolls dice or waits:
//! time and chance come in with the [`Context`], and values that are not at hand go out as [`Needs`].
//!
//! Legal changes of a step (`-` is refused):
//!
//! ```text
//! from \ to      READY  BLOCKED  IN_PROGRESS  DONE  FAILED  SKIPPED  CANCELLED
//! CREATED          x       x          -         -      x       x         x
//! READY            -       x          x         -      x       -         x
//! BLOCKED          x       -          -         -      x       -         x
//! IN_PROGRESS      -       x          -         x      x       -         x
//! ```
//!
//! DONE, FAILED, SKIPPED and CANCELLED are final; `RunRetried` gives FAILED and CANCELLED steps a new life at CREATED.
//!
//! A question to a person makes a step BLOCKED, and its answer READY: `decide` asks for the step's output, `clarify` before the
//! step begins, and a worker's question in the middle of it.

mod advance;
mod apply;
mod begin;
mod calls;
mod decide;
mod emit;
mod fail;
mod fold;
mod questions;
mod restore;
mod scope;
mod state;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::data::{BlobRef, Data, Json};
use crate::event::{Entry, Fact, Failure, LeaseLoss, Published, Report};
use crate::ids::{Millis, RunId, StepKey};
use crate::model::{Asked, Reply};
use crate::ports::DecisionRow;
use crate::workflow::Workflow;

pub use decide::mismatch;
pub use emit::{ORCHESTRATOR, project_name};
pub use fold::{Fold, differences};
pub use restore::Damaged;
pub use state::{Clarified, Run, RunState, StepState, Task, Unit};

/// Items a `for_each` may have.
pub const MAX_ITEMS: usize = 10_000;
/// How deep child runs may be nested.
pub const MAX_DEPTH: u32 = 16;
/// Log lines and notes kept for one step.
pub const MAX_REPORTS: u32 = 1_000;
/// Signals that may wait in a run until a step takes them.
pub const MAX_SIGNALS: usize = 1_000;
/// Workers that an attempt may lose before it counts as failed: what kills every worker must not go round for ever.
pub const MAX_LOST: u32 = 16;
/// Questions that a step may ask.
pub const MAX_QUESTIONS: u32 = 100;

/// What comes from outside a transition: time, chance, and values that were fetched for it.
pub struct Context<'a> {
    /// Now.
    pub now: Millis,
    /// From 0 to 1, for jitter.
    pub chance: f64,
    /// Texts of blobs, by SHA-256.
    pub blobs: &'a HashMap<Arc<str>, Json>,
    /// Newest definitions of child workflows by id; `None` for a workflow that does not exist.
    pub workflows: &'a HashMap<Arc<str>, Option<Child>>,
}

/// A definition a child run can be started from.
#[derive(Clone, Debug)]
pub struct Child {
    /// Its revision.
    pub revision: u64,
    /// The definition.
    pub definition: Arc<Workflow>,
}

/// What happens to a run from outside.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the fields are those of the events they cause
pub enum Command {
    /// A worker is given a READY step.
    Lease { step: StepKey, attempt: u32, worker: Arc<str>, session: Arc<str>, token: u64 },
    /// A worker has a result. One that became a blob was held against the step's schema by the caller.
    Complete { step: StepKey, token: u64, output: Data },
    /// A worker has a plan: its text, and the definition it is.
    Plan { step: StepKey, token: u64, source: Data, plan: Arc<Workflow> },
    /// A worker asks a person before it goes on.
    Ask { step: StepKey, token: u64, question: Question },
    /// A worker failed.
    Fail { step: StepKey, token: u64, error: Failure, retryable: bool, retry_after: Option<Duration> },
    /// A lease ended without an answer.
    LoseLease { step: StepKey, token: u64, reason: LeaseLoss },
    /// A worker said something worth keeping.
    Report { step: StepKey, token: u64, report: Report },
    /// A model was called for an attempt of a step, and answered.
    RecordCall { step: StepKey, attempt: u32, token: u64, asked: Box<Asked>, reply: Arc<Reply> },
    /// An operation of a plugin is about to be called for a step that has its lease, or was called.
    RecordOperation { step: StepKey, attempt: u32, token: u64, fact: Box<Fact> },
    /// Time has passed.
    Tick,
    /// Values that were needed are there.
    Advance,
    /// A value that is needed is gone for good.
    Fault { error: Failure },
    /// Hold back what has not begun.
    Pause { reason: String },
    /// Go on.
    Resume,
    /// Stop.
    Cancel { reason: String },
    /// Go on from the failed steps.
    Retry,
    /// A signal came.
    Signal { signal: String, payload: Data },
    /// A person answered.
    Answer { step: StepKey, decision: Uuid, option: String, form: Option<Data>, by: String },
    /// A child run is over.
    ChildOver { step: StepKey, child: RunId, outcome: ChildOutcome },
}

/// What a worker asks.
#[derive(Clone, Debug)]
pub struct Question {
    /// The question.
    pub title: String,
    /// More about it.
    pub description: String,
    /// What can be chosen; not empty.
    pub options: Vec<String>,
    /// JSON Schema of the form that goes with an answer.
    pub form: Option<Json>,
    /// How long to wait.
    pub deadline: Option<Duration>,
    /// What the deadline chooses.
    pub default: Option<String>,
}

/// How a child run ended.
#[derive(Clone, Debug)]
pub enum ChildOutcome {
    /// With an output.
    Succeeded(Data),
    /// With an error.
    Failed(Failure),
    /// It was stopped.
    Cancelled,
}

/// What a command caused.
#[derive(Debug, Default)]
pub struct Transition {
    /// Events, applied already, to be stored.
    pub entries: Vec<Entry>,
    /// Values that became blobs; they must be stored before the events.
    pub blobs: Vec<(BlobRef, Json)>,
    /// What is missing before the run can go on; fetch it and send [`Command::Advance`].
    pub needs: Needs,
    /// Leases that ended without their worker's doing; tell the workers.
    pub revoked: Vec<Revoked>,
    /// Child runs nobody waits for any more; cancel them.
    pub orphans: Vec<RunId>,
    /// Decisions that opened or closed.
    pub decisions: Vec<DecisionRow>,
    /// Events that are published in the same commit.
    pub published: Vec<Published>,
    /// Child runs that begin, with their definitions.
    pub children: Vec<(RunId, Arc<Workflow>)>,
    /// Events that broke their contract, with the reasons, for the dead letters.
    pub refused: Vec<(Published, String)>,
    /// The command had been obeyed before; nothing happened now.
    pub repeated: bool,
    /// After a failure: the step will be tried again.
    pub will_retry: bool,
}

/// Values that a run cannot go on without.
#[derive(Debug, Default, PartialEq)]
pub struct Needs {
    /// Blobs to load.
    pub blobs: Vec<BlobRef>,
    /// Workflows to look up.
    pub workflows: Vec<Arc<str>>,
}

impl Needs {
    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.workflows.is_empty()
    }
}

/// A lease that ended without its worker's doing.
#[derive(Clone, Debug, PartialEq)]
pub struct Revoked {
    /// The step.
    pub step: StepKey,
    /// The attempt.
    pub attempt: u32,
    /// The token.
    pub token: u64,
    /// Why.
    pub reason: &'static str,
}
