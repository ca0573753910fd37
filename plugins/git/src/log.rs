//! `log`: commits, newest first.

use std::path::PathBuf;

use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault};
use git2::{Commit, DiffOptions, Repository, Sort};
use serde::{Deserialize, Serialize};

use crate::access::{Intent, inside, open};
use crate::files::{FileChange, LARGE, changed};
use crate::words::{commit_of, moment, seconds, text, time, told};

/// Commits that are given, at most, and that are looked at to find them.
const MOST: u32 = 10_000;
const LOOKED_AT: usize = 200_000;
/// Files of a commit that are listed.
const FILES: usize = 300;
/// Bytes of a message.
const MESSAGE: usize = 16 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// Path of a repository, or of a folder in one.
    path: String,
    /// Where to begin: a branch, a tag, an id, `HEAD~2`.
    #[serde(default = "head")]
    revision: String,
    /// Commits to give, at most.
    #[serde(default = "limit")]
    #[schemars(range(min = 1, max = 10_000))]
    limit: u32,
    /// Committed at this time or later: `2026-01-31` or RFC 3339.
    since: Option<String>,
    /// Committed before this time.
    until: Option<String>,
    /// Part of the author's `Name <email>`, in capitals or not.
    author: Option<String>,
    /// Only commits that changed this file or folder.
    file: Option<String>,
    /// Whether to list the files that each commit changed; a merge is compared with its first parent.
    #[serde(default = "yes")]
    files: bool,
}

fn head() -> String {
    "HEAD".to_owned()
}

fn limit() -> u32 {
    100
}

fn yes() -> bool {
    true
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Output {
    /// Newest first.
    commits: Vec<Entry>,
    /// There are more.
    truncated: bool,
    /// The repository is a shallow clone: its older history is missing.
    shallow: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Entry {
    id: String,
    parents: Vec<String>,
    author: Who,
    committer: Who,
    /// First line of the message.
    subject: String,
    /// The whole message, at most 16 KiB.
    message: String,
    /// Files that it changed, at most 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<FileChange>>,
    /// There are more files.
    files_truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Who {
    name: String,
    email: String,
    /// RFC 3339 with the person's offset.
    time: String,
}

impl From<git2::Signature<'_>> for Who {
    fn from(who: git2::Signature) -> Who {
        let shown = |bytes: &[u8]| text(bytes, 500);
        Who { name: shown(who.name_bytes()), email: shown(who.email_bytes()), time: time(&who) }
    }
}

pub(crate) fn log(call: &Call, input: Input) -> Result<Output, Fault> {
    if !(1..=MOST).contains(&input.limit) {
        return Err(Fault::bad_input("limit", format!("is {}; give 1 to {MOST}", input.limit)));
    }
    let repository = open(call, &input.path, Intent::Read)?;
    let since = input.since.as_deref().map(|since| seconds("since", since)).transpose()?;
    let until = input.until.as_deref().map(|until| seconds("until", until)).transpose()?;
    let author = input.author.as_deref().map(str::to_lowercase);
    let file = input.file.as_deref().map(|file| inside(&repository, "file", file)).transpose()?;
    let broken = told("the history cannot be read");
    let mut walk = repository.revwalk().map_err(&broken)?;
    walk.set_sorting(Sort::TIME).map_err(&broken)?;
    walk.push(commit_of(&repository, "revision", &input.revision)?.id()).map_err(&broken)?;
    let mut commits = Vec::new();
    let mut truncated = false;
    for (number, id) in walk.enumerate() {
        call.check_cancelled()?;
        let commit = repository.find_commit(id.map_err(&broken)?).map_err(&broken)?;
        let at = commit.time().seconds();
        let wanted = since.is_none_or(|since| at >= since)
            && until.is_none_or(|until| at < until)
            && author.as_ref().is_none_or(|author| is_by(&commit, author));
        if !wanted {
            truncated = number >= LOOKED_AT;
            if truncated {
                break;
            }
            continue;
        }
        let touched = match &file {
            Some(file) => difference(&repository, &commit, Some(file)).map_err(&broken)?.deltas().len() > 0,
            None => true,
        };
        if (touched && commits.len() == input.limit as usize) || number >= LOOKED_AT {
            truncated = true;
            break;
        }
        if touched {
            commits.push(entry(&repository, &commit, input.files).map_err(&broken)?);
            if commits.len() % 200 == 0 {
                let share = commits.len() as f64 / f64::from(input.limit);
                call.report_progress(
                    share,
                    format!("{} commits read, back to {}", commits.len(), moment(commit.time())),
                );
            }
        }
    }
    Ok(Output { commits, truncated, shallow: repository.is_shallow() })
}

fn is_by(commit: &Commit, part: &str) -> bool {
    let author = commit.author();
    let shown = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{} <{}>", shown(author.name_bytes()), shown(author.email_bytes())).to_lowercase().contains(part)
}

fn entry(repository: &Repository, commit: &Commit, files: bool) -> Result<Entry, git2::Error> {
    let (files, files_truncated) = if files {
        let (files, more) = changed(&difference(repository, commit, None)?, FILES)?;
        (Some(files), more)
    } else {
        (None, false)
    };
    let message = text(commit.message_bytes(), MESSAGE);
    Ok(Entry {
        id: commit.id().to_string(),
        parents: commit.parent_ids().map(|id| id.to_string()).collect(),
        author: commit.author().into(),
        committer: commit.committer().into(),
        subject: message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned(),
        message,
        files,
        files_truncated,
    })
}

/// What a commit changed against its first parent, or against nothing where that is missing, as at the end of a shallow clone.
fn difference<'r>(
    repository: &'r Repository,
    commit: &Commit,
    file: Option<&PathBuf>,
) -> Result<git2::Diff<'r>, git2::Error> {
    let parent = commit.parent(0).ok().and_then(|parent| parent.tree().ok());
    let mut options = DiffOptions::new();
    options.max_size(LARGE).context_lines(0).ignore_submodules(true);
    if let Some(file) = file {
        options.disable_pathspec_match(true).pathspec(file);
    }
    let mut diff = repository.diff_tree_to_tree(parent.as_ref(), Some(&commit.tree()?), Some(&mut options))?;
    if file.is_none() {
        let mut renames = git2::DiffFindOptions::new();
        diff.find_similar(Some(renames.renames(true).rename_limit(200)))?;
    }
    Ok(diff)
}
