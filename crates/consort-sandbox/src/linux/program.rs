//! The last process before the program: it gives up what it has, step by step, and becomes the program.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Signal, set_parent_process_death_signal, setsid};

use super::plan::Plan;
use super::{filter, limits, rules, sys};
use crate::Exec;
use crate::launcher::Policy;

/// Becomes the program. Hands the descriptor of the filter that asks before an execution to `supervisor`, if there is one.
pub(super) fn become_program(plan: &Plan, policy: &Policy, supervisor: Option<UnixStream>) -> io::Result<Infallible> {
    let sandbox = &policy.sandbox;
    sys::hold_back_nothing();
    setsid()?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut command = Command::new(&plan.program);
    command.args(&plan.args).env_clear().envs(sandbox.env.iter().cloned()).current_dir(&sandbox.folder);
    sys::close_on_exec_from(3)?;
    limits::limit(&sandbox.limits, policy.mechanisms.user_namespace)?;
    limits::give_up_capabilities()?;
    if policy.mechanisms.landlock > 0 && !rules::restrict(plan, policy).map_err(io::Error::other)? {
        return Err(io::Error::other("Landlock holds nothing, and was there before"));
    }
    if policy.mechanisms.seccomp {
        for filter in filter::filters(sandbox).map_err(io::Error::other)? {
            seccompiler::apply_filter(&filter).map_err(io::Error::other)?;
        }
        if let Some(supervisor) = supervisor {
            hand_over(&sys::ask_before_exec()?, &supervisor)?;
        }
    }
    let error = command.exec();
    Err(io::Error::new(error.kind(), format!("{}: {error}", plan.program.display())))
}

/// Whether the program is to be started once, and to start nothing.
pub(super) fn is_supervised(policy: &Policy) -> bool {
    policy.mechanisms.seccomp && policy.mechanisms.exec_once && policy.sandbox.exec == Exec::None
}

fn hand_over(listener: &OwnedFd, supervisor: &UnixStream) -> io::Result<()> {
    let fds = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)), "there is space for one descriptor");
    sendmsg(supervisor, &[IoSlice::new(b"!")], &mut control, SendFlags::empty())?;
    Ok(())
}
