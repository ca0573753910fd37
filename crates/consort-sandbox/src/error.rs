//! What can be wrong before a program is started.

use std::path::PathBuf;

use crate::Missing;

/// Why a program is not started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks mechanisms that the grants need, and `allow_missing` is off.
    #[error("the sandbox is not whole here: {}", list(.0))]
    Missing(Vec<Missing>),
    /// A path of a grant is not absolute, or a granted path for writing is not there.
    #[error("{field}: {}: {problem}", path.display())]
    Path {
        /// Field of [`crate::Sandbox`].
        field: &'static str,
        /// As it was given.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
    /// Grants and variables together are larger than what a process can be handed.
    #[error("the grants and variables are {bytes} bytes together, and {limit} is the most: grant less")]
    TooLarge {
        /// Size of the policy.
        bytes: usize,
        /// The most.
        limit: usize,
    },
    /// A name or value that no process can be handed.
    #[error("env: {0:?} is no variable: a name has no `=`, and neither name nor value a zero byte")]
    Variable(String),
    /// The helper process did not say what the machine offers.
    #[error("`{program}` did not say what this machine offers: {problem}")]
    Probe {
        /// What was run.
        program: String,
        /// What came of it.
        problem: String,
    },
}

fn list(missing: &[Missing]) -> String {
    missing.iter().map(|one| format!("{} ({})", one.mechanism, one.why)).collect::<Vec<_>>().join("; ")
}
