//! What a kernel offers to hold a program with.

use serde::{Deserialize, Serialize};

use crate::{Exec, Net, Sandbox};

/// What this machine offers to the user who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mechanisms {
    /// Version of Landlock's interface; 0 if there is none.
    pub landlock: u32,
    /// Filters for system calls.
    pub seccomp: bool,
    /// A filter that asks a supervisor, by which a program is started once and starts nothing more.
    pub exec_once: bool,
    /// Namespaces of mounts, processes, networks, IPC and names, all together.
    pub namespaces: bool,
    /// They are made within a user namespace.
    pub user_namespace: bool,
    /// A `/proc` of their own can be mounted in them.
    pub proc: bool,
    /// The number of processes can be limited for the one who asks.
    pub processes: bool,
    /// What the kernel said when namespaces could not be made.
    pub reason: String,
}

/// A mechanism that is needed and not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub mechanism: &'static str,
    /// What it would do, and what the machine has instead.
    pub why: String,
}

/// ABI of Landlock that knows truncation.
const FILES: u32 = 3;
/// ABI of Landlock that knows TCP ports.
const PORTS: u32 = 4;
/// ABI of Landlock that keeps abstract unix sockets and signals apart.
const SCOPES: u32 = 6;

impl Mechanisms {
    /// What `sandbox` needs and this machine has not.
    pub fn missing(&self, sandbox: &Sandbox) -> Vec<Missing> {
        let abi = |needed: u32| format!("needs ABI {needed} of Landlock, and this kernel has {}", self.landlock);
        let (ports, networked) = (matches!(sandbox.net, Net::Ports { .. }), sandbox.net != Net::None);
        let needs = [
            (self.landlock >= FILES, "landlock", abi(FILES)),
            (!ports || self.landlock >= PORTS, "landlock-net", abi(PORTS)),
            (!networked || self.landlock >= SCOPES, "landlock-scope", abi(SCOPES)),
            (self.seccomp, "seccomp", "this kernel filters no system calls".to_owned()),
            (
                self.exec_once || sandbox.exec != Exec::None || !self.seccomp,
                "exec-once",
                "this kernel's filters cannot ask a supervisor".to_owned(),
            ),
            (self.namespaces, "namespaces", format!("the kernel said: {}", self.reason)),
            (
                self.processes || !self.namespaces || sandbox.machine_processes,
                "processes",
                "root's processes are limited by Linux 6.14 and newer: run the mesh as another user".to_owned(),
            ),
        ];
        let lacks = needs.into_iter().filter(|(there, ..)| !there);
        lacks.map(|(_, mechanism, why)| Missing { mechanism, why }).collect()
    }

    /// The mechanisms that hold a process with `sandbox` on this machine, by name.
    pub fn on(&self, sandbox: &Sandbox) -> Vec<&'static str> {
        let (networked, own) = (sandbox.net != Net::None, !sandbox.machine_processes);
        let all = [
            ("no-new-privs", true),
            ("no-capabilities", true),
            ("rlimits", true),
            ("landlock", self.landlock > 0),
            ("landlock-net", self.landlock >= PORTS && sandbox.net != Net::All),
            ("landlock-scope", self.landlock >= SCOPES),
            ("seccomp", self.seccomp),
            ("exec-once", self.exec_once && sandbox.exec == Exec::None),
            ("user-namespace", self.namespaces && self.user_namespace),
            ("mount-namespace", self.namespaces),
            ("pid-namespace", self.namespaces && own),
            ("ipc-namespace", self.namespaces),
            ("net-namespace", self.namespaces && !networked),
            ("processes", self.namespaces && self.processes && (own || self.user_namespace)),
            ("memory-watch", self.namespaces && self.proc && own),
        ];
        all.into_iter().filter_map(|(name, on)| on.then_some(name)).collect()
    }

    /// The same machine without namespaces, as many containers are: for tests, and to see what holds there.
    #[must_use]
    pub fn without_namespaces(self) -> Self {
        let reason = "switched off".to_owned();
        Self { namespaces: false, user_namespace: false, proc: false, processes: false, reason, ..self }
    }
}
