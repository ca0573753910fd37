//! Starting a plugin's program, shaking hands, and ending it.

use std::fmt;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use consort_core::Error;
use consort_proto::plugin::plugin_service_client::PluginServiceClient;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::health_client::HealthClient;

use crate::hold::Hold;
use crate::logs::{Lines, Logs};
use crate::manifest::Manifest;
use crate::wire::{Wire, origin};

/// What the environment says to a plugin that was started by the mesh. It is no secret: it tells a person what to do who starts one by hand.
pub const COOKIE: &str = "consort-plugin-host";
/// How long the last words of a plugin that did not come up are waited for.
const WORDS: Duration = Duration::from_millis(200);
/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes of a message with a result: 4 MiB and what is around it.
const MESSAGE: usize = 5 * 1024 * 1024;

/// A program that serves `consort.plugin.v1`. Shown without what only it may know.
#[derive(Clone)]
pub struct Program {
    /// Id of the plugin.
    pub id: Arc<str>,
    /// Where it is started.
    pub folder: PathBuf,
    /// The program.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its own folder that stays.
    pub data: PathBuf,
    /// Variables that it sees beside those of the protocol.
    pub environment: Vec<(String, String)>,
    /// The mesh's socket and what to show there.
    pub host: Option<(PathBuf, String)>,
    /// What holds it; nothing: it can do what this process's user can.
    pub hold: Option<Hold>,
    /// Time to the handshake.
    pub patience: Duration,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&str> = self.environment.iter().map(|(name, _)| name.as_str()).collect();
        let Program { id, folder, path, arguments, data, patience, .. } = self;
        f.debug_struct("Program")
            .field("id", id)
            .field("folder", folder)
            .field("path", path)
            .field("arguments", arguments)
            .field("data", data)
            .field("variables", &variables)
            .field("patience", patience)
            .finish_non_exhaustive()
    }
}

impl Program {
    /// The program of a folder, held by nothing and without a mesh to ask: for tests and measurements.
    pub fn without_mesh(
        manifest: &Manifest,
        folder: &Path,
        data: PathBuf,
        patience: Duration,
    ) -> Result<Program, Error> {
        let wanted = manifest.wanted(folder, &data);
        fs::create_dir_all(&data).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Program {
            id: manifest.id.as_str().into(),
            path: manifest.program(folder)?,
            arguments: manifest.command[1..].to_vec(),
            environment: crate::supervise::environment(&wanted),
            folder: folder.to_owned(),
            data,
            host: None,
            hold: None,
            patience,
        })
    }
}

/// A process that has shaken hands.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub socket: PathBuf,
    wire: Wire,
    /// Its number.
    pub pid: u32,
    ended: watch::Receiver<Option<String>>,
    end: CancellationToken,
    leave: CancellationToken,
    logs: Logs,
    // Removed with the process.
    _folder: Arc<Folder>,
}

/// A folder that only this user can enter.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    /// In the folder of temporary files: paths of sockets are short.
    fn new() -> std::io::Result<Folder> {
        let path = std::env::temp_dir().join(format!("consort-plugin-{:016x}", rand::random::<u64>()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Running {
    /// Calls it.
    pub fn client(&self) -> PluginServiceClient<Wire> {
        PluginServiceClient::with_origin(self.wire.clone(), origin()).max_decoding_message_size(MESSAGE)
    }

    /// Asks for its health.
    pub fn health(&self) -> HealthClient<Wire> {
        HealthClient::with_origin(self.wire.clone(), origin())
    }

    /// How the process ended; waits for it.
    pub async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        let said = ended.wait_for(Option::is_some).await;
        said.ok().and_then(|said| said.clone()).unwrap_or_else(|| "it was given up".to_owned())
    }

    /// Whether the process has ended.
    pub fn is_over(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// The last lines that it printed.
    pub fn last_words(&self) -> String {
        self.logs.last(10)
    }

    /// Closes its standard input, as the end of the mesh does, and leaves it to itself.
    pub fn abandon(&self) {
        self.leave.cancel();
    }

    /// SIGTERM, then SIGKILL after a pause, to it and all its children; waits for the end.
    pub async fn stop(&self) {
        self.end.cancel();
        self.ended().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Starts a program and waits for its handshake and its socket.
pub async fn start(program: &Program) -> Result<Running, Error> {
    let id = &program.id;
    let failed = |reason, why: String| Error::precondition(reason, format!("plugin `{id}` {why}"));
    let broken = |why: &str, error: &dyn std::fmt::Display| failed("PLUGIN_START", format!("{why}: {error}"));
    let folder = Arc::new(Folder::new().map_err(|error| broken("gets no folder for its socket", &error))?);
    let socket = folder.0.join("s");
    fs::create_dir_all(&program.data).map_err(|error| broken("gets no data folder", &error))?;
    let mut command = command(program, &folder.0, &socket)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let shown = program.path.display();
    let mut child =
        command.spawn().map_err(|error| failed("PLUGIN_START", format!("does not start: `{shown}`: {error}")))?;
    let logs = Logs::default();
    let words = child.stderr.take().map(|stderr| tokio::spawn(logs.clone().follow(id.clone(), stderr)));
    let pid = child.id().unwrap_or_default();
    let stdout = child.stdout.take();
    let (ended_by, ended) = watch::channel(None);
    let (end, leave) = (CancellationToken::new(), CancellationToken::new());
    let held = program.hold.is_some();
    tokio::spawn(watch_over(child, (pid, held), (end.clone(), leave.clone()), ended_by));
    let running = |socket, wire| Running {
        socket,
        wire,
        pid,
        ended: ended.clone(),
        end: end.clone(),
        leave: leave.clone(),
        logs: logs.clone(),
        _folder: folder.clone(),
    };

    let shaken = tokio::time::timeout(program.patience, async {
        let Some(stdout) = stdout else { return Err("has no standard output".to_owned()) };
        let mut lines = Lines::new(stdout);
        let mut over = ended.clone();
        let line = tokio::select! {
            line = lines.next() => line,
            _ = over.wait_for(Option::is_some) => None,
        };
        let Some(line) = line else {
            let _ = over.wait_for(Option::is_some).await;
            let how = ended.borrow().clone().unwrap_or_default();
            return Err(format!("ended before its handshake: {how}"));
        };
        let path = handshake(&line, &socket)?;
        tokio::spawn(lines.log(logs.clone(), id.clone()));
        let connected = async {
            tokio::select! {
                wire = connect(path.clone()) => wire.map(|wire| (path, wire)),
                _ = over.wait_for(Option::is_some) => Err("ended after its handshake".to_owned()),
            }
        };
        connected.await
    });
    match shaken.await {
        Ok(Ok((path, wire))) => Ok(running(path, wire)),
        Ok(Err(why)) => {
            end.cancel();
            // Its last words are there when its standard error ends; one that lives on keeps nobody waiting.
            if let Some(words) = words {
                let _ = tokio::time::timeout(WORDS, words).await;
            }
            let words = logs.last(10);
            let words = if words.is_empty() { String::new() } else { format!("; it said: {words}") };
            Err(failed("PLUGIN_START", format!("{why}{words}")))
        }
        Err(_) => {
            end.cancel();
            let limit = program.patience.as_secs();
            let hint = "a plugin prints `1|1|unix|PATH|grpc` on standard output when it listens";
            Err(failed("PLUGIN_START", format!("did not shake hands within {limit} s; {hint}")))
        }
    }
}

fn command(program: &Program, folder: &Path, socket: &Path) -> Result<Command, Error> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut environment = program.environment.clone();
    let mut set = |name: &str, value: String| environment.push((name.to_owned(), value));
    set("CONSORT_PLUGIN_COOKIE", COOKIE.to_owned());
    set("CONSORT_PLUGIN_PROTOCOLS", "1-1".to_owned());
    set("CONSORT_PLUGIN_SOCKET", text(socket));
    set("CONSORT_PLUGIN_DATA", text(&program.data));
    set("TMPDIR", text(folder));
    if let Some((socket, token)) = &program.host {
        set("CONSORT_HOST_SOCKET", text(socket));
        set("CONSORT_PLUGIN_TOKEN", token.clone());
    }
    let Some(Hold { launcher, sandbox }) = &program.hold else {
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).current_dir(&program.folder).env_clear().envs(environment).process_group(0);
        return Ok(command);
    };
    let mut sandbox = sandbox.clone();
    sandbox.env = environment;
    sandbox.write.extend([program.data.clone(), folder.to_owned()]);
    sandbox.sockets.extend(program.host.iter().map(|(socket, _)| socket.clone()));
    launcher.command(&sandbox, &program.path, &program.arguments).map(Command::from).map_err(|error| {
        Error::precondition("SANDBOX_MISSING", format!("plugin `{}` cannot be held: {error}", program.id))
    })
}

/// The path that the handshake names.
fn handshake(line: &str, socket: &Path) -> Result<PathBuf, String> {
    let shown: String = line.chars().take(200).collect();
    let parts: Vec<&str> = line.trim().split('|').collect();
    let [handshake, protocol, network, path, wire] = parts.as_slice() else {
        return Err(format!(
            "printed `{shown}` instead of the handshake `1|1|unix|PATH|grpc`; print nothing before it"
        ));
    };
    if (*handshake, *network, *wire) != ("1", "unix", "grpc") {
        return Err(format!("shook hands with `{shown}`; this mesh knows `1|1|unix|PATH|grpc`"));
    }
    if *protocol != "1" {
        return Err(format!("speaks version `{protocol}` of the plugin protocol; this mesh speaks 1"));
    }
    let path = Path::new(path);
    if path.parent() != socket.parent() {
        let wanted = socket.display();
        return Err(format!(
            "listens at `{}`; it must be where CONSORT_PLUGIN_SOCKET says, `{wanted}`",
            path.display()
        ));
    }
    Ok(path.to_owned())
}

async fn connect(path: PathBuf) -> Result<Wire, String> {
    let mut last = String::new();
    // A plugin may print its line just before it listens.
    for pause in [0, 5, 20, 50, 100, 200, 500, 1_000] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        match Wire::connect(&path).await {
            Ok(wire) => return Ok(wire),
            Err(error) => last = error,
        }
    }
    Err(format!("does not listen at `{}`: {last}", path.display()))
}

/// Waits for the end of a process, or brings it about.
async fn watch_over(
    mut child: Child,
    (pid, held): (u32, bool),
    (end, leave): (CancellationToken, CancellationToken),
    ended: watch::Sender<Option<String>>,
) {
    // Closed with this task: a plugin whose standard input ends knows that the mesh is gone.
    let mut stdin = child.stdin.take();
    let group = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let to_all = |signal| {
        if let Some(group) = group {
            // It may be gone already. The keeper of a sandbox passes signals on, and takes all with it when it is killed.
            let _ = if held { kill_process(group, signal) } else { kill_process_group(group, signal) };
        }
    };
    let status = tokio::select! {
        status = child.wait() => status,
        () = leave.cancelled() => {
            drop(stdin.take());
            tokio::select! {
                status = child.wait() => status,
                () = end.cancelled() => {
                    to_all(Signal::KILL);
                    child.wait().await
                }
            }
        }
        () = end.cancelled() => {
            drop(stdin.take());
            to_all(Signal::TERM);
            if let Ok(status) = tokio::time::timeout(GRACE, child.wait()).await {
                status
            } else {
                to_all(Signal::KILL);
                child.wait().await
            }
        }
    };
    // What it started does not outlive it; in a sandbox it cannot.
    if !held {
        to_all(Signal::KILL);
    }
    let said = match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("nobody knows how: {error}"),
    };
    ended.send_replace(Some(said));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_read() {
        let socket = Path::new("/tmp/x/s");
        assert_eq!(handshake("1|1|unix|/tmp/x/s|grpc\n", socket).unwrap(), socket);
        for (line, part) in [
            ("hello", "instead of the handshake"),
            ("1|2|unix|/tmp/x/s|grpc", "version `2`"),
            ("1|1|tcp|127.0.0.1:1|grpc", "this mesh knows"),
            ("1|1|unix|/var/run/docker.sock|grpc", "must be where"),
        ] {
            let said = handshake(line, socket).unwrap_err();
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
