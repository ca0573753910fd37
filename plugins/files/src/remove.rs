//! `move` and `delete`.

use std::os::fd::OwnedFd;

use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault};
use rustix::fs::{AtFlags, FileType, RenameFlags, fsync, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::list::names;
use crate::root::{Inside, Intent, Root, fault};

/// Things that one call deletes.
const MOST: usize = 100_000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveInput {
    /// Path of a file or folder in the workspace.
    from: String,
    /// Its new path.
    to: String,
    /// Whether a file that is there is replaced; ALREADY_EXISTS otherwise.
    #[serde(default)]
    replace: bool,
    /// Whether to make the folders above `to` that are missing.
    #[serde(default)]
    folders: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MoveOutput {
    /// Its new path.
    path: String,
}

pub(crate) fn move_to(call: &Call, input: MoveInput) -> Result<MoveOutput, Fault> {
    let (from, to) = (Inside::thing("from", &input.from)?, Inside::thing("to", &input.to)?);
    let root = Root::of(call, Intent::Write)?;
    root.check_writable(&from)?;
    root.check_writable(&to)?;
    let (source, old) = root.parent(&from)?;
    let about = statat(&source, old, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| fault(&from, error))?;
    if FileType::from_raw_mode(about.st_mode) == FileType::Directory && to.0.starts_with(&from.0) {
        return Err(Fault::bad_input("to", format!("`{}` is in the folder that is to be moved", to.shown())));
    }
    let line = |done| format!("{done} `{}` to `{}`", from.shown(), to.shown());
    if call.dry_run() {
        call.would(line("move"));
        return Ok(MoveOutput { path: to.shown() });
    }
    if input.folders {
        root.make_parents(&to)?;
    }
    let (target, new) = root.parent(&to)?;
    let moved = if input.replace {
        renameat(&source, old, &target, new)
    } else {
        renameat_with(&source, old, &target, new, RenameFlags::NOREPLACE)
    };
    moved.map_err(|error| fault(&to, error))?;
    call.did(line("moved"));
    for folder in [&source, &target] {
        fsync(folder).map_err(|error| fault(&to, error))?;
    }
    Ok(MoveOutput { path: to.shown() })
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteInput {
    /// Path of a file, link or folder in the workspace.
    path: String,
    /// Whether to delete what is in a folder, too.
    #[serde(default)]
    recursive: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DeleteOutput {
    /// False if it was not there.
    deleted: bool,
    /// Files, links and folders that are gone, or would be.
    things: usize,
}

pub(crate) fn delete(call: &Call, input: DeleteInput) -> Result<DeleteOutput, Fault> {
    let path = Inside::thing("path", &input.path)?;
    let root = Root::of(call, Intent::Write)?;
    root.check_writable(&path)?;
    let gone = DeleteOutput { deleted: false, things: 0 };
    let (folder, name) = match root.parent(&path) {
        Err(fault) if fault.code == consort_sdk::Code::NotFound => return Ok(gone),
        parent => parent?,
    };
    let about = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(gone),
        about => about.map_err(|error| fault(&path, error))?,
    };
    let is_folder = FileType::from_raw_mode(about.st_mode) == FileType::Directory;
    let things = if is_folder {
        let found = below(call, &root, &path)?;
        if !found.is_empty() && !input.recursive {
            return Err(fault(&path, Errno::NOTEMPTY));
        }
        found
    } else {
        Vec::new()
    };
    let count = things.len() + 1;
    let line = |done| format!("{done} `{}`, {count} things", path.shown());
    if call.dry_run() {
        call.would(line("delete"));
        return Ok(DeleteOutput { deleted: true, things: count });
    }
    // The deepest first. A folder that became a link is not gone into: only the link would be deleted.
    for (thing, is_folder) in things.iter().rev() {
        call.check_cancelled()?;
        let (folder, name) = root.parent(thing)?;
        unlink(&folder, name, *is_folder).map_err(|error| fault(thing, error))?;
    }
    unlink(&folder, name, is_folder).map_err(|error| fault(&path, error))?;
    call.did(line("deleted"));
    fsync(&folder).map_err(|error| fault(&path, error))?;
    Ok(DeleteOutput { deleted: true, things: count })
}

fn unlink(folder: &OwnedFd, name: &std::ffi::OsStr, is_folder: bool) -> Result<(), Errno> {
    let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    match unlinkat(folder, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

/// Everything in a folder, each folder before what is in it.
fn below(call: &Call, root: &Root, path: &Inside) -> Result<Vec<(Inside, bool)>, Fault> {
    let (mut found, mut left) = (Vec::new(), vec![path.clone()]);
    while let Some(path) = left.pop() {
        call.check_cancelled()?;
        let (names, cut) = names(&path, &root.folder(&path)?)?;
        if cut || found.len() + names.len() > MOST {
            let said = format!("`{}` has more than {MOST} things in it; delete parts of it first", path.shown());
            return Err(Fault::precondition(said));
        }
        for (name, kind) in names {
            let inside = path.join(name.as_os_str());
            root.check_writable(&inside)?;
            let is_folder = kind == FileType::Directory;
            if is_folder {
                left.push(inside.clone());
            }
            found.push((inside, is_folder));
        }
    }
    Ok(found)
}
