//! `push`: a branch is sent to a remote.

use std::path::{Path, PathBuf};

use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault};
use git2::{BranchType, Cred, CredentialType, PushOptions, RemoteCallbacks, Repository};
use serde::{Deserialize, Serialize};

use crate::access::{Intent, open, writable};
use crate::branch::current;
use crate::config::Config;
use crate::words::told;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// Path of a repository, or of a folder in one.
    path: String,
    /// Name of the remote.
    #[serde(default = "origin")]
    remote: String,
    /// The branch; that of the working tree if absent.
    branch: Option<String>,
}

fn origin() -> String {
    "origin".to_owned()
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Output {
    /// Where it was sent, without a user or password.
    url: String,
    /// The branch.
    branch: String,
    /// Id of the commit that it has there now, or would have after a dry run.
    commit: String,
}

/// How a remote is reached.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Path(PathBuf),
    Http,
}

/// What is known before anything is sent.
struct Ready {
    url: String,
    branch: String,
    commit: String,
}

pub(crate) async fn push(call: Call, input: Input) -> Result<Output, Fault> {
    let asked = input.clone();
    let ready = call.blocking(move |call| ready(call, &asked)).await?;
    let shown = without_user(&ready.url);
    let Ready { url, branch, commit } = ready;
    if call.dry_run() {
        call.would(format!("push {branch} at {commit} to {shown}"));
        return Ok(Output { url: shown, branch, commit });
    }
    let config = call.config::<Config>()?;
    let credential = match config.credential(&url) {
        Some(known) => Some((known.user.clone(), call.host().get_secret(&known.secret).await?)),
        None => None,
    };
    let output = Output { url: shown, branch: branch.clone(), commit: commit.clone() };
    call.blocking(move |call| send(call, &input, &url, &branch, credential)).await?;
    call.did(format!("pushed {} at {commit} to {}", output.branch, output.url));
    Ok(output)
}

fn ready(call: &Call, input: &Input) -> Result<Ready, Fault> {
    let repository = open(call, &input.path, Intent::Read)?;
    let branch = input.branch.clone().or_else(|| current(&repository));
    let branch = branch.ok_or_else(|| Fault::bad_input("branch", "is absent, and the working tree is at no branch"))?;
    let found = repository.find_branch(&branch, BranchType::Local);
    let found = found.map_err(told(&format!("branch `{branch}` cannot be read")))?;
    let commit = found.get().peel_to_commit().map_err(told("the branch cannot be read"))?.id().to_string();
    let url = url_of(&repository, &input.remote)?;
    if let Way::Path(path) = way(&url)? {
        let base = repository.workdir().unwrap_or_else(|| repository.path());
        writable(call, &base.join(path))?;
    }
    Ok(Ready { url, branch, commit })
}

/// Where a push to a remote goes.
fn url_of(repository: &Repository, name: &str) -> Result<String, Fault> {
    // libgit2 would take an address for a name.
    let remote = repository.find_remote(name).map_err(told(&format!("remote `{name}` cannot be read")))?;
    let bytes = remote.pushurl_bytes().unwrap_or_else(|| remote.url_bytes());
    String::from_utf8(bytes.to_vec()).map_err(|_| Fault::precondition(format!("the address of `{name}` is no UTF-8")))
}

fn way(url: &str) -> Result<Way, Fault> {
    if let Some(path) = url.strip_prefix("file://") {
        return Ok(Way::Path(PathBuf::from(path)));
    }
    match url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()) {
        Some(scheme) if scheme == "http" => Ok(Way::Http),
        Some(scheme) => {
            let said = format!("`{scheme}` is not spoken here; push to a local path or over http");
            Err(Fault::precondition(said).reason("UNKNOWN_SCHEME"))
        }
        // `host:path` is ssh, unless a slash comes first.
        None if url.split('/').next().is_some_and(|first| first.contains(':')) => {
            Err(Fault::precondition("ssh is not spoken here; push to a local path or over http")
                .reason("UNKNOWN_SCHEME"))
        }
        None => Ok(Way::Path(Path::new(url).to_owned())),
    }
}

fn without_user(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

fn send(
    call: &Call,
    input: &Input,
    url: &str,
    branch: &str,
    credential: Option<(String, String)>,
) -> Result<(), Fault> {
    let repository = open(call, &input.path, Intent::Read)?;
    // Not by name: the address that was checked is the one that is used.
    let mut remote = repository.remote_anonymous(url).map_err(told("the remote cannot be reached"))?;
    // The repository's settings may put another address in its place (`url.*.insteadOf`).
    if remote.url_bytes() != url.as_bytes() || remote.pushurl_bytes().is_some_and(|other| other != url.as_bytes()) {
        return Err(Fault::precondition(
            "the repository's settings rewrite the remote's address twice; name it in full",
        ));
    }
    let mut refused = None;
    let mut shown = false;
    let pushed = {
        let mut callbacks = RemoteCallbacks::new();
        callbacks.credentials(|_, _, allowed| match &credential {
            // Asked again means that it was refused.
            Some((user, secret)) if allowed.contains(CredentialType::USER_PASS_PLAINTEXT) && !shown => {
                shown = true;
                Cred::userpass_plaintext(user, secret)
            }
            _ => Err(git2::Error::new(
                git2::ErrorCode::Auth,
                git2::ErrorClass::Http,
                "the remote asks who this is; let the operator set `credentials` for it, with a valid secret",
            )),
        });
        callbacks.push_transfer_progress(|done, all, bytes| {
            call.report_progress(done as f64 / all.max(1) as f64, format!("{done} of {all} objects, {bytes} bytes"));
        });
        callbacks.sideband_progress(|_| !call.is_cancelled());
        callbacks.push_update_reference(|_, status| {
            refused = refused.take().or_else(|| status.map(ToOwned::to_owned));
            Ok(())
        });
        let mut options = PushOptions::new();
        options.remote_callbacks(callbacks);
        remote.push(&[format!("refs/heads/{branch}:refs/heads/{branch}")], Some(&mut options))
    };
    pushed.map_err(|error| match error.code() {
        git2::ErrorCode::NotFastForward => {
            let said = format!("the remote's `{branch}` has commits that are missing here; fetch and merge them first");
            Fault::precondition(said).reason("NOT_FAST_FORWARD")
        }
        _ => told("the branch cannot be pushed")(error),
    })?;
    match refused {
        Some(why) => Err(Fault::precondition(format!("the remote refused `{branch}`: {why}")).reason("PUSH_REFUSED")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        assert_eq!(way("/srv/a.git").unwrap(), Way::Path("/srv/a.git".into()));
        assert_eq!(way("../a:b.git").unwrap(), Way::Path("../a:b.git".into()));
        assert_eq!(way("file:///srv/a.git").unwrap(), Way::Path("/srv/a.git".into()));
        assert_eq!(way("http://git.example.org/a").unwrap(), Way::Http);
        for wrong in ["git@example.org:a.git", "ssh://git@example.org/a", "ext::sh -c id", "https://example.org/a"] {
            assert!(way(wrong).is_err(), "{wrong}");
        }
        assert_eq!(without_user("http://a:b@example.org/x@y"), "http://example.org/x@y");
    }
}
