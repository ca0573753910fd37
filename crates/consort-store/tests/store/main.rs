//! The conformance suite of the ports, run on every backend; what only SQLite promises; data of older versions;
//! and a model test between the two.

#![allow(clippy::unwrap_used, clippy::panic)] // in a test, both are how a promise that was not kept is told

mod build;
mod conformance;
mod keeping;
mod model;
mod sqlite;
mod upgrade;
