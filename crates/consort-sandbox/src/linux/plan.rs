//! From what was granted to the files that a program will see.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::base;
use super::paths::{find, interpreters, runtime, trail};
use crate::launcher::Policy;
use crate::{Exec, Sandbox};

/// A file or folder that the program may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    /// Without links.
    pub(super) path: PathBuf,
    /// Whether it may change it.
    pub(super) write: bool,
}

/// What is done to start a program.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    /// By path, so that a folder stands before what is in it. What a folder before it grants as well is left out.
    pub(super) grants: Vec<Grant>,
    /// Symbolic links through which grants are reached, each with what it says.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
    /// Files and folders that may be executed, without links. Empty if all grants may.
    pub(super) executables: Vec<PathBuf>,
    /// Unix sockets that may be connected to, without links.
    pub(super) sockets: Vec<PathBuf>,
}

/// Folders that each sandbox has of its own, unless they are granted themselves.
pub(super) const OWN: [&str; 2] = ["/dev", "/tmp"];

/// Looks at the files as they are now. Says what is missing in a sentence.
pub(super) fn plan(policy: &Policy) -> io::Result<Plan> {
    let sandbox = &policy.sandbox;
    let search = sandbox.env.iter().find(|(name, _)| name == "PATH").map_or("/usr/local/bin:/usr/bin:/bin", |(_, p)| p);
    let found = find(&policy.program, &sandbox.folder, search)?;
    let started = started(&found.path, sandbox);
    let mut wants = Wants::default();
    for path in base::READ.map(PathBuf::from).iter().chain([&sandbox.folder]).chain(&sandbox.read) {
        wants.add(path, false);
    }
    for path in &started {
        wants.add(path, false);
        for path in runtime(path) {
            wants.add(&path, false);
        }
    }
    let sockets: Vec<PathBuf> = sandbox.sockets.iter().filter_map(|path| wants.add(path, false)).collect();
    for path in &sandbox.write {
        if wants.add(path, true).is_none() {
            return Err(io::Error::other(format!("{}: is to be written and is not there", path.display())));
        }
    }
    let executables = match sandbox.exec {
        Exec::All => Vec::new(),
        Exec::None | Exec::Only(_) => started.iter().filter_map(|path| Some(trail(path).ok()?.end)).collect(),
    };
    Ok(Plan {
        program: found.path,
        args: found.first.into_iter().chain(policy.args.iter().map(OsString::from)).collect(),
        grants: wants.grants(),
        links: wants.links,
        executables,
        sockets,
    })
}

/// The program, what it may start, and what the kernel starts for them.
fn started(program: &Path, sandbox: &Sandbox) -> Vec<PathBuf> {
    let mut all = vec![program.to_owned()];
    if let Exec::Only(paths) = &sandbox.exec {
        all.extend(paths.iter().cloned());
    }
    let named: Vec<PathBuf> = all.iter().flat_map(|path| interpreters(path)).collect();
    all.extend(named);
    all
}

#[derive(Default)]
struct Wants {
    /// Path without links to whether it is to be written.
    paths: BTreeMap<PathBuf, bool>,
    links: Vec<(PathBuf, PathBuf)>,
}

impl Wants {
    /// Where `path` ends, if it exists and is not the sandbox's own.
    fn add(&mut self, path: &Path, write: bool) -> Option<PathBuf> {
        let trail = trail(path).ok()?;
        if trail.end.starts_with("/proc") || trail.end == Path::new("/dev") {
            return None;
        }
        self.links.extend(trail.links);
        *self.paths.entry(trail.end.clone()).or_default() |= write;
        Some(trail.end)
    }

    fn grants(&self) -> Vec<Grant> {
        let mut grants: Vec<Grant> = Vec::new();
        for (path, write) in &self.paths {
            let own = OWN.iter().find(|own| path.starts_with(own) && !self.paths.contains_key(Path::new(own)));
            let covers =
                |grant: &&Grant| path.starts_with(&grant.path) && own.is_none_or(|own| grant.path.starts_with(own));
            // The nearest folder around it decides, for what is around that one is hidden by it.
            let around = grants.iter().rev().find(covers);
            if around.is_none_or(|grant| *write && !grant.write) {
                grants.push(Grant { path: path.clone(), write: *write });
            }
        }
        grants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wants: &[(&str, bool)], expected: &[(&str, bool)]) {
        let paths = wants.iter().map(|(path, write)| (PathBuf::from(path), *write)).collect();
        let grants = Wants { paths, links: Vec::new() }.grants();
        let got: Vec<(&str, bool)> = grants.iter().map(|grant| (grant.path.to_str().unwrap(), grant.write)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn a_grant_within_a_grant_is_left_out() {
        check(&[("/a", false), ("/a/b", false)], &[("/a", false)]);
        check(&[("/a", false), ("/a/b", true)], &[("/a", false), ("/a/b", true)]);
        check(&[("/a", true), ("/a/b", false)], &[("/a", true)]);
        check(&[("/a", false), ("/a/b", true), ("/a/b/c", false)], &[("/a", false), ("/a/b", true)]);
        check(&[("/a", false), ("/ab", false)], &[("/a", false), ("/ab", false)]);
    }

    #[test]
    fn what_lies_in_a_folder_of_the_sandbox_is_granted_by_name() {
        check(&[("/", false), ("/tmp/x", false), ("/usr", false)], &[("/", false), ("/tmp/x", false)]);
        check(&[("/", false), ("/tmp", true), ("/tmp/x", false)], &[("/", false), ("/tmp", true)]);
    }
}
