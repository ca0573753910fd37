//! `diff`: what differs between two revisions, or a revision and the working tree.

use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault};
use git2::{DiffFormat, DiffOptions, ErrorCode, Repository, Tree};
use serde::{Deserialize, Serialize};

use crate::access::{Intent, inside, open};
use crate::files::{FileChange, LARGE, changed};
use crate::words::{commit_of, told};

/// Files that are listed.
const FILES: usize = 1_000;
/// Bytes of the text, at most and if nothing is said.
const MOST: usize = 4 * 1024 * 1024;
const USUAL: usize = 256 * 1024;
/// Paths that may be named.
const PATHS: usize = 1_000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// Path of a repository, or of a folder in one.
    path: String,
    /// The old side: a branch, a tag, an id, `HEAD~2`.
    #[serde(default = "head")]
    from: String,
    /// The new side; the working tree if absent.
    to: Option<String>,
    /// Compares `to` with where it left `from`, as a review does.
    #[serde(default)]
    since_fork: bool,
    /// Only these files and folders.
    #[serde(default)]
    files: Vec<String>,
    /// Whether files that git does not know yet count as added; for the working tree.
    #[serde(default)]
    untracked: bool,
    /// Lines around each change.
    #[serde(default = "three")]
    #[schemars(range(max = 100))]
    context_lines: u32,
    /// Bytes of the text, at most; 4 MiB is the limit.
    #[serde(default = "usual")]
    #[schemars(range(max = 4_194_304))]
    limit_bytes: usize,
}

fn head() -> String {
    "HEAD".to_owned()
}

fn three() -> u32 {
    3
}

fn usual() -> usize {
    USUAL
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Output {
    /// Files that changed, at most 1,000.
    files: Vec<FileChange>,
    /// Number of files that changed.
    files_changed: usize,
    /// Lines that are new.
    added: usize,
    /// Lines that are gone.
    deleted: usize,
    /// Unified diff; ends at the end of a line.
    text: String,
    /// `text` or `files` is not whole.
    truncated: bool,
}

pub(crate) fn diff(call: &Call, input: Input) -> Result<Output, Fault> {
    if input.context_lines > 100 {
        return Err(Fault::bad_input("context_lines", format!("is {}; give at most 100", input.context_lines)));
    }
    if input.limit_bytes > MOST {
        return Err(Fault::bad_input("limit_bytes", format!("is {}; give at most {MOST}", input.limit_bytes)));
    }
    if input.files.len() > PATHS {
        return Err(Fault::bad_input("files", format!("has {} paths; give at most {PATHS}", input.files.len())));
    }
    let repository = open(call, &input.path, Intent::Read)?;
    let broken = told("the difference cannot be read");
    let mut options = DiffOptions::new();
    options.max_size(LARGE).context_lines(input.context_lines).disable_pathspec_match(true).ignore_submodules(true);
    for file in &input.files {
        options.pathspec(inside(&repository, "files", file)?);
    }
    let mut diff = match &input.to {
        Some(to) => {
            let to = commit_of(&repository, "to", to)?;
            let mut from = commit_of(&repository, "from", &input.from)?;
            if input.since_fork {
                let base = repository.merge_base(from.id(), to.id()).map_err(told("there is no common commit"))?;
                from = repository.find_commit(base).map_err(&broken)?;
            }
            let (from, to) = (from.tree().map_err(&broken)?, to.tree().map_err(&broken)?);
            repository.diff_tree_to_tree(Some(&from), Some(&to), Some(&mut options))
        }
        None if repository.is_bare() => {
            return Err(Fault::bad_input("to", "is absent, and the repository has no working tree; give a revision"));
        }
        None => {
            options.include_untracked(input.untracked).recurse_untracked_dirs(input.untracked);
            options.show_untracked_content(input.untracked);
            let from = base(&repository, &input.from)?;
            repository.diff_tree_to_workdir_with_index(from.as_ref(), Some(&mut options))
        }
    }
    .map_err(&broken)?;
    let mut renames = git2::DiffFindOptions::new();
    diff.find_similar(Some(renames.renames(true).rename_limit(200))).map_err(&broken)?;
    let (files, more) = changed(&diff, FILES).map_err(&broken)?;
    let stats = diff.stats().map_err(&broken)?;
    call.check_cancelled()?;
    let (text, cut) = text(call, &diff, input.limit_bytes)?;
    Ok(Output {
        files,
        files_changed: stats.files_changed(),
        added: stats.insertions(),
        deleted: stats.deletions(),
        text,
        truncated: more || cut,
    })
}

/// The tree of a revision; none in a repository without commits.
fn base<'r>(repository: &'r Repository, from: &str) -> Result<Option<Tree<'r>>, Fault> {
    let unborn = repository.head().is_err_and(|error| error.code() == ErrorCode::UnbornBranch);
    if from == "HEAD" && unborn {
        return Ok(None);
    }
    Ok(Some(commit_of(repository, "from", from)?.tree().map_err(told("the revision cannot be read"))?))
}

/// The unified text, and whether it was cut.
fn text(call: &Call, diff: &git2::Diff, most: usize) -> Result<(String, bool), Fault> {
    let (mut bytes, mut cut) = (Vec::new(), false);
    let printed = diff.print(DiffFormat::Patch, |_, _, line| {
        let marked = matches!(line.origin(), '+' | '-' | ' ');
        if bytes.len() + line.content().len() + usize::from(marked) > most || call.is_cancelled() {
            cut = true;
            return false;
        }
        if marked {
            bytes.push(line.origin() as u8);
        }
        bytes.extend_from_slice(line.content());
        true
    });
    match printed {
        // This is how printing is stopped.
        Err(error) if !(cut && error.code() == ErrorCode::User) => {
            return Err(told("the difference cannot be read")(error));
        }
        _ => call.check_cancelled()?,
    }
    Ok((String::from_utf8_lossy(&bytes).into_owned(), cut))
}
