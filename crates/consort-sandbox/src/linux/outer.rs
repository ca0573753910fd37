//! The process that the mesh sees: it makes the namespaces, and stands for the program towards the mesh.

use std::convert::Infallible;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, WaitOptions, getgid, getpid, getppid, getuid, kill_process, pidfd_open,
    set_dumpable_behavior, waitpid,
};
use rustix::thread::{UnshareFlags, set_thread_groups};

use super::memory::{EVERY, Watch};
use super::sys::{Fork, Signals, default_action, fork};
use super::{FORWARDED, inner, limits, mute, plan, sys};
use crate::Net;
use crate::launcher::Policy;

/// Does all that [`crate::sandbox_main`] promises. Returns only if something could not be done.
pub(super) fn run(policy: &Policy) -> io::Result<Infallible> {
    sys::close_from(3)?;
    let parent = getppid().filter(|pid| pid.as_raw_nonzero().get().unsigned_abs() == policy.parent);
    let parent =
        pidfd_open(parent.ok_or_else(|| io::Error::other("whoever started this is gone"))?, PidfdFlags::empty())?;
    // When the machine runs out of memory, plugins go before the mesh.
    let _ = fs::write("/proc/self/oom_score_adj", "500");
    let plan = plan::plan(policy)?;
    isolate(policy)?;
    let signals = Signals::take(&[&FORWARDED[..], &[Signal::CHILD]].concat())?;
    let (mut ours, theirs) = UnixStream::pair()?;
    let inner = match fork()? {
        Fork::Child => {
            drop((ours, signals, parent));
            let Err(error) = inner::run(&plan, policy, theirs);
            return Err(error);
        }
        Fork::Parent(inner) => inner,
    };
    drop((theirs, plan));
    mute();
    limits::give_up_capabilities()?;
    // Here, not in the process between: the program cannot reach this one, to slow it down or to take its descriptors.
    let watched = policy.own_processes() && policy.mechanisms.proc;
    let mut watch = watched.then(|| Watch::new(policy.sandbox.limits.memory_mib));
    let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(EVERY.subsec_nanos()) };
    loop {
        let mut fds = [PollFd::new(signals.fd(), PollFlags::IN), PollFd::new(&parent, PollFlags::IN)];
        match poll(&mut fds, watch.as_ref().map(|_| &pause)) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if !fds[1].revents().is_empty() {
            let _ = kill_process(inner, Signal::KILL);
        }
        if watch.as_mut().is_some_and(Watch::is_exceeded) {
            let most = policy.sandbox.limits.memory_mib;
            eprintln!("sandbox: all processes together hold more than {most} MiB of memory: they are ended");
            let _ = kill_process(inner, Signal::KILL);
        }
        while let Some(signal) = signals.next() {
            if signal != Signal::CHILD {
                let _ = kill_process(inner, signal);
            }
        }
        if let Some((_, status)) = waitpid(Some(inner), WaitOptions::NOHANG)? {
            let mut told = [0; 4];
            // The one between tells how the program ended, unless it was killed or said on standard error what went wrong.
            let told = ours.read_exact(&mut told).map(|()| i32::from_ne_bytes(told));
            end_as(told.unwrap_or_else(|_| status.as_raw()))
        }
    }
}

/// Ends this process as another one ended, by its status as waitpid(2) tells it.
fn end_as(status: i32) -> ! {
    let number = status & 0x7f;
    if number == 0 {
        std::process::exit(status >> 8 & 0xff);
    }
    if let Some(signal) = Signal::from_named_raw(number) {
        // No core is dumped: this process cannot be looked into.
        default_action(signal);
        let _ = kill_process(getpid(), signal);
    }
    std::process::exit(128 + number);
}

/// Leaves the namespaces of the mesh, as far as the machine lets it.
pub(super) fn isolate(policy: &Policy) -> io::Result<()> {
    let mechanisms = &policy.mechanisms;
    if !mechanisms.namespaces {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        return Ok(());
    }
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    if policy.own_processes() {
        flags |= UnshareFlags::NEWPID;
    }
    if policy.sandbox.net == Net::None {
        flags |= UnshareFlags::NEWNET;
    }
    // A user without privileges keeps its groups, for it cannot leave them.
    let _ = set_thread_groups(&[]);
    if mechanisms.user_namespace {
        let (user, group) = (getuid().as_raw(), getgid().as_raw());
        sys::unshare(flags | UnshareFlags::NEWUSER)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    } else {
        sys::unshare(flags)?;
    }
    rustix::system::sethostname(b"plugin")?;
    // Only now: a process that cannot be looked into cannot write its own map.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Waits for a child and says with what it exited.
pub(super) fn exit_of(child: Pid) -> Option<i32> {
    waitpid(Some(child), WaitOptions::empty()).ok()??.1.exit_status()
}
