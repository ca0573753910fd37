//! Finds out what the machine offers, by trying.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::process::getuid;
use rustix::system::uname;

use super::plan::Plan;
use super::sys::{Fork, fork, landlock_abi, seccomp_knows};
use super::{outer, root};
use crate::launcher::Policy;
use crate::{Mechanisms, Sandbox};

/// Prints what there is, as JSON.
pub(super) fn print() -> io::Result<()> {
    let mut found = Mechanisms {
        landlock: landlock_abi(),
        seccomp: seccomp_knows(libc::SECCOMP_RET_ERRNO),
        exec_once: seccomp_knows(libc::SECCOMP_RET_USER_NOTIF),
        ..Mechanisms::default()
    };
    // As much as can be had; within a user namespace rather than with root's rights.
    for (user_namespace, proc) in [(true, true), (true, false), (false, true), (false, false)] {
        let tried = Mechanisms { namespaces: true, user_namespace, proc, ..found.clone() };
        match try_namespaces(&tried) {
            Ok(()) => {
                found = Mechanisms { reason: String::new(), ..tried };
                break;
            }
            Err(reason) => found.reason = reason,
        }
    }
    // Root's processes are counted by the ids of their namespace alone.
    found.processes = if getuid().is_root() {
        found.namespaces && found.proc && has_ids_of_its_own()
    } else {
        found.namespaces && found.user_namespace
    };
    println!("{}", serde_json::to_string(&found).map_err(io::Error::other)?);
    Ok(())
}

/// Whether `pid_max` is a setting of each namespace: since Linux 6.14. Before, it is the machine's.
fn has_ids_of_its_own() -> bool {
    let name = uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 14)
}

/// Makes namespaces and a root with nothing in it, in a process of its own. Says why not.
fn try_namespaces(mechanisms: &Mechanisms) -> Result<(), String> {
    let policy = Policy {
        sandbox: Sandbox::new("/"),
        mechanisms: mechanisms.clone(),
        program: PathBuf::new(),
        args: Vec::new(),
        parent: 0,
    };
    let plan = Plan {
        program: PathBuf::new(),
        args: Vec::new(),
        grants: Vec::new(),
        links: Vec::new(),
        executables: Vec::new(),
        sockets: Vec::new(),
    };
    let (mut ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
    match fork().map_err(|error| error.to_string())? {
        Fork::Parent(child) => {
            drop(theirs);
            let mut reason = String::new();
            let _ = ours.read_to_string(&mut reason);
            let done = outer::exit_of(child) == Some(0);
            if done { Ok(()) } else { Err(reason) }
        }
        Fork::Child => {
            drop(ours);
            let step = |name: &'static str, error: io::Error| format!("{name}: {error}");
            let tried = outer::isolate(&policy).map_err(|error| step("namespaces", error)).and_then(|()| {
                match fork().map_err(|error| step("process namespace", error))? {
                    Fork::Parent(child) => match outer::exit_of(child) {
                        Some(0) => Ok(()),
                        _ => Err(String::new()),
                    },
                    Fork::Child => root::enter(&plan, &policy).map_err(|error| step("mounts", error)),
                }
            });
            if let Err(reason) = &tried {
                let _ = (&theirs).write_all(reason.as_bytes());
            }
            std::process::exit(i32::from(tried.is_err()))
        }
    }
}
