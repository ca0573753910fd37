//! Files that changed.

use consort_sdk::plugin::schemars::{self, JsonSchema};
use git2::{Delta, Diff, DiffDelta, Patch};
use serde::Serialize;

/// Larger files are taken as binary ones.
pub(crate) const LARGE: i64 = 8 * 1024 * 1024;

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// Its content or its mode changed.
    Modified,
    /// It has another path.
    Renamed,
    /// It is a copy of another.
    Copied,
    /// A file became a link, or the like.
    TypeChanged,
    /// It has sides that were not merged.
    Conflicted,
}

impl From<Delta> for Change {
    fn from(delta: Delta) -> Change {
        match delta {
            Delta::Added | Delta::Untracked => Change::Added,
            Delta::Deleted => Change::Deleted,
            Delta::Renamed => Change::Renamed,
            Delta::Copied => Change::Copied,
            Delta::Typechange => Change::TypeChanged,
            Delta::Conflicted => Change::Conflicted,
            _ => Change::Modified,
        }
    }
}

/// A file that changed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FileChange {
    /// Its path in the repository.
    pub(crate) path: String,
    /// Its path before, if it was renamed or copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) old_path: Option<String>,
    /// What became of it.
    pub(crate) change: Change,
    /// Lines that are new.
    pub(crate) added: usize,
    /// Lines that are gone.
    pub(crate) deleted: usize,
    /// It is no text, or has more than 8 MiB: its lines are not counted.
    pub(crate) binary: bool,
}

/// The files of a diff, at most so many, with counted lines; and whether there are more.
pub(crate) fn changed(diff: &Diff, most: usize) -> Result<(Vec<FileChange>, bool), git2::Error> {
    let all = diff.deltas().len();
    let mut files = Vec::with_capacity(all.min(most));
    for index in 0..all.min(most) {
        let Some(delta) = diff.get_delta(index) else { continue };
        let patch = Patch::from_diff(diff, index)?;
        let lines = patch.as_ref().map(Patch::line_stats).transpose()?;
        let (_, added, deleted) = lines.unwrap_or_default();
        let binary = patch.is_none_or(|patch| patch.delta().flags().is_binary());
        let (path, old_path) = paths(&delta);
        files.push(FileChange { path, old_path, change: delta.status().into(), added, deleted, binary });
    }
    Ok((files, all > most))
}

/// Its path, and the one before if that is another.
pub(crate) fn paths(delta: &DiffDelta) -> (String, Option<String>) {
    let shown = |file: git2::DiffFile| file.path_bytes().map(|path| String::from_utf8_lossy(path).into_owned());
    let (new, old) = (shown(delta.new_file()), shown(delta.old_file()));
    let path = new.or_else(|| old.clone()).unwrap_or_default();
    let old = old.filter(|old| *old != path);
    (path, old)
}
