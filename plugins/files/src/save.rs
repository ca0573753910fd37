//! A file is replaced whole: written beside, made durable, and put in its place.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;

use consort_sdk::plugin::Fault;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, fsync, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::root::{Inside, Root, fault};

/// Bytes of a file that is read or written whole.
pub(crate) const WHOLE: u64 = 32 * 1024 * 1024;

/// A new content that waits beside the file.
#[derive(Debug)]
pub(crate) struct Waiting<'p> {
    path: &'p Inside,
    folder: OwnedFd,
    beside: String,
    placed: bool,
}

/// Writes a content beside a file, durably. What is there must be a plain file or nothing.
pub(crate) fn prepare<'p>(root: &Root, path: &'p Inside, content: &[u8]) -> Result<Waiting<'p>, Fault> {
    let (folder, name) = root.parent(path)?;
    let told = |error: Errno| fault(path, error);
    let mode = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(about) if FileType::from_raw_mode(about.st_mode) == FileType::RegularFile => {
            Some(Mode::from_raw_mode(about.st_mode & 0o777))
        }
        Ok(_) => return Err(Fault::precondition(format!("`{}` is no file", path.shown())).reason("NOT_A_FILE")),
        Err(Errno::NOENT) => None,
        Err(error) => return Err(told(error)),
    };
    let beside = format!(".consort-{:016x}.tmp", rand::random::<u64>());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&folder, beside.as_str(), flags, Mode::from_raw_mode(0o644)).map_err(told)?;
    let waiting = Waiting { path, folder, beside, placed: false };
    if let Some(mode) = mode {
        fchmod(&file, mode).map_err(told)?;
    }
    let mut file = File::from(file);
    file.write_all(content)?;
    file.sync_all()?;
    Ok(waiting)
}

impl Waiting<'_> {
    /// Puts it in the file's place.
    pub(crate) fn place(mut self) -> Result<(), Fault> {
        let told = |error| fault(self.path, error);
        let name = self.path.0.file_name().unwrap_or_default();
        renameat(&self.folder, self.beside.as_str(), &self.folder, name).map_err(told)?;
        self.placed = true;
        fsync(&self.folder).map_err(told)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.placed {
            // Nothing more can be done about it.
            let _ = unlinkat(&self.folder, self.beside.as_str(), AtFlags::empty());
        }
    }
}

/// The whole content of a file, at most 32 MiB; none if there is none.
pub(crate) fn content(root: &Root, path: &Inside) -> Result<Option<Vec<u8>>, Fault> {
    let file = match root.file(path) {
        Ok(file) => file,
        Err(fault) if fault.code == consort_sdk::Code::NotFound => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let mut bytes = Vec::new();
    file.take(WHOLE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > WHOLE {
        return Err(Fault::precondition(format!("`{}` has more than {WHOLE} bytes", path.shown())));
    }
    Ok(Some(bytes))
}

/// SHA-256 as 64 hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
