//! A plugin as a process, driven as the mesh drives it; and in process, by the test bench.

#[path = "plugin/bench.rs"]
mod bench;
#[path = "plugin/process.rs"]
mod process;
