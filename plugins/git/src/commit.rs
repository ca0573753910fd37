//! `commit`: given files of the working tree become a commit of the current branch.

use std::path::{Path, PathBuf};

use consort_sdk::Code;
use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault};
use git2::{Commit, ErrorCode, Index, IndexAddOption, Repository, RepositoryState, Signature};
use serde::{Deserialize, Serialize};

use crate::access::{Intent, inside, open};
use crate::branch::current;
use crate::config::{Config, Person};
use crate::files::{FileChange, changed};
use crate::words::{text, told};

/// Trailer by which a commit of an earlier try is known.
const TRAILER: &str = "Consort-Call";
/// Commits that are looked at for it.
const LOOKED_AT: usize = 100;
/// Paths that may be named, and bytes of a message.
const PATHS: usize = 1_000;
const MESSAGE: usize = 64 * 1024;
/// Files that are listed.
const FILES: usize = 1_000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// Path of a repository, or of a folder in one.
    path: String,
    /// Files and folders to commit as they are now, new, changed or gone; relative to the repository's folder. What is ignored
    /// is left out. What was staged before is committed with them.
    add: Vec<String>,
    /// The message: a line, and more after an empty one.
    message: String,
    /// Who wrote it; the committer if absent.
    author: Option<Person>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Output {
    /// Id of the commit; absent in a dry run.
    commit: Option<String>,
    /// The branch; absent if the working tree is at a commit without a branch.
    branch: Option<String>,
    /// False if an earlier try of this call made it.
    created: bool,
    /// Files that it changes, at most 1,000; those that were named, in a dry run.
    files: Vec<FileChange>,
    /// There are more.
    truncated: bool,
}

pub(crate) fn commit(call: &Call, input: Input) -> Result<Output, Fault> {
    check(&input)?;
    let repository = open(call, &input.path, Intent::Write)?;
    if repository.is_bare() {
        return Err(Fault::precondition("the repository has no working tree to commit from"));
    }
    let paths = input.add.iter().map(|path| inside(&repository, "add", path)).collect::<Result<Vec<_>, _>>()?;
    let parent = parent(&repository)?;
    if let Some(earlier) = parent.clone().and_then(|parent| earlier(call, parent)) {
        return made(&repository, &earlier, false);
    }
    if repository.state() != RepositoryState::Clean {
        let said = format!("a {:?} is in progress; end it first", repository.state()).to_lowercase();
        return Err(Fault::precondition(said).reason("IN_PROGRESS"));
    }
    let mut index = repository.index().map_err(told("the index cannot be read"))?;
    // What is on disk, whoever changed it.
    index.read(true).map_err(told("the index cannot be read"))?;
    if index.has_conflicts() {
        return Err(Fault::precondition("files have conflicts; resolve them first").reason("CONFLICTS"));
    }
    for path in &paths {
        known(&repository, &index, path)?;
    }
    let committer = committer(call, &repository)?;
    let author = match &input.author {
        Some(author) => signature("author", author)?,
        None => committer.clone(),
    };
    let branch = current(&repository);
    let onto = branch.clone().unwrap_or_else(|| "no branch".to_owned());
    let (shown, subject) = (repository.path().display(), input.message.trim().lines().next().unwrap_or_default());
    if call.dry_run() {
        let files = listed(&repository, &paths)?;
        let named = files.iter().take(50).map(|file| file.path.as_str()).collect::<Vec<_>>().join(", ");
        call.would(format!("commit `{subject}` to {onto} in {shown}: {named}"));
        return Ok(Output { commit: None, branch, created: false, files, truncated: false });
    }
    let refused = told("the files cannot be added");
    index.add_all(&paths, IndexAddOption::DISABLE_PATHSPEC_MATCH, None).map_err(&refused)?;
    index.update_all(&paths, None).map_err(&refused)?;
    call.check_cancelled()?;
    let tree = index.write_tree().and_then(|id| repository.find_tree(id)).map_err(&refused)?;
    if parent.as_ref().map_or_else(|| tree.is_empty(), |parent| parent.tree_id() == tree.id()) {
        return Err(Fault::precondition("nothing differs from the last commit").reason("NOTHING_TO_COMMIT"));
    }
    let message = message(&input.message, call.idempotency_key());
    let parents: Vec<&Commit> = parent.iter().collect();
    // Fails if the branch moved meanwhile.
    let id = repository
        .commit(Some("HEAD"), &author, &committer, &message, &tree, &parents)
        .map_err(told("the commit cannot be made"))?;
    call.did(format!("committed {id} `{subject}` to {onto} in {shown}"));
    index.write().map_err(told("the commit was made, but the index cannot be written"))?;
    let commit = repository.find_commit(id).map_err(told("the commit cannot be read"))?;
    made(&repository, &commit, true)
}

fn check(input: &Input) -> Result<(), Fault> {
    if input.add.is_empty() || input.add.len() > PATHS {
        return Err(Fault::bad_input("add", format!("has {} paths; give 1 to {PATHS}", input.add.len())));
    }
    let length = input.message.len();
    if input.message.trim().is_empty() || length > MESSAGE || input.message.contains('\0') {
        let why = format!("has {length} bytes; give a text of 1 to {MESSAGE} without NUL");
        return Err(Fault::bad_input("message", why));
    }
    Ok(())
}

/// The last commit; none if the branch has none yet.
fn parent(repository: &Repository) -> Result<Option<Commit<'_>>, Fault> {
    match repository.head().and_then(|head| head.peel_to_commit()) {
        Ok(commit) => Ok(Some(commit)),
        Err(error) if error.code() == ErrorCode::UnbornBranch => Ok(None),
        Err(error) => Err(told("the last commit cannot be read")(error)),
    }
}

/// The commit that an earlier try of this call made.
fn earlier<'r>(call: &Call, newest: Commit<'r>) -> Option<Commit<'r>> {
    let key = call.idempotency_key();
    if key.is_empty() {
        return None;
    }
    let trailer = trailer(key);
    let mut commit = newest;
    for _ in 0..LOOKED_AT {
        let message = text(commit.message_bytes(), MESSAGE + 1024);
        if message.lines().next_back() == Some(&trailer) {
            return Some(commit);
        }
        commit = commit.parent(0).ok()?;
    }
    None
}

fn trailer(key: &str) -> String {
    // One line, whatever a caller sends.
    let key: String = key.chars().filter(|c| !c.is_control()).take(200).collect();
    format!("{TRAILER}: {key}")
}

fn message(given: &str, key: &str) -> String {
    let given = given.trim_end();
    if key.is_empty() { format!("{given}\n") } else { format!("{given}\n\n{}\n", trailer(key)) }
}

/// Whether there is something at a path, on disk or in the index.
fn known(repository: &Repository, index: &Index, path: &Path) -> Result<(), Fault> {
    let on_disk = repository.workdir().is_some_and(|workdir| workdir.join(path).symlink_metadata().is_ok());
    if on_disk || path.as_os_str().is_empty() || index.find_prefix(path).is_ok() {
        return Ok(());
    }
    Err(Fault::not_found(format!("add: there is no `{}`, and git knows none", path.display())))
}

/// What would change; nothing is written.
fn listed(repository: &Repository, paths: &[PathBuf]) -> Result<Vec<FileChange>, Fault> {
    let mut options = git2::DiffOptions::new();
    options.include_untracked(true).recurse_untracked_dirs(true).show_untracked_content(true);
    options.disable_pathspec_match(true);
    for path in paths.iter().filter(|path| !path.as_os_str().is_empty()) {
        options.pathspec(path);
    }
    let tree = parent(repository)?.and_then(|parent| parent.tree().ok());
    let diff = repository.diff_tree_to_workdir_with_index(tree.as_ref(), Some(&mut options));
    let (files, _) = diff.and_then(|diff| changed(&diff, FILES)).map_err(told("the files cannot be read"))?;
    if files.is_empty() {
        return Err(Fault::precondition("nothing differs from the last commit").reason("NOTHING_TO_COMMIT"));
    }
    Ok(files)
}

fn committer(call: &Call, repository: &Repository) -> Result<Signature<'static>, Fault> {
    if let Some(person) = &call.config::<Config>()?.committer {
        return signature("config.committer", person);
    }
    repository.signature().map_err(|_| {
        let said = "nobody is named as committer; let the operator set `committer`, or set user.name and user.email in the repository";
        Fault::precondition(said).reason("NO_COMMITTER")
    })
}

fn signature(field: &str, person: &Person) -> Result<Signature<'static>, Fault> {
    let Person { name, email } = person;
    let odd = |part: &str| part.trim().is_empty() || part.len() > 200 || part.contains(['<', '>', '\n', '\0']);
    if odd(name) || odd(email) {
        let why = "name and email must have 1 to 200 bytes, without `<`, `>` and line breaks";
        return Err(Fault::bad_input(field, why));
    }
    Signature::now(name, email)
        .map_err(|error| Fault::new(Code::InvalidArgument, format!("{field}: {}", error.message())))
}

fn made(repository: &Repository, commit: &Commit, created: bool) -> Result<Output, Fault> {
    let before = commit.parent(0).ok().and_then(|parent| parent.tree().ok());
    let diff = commit.tree().and_then(|tree| repository.diff_tree_to_tree(before.as_ref(), Some(&tree), None));
    let (files, truncated) = diff.and_then(|diff| changed(&diff, FILES)).map_err(told("the commit cannot be read"))?;
    Ok(Output { commit: Some(commit.id().to_string()), branch: current(repository), created, files, truncated })
}
