//! The plugin `files`: a workspace of files with no way out of it.
//!
//! One file per operation; `root` opens what a path names, and `save` replaces files whole.

mod config;
mod diff;
mod list;
mod patch;
mod read;
mod remove;
mod root;
mod save;
mod search;
mod write;

use std::time::Duration;

use consort_sdk::plugin::{Call, Fault, Operation, Plugin};

use crate::config::Config;

/// The plugin with its operations.
pub fn plugin() -> Plugin {
    Plugin::new("files", env!("CARGO_PKG_VERSION"))
        .description("A workspace of files: list, read, write, patch, search, move, delete. No way leads out of it.")
        .checked_config::<Config>(|config, _| config.check())
        // Each takes a thread and the files that it reads.
        .at_once(32)
        .operation(Operation::read("list", "Lists a folder."), |call: Call, input: list::Input| {
            on_thread(call, input, list::list)
        })
        .operation(Operation::read("read", "Reads a file, or a part of it."), |call: Call, input: read::Input| {
            on_thread(call, input, read::read)
        })
        .operation(
            Operation::read("search", "Finds lines that match a regular expression.").timeout(Duration::from_secs(120)),
            |call: Call, input: search::Input| on_thread(call, input, search::search),
        )
        .operation(
            Operation::idempotent_write("write", "Writes a whole file; readers see the old one or the new one.")
                .dry_run(),
            |call: Call, input: write::Input| on_thread(call, input, write::write),
        )
        .operation(
            Operation::write("patch", "Applies a unified diff to one or more files, all of it or nothing.").dry_run(),
            |call: Call, input: patch::Input| on_thread(call, input, patch::patch),
        )
        .operation(
            Operation::write("move", "Moves or renames a file or folder.").dry_run(),
            |call: Call, input: remove::MoveInput| on_thread(call, input, remove::move_to),
        )
        .operation(
            Operation::idempotent_write("delete", "Deletes a file or folder.").dry_run(),
            |call: Call, input: remove::DeleteInput| on_thread(call, input, remove::delete),
        )
}

/// Files make wait: each call has a thread.
async fn on_thread<I: Send + 'static, O: Send + 'static>(
    call: Call,
    input: I,
    work: fn(&Call, I) -> Result<O, Fault>,
) -> Result<O, Fault> {
    call.blocking(move |call| work(call, input)).await
}
