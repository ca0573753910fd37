//! The Rust SDK: a [`Client`] that starts and follows runs, a [`Worker`] that performs tasks and, with the feature `plugin`, a plugin that offers
//! operations.
//!
//! ```no_run
//! use consort_sdk::{Task, Worker};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Input {
//!     text: String,
//! }
//!
//! #[derive(Serialize)]
//! struct Output {
//!     words: usize,
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), consort_sdk::Error> {
//!     Worker::new("notes")
//!         .agent("count", |task: Task| async move {
//!             let input: Input = task.input()?;
//!             task.progress(0.5, "counting").await;
//!             Ok(Output { words: input.text.split_whitespace().count() })
//!         })
//!         .run()
//!         .await
//! }
//! ```
//!
//! A handler can also call a model on behalf of its task ([`Task::generate`]), ask another agent ([`Task::ask_agent`], answered by [`Worker::answers`]), ask a person ([`Task::ask`]) and
//! answer with a [`Plan`]. A [`Client`] can also handle events, shared with others
//! ([`Client::serve_group`]).
//!
//! With the feature `plugin`, the module `plugin` makes a process a plugin: typed operations that the mesh calls, checks, permits and
//! supervises.
//!
//! The mesh is looked for at the address in `CONSORT_ADDR`, else at `127.0.0.1:7420`.

mod ask;
mod backoff;
mod blobs;
mod client;
mod dead_letters;
mod decisions;
mod error;
mod group;
mod logs;
mod models;
pub mod payload;
#[cfg(feature = "plugin")]
pub mod plugin;
mod projects;
mod runs;
mod signals;
mod task_error;
mod watch;
mod worker;

pub use client::{Client, DEFAULT_ADDR, StartOptions, addr_from_env};
pub use error::Error;
pub use group::{Delivery, Group, GroupOptions};
pub use logs::log_to_stderr;
pub use models::{Generated, Prompt};
pub use projects::ProjectOptions;
pub use runs::RunFilter;
pub use signals::{SignalFilter, SignalOptions};
pub use task_error::TaskError;
pub use tonic::Code;
pub use worker::{Agent, Answer, Ask, Asker, Clarification, Inquiry, IntoAnswer, Plan, Question, Task, Worker};

/// The wire types, for what the conveniences do not cover.
pub use consort_proto as proto;
