//! The conformance suite of the ports, run on every backend; what only SQLite promises; and a model test between the two.

mod build;
mod conformance;
mod model;
mod sqlite;
