//! The plugin `git`: repositories are read and changed by libgit2. No program is run, and no hook.
//!
//! One file per operation; `access` decides which repositories may be opened.

mod access;
mod branch;
mod commit;
mod config;
mod diff;
mod files;
mod log;
mod push;
mod show;
mod status;
mod words;

use std::time::Duration;

use consort_sdk::plugin::{Call, Fault, Operation, Plugin};

use crate::config::Config;

/// The plugin with its operations.
pub fn plugin() -> Plugin {
    Plugin::new("git", env!("CARGO_PKG_VERSION"))
        .description("Reads and changes git repositories: history, differences, files, branches, commits, pushes.")
        .checked_config::<Config>(|config, _| config.check())
        // Each takes a thread and what it reads of a repository.
        .at_once(32)
        .operation(
            Operation::read("log", "Lists commits, newest first, with the files that each changed.")
                .timeout(Duration::from_secs(120)),
            |call: Call, input: log::Input| on_thread(call, input, log::log),
        )
        .operation(
            Operation::read("diff", "Shows what differs between two revisions, or a revision and the working tree."),
            |call: Call, input: diff::Input| on_thread(call, input, diff::diff),
        )
        .operation(Operation::read("branches", "Lists branches."), |call: Call, input: branch::ListInput| {
            on_thread(call, input, branch::list)
        })
        .operation(Operation::read("show", "Gives a file as it is at a revision."), |call: Call, input: show::Input| {
            on_thread(call, input, show::show)
        })
        .operation(
            Operation::read("status", "Says which files of the working tree differ from the last commit."),
            |call: Call, input: status::Input| on_thread(call, input, status::status),
        )
        .operation(
            Operation::idempotent_write("create_branch", "Creates a branch, and switches to it if asked.").dry_run(),
            |call: Call, input: branch::CreateInput| on_thread(call, input, branch::create),
        )
        .operation(
            Operation::idempotent_write("commit", "Commits given files of the working tree.").dry_run(),
            |call: Call, input: commit::Input| on_thread(call, input, commit::commit),
        )
        .operation(
            Operation::write("push", "Sends a branch to a remote.").dry_run().timeout(Duration::from_secs(300)),
            push::push,
        )
}

/// libgit2 waits for the disk and computes: each call has a thread.
async fn on_thread<I: Send + 'static, O: Send + 'static>(
    call: Call,
    input: I,
    work: fn(&Call, I) -> Result<O, Fault>,
) -> Result<O, Fault> {
    call.blocking(move |call| work(call, input)).await
}
