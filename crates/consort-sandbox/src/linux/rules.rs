//! Landlock: which files, ports, sockets and processes.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
    make_bitflags,
};

use super::base;
use super::plan::{OWN, Plan};
use crate::launcher::Policy;
use crate::{Exec, Net};

/// The newest interface whose meaning is known here. What an older kernel has not is left out; what must not be left out is known
/// before a program is started (see [`crate::Mechanisms::missing`]).
const NEWEST: ABI = ABI::V9;

/// Files to read that a program without namespaces of its own needs besides what all need.
const BARE_READ: [&str; 3] = ["/proc", "/etc/passwd", "/etc/group"];
/// Files to read in namespaces: what the sandbox put there itself.
const OWN_READ: [&str; 2] = ["/proc", "/etc"];

fn read() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{ReadFile | ReadDir})
}

/// All but devices and execution.
fn write() -> BitFlags<AccessFs> {
    AccessFs::from_all(NEWEST) & !make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | IoctlDev})
}

fn device() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev})
}

/// Holds this process and all that it starts. Whether anything is held.
pub(super) fn restrict(plan: &Plan, policy: &Policy) -> Result<bool, RulesetError> {
    let sandbox = &policy.sandbox;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(if sandbox.machine_processes { Scope::AbstractUnixSocket.into() } else { Scope::from_all(NEWEST) })?;
    if sandbox.net != Net::All {
        rules = rules.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    let mut rules = rules.create()?;
    let everywhere = if sandbox.exec == Exec::All { AccessFs::Execute.into() } else { BitFlags::EMPTY };
    for grant in &plan.grants {
        let access = if grant.write { write() | read() } else { read() };
        let access = if grant.path.starts_with("/dev") { access | AccessFs::IoctlDev } else { access };
        rules = allow(rules, &grant.path, access | everywhere)?;
    }
    for path in &plan.executables {
        rules = allow(rules, path, read() | AccessFs::Execute)?;
    }
    for path in &plan.sockets {
        rules = allow(rules, path, AccessFs::ResolveUnix.into())?;
    }
    for path in base::DEVICES {
        rules = allow(rules, Path::new(path), device())?;
    }
    if policy.mechanisms.namespaces && sandbox.exec != Exec::None {
        rules = allow(rules, Path::new(base::TERMINALS), device() | AccessFs::ReadDir)?;
    }
    let own: &[&str] = if policy.mechanisms.namespaces { &OWN_READ } else { &BARE_READ };
    for path in own {
        rules = allow(rules, Path::new(path), read())?;
    }
    if policy.mechanisms.namespaces {
        for path in OWN.into_iter().filter(|path| *path != "/dev").chain(["/dev/shm"]) {
            rules = allow(rules, Path::new(path), read() | write() | everywhere)?;
        }
    }
    if let Net::Ports { connect, bind, .. } = &sandbox.net {
        for port in connect {
            rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
        for port in bind {
            rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
        }
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// Adds a rule for a path if it exists. A rule for a file names only what can be done to files.
fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    let Ok(opened) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() { access } else { access & (AccessFs::from_file(NEWEST) | AccessFs::ResolveUnix) };
    if access.is_empty() { Ok(rules) } else { rules.add_rule(PathBeneath::new(opened, access)) }
}
