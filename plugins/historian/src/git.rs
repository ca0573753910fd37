//! The history of a git repository, read by libgit2: nothing is fetched, no program is run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Once;

use consort_sdk::{Code, TaskError};
use git2::{DiffOptions, ErrorCode, Repository, Sort};

use crate::classify;
use crate::entry::History;
use crate::sessions::{self, Commit};

/// Most commits that are read; older ones are left out and the method says so.
const LIMIT: usize = 50_000;

/// How reading is watched.
pub(crate) struct Watch<'a> {
    /// Called now and then with the share that is done, 0 to 1, and words.
    pub(crate) progress: &'a dyn Fn(f64, String),
    /// Asked before each commit; reading ends with CANCELLED when it is true.
    pub(crate) stopped: &'a dyn Fn() -> bool,
}

/// The time log behind HEAD and its ancestors.
pub(crate) fn history(path: &str, watch: &Watch) -> Result<History, TaskError> {
    let repository = open(path)?;
    let (commits, cut) = commits(&repository, path, watch)?;
    let mut method = sessions::METHOD.to_owned();
    if cut {
        method.push_str(" Only the newest 50,000 commits were read.");
    }
    if repository.is_shallow() {
        method.push_str(" The repository is a shallow clone, so its older history is missing.");
    }
    let entries = sessions::entries(commits);
    if entries.is_empty() {
        return Err(TaskError::bad_input("repo", format!("no commit of `{path}` has a time within the calendar")));
    }
    Ok(History::new("git", path, method, entries))
}

fn open(path: &str) -> Result<Repository, TaskError> {
    trust_every_owner();
    if !Path::new(path).exists() {
        let why = format!("there is no `{path}` on this worker's machine; give the path of a git repository there");
        return Err(TaskError::bad_input("repo", why));
    }
    Repository::discover(path).map_err(|error| match error.code() {
        ErrorCode::NotFound => {
            let why = format!("`{path}` is not in a git repository; give a path that is, or a time log in `csv`");
            TaskError::bad_input("repo", why)
        }
        _ => TaskError::bad_input("repo", format!("`{path}` cannot be opened: {}", error.message())),
    })
}

/// git refuses repositories of other owners because their hooks and settings could run programs. Nothing here runs any, and a
/// worker in a container rarely owns what it reads.
fn trust_every_owner() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the setting is a plain global of libgit2; it is written once, before any repository is opened.
        #[allow(unsafe_code)]
        let result = unsafe { git2::opts::set_verify_owner_validation(false) };
        if let Err(error) = result {
            eprintln!("repositories of other owners will be refused: {error}");
        }
    });
}

/// The newest commits, and whether there are more.
fn commits(repository: &Repository, path: &str, watch: &Watch) -> Result<(Vec<Commit>, bool), TaskError> {
    let damaged = |error: git2::Error| {
        let message = format!("the history of `{path}` cannot be read: {}; try `git fsck` there", error.message());
        TaskError::new(Code::FailedPrecondition, message)
    };
    let mut walk = repository.revwalk().map_err(damaged)?;
    walk.set_sorting(Sort::TIME).map_err(damaged)?;
    let head = repository.head().and_then(|head| head.peel_to_commit()).map_err(|error| match error.code() {
        ErrorCode::UnbornBranch | ErrorCode::NotFound => {
            let why = format!("`{path}` has no commits yet; commit something, or give a time log in `csv`");
            TaskError::bad_input("repo", why)
        }
        _ => damaged(error),
    })?;
    walk.push(head.id()).map_err(damaged)?;
    let mut ids = Vec::new();
    let mut cut = false;
    for id in walk {
        if ids.len() == LIMIT {
            cut = true;
            break;
        }
        ids.push(id.map_err(damaged)?);
        stop_if_asked(watch)?;
    }
    let mut commits = Vec::with_capacity(ids.len());
    for (number, id) in ids.iter().enumerate() {
        stop_if_asked(watch)?;
        if number % 500 == 0 {
            (watch.progress)(number as f64 / ids.len() as f64, format!("{number} of {} commits read", ids.len()));
        }
        commits.push(read(repository, &repository.find_commit(*id).map_err(damaged)?));
    }
    Ok((commits, cut))
}

fn stop_if_asked(watch: &Watch) -> Result<(), TaskError> {
    if (watch.stopped)() {
        return Err(TaskError::new(Code::Cancelled, "reading was cancelled"));
    }
    Ok(())
}

fn read(repository: &Repository, commit: &git2::Commit) -> Commit {
    let author = commit.author();
    let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
    let subject = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let name = String::from_utf8_lossy(author.name_bytes()).trim().to_owned();
    let email = String::from_utf8_lossy(author.email_bytes()).trim().to_lowercase();
    let known_as = if name.is_empty() { &email } else { &name };
    Commit {
        author: if known_as.is_empty() { "unknown".to_owned() } else { known_as.clone() },
        identity: if email.is_empty() { known_as.clone() } else { email.clone() },
        seconds: author.when().seconds(),
        offset_minutes: author.when().offset_minutes(),
        task: classify::task(subject).or_else(|| folder(repository, commit)).unwrap_or_else(|| "root".to_owned()),
        category: classify::category(subject, commit.parent_count()),
    }
}

/// The top-level folder in which a commit changed most files; ties go to the first by name. None if it changed none, or only
/// files at the top. Compares with the first parent, or with nothing where that is missing, as at the end of a shallow clone.
fn folder(repository: &Repository, commit: &git2::Commit) -> Option<String> {
    let tree = commit.tree().ok()?;
    let parent = commit.parent(0).ok().and_then(|parent| parent.tree().ok());
    let mut options = DiffOptions::new();
    options.skip_binary_check(true).ignore_submodules(true);
    let diff = repository.diff_tree_to_tree(parent.as_ref(), Some(&tree), Some(&mut options)).ok()?;
    let mut changed: BTreeMap<String, usize> = BTreeMap::new();
    for delta in diff.deltas() {
        let path = delta.new_file().path().or_else(|| delta.old_file().path())?;
        let mut parts = path.components();
        let (Some(top), Some(_)) = (parts.next(), parts.next()) else { continue };
        *changed.entry(top.as_os_str().to_string_lossy().into_owned()).or_default() += 1;
    }
    let most = changed.values().copied().max()?;
    changed.into_iter().find(|(_, count)| *count == most).map(|(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Category;
    use git2::{Oid, Signature, Time};

    const QUIET: Watch = Watch { progress: &|_, _| {}, stopped: &|| false };

    /// Commits one file; `minutes` after 2026-01-05T08:00:00Z, at +01:00.
    fn commit(repository: &Repository, file: &str, subject: &str, minutes: i64) -> Oid {
        let blob = repository.blob(subject.as_bytes()).unwrap();
        let head = repository.head().ok().map(|head| head.peel_to_commit().unwrap());
        let mut index = repository.index().unwrap();
        if let Some(head) = &head {
            index.read_tree(&head.tree().unwrap()).unwrap();
        }
        let entry = git2::IndexEntry {
            ctime: git2::IndexTime::new(0, 0),
            mtime: git2::IndexTime::new(0, 0),
            dev: 0,
            ino: 0,
            mode: 0o100_644,
            uid: 0,
            gid: 0,
            file_size: 0,
            id: blob,
            flags: 0,
            flags_extended: 0,
            path: file.into(),
        };
        index.add(&entry).unwrap();
        let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
        let who = Signature::new("Ana", "Ana@example.org", &Time::new(1_767_600_000 + minutes * 60, 60)).unwrap();
        let parents: Vec<&git2::Commit> = head.iter().collect();
        repository.commit(Some("HEAD"), &who, &who, subject, &tree, &parents).unwrap()
    }

    #[test]
    fn a_repository_becomes_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init(folder.path()).unwrap();
        commit(&repository, "src/a.rs", "Add a", 0);
        commit(&repository, "docs/a.md", "docs: say what a does", 30);
        commit(&repository, "src/b.rs", "fix(parser): stop at the end", 300);
        commit(&repository, "LICENSE", "Choose a licence", 330);
        std::fs::create_dir(folder.path().join("src")).unwrap();
        // A folder inside does as well.
        let history = history(folder.path().join("src").to_str().unwrap(), &QUIET).unwrap();
        let log: Vec<_> =
            history.entries.iter().map(|entry| (entry.task.as_str(), entry.category, entry.hours)).collect();
        assert_eq!(
            log,
            [
                ("src", Category::Feature, 0.5),
                ("docs", Category::Docs, 0.5),
                ("parser", Category::Fix, 0.5),
                ("root", Category::Other, 0.5),
            ]
        );
        assert_eq!(history.entries[0].start, "2026-01-05T08:30:00+01:00");
        assert_eq!((history.summary.authors, history.summary.hours), (1, 2.0));
    }

    #[test]
    fn a_shallow_repository_is_read_as_far_as_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init(folder.path()).unwrap();
        commit(&repository, "a/x", "one", 0);
        let second = commit(&repository, "b/x", "two", 10);
        commit(&repository, "c/x", "three", 20);
        std::fs::write(repository.path().join("shallow"), format!("{second}\n")).unwrap();
        let history = history(folder.path().to_str().unwrap(), &QUIET).unwrap();
        assert_eq!(history.entries.len(), 2);
        assert!(serde_json::to_string(&history).unwrap().contains("shallow clone"));
    }

    #[test]
    fn what_cannot_be_read_says_why_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let of = |path: &str| history(path, &QUIET).unwrap_err();
        let error = of("/no/such/folder");
        assert!(error.message.contains("repo: there is no `/no/such/folder`"), "{}", error.message);
        let error = of(path);
        assert!(
            error.message.contains("is not in a git repository") && error.message.contains(path),
            "{}",
            error.message
        );
        Repository::init(folder.path()).unwrap();
        let error = of(path);
        assert!(error.message.contains("has no commits yet") && !error.retryable, "{}", error.message);
    }

    #[test]
    fn reading_stops_when_it_is_asked_to() {
        let folder = tempfile::tempdir().unwrap();
        commit(&Repository::init(folder.path()).unwrap(), "a", "one", 0);
        let watch = Watch { stopped: &|| true, ..QUIET };
        assert_eq!(history(folder.path().to_str().unwrap(), &watch).unwrap_err().code, Code::Cancelled);
    }
}
