//! Processes that a command starts and always stops: each leads a group of its own and writes to a log file.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::failure::{Failure, Result};

/// How long a server may take from its start to its ready line.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a process may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// How much of a log's end is shown when its process died.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: u64 = 16 << 10;

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    /// What it is, for messages.
    pub name: String,
    /// Where its output goes.
    pub log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a process whose output is appended to `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: PathBuf) -> Result<Process> {
        let file = open_log(&log)?;
        let copy = file.try_clone()?;
        Process::spawn(name, command.stdout(file).stderr(copy), log)
    }

    fn spawn(name: &str, command: &mut Command, log: PathBuf) -> Result<Process> {
        // A group of its own: Ctrl-C reaches us alone, and we end them in order.
        let spawned = command.stdin(Stdio::null()).process_group(0).kill_on_drop(true).spawn();
        let child = spawned.map_err(|error| {
            let program = command.as_std().get_program().to_string_lossy().into_owned();
            Failure::failed(format!("cannot start {name} ({program}): {error}"))
        })?;
        Ok(Process { name: name.to_owned(), log, child })
    }

    /// Its process id, until it has ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// An error with the end of its log if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.died(status)),
        }
    }

    /// Ends when the process does, with the error that says so.
    pub(crate) async fn death(&mut self) -> Failure {
        match self.child.wait().await {
            Ok(status) => self.died(status),
            Err(error) => error.into(),
        }
    }

    /// Ends it at once, as a power cut would.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL);
        self.child.wait().await?;
        Ok(())
    }

    /// Waits until it ends by itself, at most for `limit`; an error unless it ended well.
    pub(crate) async fn finish(&mut self, limit: Duration) -> Result<()> {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(status) => match status? {
                status if status.success() => Ok(()),
                status => Err(self.died(status)),
            },
            Err(_) => {
                Err(Failure::failed(format!("{} did not end within {limit:?}", self.name)).details(tail(&self.log)))
            }
        }
    }

    /// Asks it to end, and makes it end when it has not after five seconds.
    pub(crate) async fn stop(&mut self) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            tracing::warn!(process = self.name, "did not end within {GRACE:?} of SIGTERM and is killed");
            self.signal(Signal::KILL);
            // After SIGKILL this cannot take long; if it does, dropping the child reaps it.
            let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = pid {
            // It fails only if the group is gone already.
            let _ = kill_process_group(group, signal);
        }
    }

    fn died(&self, status: ExitStatus) -> Failure {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("with exit code {code}"),
            (None, Some(signal)) => format!("by signal {signal}"),
            (None, None) => "without a word".to_owned(),
        };
        Failure::failed(format!("{} ended {how}", self.name))
            .details(tail(&self.log))
            .hint(format!("its whole log is {}", self.log.display()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Stops processes one after the other in order; all get SIGTERM first.
pub(crate) async fn stop_all(processes: &mut [Process]) {
    for process in processes.iter() {
        process.signal(Signal::TERM);
    }
    futures::future::join_all(processes.iter_mut().map(Process::stop)).await;
}

/// A server in a process of its own.
#[derive(Debug)]
pub(crate) struct Server {
    /// The process.
    pub process: Process,
    /// HOST:PORT it listens on.
    pub addr: String,
    /// From the start of the process to its ready line.
    pub ready: Duration,
}

impl Server {
    /// Starts `consort serve` on a data folder and waits until it is ready. `listen` with port 0 takes a free one.
    pub(crate) async fn start(data: &Path, listen: &str, log: PathBuf) -> Result<Server> {
        Server::start_with(data, listen, log, |_| {}).await
    }

    /// The same, with what `more` adds to its command.
    pub(crate) async fn start_with(
        data: &Path,
        listen: &str,
        log: PathBuf,
        more: impl FnOnce(&mut Command),
    ) -> Result<Server> {
        let endpoint = data.join("endpoint");
        // What a killed server left would be read in place of the new address.
        if endpoint.exists() {
            std::fs::remove_file(&endpoint)?;
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").args(["--listen", listen]).arg("--data").arg(data);
        more(&mut command);
        command.stdout(Stdio::piped()).stderr(open_log(&log)?);
        let begun = Instant::now();
        let mut process = Process::spawn("the server", &mut command, log.clone())?;
        let out = process.child.stdout.take().expect("stdout was asked for as a pipe");
        let mut lines = BufReader::new(out).lines();
        let first = tokio::time::timeout(READY_WITHIN, lines.next_line()).await;
        let ready = begun.elapsed();
        let line = match first {
            Ok(Ok(Some(line))) => line,
            Ok(_) => return Err(process.death().await),
            Err(_) => {
                let why = format!("the server was not ready within {} s", READY_WITHIN.as_secs());
                return Err(Failure::failed(why).details(tail(&log)).hint(format!("its log is {}", log.display())));
            }
        };
        // The pipe must stay empty, or the server would block on it one day.
        tokio::spawn(async move {
            let Ok(mut log) = tokio::fs::OpenOptions::new().append(true).open(log).await else { return };
            while let Ok(Some(line)) = lines.next_line().await {
                if log.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                    break;
                }
            }
        });
        let written = std::fs::read_to_string(&endpoint).ok().map(|text| text.trim().to_owned());
        let addr = written.filter(|addr| !addr.is_empty()).or_else(|| addr_in(&line)).ok_or_else(|| {
            Failure::failed(format!("the server wrote no address to {} and said `{line}`", endpoint.display()))
        })?;
        Ok(Server { process, addr: crate::cli::strip_scheme(&addr).to_owned(), ready })
    }
}

/// The address in a ready line such as `consort 0.1.0 listens on 127.0.0.1:7420`.
fn addr_in(line: &str) -> Option<String> {
    let words = line.split(|c: char| c.is_whitespace() || matches!(c, ',' | '"' | '/' | '='));
    words.filter_map(|word| word.parse::<std::net::SocketAddr>().ok()).map(|addr| addr.to_string()).next()
}

fn open_log(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let opened = File::options().create(true).append(true).open(path);
    opened.map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

/// The last lines of a log.
fn tail(log: &Path) -> Vec<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Memory of a process from /proc, in MiB: resident now (`VmRSS`), and at most so far (`VmHWM`).
pub(crate) fn memory(pid: u32) -> Option<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

/// A folder that is removed when this is dropped, unless it is kept.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// The folder.
    pub path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// A fresh folder in `parent`, or in the system's folder for temporary files.
    pub(crate) fn new(what: &str, parent: Option<&Path>) -> Result<Scratch> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = parent.join(format!("consort-{what}-{:08x}", rand::random::<u32>()));
        let made = std::fs::create_dir_all(&parent).and_then(|()| std::fs::create_dir(&path));
        made.map_err(|error| Failure::failed(format!("cannot make the folder {}: {error}", path.display())))?;
        Ok(Scratch { path, keep: false })
    }

    /// A folder that a person named, which stays.
    pub(crate) fn given(path: &Path) -> Result<Scratch> {
        let made = std::fs::create_dir_all(path).and_then(|()| std::path::absolute(path));
        let path = made.map_err(|error| Failure::failed(format!("cannot make {}: {error}", path.display())))?;
        Ok(Scratch { path, keep: true })
    }

    /// Leaves the folder where it is.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is in the folder for temporary files and goes with it.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_death_shows_the_end_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; echo last >&2; exit 3"]);
        let mut process = Process::start("the worker", &mut command, folder.path().join("logs/w.log")).unwrap();
        let failure = process.death().await;
        assert!(failure.message.contains("the worker ended with exit code 3"), "{failure:?}");
        assert_eq!(failure.details, ["first", "last"]);
        assert!(process.check().is_err());
    }

    #[tokio::test]
    async fn a_process_that_ignores_us_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $! ; wait"]);
        let mut process = Process::start("sleeper", &mut command, folder.path().join("log")).unwrap();
        process.check().unwrap();
        process.kill().await.unwrap();
        assert!(process.check().unwrap_err().message.contains("signal 9"));
    }

    #[test]
    fn an_address_is_found_in_a_ready_line() {
        assert_eq!(addr_in("consort 0.1.0 ready on 127.0.0.1:4001, pid 7").as_deref(), Some("127.0.0.1:4001"));
        assert_eq!(addr_in("ready http://[::1]:4001/").as_deref(), Some("[::1]:4001"));
        assert_eq!(addr_in("ready"), None);
    }

    #[test]
    fn our_own_memory_is_known() {
        let (resident, peak) = memory(std::process::id()).unwrap();
        assert!(resident > 0.5 && peak >= resident * 0.9);
    }

    #[test]
    fn a_scratch_folder_goes_unless_kept() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new("test", Some(folder.path())).unwrap();
        let path = scratch.path.clone();
        assert!(path.is_dir());
        drop(scratch);
        assert!(!path.exists());
        let mut scratch = Scratch::new("test", Some(folder.path())).unwrap();
        let path = scratch.path.clone();
        scratch.keep();
        drop(scratch);
        assert!(path.is_dir());
    }
}
