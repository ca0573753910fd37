//! The workspace: whatever a path names is opened from its root on, and no link is followed on the way.
//!
//! A check of a path before it is used would be outrun by whoever swaps a folder for a link in between. So nothing is checked by
//! name: the kernel resolves the path beneath an open folder and refuses links (`openat2`), or, where it cannot, each part is opened
//! from the one before. What changes a folder's entries acts on the open folder and a name without slashes.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use consort_sdk::Code;
use consort_sdk::plugin::{Call, Fault};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, open, openat, openat2};
use rustix::io::Errno;

use crate::config::Config;

/// Bytes and parts of a path.
const LENGTH: usize = 4_000;
pub(crate) const DEEP: usize = 100;
/// Tries when the kernel cannot tell because something moved meanwhile.
const TRIES: usize = 16;

/// What a call means to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    Read,
    Write,
}

/// An open workspace.
#[derive(Debug)]
pub(crate) struct Root {
    folder: OwnedFd,
    protected: Vec<String>,
    /// The kernel knows `openat2`.
    modern: bool,
}

/// A path in the workspace: parts without `.`, `..` and links that were followed; empty for the root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Inside(pub(crate) PathBuf);

impl Inside {
    /// Takes a path that a caller gives.
    pub(crate) fn new(field: &str, path: &str) -> Result<Inside, Fault> {
        let shown: String = path.chars().take(200).collect();
        let bad = |why: &str| Fault::bad_input(field, format!("`{shown}` {why}"));
        if path.len() > LENGTH || path.contains('\0') {
            return Err(bad("is too long, or has a NUL"));
        }
        let mut clean = PathBuf::new();
        for part in Path::new(path).components() {
            match part {
                Component::CurDir => {}
                Component::Normal(part) => clean.push(part),
                _ => return Err(bad("must be relative to the workspace, without `..`")),
            }
        }
        if clean.components().count() > DEEP {
            return Err(bad("has more than 100 parts"));
        }
        Ok(Inside(clean))
    }

    /// The same, of a thing in the workspace and not the workspace itself.
    pub(crate) fn thing(field: &str, path: &str) -> Result<Inside, Fault> {
        let inside = Inside::new(field, path)?;
        if inside.0.as_os_str().is_empty() {
            return Err(Fault::bad_input(field, "names the workspace itself; name a file or folder in it"));
        }
        Ok(inside)
    }

    pub(crate) fn join(&self, name: &std::ffi::OsStr) -> Inside {
        Inside(self.0.join(name))
    }

    /// As callers see it.
    pub(crate) fn shown(&self) -> String {
        if self.0.as_os_str().is_empty() { ".".to_owned() } else { self.0.to_string_lossy().into_owned() }
    }
}

impl Root {
    /// Opens the workspace of a call.
    pub(crate) fn of(call: &Call, intent: Intent) -> Result<Root, Fault> {
        let config = call.config::<Config>()?;
        let Some(set) = &config.root else {
            // Its own folder needs no grant.
            let data = std::env::var_os("CONSORT_PLUGIN_DATA").map(PathBuf::from);
            let data = data.ok_or_else(|| Fault::precondition("there is no workspace; let the operator set `root`"))?;
            return Root::at(&data, config.protected.clone(), true);
        };
        let real = fs::canonicalize(set)
            .map_err(|error| Fault::precondition(format!("the workspace `{}`: {error}", set.display())))?;
        let granted = call.granted();
        let read = if intent == Intent::Read { granted.fs_read.as_slice() } else { &[] };
        let mut roots = granted.fs_write.iter().chain(read).filter_map(|root| fs::canonicalize(root).ok());
        if !roots.any(|root| real.starts_with(root)) {
            let permission = if intent == Intent::Read { "fs_read` or `fs_write" } else { "fs_write" };
            let said = format!("the workspace is not granted with `{permission}`");
            return Err(Fault::permission_denied(said).reason("PATH_NOT_GRANTED"));
        }
        Root::at(&real, config.protected.clone(), true)
    }

    fn at(path: &Path, protected: Vec<String>, modern: bool) -> Result<Root, Fault> {
        let folder = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Ok(Root { folder: folder.map_err(std::io::Error::from)?, protected, modern })
    }

    /// Opens what a path names, never through a link.
    pub(crate) fn open(&self, path: &Inside, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let name = if path.0.as_os_str().is_empty() { Path::new(".") } else { &path.0 };
        if !self.modern {
            return self.walk(name, flags, mode);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..TRIES {
            match openat2(&self.folder, name, flags, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Older kernels, and sandboxes that do not know it.
                Err(Errno::NOSYS | Errno::PERM) => return self.walk(name, flags, mode),
                done => return done,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Part by part.
    fn walk(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut folder: Option<OwnedFd> = None;
        let mut parts = path.components().peekable();
        while let Some(part) = parts.next() {
            let at = folder.as_ref().map_or(self.folder.as_fd(), AsFd::as_fd);
            if parts.peek().is_none() {
                return openat(at, part.as_os_str(), flags, mode);
            }
            folder = Some(openat(at, part.as_os_str(), step, Mode::empty())?);
        }
        Err(Errno::NOENT)
    }

    /// Opens a file for reading. Anything but a plain file is refused, before it could make wait.
    pub(crate) fn file(&self, path: &Inside) -> Result<File, Fault> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = self.open(path, flags, Mode::empty()).map_err(|error| fault(path, error))?;
        let about = fstat(&file).map_err(|error| fault(path, error))?;
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
            return Err(Fault::precondition(format!("`{}` is no file", path.shown())).reason("NOT_A_FILE"));
        }
        Ok(File::from(file))
    }

    /// Opens a folder.
    pub(crate) fn folder(&self, path: &Inside) -> Result<OwnedFd, Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        self.open(path, flags, Mode::empty()).map_err(|error| fault(path, error))
    }

    /// The open folder of a thing, and the thing's name in it.
    pub(crate) fn parent<'p>(&self, path: &'p Inside) -> Result<(OwnedFd, &'p std::ffi::OsStr), Fault> {
        let none = || Fault::bad_input("path", "names the workspace itself");
        let name = path.0.file_name().ok_or_else(none)?;
        let parent = Inside(path.0.parent().map(Path::to_path_buf).unwrap_or_default());
        Ok((self.folder(&parent)?, name))
    }

    /// Makes the folders above a thing, as far as they are missing.
    pub(crate) fn make_parents(&self, path: &Inside) -> Result<(), Fault> {
        let mut made = Inside(PathBuf::new());
        for part in path.0.parent().into_iter().flat_map(Path::components) {
            let folder = self.folder(&made)?;
            made = made.join(part.as_os_str());
            match mkdirat(&folder, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(fault(&made, error)),
            }
        }
        Ok(())
    }

    /// Refuses to change what is protected.
    pub(crate) fn check_writable(&self, path: &Inside) -> Result<(), Fault> {
        let is_protected =
            |part: Component| self.protected.iter().any(|name| part.as_os_str().eq_ignore_ascii_case(name.as_str()));
        match path.0.components().find(|part| is_protected(*part)) {
            Some(part) => {
                let name = part.as_os_str().display();
                let said = format!("`{}` is not changed: `{name}` is protected", path.shown());
                Err(Fault::permission_denied(said).reason("PROTECTED"))
            }
            None => Ok(()),
        }
    }
}

/// Why the system refused a thing of the workspace.
pub(crate) fn fault(path: &Inside, error: Errno) -> Fault {
    let shown = path.shown();
    match error {
        Errno::NOENT => Fault::not_found(format!("there is no `{shown}`")),
        Errno::LOOP | Errno::XDEV => {
            Fault::permission_denied(format!("`{shown}` goes through a link, and links are not followed"))
                .reason("LINK")
        }
        // What is a link is no folder, for a kernel that does not follow it.
        Errno::NOTDIR => {
            Fault::precondition(format!("a part of `{shown}` is no folder, or is a link")).reason("NOT_A_FOLDER")
        }
        Errno::EXIST => Fault::new(Code::AlreadyExists, format!("`{shown}` is there already")),
        Errno::NOTEMPTY => Fault::precondition(format!("`{shown}` is not empty; delete it with `recursive: true`")),
        Errno::ISDIR => Fault::precondition(format!("`{shown}` is a folder")).reason("NOT_A_FILE"),
        Errno::AGAIN => Fault::new(Code::Aborted, format!("`{shown}` was moved meanwhile; try again")),
        Errno::NAMETOOLONG => Fault::bad_input("path", format!("`{shown}` has a name that is too long")),
        error => {
            let known = Fault::from(std::io::Error::from(error));
            Fault { message: format!("`{shown}`: {}", known.message), ..known }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(Inside::new("path", "./a//b/").unwrap().0, Path::new("a/b"));
        for wrong in ["/etc/passwd", "..", "a/../../b", "a\0b", &"a/".repeat(101), &"x".repeat(5_000)] {
            assert!(Inside::new("path", wrong).is_err(), "{wrong}");
        }
        assert!(Inside::thing("path", "./.").is_err());
    }

    #[test]
    fn links_are_not_followed_with_and_without_openat2() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("key"), "secret").unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), "here").unwrap();
        let link = |to: &Path, at: &str| std::os::unix::fs::symlink(to, folder.path().join(at)).unwrap();
        link(outside.path(), "a/out");
        link(&outside.path().join("key"), "a/key");
        link(Path::new("b"), "a/near");
        for modern in [true, false] {
            let root = Root::at(folder.path(), Vec::new(), modern).unwrap();
            let mut text = String::new();
            root.file(&Inside::new("", "a/b/c").unwrap()).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "here");
            for path in ["a/out/key", "a/key", "a/near/c", "a/out", "a/b/c/d"] {
                assert!(root.file(&Inside::new("", path).unwrap()).is_err(), "{path}, {modern}");
            }
            assert_eq!(root.file(&Inside::new("", "a/x").unwrap()).unwrap_err().code, Code::NotFound);
        }
    }

    #[test]
    fn a_folder_that_becomes_a_link_is_not_gone_into() {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let folder = tempfile::tempdir().unwrap();
        for name in ["work/d", "outside"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("key"), name).unwrap();
        }
        let (one, other) = (folder.path().join("work/d"), folder.path().join("work/swap"));
        std::os::unix::fs::symlink(folder.path().join("outside"), &other).unwrap();
        let path = Inside::new("", "d/key").unwrap();
        for modern in [true, false] {
            let root = Root::at(&folder.path().join("work"), Vec::new(), modern).unwrap();
            let (mut read, mut refused, mut tries) = (0, 0, 0);
            std::thread::scope(|scope| {
                let swapper = scope.spawn(|| {
                    for _ in 0..20_000 {
                        renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                    }
                });
                while !swapper.is_finished() || tries < 100 {
                    tries += 1;
                    let Ok(mut file) = root.file(&path) else {
                        refused += 1;
                        continue;
                    };
                    let mut text = String::new();
                    file.read_to_string(&mut text).unwrap();
                    assert_eq!(text, "work/d");
                    read += 1;
                }
            });
            assert!(read + refused == tries && refused > 0, "{read} read, {refused} refused");
        }
    }
}
