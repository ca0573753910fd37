//! `status`: which files of the working tree differ from the last commit.

use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault};
use git2::{RepositoryState, Status, StatusOptions};
use serde::{Deserialize, Serialize};

use crate::access::{Intent, open};
use crate::branch::current;
use crate::files::Change;
use crate::words::told;

/// Files that are listed.
const MOST: usize = 10_000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// Path of a repository, or of a folder in one.
    path: String,
    /// Whether to list files that git does not know yet.
    #[serde(default = "yes")]
    untracked: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Output {
    /// The branch; absent if the working tree is at a commit without a branch.
    branch: Option<String>,
    /// Id of the last commit; absent if there is none.
    commit: Option<String>,
    /// Nothing differs.
    clean: bool,
    /// What was begun and not ended, for example `merge` or `rebase`; absent if nothing was.
    in_progress: Option<String>,
    /// At most 10,000.
    files: Vec<Differing>,
    /// There are more.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Differing {
    path: String,
    /// How what is staged differs from the last commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    staged: Option<Change>,
    /// How the working tree differs from what is staged.
    #[serde(skip_serializing_if = "Option::is_none")]
    unstaged: Option<Change>,
    /// git does not know it yet.
    untracked: bool,
}

pub(crate) fn status(call: &Call, input: Input) -> Result<Output, Fault> {
    let repository = open(call, &input.path, Intent::Read)?;
    if repository.is_bare() {
        return Err(Fault::precondition("the repository has no working tree"));
    }
    let mut options = StatusOptions::new();
    options.include_untracked(input.untracked).recurse_untracked_dirs(input.untracked).exclude_submodules(true);
    // What is read of the files is not written to the index: this operation changes nothing.
    options.update_index(false).no_refresh(false);
    let statuses = repository.statuses(Some(&mut options)).map_err(told("the working tree cannot be read"))?;
    let all = statuses.len();
    let files = statuses.iter().take(MOST).map(|entry| {
        let status = entry.status();
        Differing {
            path: String::from_utf8_lossy(entry.path_bytes()).into_owned(),
            staged: staged(status),
            unstaged: unstaged(status),
            untracked: status.contains(Status::WT_NEW),
        }
    });
    let in_progress = repository.state();
    Ok(Output {
        branch: current(&repository),
        commit: repository.head().ok().and_then(|head| Some(head.peel_to_commit().ok()?.id().to_string())),
        clean: all == 0,
        in_progress: (in_progress != RepositoryState::Clean).then(|| format!("{in_progress:?}").to_lowercase()),
        files: files.collect(),
        truncated: all > MOST,
    })
}

fn staged(status: Status) -> Option<Change> {
    let changes = [
        (Status::INDEX_NEW, Change::Added),
        (Status::INDEX_DELETED, Change::Deleted),
        (Status::INDEX_RENAMED, Change::Renamed),
        (Status::INDEX_TYPECHANGE, Change::TypeChanged),
        (Status::INDEX_MODIFIED, Change::Modified),
    ];
    changes.into_iter().find(|(bit, _)| status.contains(*bit)).map(|(_, change)| change)
}

fn unstaged(status: Status) -> Option<Change> {
    let changes = [
        (Status::CONFLICTED, Change::Conflicted),
        (Status::WT_DELETED, Change::Deleted),
        (Status::WT_RENAMED, Change::Renamed),
        (Status::WT_TYPECHANGE, Change::TypeChanged),
        (Status::WT_MODIFIED, Change::Modified),
    ];
    changes.into_iter().find(|(bit, _)| status.contains(*bit)).map(|(_, change)| change)
}
