//! The engine: use cases over the core's pure transitions, and the loops that keep runs moving.
//!
//! One task, the [ledger], owns the state of every hot run and is the only writer. It takes what has queued up, decides it in
//! memory, commits all of it in one transaction, and only then answers and hands out tasks: log, then act. While a
//! commit is under way the next batch gathers, so the group grows with the load and an idle system commits at once.
//!
//! [ledger]: ledger/index.html

mod types;

pub use types::*;
