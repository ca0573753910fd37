//! Which repositories may be opened: those that lie whole under what the operator granted.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Once;

use consort_sdk::plugin::{Call, Fault};
use git2::{ConfigLevel, ErrorCode, Repository, RepositoryOpenFlags};

use crate::config::Config;

/// Bytes of a list of alternates, and how deep they may go.
const ALTERNATES: u64 = 64 * 1024;
const DEEP: usize = 5;

/// What a call means to do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Needs `fs_read` or `fs_write`.
    Read,
    /// Needs `fs_write`.
    Write,
}

impl Intent {
    fn permission(self) -> &'static str {
        match self {
            Intent::Read => "fs_read",
            Intent::Write => "fs_write",
        }
    }
}

/// Folders that a call may reach, with all links resolved.
struct Granted {
    roots: Vec<PathBuf>,
    intent: Intent,
}

impl Granted {
    fn of(call: &Call, intent: Intent) -> Granted {
        let granted = call.granted();
        let read = if intent == Intent::Read { granted.fs_read.as_slice() } else { &[] };
        let roots = granted.fs_write.iter().chain(read);
        // One that is not there grants nothing.
        Granted { roots: roots.filter_map(|root| fs::canonicalize(root).ok()).collect(), intent }
    }

    /// The folder that grants a path, or why none does.
    fn root_of(&self, real: &Path) -> Result<&Path, Fault> {
        let longest = self.roots.iter().filter(|root| real.starts_with(root)).min_by_key(|root| root.as_os_str().len());
        longest.map(PathBuf::as_path).ok_or_else(|| self.denied(real))
    }

    fn denied(&self, path: &Path) -> Fault {
        let (path, permission) = (path.display(), self.intent.permission());
        let said = format!("`{path}` is not under a granted path; grant the repository's folder with `{permission}`");
        Fault::permission_denied(said).reason("PATH_NOT_GRANTED")
    }
}

/// Opens the repository that a path is in.
pub(crate) fn open(call: &Call, path: &str, intent: Intent) -> Result<Repository, Fault> {
    prepare();
    let granted = Granted::of(call, intent);
    let path = absolute(call, path)?;
    let real = match fs::canonicalize(&path) {
        Ok(real) => real,
        // Whether something is there is nobody's business where nothing is granted.
        Err(_) if granted.root_of(&path).is_err() => return Err(granted.denied(&path)),
        Err(error) => {
            let why =
                format!("path: `{}`: {error}; give the path of a git repository on the mesh's machine", path.display());
            return Err(Fault::not_found(why));
        }
    };
    let root = granted.root_of(&real)?;
    // Repositories above what is granted are not looked for.
    let ceiling = root.parent().map(Path::to_path_buf);
    let repository = Repository::open_ext(&real, RepositoryOpenFlags::empty(), ceiling).map_err(|error| {
        let shown = real.display();
        match error.code() {
            ErrorCode::NotFound => {
                let why = format!("path: `{shown}` is not in a git repository that is granted; give a path that is");
                Fault::not_found(why)
            }
            _ => Fault::precondition(format!("path: `{shown}` cannot be opened: {}", error.message())),
        }
    })?;
    // A `.git` file, `core.worktree` and alternates can point anywhere.
    let folders = [Some(repository.path()), Some(repository.commondir()), repository.workdir()];
    for folder in folders.into_iter().flatten() {
        let real = fs::canonicalize(folder).map_err(|_| granted.denied(folder))?;
        granted.root_of(&real)?;
    }
    let reading = Granted::of(call, Intent::Read);
    alternates(&repository.commondir().join("objects"), &reading, 0)?;
    Ok(repository)
}

/// A local path that a remote names, if it may be written.
pub(crate) fn writable(call: &Call, path: &Path) -> Result<PathBuf, Fault> {
    let granted = Granted::of(call, Intent::Write);
    let real = fs::canonicalize(path).map_err(|_| granted.denied(path))?;
    granted.root_of(&real)?;
    Ok(real)
}

/// Objects may lie in other repositories: those must be granted, too.
fn alternates(objects: &Path, granted: &Granted, depth: usize) -> Result<(), Fault> {
    let list = objects.join("info/alternates");
    let Ok(about) = fs::metadata(&list) else { return Ok(()) };
    if about.len() > ALTERNATES || depth == DEEP {
        return Err(Fault::precondition(format!("`{}` has too many alternates", list.display())));
    }
    let text = fs::read_to_string(&list)?;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let other = objects.join(line);
        let real = fs::canonicalize(&other).map_err(|_| granted.denied(&other))?;
        granted.root_of(&real)?;
        alternates(&real, granted, depth + 1)?;
    }
    Ok(())
}

fn absolute(call: &Call, path: &str) -> Result<PathBuf, Fault> {
    let given = Path::new(path);
    if given.is_absolute() {
        return Ok(given.to_owned());
    }
    let config = call.config::<Config>()?;
    let root = config.root.as_ref().ok_or_else(|| {
        let why = format!("`{path}` is relative; give an absolute path, or let the operator set `root`");
        Fault::bad_input("path", why)
    })?;
    Ok(root.join(given))
}

/// A path in a repository, as git writes it: relative, with slashes, without `..`, `.git` or links on its way.
pub(crate) fn inside(repository: &Repository, field: &str, path: &str) -> Result<PathBuf, Fault> {
    let given = Path::new(path);
    let mut clean = PathBuf::new();
    for component in given.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) if !part.eq_ignore_ascii_case(".git") => clean.push(part),
            _ => {
                let why = format!("`{path}` must be relative to the repository's folder and stay in it");
                return Err(Fault::bad_input(field, why));
            }
        }
    }
    if let Some(workdir) = repository.workdir() {
        let folders = clean.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
        for folder in folders {
            let is_link = fs::symlink_metadata(workdir.join(folder)).is_ok_and(|about| about.is_symlink());
            if is_link {
                let why = format!("`{path}` goes through the link `{}`; name the file where it is", folder.display());
                return Err(Fault::bad_input(field, why));
            }
        }
    }
    Ok(clean)
}

/// Settings of libgit2, which are global.
#[allow(unsafe_code)]
fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // git refuses repositories of other owners because their hooks and settings could run programs; nothing here runs any. What is
        // in the operator's home is no business of a plugin. A remote that is silent is given up.
        // SAFETY: plain globals of libgit2, written once, before any repository is opened.
        let set = unsafe {
            git2::opts::set_verify_owner_validation(false)
                .and_then(|()| git2::opts::set_search_path(ConfigLevel::System, "/dev/null"))
                .and_then(|()| git2::opts::set_search_path(ConfigLevel::Global, "/dev/null"))
                .and_then(|()| git2::opts::set_search_path(ConfigLevel::XDG, "/dev/null"))
                .and_then(|()| git2::opts::set_search_path(ConfigLevel::ProgramData, "/dev/null"))
                .and_then(|()| git2::opts::set_server_connect_timeout_in_milliseconds(10_000))
                .and_then(|()| git2::opts::set_server_timeout_in_milliseconds(60_000))
        };
        if let Err(error) = set {
            eprintln!("libgit2 does not take a setting: {error}");
        }
    });
}
