//! What callers can ask of the engine: one file per subject.

mod decisions;
mod events;
mod requests;
mod runs;
mod workers;
mod workflows;
