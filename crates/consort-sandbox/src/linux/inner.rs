//! The first process of the namespaces: it makes the root, starts the program, and ends with it.

use std::convert::Infallible;
use std::fs;
use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, kill_process, set_child_subreaper, set_parent_process_death_signal, setsid,
    wait, waitpid,
};

use super::plan::Plan;
use super::sys::{Fork, Signals, fork};
use super::{FORWARDED, limits, mute, program, root, sys};
use crate::launcher::Policy;

/// Starts the program, waits for its end and tells `line` how it ended. `line` ends when the process on its other side does.
pub(super) fn run(plan: &Plan, policy: &Policy, mut line: UnixStream) -> io::Result<Infallible> {
    sys::set_name("sandbox-init");
    let _ = setsid();
    if policy.own_processes() {
        // All of the namespace ends with this process. Where there is none it must live to see to that: `line` tells it.
        set_parent_process_death_signal(Some(Signal::KILL))?;
    } else {
        set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    if policy.mechanisms.namespaces {
        root::enter(plan, policy)?;
    }
    let signals = Signals::take(&[&FORWARDED[..], &[Signal::CHILD]].concat())?;
    let (ours, theirs) = UnixStream::pair()?;
    let supervised = program::is_supervised(policy);
    let main = match fork()? {
        Fork::Child => {
            drop(ours);
            let Err(error) = program::become_program(plan, policy, supervised.then_some(theirs));
            return Err(error);
        }
        Fork::Parent(main) => main,
    };
    drop(theirs);
    mute();
    limits::give_up_capabilities()?;
    if let Some(listener) = supervised.then(|| take_over(&ours)).flatten() {
        std::thread::Builder::new().spawn(move || answer(&listener))?;
    }
    drop(ours);
    let status = supervise(main, &signals, &line)?;
    let _ = line.write_all(&status.as_raw().to_ne_bytes());
    if !policy.own_processes() {
        end_all_below();
    }
    // What is left of the namespace ends with its first process.
    std::process::exit(0)
}

/// The descriptor that the program hands over before it is executed; nothing if it ended before that.
fn take_over(line: &UnixStream) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(line, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

/// Lets the first execution through, which is the program's, and refuses all others.
///
/// On a thread of its own: if whoever asks dies just before its question is read, the reader waits for the next question.
fn answer(listener: &OwnedFd) {
    let mut started = false;
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) if fds[0].revents().contains(PollFlags::IN) => {
                // Who has died meanwhile needs no answer.
                let _ = sys::answer_exec(listener, !started);
                started = true;
            }
            // Nobody is left who could ask.
            _ => return,
        }
    }
}

/// Passes signals on and reaps, until `main` has ended.
fn supervise(main: Pid, signals: &Signals, line: &UnixStream) -> io::Result<WaitStatus> {
    loop {
        let mut fds = [PollFd::new(signals.fd(), PollFlags::IN), PollFd::new(line, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if !fds[1].revents().is_empty() {
            // Nobody would hear how the program ends: it ends now.
            let _ = kill_process(main, Signal::KILL);
        }
        while let Some(signal) = signals.next() {
            if signal != Signal::CHILD {
                let _ = kill_process(main, signal);
            }
        }
        while let Some((pid, status)) = wait(WaitOptions::NOHANG)? {
            if pid == main {
                return Ok(status);
            }
        }
    }
}

/// Ends what the program left behind, where no namespace does it. What is started meanwhile is found in the next round.
fn end_all_below() {
    for _ in 0..100 {
        let children = fs::read_to_string("/proc/self/task/self/children")
            .or_else(|_| fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id())))
            .unwrap_or_default();
        let pids: Vec<Pid> = children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}
