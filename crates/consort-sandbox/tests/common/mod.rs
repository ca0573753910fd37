//! What the tests of this crate share: a launcher, a Python, and a way to run a program to its end.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use consort_sandbox::{Launcher, Sandbox};

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn launcher() -> Launcher {
    let launcher = Launcher::new(env!("CARGO_BIN_EXE_consort-sandbox-init"), &[]).unwrap();
    let found = launcher.mechanisms();
    assert!(
        found.namespaces && found.landlock >= 6 && found.exec_once,
        "this machine lacks what the sandbox is made of ({found:?}). In Docker run with `--security-opt seccomp=unconfined \
         --security-opt apparmor=unconfined`; on Ubuntu `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
    );
    launcher
}

/// The Python that `python3` stands for, without scripts that choose one.
pub(crate) fn python() -> PathBuf {
    let script = "import os, sys; print(os.path.realpath(sys.executable))";
    let output = Command::new("python3").args(["-c", script]).output().expect("the tests need python3");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Runs a program in a sandbox to its end.
pub(crate) fn run(launcher: &Launcher, sandbox: &Sandbox, program: impl AsRef<Path>, args: &[&str]) -> Output {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    finish(launcher.command(sandbox, program.as_ref(), &args).unwrap())
}

/// Runs a command to its end, or fails after a while.
pub(crate) fn finish(mut command: Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (done, waits) = mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = waits.recv_timeout(PATIENCE) else {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        panic!("it did not end within {PATIENCE:?}");
    };
    output.unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

/// A folder that goes with the test, by its path without links.
pub(crate) fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path)
}
