//! Processes of a test: each dies with it, and its log is shown when the test fails.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Lines of a log that are shown.
const TAIL: usize = 25;

/// A program of this workspace, beside the folder of the running test: `target/debug/consort` beside `target/debug/deps`.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let found = test.ancestors().skip(1).take(3).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("`{name}` is not built: run `cargo build --workspace` first (looked beside {})", test.display())
    })
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent);
    crates.expect("the crate stands in crates/").to_owned()
}

/// A child process that is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a process whose output is appended to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Process {
        let file = File::options().create(true).append(true).open(log).expect("the log's folder can be written");
        let copy = file.try_clone().expect("a file can be opened twice");
        let spawned = command.stdin(Stdio::null()).stdout(copy).stderr(file).spawn();
        let child = spawned
            .unwrap_or_else(|error| panic!("{name} ({}) does not start: {error}", command.get_program().display()));
        Process { name: name.to_owned(), log: log.to_owned(), child }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child can be waited for")
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("our child can be waited for");
    }

    /// SIGTERM. The time it then takes to end, and how it ended; `None` if it has not after `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> Option<(Duration, ExitStatus)> {
        let begun = Instant::now();
        self.signal(Signal::TERM);
        loop {
            if let Some(status) = self.ended() {
                return Some((begun.elapsed(), status));
            }
            if begun.elapsed() > limit {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends a signal. One that has ended already does not hear it.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
            kill_process(pid, signal).expect("our child takes our signals");
        }
    }

    /// The last lines it wrote.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} wrote last:\n{}\n---", self.name, self.tail());
        }
        self.kill();
    }
}
