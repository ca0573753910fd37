//! What a program is granted.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;

/// What a program may reach. Nothing that is not listed, but for the base set that language runtimes need
/// (see the [crate's documentation](crate#what-is-always-there)).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Working folder of the program, absolute; readable with all that is in it.
    pub folder: PathBuf,
    /// Files and folders that it may read, absolute. What does not exist is left out.
    pub read: Vec<PathBuf>,
    /// Files and folders that it may read and change, absolute. They must exist.
    pub write: Vec<PathBuf>,
    /// Programs that it may start.
    pub exec: Exec,
    /// Whom it may talk to.
    pub net: Net,
    /// Whether it sees the processes of the machine and may signal those of its user, the mesh included. Their memory and environment
    /// stay closed. Memory of all together is not held then, and root's processes are not counted.
    pub machine_processes: bool,
    /// Unix sockets that it may connect to, absolute. What does not exist is left out. Sockets below `write` need not be named.
    pub sockets: Vec<PathBuf>,
    /// Its whole environment: names and values.
    pub env: Vec<(String, String)>,
    /// What it may use up.
    pub limits: Limits,
    /// Start it even if the machine lacks a mechanism.
    pub allow_missing: bool,
}

impl Sandbox {
    /// Nothing but its folder, with the usual limits.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            read: Vec::new(),
            write: Vec::new(),
            exec: Exec::None,
            net: Net::None,
            machine_processes: false,
            sockets: Vec::new(),
            env: Vec::new(),
            limits: Limits::default(),
            allow_missing: false,
        }
    }

    /// Whether paths and variables are such that a program can be started with them.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let exec: &[PathBuf] = if let Exec::Only(paths) = &self.exec { paths } else { &[] };
        let lists: [(&'static str, &[PathBuf]); 5] = [
            ("folder", std::slice::from_ref(&self.folder)),
            ("read", &self.read),
            ("write", &self.write),
            ("exec", exec),
            ("sockets", &self.sockets),
        ];
        for (field, paths) in lists {
            for path in paths {
                let problem = if !path.is_absolute() {
                    "write an absolute path"
                } else if ["folder", "write"].contains(&field) && !path.exists() {
                    "does not exist: create it, or take it out of the grants"
                } else if ["write", "exec"].contains(&field) && reserved(path) {
                    "is the sandbox's own: nothing below /proc is granted, and /dev and / are not granted whole"
                } else {
                    continue;
                };
                return Err(Error::Path { field, path: path.clone(), problem });
            }
        }
        let bad =
            |(name, value): &&(String, String)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
        self.env.iter().find(bad).map_or(Ok(()), |(name, _)| Err(Error::Variable(name.clone())))
    }
}

/// Without the values of variables: some are secrets.
impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, read, write, exec, net, machine_processes, sockets, env, limits, allow_missing } = self;
        let names: Vec<&String> = env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Sandbox")
            .field("folder", folder)
            .field("read", read)
            .field("write", write)
            .field("exec", exec)
            .field("net", net)
            .field("machine_processes", machine_processes)
            .field("sockets", sockets)
            .field("env", &names)
            .field("limits", limits)
            .field("allow_missing", allow_missing)
            .finish()
    }
}

/// What would undo the sandbox if it could be written.
fn reserved(path: &Path) -> bool {
    path == Path::new("/") || path == Path::new("/dev") || path.starts_with("/proc") || path.starts_with("/sys")
}

/// Programs that a program may start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exec {
    /// None: it is started, and it starts nothing, itself included.
    None,
    /// These files and what lies in these folders, absolute; and the interpreters that they name.
    Only(Vec<PathBuf>),
    /// All that it can read or has written.
    All,
}

/// Whom a program may talk to over a network. Names of hosts are not known to a kernel: see the
/// [crate's documentation](crate#networks).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Net {
    /// Nobody: it has an empty network of its own.
    None,
    /// TCP to and on these ports, of any host.
    Ports {
        /// Ports that it may connect to.
        connect: Vec<u16>,
        /// Ports that it may listen on.
        bind: Vec<u16>,
        /// Whether it may use UDP, to and on any port. Most resolvers of names need it.
        udp: bool,
    },
    /// TCP and UDP with everybody.
    All,
}

/// What a program may use up. What it starts counts with it unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in MiB: of private writable memory for each process, and resident of all of them together. Beyond the first an
    /// allocation fails; beyond the second all of them are killed, within about half a second.
    pub memory_mib: u64,
    /// Processes and threads. Where the program runs as root it can be up to 300 more.
    pub processes: u64,
    /// Open descriptors of each process.
    pub open_files: u64,
    /// Size of each written file in MiB.
    pub file_mib: u64,
    /// Size of its own `/tmp`, and of `/dev/shm`, in MiB each. They are memory.
    pub tmp_mib: u64,
    /// Time on a processor of each process in seconds; absent means no limit.
    pub cpu_seconds: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mib: 2_048, processes: 256, open_files: 1_024, file_mib: 1_024, tmp_mib: 64, cpu_seconds: None }
    }
}
