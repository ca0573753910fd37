//! `list`: what is in a folder.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault};
use rustix::fs::{AtFlags, Dir, FileType, statat};
use serde::{Deserialize, Serialize};

use crate::root::{Inside, Intent, Root, fault};

/// Entries that are given, and that are read of one folder to sort them.
const MOST: usize = 10_000;
const USUAL: usize = 1_000;
const FOLDER: usize = 100_000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// Path of the folder in the workspace; the workspace itself if absent.
    #[serde(default)]
    path: String,
    /// Whether to list what is in its folders, too.
    #[serde(default)]
    recursive: bool,
    /// Entries to give, at most.
    #[serde(default = "usual")]
    #[schemars(range(min = 1, max = 10_000))]
    limit: usize,
}

fn usual() -> usize {
    USUAL
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Output {
    /// By path; what is in a folder follows it.
    entries: Vec<Entry>,
    /// There are more.
    truncated: bool,
}

/// What a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// A plain file.
    File,
    /// A folder.
    Folder,
    /// A link, which is not followed.
    Link,
    /// A socket, a pipe or a device.
    Other,
}

impl What {
    pub(crate) fn of(kind: FileType) -> What {
        match kind {
            FileType::RegularFile => What::File,
            FileType::Directory => What::Folder,
            FileType::Symlink => What::Link,
            _ => What::Other,
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct Entry {
    path: String,
    what: What,
    size_bytes: u64,
    /// When it was changed, RFC 3339.
    modified: String,
}

pub(crate) fn list(call: &Call, input: Input) -> Result<Output, Fault> {
    if !(1..=MOST).contains(&input.limit) {
        return Err(Fault::bad_input("limit", format!("is {}; give 1 to {MOST}", input.limit)));
    }
    let root = Root::of(call, Intent::Read)?;
    let start = Inside::new("path", &input.path)?;
    let mut output = Output { entries: Vec::new(), truncated: false };
    // Folders to list, the next one last.
    let mut left = vec![start.clone()];
    while let Some(path) = left.pop() {
        call.check_cancelled()?;
        let folder = match root.folder(&path) {
            Ok(folder) => folder,
            Err(fault) if path == start => return Err(fault),
            // It is gone, or a link by now.
            Err(_) => continue,
        };
        let (names, cut) = names(&path, &folder)?;
        output.truncated |= cut;
        let mut folders = Vec::new();
        for (name, _) in names {
            let inside = path.join(name.as_os_str());
            let Ok(about) = statat(&folder, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if output.entries.len() == input.limit {
                output.truncated = true;
                return Ok(output);
            }
            let what = What::of(FileType::from_raw_mode(about.st_mode));
            let modified = jiff::Timestamp::from_second(about.st_mtime).map(|time| time.to_string());
            output.entries.push(Entry {
                path: inside.shown(),
                what,
                size_bytes: u64::try_from(about.st_size).unwrap_or_default(),
                modified: modified.unwrap_or_default(),
            });
            if what == What::Folder {
                folders.push(inside);
            }
        }
        if input.recursive {
            left.extend(folders.into_iter().rev());
        }
    }
    Ok(output)
}

/// The names in a folder, sorted, with what they are; and whether there are more than can be sorted.
pub(crate) fn names(path: &Inside, folder: &OwnedFd) -> Result<(Vec<(PathBuf, FileType)>, bool), Fault> {
    let told = |error| fault(path, error);
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(told)? {
        let entry = entry.map_err(told)?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if names.len() == FOLDER {
            names.sort_by(|a: &(PathBuf, FileType), b| a.0.cmp(&b.0));
            return Ok((names, true));
        }
        let name = PathBuf::from(OsStr::from_bytes(name));
        let kind = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |about| FileType::from_raw_mode(about.st_mode)),
            kind => kind,
        };
        names.push((name, kind));
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((names, false))
}
