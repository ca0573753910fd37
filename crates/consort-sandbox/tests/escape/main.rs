//! Attempts to get out of the sandbox: each is a named case, is refused inside, and works outside where that does no harm.
#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod world;

use std::collections::BTreeMap;

use consort_sandbox::{Exec, Launcher, Limits, Mechanisms, Net, Sandbox};
use serde_json::Value;
use world::World;

/// Attempts that must have been made, so that none is lost unseen.
const CLOSED: usize = 115;
/// Of these, attempts that must have worked outside when root makes them.
const CONTROLS: usize = 70;

/// What came of an attempt.
#[derive(Clone)]
struct Outcome {
    denied: bool,
    what: String,
}

type Outcomes = BTreeMap<String, Outcome>;

fn outcomes(text: &str) -> Outcomes {
    let all: BTreeMap<String, Value> = serde_json::from_str(text.lines().last().unwrap_or_default()).expect(text);
    let one = |value: Value| Outcome {
        denied: value["denied"].as_bool().unwrap(),
        what: value["what"].as_str().unwrap().to_owned(),
    };
    all.into_iter().map(|(name, value)| (name, one(value))).collect()
}

fn inside(launcher: &Launcher, sandbox: &Sandbox, what: &str) -> Outcomes {
    let output = common::run(launcher, sandbox, common::python(), &["-B", "probes.py", what]);
    outcomes(&common::stdout(&output))
}

/// Prints the table and fails for each attempt that was not refused inside.
fn check(group: &str, inside: &Outcomes, outside: &Outcomes, allowed: &[&str]) {
    println!("{:<30} {:<16} outside", format!("{group} ({})", inside.len()), "inside");
    for (name, outcome) in inside {
        let control = outside.get(name).map_or_else(
            || "not tried".to_owned(),
            |o| if o.denied { format!("refused: {}", o.what) } else { "works".to_owned() },
        );
        println!("{name:<30} {:<16} {control}", if outcome.denied { &outcome.what } else { "ALLOWED" });
    }
    let got: Vec<String> = inside
        .iter()
        .filter(|(name, outcome)| !outcome.denied && !allowed.contains(&name.as_str()))
        .map(|(name, outcome)| format!("{name}: {}", outcome.what))
        .collect();
    assert!(got.is_empty(), "these got out:\n{}", got.join("\n"));
}

fn works(outcomes: &Outcomes) -> usize {
    outcomes.values().filter(|outcome| !outcome.denied).count()
}

#[test]
fn with_nothing_granted_nothing_works() {
    let world = World::new();
    let inside = inside(&common::launcher(), &world.sandbox(), "closed");
    let outside = world.outside("closed");
    check("closed", &inside, &outside, &[]);
    world.assert_unharmed();
    assert!(inside.len() >= CLOSED, "only {} attempts were made", inside.len());
    if world::is_root() {
        assert!(works(&outside) >= CONTROLS, "only {} controls work", works(&outside));
    }
}

/// Root can make namespaces where users may not. Its capabilities are real ones then, until it gives them up.
#[test]
fn without_a_user_namespace_nothing_works_either() {
    if !world::is_root() {
        println!("only root makes namespaces without one: nothing is tested");
        return;
    }
    let world = World::new();
    let launcher = common::launcher();
    let mechanisms = Mechanisms { user_namespace: false, ..launcher.mechanisms().clone() };
    let inside = inside(&launcher.with_mechanisms(mechanisms), &world.sandbox(), "closed");
    check("no user namespace", &inside, &Outcomes::new(), &[]);
    world.assert_unharmed();
}

#[test]
fn some_programs_granted_are_not_all() {
    let world = World::new();
    let sandbox = Sandbox { exec: Exec::Only(vec!["/bin/sh".into()]), ..world.sandbox() };
    let (inside, outside) = (inside(&common::launcher(), &sandbox, "some-exec"), world.outside("some-exec"));
    check("some programs", &inside, &outside, &[]);
    assert_eq!(works(&outside), outside.len());
    let granted = common::run(&common::launcher(), &sandbox, "/bin/sh", &["-c", "/bin/sh -c 'echo ran'"]);
    assert_eq!(common::stdout(&granted), "ran\n");
}

#[test]
fn programs_are_held_as_what_started_them() {
    let world = World::new();
    let sandbox = Sandbox { exec: Exec::All, ..world.sandbox() };
    let (inside, outside) = (inside(&common::launcher(), &sandbox, "all-exec"), world.outside("all-exec"));
    check("all programs", &inside, &outside, &[]);
}

#[test]
fn some_ports_granted_are_not_all() {
    let world = World::new();
    let ports = |udp| Net::Ports { connect: vec![world.granted_port()], bind: vec![world.granted_port()], udp };
    let sandbox = Sandbox { net: ports(false), ..world.sandbox() };
    let (inside_of, outside) = (inside(&common::launcher(), &sandbox, "ports"), world.outside("ports"));
    check("ports", &inside_of, &outside, &[]);
    let connect =
        format!("import socket; socket.create_connection(('127.0.0.1', {}), 5); print('ok')", world.granted_port());
    let connected = common::run(&common::launcher(), &sandbox, common::python(), &["-c", &connect]);
    assert_eq!(common::stdout(&connected), "ok\n");
    let sandbox = Sandbox { net: ports(true), ..world.sandbox() };
    let udp = inside(&common::launcher(), &sandbox, "udp_out");
    assert!(!udp["udp_out"].denied, "UDP that is granted: {}", udp["udp_out"].what);
}

#[test]
fn limits_hold() {
    let world = World::new();
    let limits =
        Limits { memory_mib: 256, processes: 64, open_files: 128, file_mib: 64, tmp_mib: 64, cpu_seconds: Some(30) };
    let sandbox = Sandbox { limits, ..world.sandbox() };
    let (inside, outside) = (inside(&common::launcher(), &sandbox, "limits"), world.outside("limits"));
    check("limits", &inside, &outside, &[]);
}

/// The processes of the machine can be granted: seen and signalled, and nothing else of them.
#[test]
fn with_the_machines_processes_the_rest_stays_closed() {
    let world = World::new();
    let sandbox = Sandbox { machine_processes: true, ..world.sandbox() };
    let granted = [
        "list_processes",
        "pidfd_of_victim",
        "priority_of_victim",
        "see_processes",
        "signal_helper",
        "signal_victim",
        "signal_victim_group",
    ];
    let inside = inside(&common::launcher(), &sandbox, "closed");
    check("the machine's processes", &inside, &Outcomes::new(), &granted);
    for name in ["list_processes", "signal_victim"] {
        assert!(!inside[name].denied, "{name}: {}", inside[name].what);
    }
    world.assert_unharmed();
}

/// What still holds where a kernel makes no namespaces and the operator accepts that. The names are what is lost there.
#[test]
fn without_namespaces_files_stay_closed() {
    let world = World::new();
    let launcher = common::launcher();
    let bare = launcher.mechanisms().clone().without_namespaces();
    let launcher = launcher.with_mechanisms(bare);
    let sandbox = Sandbox { allow_missing: true, ..world.sandbox() };
    let lost = [
        // Landlock knows no attributes of files, and names can be looked at.
        "stat_outside",
        "chmod_outside",
        "chmod_granted",
        "chmod_device",
        "chmod_masked",
        "chown_outside",
        "utime_outside",
        "xattr_outside",
        "inotify_outside",
        // Processes are seen, not touched; and root can slow down its own.
        "list_processes",
        "pidfd_of_victim",
        "priority_of_victim",
        // A pathname is enough to connect, below ABI 9 of Landlock.
        "unix_socket_outside",
        "interfaces",
        "kernel_symbols",
        "debugfs",
        "sys_read",
    ];
    let inside = inside(&launcher, &sandbox, "closed");
    check("without namespaces", &inside, &Outcomes::new(), &lost);
    world.assert_unharmed();
}
