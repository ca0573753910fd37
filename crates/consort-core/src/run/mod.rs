//! One run: its state, what may change it, and how.

use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RunState {
    /// Accepted; no step has begun.
    Pending = 1,
    /// At least one step is ready or in progress.
    Running = 2,
    /// Only waits remain.
    Waiting = 3,
    /// Nothing new begins until it is resumed.
    Paused = 4,
    /// Over, with an output.
    Succeeded = 5,
    /// Over, with an error.
    Failed = 6,
    /// Stopped.
    Cancelled = 7,
}

impl RunState {
    /// The state of this number, as stores keep it.
    pub fn from_number(number: u8) -> Option<RunState> {
        use RunState::{Cancelled, Failed, Paused, Pending, Running, Succeeded, Waiting};
        [Pending, Running, Waiting, Paused, Succeeded, Failed, Cancelled].into_iter().find(|s| *s as u8 == number)
    }

    /// Whether the run is over.
    pub fn is_over(self) -> bool {
        matches!(self, RunState::Succeeded | RunState::Failed | RunState::Cancelled)
    }
}

/// Where a step, or one item of a `for_each`, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Its needs are not over.
    Created,
    /// Waits for a worker.
    Ready,
    /// Waits for time, a person, a child run or its next attempt.
    Blocked,
    /// A worker has it.
    InProgress,
    /// Over, with an output.
    Done,
    /// Over, with an error.
    Failed,
    /// Stopped with its run.
    Cancelled,
    /// Will not be done.
    Skipped,
}
