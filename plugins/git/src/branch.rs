//! `branches` and `create_branch`.

use consort_sdk::Code;
use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault};
use git2::build::CheckoutBuilder;
use git2::{Branch, BranchType, ErrorCode, Repository};
use serde::{Deserialize, Serialize};

use crate::access::{Intent, open};
use crate::words::{commit_of, told};

/// Branches that are listed.
const MOST: usize = 1_000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListInput {
    /// Path of a repository, or of a folder in one.
    path: String,
    /// Whether to list what is known of remotes' branches, too.
    #[serde(default)]
    remote: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListOutput {
    /// The branch of the working tree; absent if it is at a commit without a branch.
    current: Option<String>,
    /// By name, at most 1,000.
    branches: Vec<Listed>,
    /// There are more.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Listed {
    name: String,
    /// Id of its newest commit.
    commit: String,
    /// It is a remote's, as of the last fetch.
    remote: bool,
    /// The branch that it follows, with how far they are apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<Upstream>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Upstream {
    name: String,
    /// Commits that the upstream lacks.
    ahead: usize,
    /// Commits that only the upstream has.
    behind: usize,
}

pub(crate) fn list(call: &Call, input: ListInput) -> Result<ListOutput, Fault> {
    let repository = open(call, &input.path, Intent::Read)?;
    let broken = told("the branches cannot be read");
    let kind = if input.remote { None } else { Some(BranchType::Local) };
    let (mut branches, mut truncated) = (Vec::new(), false);
    for found in repository.branches(kind).map_err(&broken)? {
        call.check_cancelled()?;
        let (branch, kind) = found.map_err(&broken)?;
        // A name without a commit, as `origin/HEAD` of an empty remote is.
        let Ok(commit) = branch.get().peel_to_commit() else { continue };
        if branches.len() == MOST {
            truncated = true;
            break;
        }
        let upstream = upstream(&repository, &branch, commit.id());
        branches.push(Listed {
            name: name_of(&branch),
            commit: commit.id().to_string(),
            remote: kind == BranchType::Remote,
            upstream,
        });
    }
    branches.sort_by(|a, b| (a.remote, &a.name).cmp(&(b.remote, &b.name)));
    Ok(ListOutput { current: current(&repository), branches, truncated })
}

fn name_of(branch: &Branch) -> String {
    branch.name_bytes().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
}

fn upstream(repository: &Repository, branch: &Branch, commit: git2::Oid) -> Option<Upstream> {
    let upstream = branch.upstream().ok()?;
    let theirs = upstream.get().peel_to_commit().ok()?;
    let (ahead, behind) = repository.graph_ahead_behind(commit, theirs.id()).ok()?;
    Some(Upstream { name: name_of(&upstream), ahead, behind })
}

/// The branch of the working tree, even if it has no commit yet.
pub(crate) fn current(repository: &Repository) -> Option<String> {
    let head = repository.find_reference("HEAD").ok()?;
    let target = head.symbolic_target_bytes()?;
    Some(String::from_utf8_lossy(target.strip_prefix(b"refs/heads/")?).into_owned())
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateInput {
    /// Path of a repository, or of a folder in one.
    path: String,
    /// Name of the branch.
    name: String,
    /// Where it begins: a branch, a tag, an id, `HEAD~2`.
    #[serde(default = "head")]
    from: String,
    /// Whether to make it the branch of the working tree. Changed files are kept; a conflict with one is refused.
    #[serde(default)]
    switch: bool,
}

fn head() -> String {
    "HEAD".to_owned()
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CreateOutput {
    name: String,
    /// The commit at which it begins.
    commit: String,
    /// False if it was there already, at the same commit.
    created: bool,
    /// It is the branch of the working tree.
    current: bool,
}

pub(crate) fn create(call: &Call, input: CreateInput) -> Result<CreateOutput, Fault> {
    let CreateInput { path, name, from, switch } = input;
    let repository = open(call, &path, Intent::Write)?;
    if name.len() > 200 || !Branch::name_is_valid(&name).unwrap_or(false) {
        return Err(Fault::bad_input(
            "name",
            format!("`{}` is no name of a branch", name.chars().take(200).collect::<String>()),
        ));
    }
    if switch && repository.is_bare() {
        return Err(Fault::bad_input("switch", "the repository has no working tree"));
    }
    let commit = commit_of(&repository, "from", &from)?;
    let created = match repository.find_branch(&name, BranchType::Local) {
        Ok(there) => {
            let at = there.get().peel_to_commit().map_err(told("the branch cannot be read"))?;
            if at.id() != commit.id() {
                let said = format!("branch `{name}` is there already, at {} and not at {}", at.id(), commit.id());
                return Err(Fault::new(Code::AlreadyExists, said));
            }
            false
        }
        Err(error) if error.code() == ErrorCode::NotFound => true,
        Err(error) => return Err(told("the branch cannot be read")(error)),
    };
    let switch = switch && current(&repository).as_deref() != Some(&name);
    let (id, shown) = (commit.id().to_string(), repository.path().display());
    if call.dry_run() {
        if created {
            call.would(format!("create branch {name} at {id} in {shown}"));
        }
        if switch {
            call.would(format!("switch the working tree to branch {name} in {shown}"));
        }
    } else {
        // First what can be refused, so that a refused call has changed nothing.
        if switch {
            let mut safe = CheckoutBuilder::new();
            repository
                .checkout_tree(commit.as_object(), Some(safe.safe()))
                .map_err(told("the working tree cannot be switched; commit or put away what conflicts"))?;
        }
        if created {
            repository.branch(&name, &commit, false).map_err(told("the branch cannot be created"))?;
            call.did(format!("created branch {name} at {id} in {shown}"));
        }
        if switch {
            repository
                .set_head(&format!("refs/heads/{name}"))
                .map_err(told("the files are those of the branch, but HEAD cannot be set"))?;
            call.did(format!("switched the working tree to branch {name} in {shown}"));
        }
    }
    let current = current(&repository).as_deref() == Some(&name);
    Ok(CreateOutput { name, commit: id, created, current })
}
