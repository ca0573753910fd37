//! The system calls that have no safe face elsewhere. All of them are made by a process with one thread.
#![expect(unsafe_code, reason = "each call says why it is sound")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::process::{Pid, Signal};
use rustix::thread::UnshareFlags;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Which side of a fork this is.
pub(super) enum Fork {
    /// The one that was, with the new one's id.
    Parent(Pid),
    /// The new one.
    Child,
}

/// Makes a copy of this process.
pub(super) fn fork() -> io::Result<Fork> {
    // SAFETY: the helper has one thread, so no lock is held by a thread that the copy lacks.
    let pid = check(libc::c_long::from(unsafe { libc::fork() }))?;
    Ok(Pid::from_raw(pid as i32).map_or(Fork::Child, Fork::Parent))
}

/// Leaves namespaces.
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: no descriptor table is unshared, which is what could leave other threads' descriptors dangling; there are none.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Closes all descriptors from `first` on.
pub(super) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: called where no value of this process owns a descriptor from `first` on, or the process is about to be another program.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) }).map(drop)
}

/// Makes every descriptor from `first` on close when another program is executed.
pub(super) fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: sets a flag of descriptors; none is closed here.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Sets attributes (`libc::MOUNT_ATTR_…`) of a mount and, if asked, of all below it.
pub(super) fn set_mount_attributes(mount: BorrowedFd<'_>, set: u64, below: bool) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if below { libc::AT_RECURSIVE } else { 0 };
    let size = size_of::<libc::mount_attr>();
    let (fd, path) = (mount.as_raw_fd(), c"".as_ptr());
    // SAFETY: path is a C string, attributes are of the given size, and both outlive the call.
    check(unsafe { libc::syscall(libc::SYS_mount_setattr, fd, path, flags, &raw const attributes, size) }).map(drop)
}

/// Version of Landlock's interface; 0 if there is none.
pub(super) fn landlock_abi() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    let (nothing, flags) = (std::ptr::null::<libc::c_void>(), LANDLOCK_CREATE_RULESET_VERSION);
    // SAFETY: with this flag the kernel wants no attributes, of size 0, and makes nothing.
    check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, flags) }).unwrap_or(0) as u32
}

/// Whether filters may yield `action` (`libc::SECCOMP_RET_…`).
pub(super) fn seccomp_knows(action: u32) -> bool {
    // SAFETY: the kernel reads one u32, which outlives the call.
    let known = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    check(known).is_ok()
}

/// Signals that are read from a descriptor instead of being delivered.
pub(super) struct Signals(OwnedFd);

impl Signals {
    /// Takes `signals` from now on.
    pub(super) fn take(signals: &[Signal]) -> io::Result<Self> {
        // SAFETY: an all-zero set is a valid value to hand to sigemptyset, which makes it an empty set; the set outlives the calls.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, signal.as_raw());
            }
            check(libc::c_long::from(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())))?;
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        Ok(Self(owned(fd)?))
    }

    /// The next signal that came, if one did.
    pub(super) fn next(&self) -> Option<Signal> {
        // A record is 128 bytes and begins with the signal's number.
        let mut record = [0_u8; 128];
        rustix::io::read(&self.0, &mut record).ok().filter(|read| *read == record.len())?;
        let number = u32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
        Signal::from_named_raw(number as i32)
    }

    /// The descriptor that is readable when a signal came.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    check(libc::c_long::from(fd))?;
    // SAFETY: a system call has just made it, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Holds back no signal any more. Another program that is executed inherits what is held back.
pub(super) fn hold_back_nothing() {
    // SAFETY: an all-zero set is a valid value to hand to sigemptyset, which makes it an empty set.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Lets a signal do what it does to a program that says nothing about it, even if it was ignored or held back.
pub(super) fn default_action(signal: Signal) {
    // SAFETY: an all-zero set is a valid value to hand to sigemptyset; no handler is installed, only the default one.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal.as_raw());
        libc::signal(signal.as_raw(), libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Gives the process another name in lists of processes.
pub(super) fn set_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// The machine's instruction set, as filters name it.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Makes each attempt of this process and its children to execute a program wait for the answer of whoever reads the descriptor.
/// Needs no_new_privs.
pub(super) fn ask_before_exec() -> io::Result<OwnedFd> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    // `seccomp_data` begins with the number of the call, then the instruction set.
    let steps = [
        step(LOAD, 4, 0, 0),
        step(EQUAL, ARCHITECTURE, 0, 3),
        step(LOAD, 0, 0, 0),
        step(EQUAL, libc::SYS_execve as u32, 2, 0),
        step(EQUAL, libc::SYS_execveat as u32, 1, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
        step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_ptr().cast_mut() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    // SAFETY: the kernel copies the filter, which outlives the call, and does not change it.
    let fd = check(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) })?;
    owned(fd as RawFd)
}

/// Lets the attempt that waits at `listener` go on, or refuses it.
pub(super) fn answer_exec(listener: &OwnedFd, allow: bool) -> io::Result<()> {
    /// `_IOWR('!', 0, struct seccomp_notif)`
    const RECEIVE: libc::c_ulong = 0xc050_2100;
    /// `_IOWR('!', 1, struct seccomp_notif_resp)`
    const SEND: libc::c_ulong = 0xc018_2101;
    // SAFETY: all zeros is what the kernel wants to be handed, and the record is of the size that the request names.
    let id = unsafe {
        let mut question: libc::seccomp_notif = std::mem::zeroed();
        check(libc::c_long::from(libc::ioctl(listener.as_raw_fd(), RECEIVE as _, &raw mut question)))?;
        question.id
    };
    let mut answer = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
    if allow {
        answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    } else {
        answer.error = -libc::EPERM;
    }
    // SAFETY: the record is of the size that the request names, and outlives the call.
    check(libc::c_long::from(unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, &raw mut answer) })).map(drop)
}
