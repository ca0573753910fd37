//! The first process of the namespaces: it makes the root, starts the program, and ends with it.

use std::convert::Infallible;
use std::fs;
use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, kill_process, set_child_subreaper, set_parent_process_death_signal, setsid,
    wait, waitpid,
};

use super::plan::Plan;
use super::sys::{Fork, Signals, fork};
use super::{FORWARDED, limits, mute, program, root, sys};
use crate::launcher::Policy;

/// How often memory is looked at.
const WATCH: Duration = Duration::from_millis(500);

/// Starts the program, waits for its end and tells `line` how it ended. `line` ends when the process on its other side does.
pub(super) fn run(plan: &Plan, policy: &Policy, mut line: UnixStream) -> io::Result<Infallible> {
    sys::set_name("sandbox-init");
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let _ = setsid();
    if policy.mechanisms.namespaces {
        root::enter(plan, policy)?;
    } else {
        set_child_subreaper(Some(rustix::process::getpid()))?;
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
    let watch = policy.mechanisms.namespaces && policy.mechanisms.proc;
    let limit = watch.then_some(policy.sandbox.limits.memory_mib);
    let status = supervise(main, &signals, &line, limit)?;
    let _ = line.write_all(&status.as_raw().to_ne_bytes());
    if !policy.mechanisms.namespaces {
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

/// Passes signals on, reaps, and looks at memory, until `main` has ended.
fn supervise(main: Pid, signals: &Signals, line: &UnixStream, memory_mib: Option<u64>) -> io::Result<WaitStatus> {
    let mut looked = Instant::now();
    let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(WATCH.subsec_nanos()) };
    loop {
        let mut fds = [PollFd::new(signals.fd(), PollFlags::IN), PollFd::new(line, PollFlags::IN)];
        match poll(&mut fds, memory_mib.map(|_| &pause)) {
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
        // By the clock, for a program can keep this loop busy.
        if let Some(limit) = memory_mib.filter(|_| looked.elapsed() >= WATCH) {
            watch_memory(main, limit);
            looked = Instant::now();
        }
    }
}

/// Ends everything if all of it together holds more memory than was granted.
fn watch_memory(main: Pid, limit_mib: u64) {
    let all = || {
        let folders = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        folders.filter(|path| {
            path.file_name().is_some_and(|name| name != "1" && name.as_encoded_bytes()[0].is_ascii_digit())
        })
    };
    let sum = |file: &str, fields: &[&str]| -> u64 {
        let of = |text: String| -> u64 {
            let lines = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| fields.contains(name));
            lines.filter_map(|(_, value)| value.split_whitespace().next()?.parse::<u64>().ok()).sum()
        };
        all().filter_map(|path| fs::read_to_string(path.join(file)).ok()).map(of).sum()
    };
    let limit = limit_mib.saturating_mul(1024);
    // The first is cheap and counts what is shared more than once; the second does not.
    if sum("status", &["RssAnon", "RssShmem"]) > limit && sum("smaps_rollup", &["Pss_Anon", "Pss_Shmem"]) > limit {
        eprintln!("sandbox: all processes together hold more than {limit_mib} MiB of memory: they are ended");
        let _ = kill_process(main, Signal::KILL);
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
