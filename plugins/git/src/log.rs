//! `log`: commits, newest first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;

use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault};
use git2::{Commit, DiffOptions, ErrorCode, Repository, Sort};
use serde::{Deserialize, Serialize};

use crate::access::{Intent, inside, open};
use crate::files::{FileChange, LARGE, changed};
use crate::words::{commit_of, moment, seconds, text, time, told};

/// Commits that are given, at most, and that are looked at to find them.
const MOST: u32 = 10_000;
const LOOKED_AT: usize = 200_000;
/// Files of a commit that are listed.
const FILES: usize = 300;
/// Folders of a commit that are listed, at most.
const FOLDERS: u32 = 100;
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
    /// Whether to give whole messages; without them there are subjects.
    #[serde(default = "yes")]
    messages: bool,
    /// Top-level folders to list of each commit, those in which it changed most files first. This reads no contents, so it is quicker than
    /// `files` and much smaller.
    #[serde(default)]
    #[schemars(range(max = 100))]
    folders: u32,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// Files that it changed, at most 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<FileChange>>,
    /// There are more files.
    files_truncated: bool,
    /// Top-level folders with files that it changed, those with most first, then by name; a file that moved counts where it was and where it
    /// is. Files beside the folders count nowhere. Absent if they were not asked for, or if the clone lacks the commit's list of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    folders: Option<Vec<Folder>>,
}

/// A folder with changed files in it, at any depth.
#[derive(Debug, Serialize, JsonSchema)]
struct Folder {
    name: String,
    /// How many files.
    files: usize,
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
    if input.folders > FOLDERS {
        return Err(Fault::bad_input("folders", format!("is {}; give 0 to {FOLDERS}", input.folders)));
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
            commits.push(entry(&repository, &commit, &input).map_err(&broken)?);
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

fn entry(repository: &Repository, commit: &Commit, input: &Input) -> Result<Entry, git2::Error> {
    let (files, files_truncated) = if input.files {
        let (files, more) = changed(&difference(repository, commit, None)?, FILES)?;
        (Some(files), more)
    } else {
        (None, false)
    };
    let folders = if input.folders == 0 { None } else { folders(repository, commit, input.folders as usize)? };
    let message = text(commit.message_bytes(), MESSAGE);
    Ok(Entry {
        id: commit.id().to_string(),
        parents: commit.parent_ids().map(|id| id.to_string()).collect(),
        author: commit.author().into(),
        committer: commit.committer().into(),
        subject: message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned(),
        message: input.messages.then_some(message),
        files,
        files_truncated,
        folders,
    })
}

/// The top-level folders in which a commit changed most files. Only trees are compared.
fn folders(repository: &Repository, commit: &Commit, most: usize) -> Result<Option<Vec<Folder>>, git2::Error> {
    let mut options = DiffOptions::new();
    options.skip_binary_check(true).ignore_submodules(true);
    let diff = match compared(repository, commit, &mut options) {
        Ok(diff) => diff,
        // A clone may have been made without trees.
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut counted: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for delta in diff.deltas() {
        let path = delta.new_file().path_bytes().or_else(|| delta.old_file().path_bytes());
        let top = path.and_then(|path| path.iter().position(|byte| *byte == b'/').map(|end| &path[..end]));
        if let Some(top) = top {
            *counted.entry(top.to_vec()).or_default() += 1;
        }
    }
    let mut all: Vec<_> = counted.into_iter().collect();
    all.sort_by_key(|(_, files)| Reverse(*files));
    all.truncate(most);
    let named = |(name, files): (Vec<u8>, usize)| Folder { name: String::from_utf8_lossy(&name).into_owned(), files };
    Ok(Some(all.into_iter().map(named).collect()))
}

/// What a commit changed, with renamed files found, or with a `file` only whether it did.
fn difference<'r>(
    repository: &'r Repository,
    commit: &Commit,
    file: Option<&PathBuf>,
) -> Result<git2::Diff<'r>, git2::Error> {
    let mut options = DiffOptions::new();
    options.max_size(LARGE).context_lines(0).ignore_submodules(true);
    if let Some(file) = file {
        options.disable_pathspec_match(true).pathspec(file);
    }
    let mut diff = compared(repository, commit, &mut options)?;
    if file.is_none() {
        let mut renames = git2::DiffFindOptions::new();
        diff.find_similar(Some(renames.renames(true).rename_limit(200)))?;
    }
    Ok(diff)
}

/// A commit against its first parent, or against nothing where that is missing, as at the end of a shallow clone.
fn compared<'r>(
    repository: &'r Repository,
    commit: &Commit,
    options: &mut DiffOptions,
) -> Result<git2::Diff<'r>, git2::Error> {
    let parent = commit.parent(0).ok().and_then(|parent| parent.tree().ok());
    repository.diff_tree_to_tree(parent.as_ref(), Some(&commit.tree()?), Some(options))
}
