//! An MCP server that is a child process: JSON-RPC on its standard input and output, one message a line.

use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use consort_core::Error;
use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::adapter::config::Config;
use crate::adapter::lines::{self, Line};
use crate::adapter::words::{LastWords, shown};

/// Bytes of one message.
pub(crate) const MESSAGE: usize = 16 * 1024 * 1024;
/// Bytes of a line on standard error.
const LINE: usize = 8 * 1024;
/// Messages that were read and wait for their turn; then the server waits.
const WAITING: usize = 16;
/// How long a server may leave `server/discover` unanswered; then it is taken for one that does not know it.
const PROBE: Duration = Duration::from_secs(5);
/// Time between the end of its input and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// Lines that are no messages and are told of; the others are passed over in silence.
const TOLD: u32 = 10;

/// The process. Dropping it ends the server.
pub(crate) struct Process {
    ended: watch::Receiver<Option<String>>,
    end: CancellationToken,
    pub(crate) words: LastWords,
}

impl Process {
    /// How it ended; waits for it.
    pub(crate) async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        let said = ended.wait_for(Option::is_some).await.ok().and_then(|said| said.clone());
        said.unwrap_or_else(|| "it was given up".to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Starts the program.
pub(crate) fn start(config: &Config) -> Result<(Process, Pipes), Error> {
    let [program, arguments @ ..] = config.command.as_slice() else {
        return Err(Error::bad_field("command", "is empty"));
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // The token of the mesh and the secrets of the configuration are not for it.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONSORT_") {
            command.env_remove(name);
        }
    }
    command.envs(&config.env);
    if let Some(folder) = &config.cwd {
        command.current_dir(folder);
    }
    let mut child = command.spawn().map_err(|error| {
        let said = format!("`{program}` does not start: {error}; is it installed, on PATH, and granted with `exec`?");
        Error::precondition("MCP_START", said)
    })?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Error::internal("the program was started without pipes"));
    };
    let words = LastWords::default();
    tokio::spawn(hear(stderr, words.clone()));
    let (ended_by, ended) = watch::channel(None);
    let end = CancellationToken::new();
    tokio::spawn(watch_over(child, end.clone(), ended_by));
    let (messages, read) = mpsc::channel(WAITING);
    let probe = Probe::default();
    let reader = tokio::spawn(Reader { messages: messages.clone(), probe: probe.clone(), told: 0 }.read(stdout));
    let stdin = Arc::new(tokio::sync::Mutex::new(Some(stdin)));
    // The reader's channel closes with the reader: what the probe sends is sent through a weak end.
    let transport = Pipes { stdin, read, late: messages.downgrade(), probe, reader };
    Ok((Process { ended, end, words }, transport))
}

/// Standard error goes to ours, so that it is logged, and is remembered.
async fn hear(from: impl AsyncRead + Unpin, words: LastWords) {
    let mut from = BufReader::new(from);
    while let Ok(Some(line)) = lines::next(&mut from, LINE).await {
        let line = match line {
            Line::Whole(line) => shown(&line, LINE),
            Line::Long(first, _) => shown(&first, LINE) + "…",
        };
        eprintln!("{line}");
        words.keep(line);
    }
}

async fn watch_over(mut child: Child, end: CancellationToken, ended: watch::Sender<Option<String>>) {
    let status = tokio::select! {
        status = child.wait() => status,
        () = end.cancelled() => {
            if let Ok(status) = tokio::time::timeout(GRACE, child.wait()).await {
                status
            } else {
                // It may have ended meanwhile.
                let _ = child.start_kill();
                child.wait().await
            }
        }
    };
    let said = status.map_or_else(|error| format!("nobody knows how: {error}"), |status| status.to_string());
    ended.send_replace(Some(said));
}

/// The probe of the current protocol that is not answered yet, and whether it was given up.
#[derive(Clone, Default)]
struct Probe(Arc<Mutex<(Option<RequestId>, bool)>>);

impl Probe {
    fn begin(&self, id: RequestId) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (Some(id), false);
    }

    /// Whether it was still open.
    fn give_up(&self, id: &RequestId) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = state.0.as_ref() == Some(id) && !state.1;
        state.1 = state.1 || open;
        open
    }

    /// Whether an answer comes too late, and must not be taken for another's.
    fn is_late(&self, message: &ServerJsonRpcMessage) -> bool {
        let id = match message {
            ServerJsonRpcMessage::Response(response) => Some(&response.id),
            ServerJsonRpcMessage::Error(error) => error.id.as_ref(),
            _ => None,
        };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = id.is_some() && state.0.as_ref() == id;
        if mine && !state.1 {
            state.0 = None;
        }
        mine && state.1
    }
}

/// Both pipes, as messages.
pub(crate) struct Pipes {
    stdin: Arc<tokio::sync::Mutex<Option<ChildStdin>>>,
    read: mpsc::Receiver<ServerJsonRpcMessage>,
    late: mpsc::WeakSender<ServerJsonRpcMessage>,
    probe: Probe,
    reader: JoinHandle<()>,
}

impl Drop for Pipes {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Transport<RoleClient> for Pipes {
    type Error = io::Error;

    fn send(&mut self, item: ClientJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        if let ClientJsonRpcMessage::Request(request) = &item
            && matches!(request.request, ClientRequest::DiscoverRequest(_))
        {
            let (id, probe, late) = (request.id.clone(), self.probe.clone(), self.late.clone());
            probe.begin(id.clone());
            tokio::spawn(async move {
                tokio::time::sleep(PROBE).await;
                if probe.give_up(&id)
                    && let Some(late) = late.upgrade()
                {
                    let error = ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "server/discover was not answered", None);
                    let _ = late.send(ServerJsonRpcMessage::error(error, Some(id))).await;
                }
            });
        }
        let stdin = Arc::clone(&self.stdin);
        async move {
            let mut line = serde_json::to_vec(&item)?;
            line.push(b'\n');
            let mut stdin = stdin.lock().await;
            let Some(pipe) = stdin.as_mut() else {
                return Err(io::Error::new(io::ErrorKind::NotConnected, "the server's input is closed"));
            };
            pipe.write_all(&line).await?;
            pipe.flush().await
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        self.read.recv().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.stdin.lock().await.take();
        Ok(())
    }
}

struct Reader {
    messages: mpsc::Sender<ServerJsonRpcMessage>,
    probe: Probe,
    told: u32,
}

impl Reader {
    async fn read(mut self, stdout: ChildStdout) {
        let mut from = BufReader::with_capacity(64 * 1024, stdout);
        while let Ok(Some(line)) = lines::next(&mut from, MESSAGE).await {
            let messages = match line {
                Line::Whole(line) => self.parse(&line),
                Line::Long(first, last) => {
                    let said = format!("a message of more than {MESSAGE} bytes, which is the limit");
                    if let Some(id) = lines::answered(&first, &last) {
                        vec![broken(id, &said)]
                    } else {
                        self.tell(&said);
                        Vec::new()
                    }
                }
            };
            for message in messages {
                if self.probe.is_late(&message) {
                    continue;
                }
                if self.messages.send(message).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The messages of a line: one, or those of a batch. An answer that cannot be understood fails the call that waits for it.
    fn parse(&mut self, line: &[u8]) -> Vec<ServerJsonRpcMessage> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Vec::new();
        }
        if let Ok(message) = serde_json::from_slice(line) {
            return vec![message];
        }
        let parts = match serde_json::from_slice::<Value>(line) {
            Ok(Value::Array(parts)) => parts,
            Ok(part) => vec![part],
            Err(_) => {
                self.tell(&format!(
                    "`{}`, which is no JSON-RPC; servers print logs on standard error",
                    shown(line, 200)
                ));
                return Vec::new();
            }
        };
        let mut messages = Vec::new();
        for part in parts {
            let id = part.get("id").and_then(lines::id_of).filter(|_| part.get("method").is_none());
            match (serde_json::from_value(part), id) {
                (Ok(message), _) => messages.push(message),
                (Err(error), Some(id)) => messages.push(broken(id, &format!("an answer that is none: {error}"))),
                (Err(_), None) => self.tell(&format!("`{}`, which is no message of MCP", shown(line, 200))),
            }
        }
        messages
    }

    fn tell(&mut self, what: &str) {
        self.told += 1;
        if self.told <= TOLD {
            eprintln!("the MCP server sent {what}");
        }
        if self.told == TOLD {
            eprintln!("further ones are not told of");
        }
    }
}

fn broken(id: RequestId, said: &str) -> ServerJsonRpcMessage {
    let error = ErrorData::new(ErrorCode::INTERNAL_ERROR, format!("the MCP server sent {said}"), None);
    ServerJsonRpcMessage::error(error, Some(id))
}
