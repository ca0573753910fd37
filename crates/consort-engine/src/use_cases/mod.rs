//! What callers can ask of the engine: one file per subject.

mod answers;
mod decisions;
mod events;
mod projects;
mod requests;
mod runs;
mod signals;
mod workers;
mod workflows;
