//! What stands below a process.

use std::fs;

/// What a sandboxed program and all that it started use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The program, as the mesh sees it; 0 if it does not run yet, or not any more.
    pub program: u32,
    /// Its processes, without the helper's.
    pub processes: u32,
    /// Resident memory of these in bytes. What is shared is counted for each.
    pub resident_bytes: u64,
}

/// Most processes that are looked at: the tree is a stranger's.
const MAX: usize = 10_000;

/// What runs below the process of a [`crate::Launcher`]'s command. Reads `/proc`; nothing where there is none.
pub fn usage(helper: u32) -> Usage {
    let Some(program) = children(helper).first().and_then(|inner| children(*inner).first().copied()) else {
        return Usage::default();
    };
    let all = processes(helper);
    let own: Vec<u32> = all.into_iter().skip(2).collect();
    let resident_bytes = own.iter().map(|pid| resident(*pid)).sum();
    Usage { program, processes: own.len() as u32, resident_bytes }
}

/// A process and all below it, the nearest first. To find out whether somebody who connected is a process of the program.
pub fn processes(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied().filter(|_| all.len() < MAX) {
        all.extend(children(pid));
        next += 1;
    }
    all
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
