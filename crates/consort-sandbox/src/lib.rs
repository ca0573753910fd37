//! Starts a program that is held to what it was granted, and to nothing more. Linux only; elsewhere every mechanism is missing.
//!
//! ```no_run
//! use std::path::Path;
//! use consort_sandbox::{Exec, Launcher, Net, Sandbox};
//!
//! // The helper is this very binary: its `main` calls `sandbox_main` when it is run so, before it starts a thread.
//! let launcher = Launcher::new(std::env::current_exe()?, &["sandbox-init"])?;
//! let sandbox = Sandbox {
//!     write: vec!["/var/lib/mesh/plugins/git/data".into()],
//!     exec: Exec::Only(vec!["/usr/bin/git".into()]),
//!     env: vec![("PATH".into(), "/usr/bin:/bin".into())],
//!     ..Sandbox::new("/opt/plugins/git")
//! };
//! println!("held by {}", launcher.on(&sandbox).join(", "));
//! let child = launcher.command(&sandbox, Path::new("./plugin"), &[])?.spawn()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What holds what
//!
//! | what | by | where the kernel lacks it |
//! | --- | --- | --- |
//! | files: only what is granted is there | a mount namespace with a root of its own, read-only but for `write`, without devices and setuid | Landlock alone; attributes and names of other files are open to their owner |
//! | files: read, write, execute | Landlock, by folder | missing (`landlock`) |
//! | other processes: not seen, not signalled, not looked into | a namespace of processes with a `/proc` of its own, Landlock, seccomp; `machine_processes` grants the first two | they are seen, not touched |
//! | networks: none | a namespace of networks that is empty, seccomp, Landlock | seccomp |
//! | networks: TCP ports | Landlock | missing (`landlock-net`) |
//! | abstract unix sockets | a namespace of networks, Landlock | missing (`landlock-scope`), if a network is granted |
//! | unix sockets with a path | the mount namespace; Landlock from ABI 9 on | open to who may write them |
//! | system calls | seccomp: a list of what is allowed; what is known to be dangerous fails with EPERM, what is unknown with ENOSYS | missing (`seccomp`) |
//! | programs: none | seccomp with a supervisor that lets one execution through | missing (`exec-once`) |
//! | privileges | no new ones, no capabilities, locked; a user namespace | the first two always hold |
//! | environment, descriptors, session | only the given variables; only 0, 1 and 2; a session and group of its own | always |
//! | memory, processes, files, descriptors, time | rlimits, sizes of memory file systems, a supervisor that looks at memory twice a second | rlimits; processes are not counted |
//!
//! # What is always there
//!
//! `/usr`, `/bin`, `/sbin`, `/lib*`; from `/etc` what libraries read (loader, names, certificates, time zone, fonts, MIME types), and a
//! `passwd` and `group` with one line; the number of processors; `/dev/null`, `zero`, `full`, `random`, `urandom`; a `/tmp` and `/dev/shm`
//! of its own, in memory (without namespaces there are none: grant a folder and set TMPDIR); a `/proc` that shows its own processes; if programs are granted, terminals of its own
//! (`/dev/ptmx`). If the program lies in a folder `bin`: that folder, and `lib`, `lib64` and
//! `pyvenv.cfg` beside it, for each link on the way to it; so a virtual environment and the Python behind it work. What is in these
//! folders must be no secret.
//!
//! # Networks
//!
//! A kernel knows no names of hosts. `Net::Ports` is held by port, for TCP: a program that may connect to `api.example.com:443` can connect
//! to port 443 of any host, this machine's included. UDP is held by nothing once it is granted, and most resolvers of names need it; where
//! all grants are addresses leave it off. Raw sockets, ping, netlink, multipath TCP and all other families are refused even with `Net::All`.
//! A program can listen without naming a port, on one that the kernel chooses; Landlock sees only named ones.
//! With a network granted the program shares the machine's, so what listens on loopback is in reach on granted ports.
//!
//! # What is not held
//!
//! - The kernel itself: a hole in it is a way out. A virtual machine is held better.
//! - What a granted program does: `exec = [sh]` grants what a shell can do with the granted files. A program may hand other code to its
//!   loader (`ld.so file`) once any program is granted; that code is held like the rest.
//! - All memory at once: shared memory that is not mapped any more, and files in memory with `Exec::All`, are not counted. A cgroup
//!   (`MemoryMax=` of a systemd unit) counts all.
//! - Disk: `file_mib` is for one file, and there may be many. A quota or a file system of its own holds the sum.
//! - Timing and caches of the processor, and what `/proc/stat`, `/proc/meminfo` and `/proc/cpuinfo` tell of the machine.
//! - Sockets in a granted folder can be connected to, even if the folder is only to be read (until ABI 9 of Landlock).
//! - As root, the files of root that are granted for writing are changed as root's, and processes are limited to 300 more than said. Run the
//!   mesh as a user of its own.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
mod error;
mod launcher;
#[cfg(target_os = "linux")]
mod linux;
mod mechanisms;
mod policy;
mod tree;

use std::ffi::OsString;
use std::process::ExitCode;

pub use error::Error;
pub use launcher::Launcher;
pub use mechanisms::{Mechanisms, Missing};
pub use policy::{Exec, Limits, Net, Sandbox};
pub use tree::{Usage, processes, usage};

/// Status of the helper if the sandbox could not be made or the program not be executed; standard error has the reason.
pub const SETUP_FAILED: u8 = 125;

/// The helper: makes the sandbox that a [`Launcher`] asked for and becomes the program's keeper. To be called first thing in `main`,
/// by a process that has one thread: before a runtime is made.
pub fn sandbox_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    #[cfg(target_os = "linux")]
    return linux::main(&args);
    #[cfg(not(target_os = "linux"))]
    return elsewhere::main(&args);
}
