//! For tests only: a [`Mesh`] that is the real server as a process, workers that a test scripts or kills, and the
//! [`check`]er that holds what clients saw against what the store holds.
//!
//! A failed expectation panics here, because that is how a test fails.
#![allow(clippy::panic, clippy::unwrap_used)]

mod check;
mod definitions;
mod mesh;
mod process;
mod seen;
mod stored;
mod wait;
mod worker;

pub use check::{Report, check};
pub use definitions::{ASK, CHAIN, CHILD, FAN, FLAKY, PARENT, next};
pub use mesh::Mesh;
pub use process::{Process, binary, root};
pub use seen::{Asked, Call, Ended, Journal, Outcome, REQUEST_LABEL, Seen, Watched, outcome_of, run_id};
pub use stored::Stored;
pub use wait::{PATIENCE, eventually, soon};
pub use worker::{LocalWorker, json_of, output_of, refusal, serve, steps_of};
