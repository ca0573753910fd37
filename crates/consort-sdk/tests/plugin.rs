//! A plugin as a process, driven as the mesh drives it; and in process, by the test bench.

// A test may unwrap: a panic is how it fails.
#![allow(clippy::unwrap_used)]

#[path = "plugin/bench.rs"]
mod bench;
#[path = "plugin/process.rs"]
mod process;
