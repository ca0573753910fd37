//! A plugin: operations with typed inputs and outputs, served to the mesh that starts this process. With the feature `plugin`.
//!
//! ```no_run
//! use consort_sdk::plugin::schemars::{self, JsonSchema};
//! use consort_sdk::plugin::{Call, Operation, Plugin};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Input {
//!     text: String,
//! }
//!
//! #[derive(Serialize, JsonSchema)]
//! struct Output {
//!     words: usize,
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), consort_sdk::Error> {
//!     Plugin::new("words", env!("CARGO_PKG_VERSION"))
//!         .description("Counts words.")
//!         .operation(Operation::read("count", "Counts the words of a text."), |call: Call, input: Input| async move {
//!             call.progress(0.5, "counting").await;
//!             Ok(Output { words: input.text.split_whitespace().count() })
//!         })
//!         .serve()
//!         .await
//! }
//! ```
//!
//! The schemas of inputs and outputs come from the types, and so does the check of each input; what a field allows beside its type
//! (a range, a pattern) is checked by the mesh, which holds every call against the schemas. A [`Call`] tells of progress, logs, what a
//! dry run would do and what was done, and reaches the mesh. A [`Fault`] is how an operation fails.
//!
//! A plugin is tried in process by [`testing`], and as a process by `consort plugin test FOLDER`.

mod builder;
mod call;
mod fault;
mod handler;
mod host;
mod run;
mod schema;
mod serve;
mod service;
mod settings;
pub mod testing;
mod writer;

pub use builder::{Operation, Plugin};
pub use call::{Call, Level};
pub use consort_proto::plugin::{Effect, Origin, Permissions};
pub use fault::Fault;
pub use host::Host;
pub use schema::Nothing;
pub use schemars;
pub use writer::{Writer, Written};

/// Bytes of a chunk, and of a JSON result that travels in one message.
const CHUNK: usize = 1024 * 1024;
/// Bytes of an input with what goes with it.
const MESSAGE: usize = 4 * 1024 * 1024 + 64 * 1024;
/// Bytes of a JSON result; what is larger is written in chunks of another media type.
const JSON_RESULT: usize = 64 * 1024 * 1024;
