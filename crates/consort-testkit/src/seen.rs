//! What clients saw: the one side that the checker compares.

use std::sync::{Mutex, PoisonError};

use consort_core::ids::RunId;
use consort_proto::orchestrator::{Run, RunEvent, RunState};
use consort_sdk::{Code, Error};
use serde_json::Value;
use uuid::Uuid;

/// The label under which a run carries the `request_id` it was started with, so that the store tells who asked for it.
pub const REQUEST_LABEL: &str = "request";

/// What a client asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// A run, with this `request_id`; the run carries it as its label `request`.
    Start(String),
    /// That a decision be answered with an option.
    Answer(Uuid, String),
    /// That a run take a signal of this name, which no other call uses.
    Signal(RunId, String),
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Acknowledged, for a start with the run.
    Ok(Option<RunId>),
    /// Refused: it must have no effect.
    Failed(Code),
    /// The connection broke or time ran out: it may have its effect, once.
    Unknown,
}

/// A call and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What was asked.
    pub asked: Asked,
    /// What became of it.
    pub outcome: Outcome,
}

/// How a client saw a run end.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The run.
    pub run: RunId,
    /// Its final state.
    pub state: RunState,
    /// Number of its last event.
    pub sequence: u64,
    /// Its output, with blobs read.
    pub output: Value,
}

/// An event that a client was shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// The run.
    pub run: RunId,
    /// Its number.
    pub sequence: u64,
    /// The step it is about; empty for the run.
    pub step: String,
    /// When, in milliseconds since 1970.
    pub at: i64,
}

/// All that clients saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Calls in no order.
    pub calls: Vec<Call>,
    /// Ends of runs.
    pub ended: Vec<Ended>,
    /// Events, each watcher's in order.
    pub watched: Vec<Watched>,
}

/// Where the clients of a test write what they see.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Seen>);

impl Journal {
    /// Writes down a call.
    pub fn call(&self, asked: Asked, outcome: Outcome) {
        self.with(|seen| seen.calls.push(Call { asked, outcome }));
    }

    /// Writes down how a run was seen to end. `output` has its blobs read.
    pub fn ended(&self, run: &Run, output: Value) {
        let ended = Ended { run: run_id(&run.name), state: run.state(), sequence: run.sequence as u64, output };
        self.with(|seen| seen.ended.push(ended));
    }

    /// Writes down an event that came.
    pub fn watched(&self, event: &RunEvent) {
        let time = event.time.as_ref().expect("every event has a time");
        let at = time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000;
        let (run, sequence) = (run_id(&event.run), event.sequence as u64);
        self.with(|seen| seen.watched.push(Watched { run, sequence, step: event.step.clone(), at }));
    }

    /// Everything so far.
    pub fn seen(&self) -> Seen {
        self.with(|seen| seen.clone())
    }

    /// Looks at what was written so far, or writes.
    pub fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What an error leaves open. `transient` codes come from connections that broke under the call; every other code is the
/// mesh's own refusal.
pub fn outcome_of(error: &Error) -> Outcome {
    match error.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Internal | Code::Cancelled => {
            Outcome::Unknown
        }
        code => Outcome::Failed(code),
    }
}

/// The id at the end of a run's name.
pub fn run_id(name: &str) -> RunId {
    let id = name.rsplit('/').next().unwrap_or_default();
    RunId(id.parse().unwrap_or_else(|error| panic!("`{name}` is not the name of a run: {error}")))
}
