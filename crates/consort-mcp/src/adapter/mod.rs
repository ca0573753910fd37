//! Any MCP server as a plugin: this process is the plugin, the server is behind it.
//!
//! The plugin host starts it like every other plugin, and says in CONSORT_MCP where the server is: `{"id": "files", "command": ["npx", "-y",
//! "@modelcontextprotocol/server-filesystem", "/data"], "env": {}}` or `{"id": "wiki", "url": "https://example.com/mcp", "headers": {}}`.
//! Beside these there may be `tools` (patterns of those that are shown), `effects` (by tool: `read`, `idempotent_write`, `write`),
//! `timeout_s` (of a call), `start_s` (60), `cwd`, and `version` and `description`, which Hello says instead of the server's own.
//!
//! - `config`: that variable. `connect`: reaching the server over `stdio` or `http`. `tools` and `schema`: what it offers, as operations.
//! - `service`: consort.plugin.v1. `ears`: progress and logs. `output`: results and errors.

mod config;
mod connect;
mod convert;
mod ears;
mod http;
mod lines;
mod output;
mod schema;
mod service;
mod stdio;
mod tools;
mod words;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use consort_core::Error;
use consort_proto::plugin as wire;
use consort_proto::plugin::plugin_service_server::PluginServiceServer;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

pub use config::VARIABLE;

use config::Config;
use connect::Server;
use service::{Plugin, Work};
use tools::Tools;

/// What the plugin host says to those it starts.
const COOKIE: &str = "consort-plugin-host";
/// Bytes of a request: an input of 1 MiB, and more for one whose text is mostly escapes.
const REQUEST: usize = 8 * 1024 * 1024;
/// How long answers that were made may take to leave when the end has come.
const LEAVE: Duration = Duration::from_secs(1);

/// Serves the plugin protocol in front of the MCP server that CONSORT_MCP names, until standard input ends, SIGTERM comes, or the server is
/// gone. Call it on a multi-threaded runtime, and end the process with what it returns: 0 after a wanted end, 1 if the server could not be
/// reached or died, 2 if this was not started by the plugin host. Everything is told on standard error; the last line says why.
pub async fn serve_adapter() -> ExitCode {
    let environment = match Environment::read() {
        Ok(environment) => environment,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    match serve(environment).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.message);
            ExitCode::FAILURE
        }
    }
}

struct Environment {
    socket: PathBuf,
    config: String,
}

impl Environment {
    fn read() -> Result<Environment, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if variable("CONSORT_PLUGIN_COOKIE").as_deref() != Some(COOKIE) {
            return Err("this is a plugin: the mesh starts it, with an `mcp` entry in plugins.yaml".to_owned());
        }
        let protocols = variable("CONSORT_PLUGIN_PROTOCOLS").unwrap_or_default();
        let mut range = protocols.split('-').map(|number| number.parse::<u32>().ok());
        match (range.next().flatten(), range.next().flatten()) {
            (Some(lowest), Some(highest)) if lowest <= 1 && highest >= 1 => {}
            _ => return Err(format!("the mesh speaks `{protocols}` of the plugin protocol, this plugin speaks 1")),
        }
        let socket = variable("CONSORT_PLUGIN_SOCKET").ok_or("CONSORT_PLUGIN_SOCKET is missing")?.into();
        let config = variable(VARIABLE).ok_or(format!("{VARIABLE} is missing; it says where the MCP server is"))?;
        Ok(Environment { socket, config })
    }
}

async fn serve(environment: Environment) -> Result<(), Error> {
    let config = Config::parse(&environment.config)?;
    let mut gone = std::pin::pin!(mesh_gone()?);
    let patience = config.start();
    let starting = tokio::time::timeout(patience, async {
        let server = connect::connect(&config).await?;
        let tools = Tools::of(connect::tools(&server).await?, &config)?;
        Ok::<_, Error>((server, tools))
    });
    let (server, tools) = tokio::select! {
        started = starting => started.map_err(|_| {
            let hint = "a program that is fetched first may need a longer `start_s`";
            Error::precondition("MCP_START", format!("the MCP server did not come up within {} s; {hint}", patience.as_secs()))
        })??,
        () = &mut gone => return Ok(()),
    };
    for told in &tools.told {
        eprintln!("{told}");
    }
    ears::want_logs(&server).await;
    let tools = Arc::new(tools);
    let hello = hello(&config, &server, &tools);
    let Server { running, process, ears } = server;
    let plugin = Plugin { hello, tools, peer: running.peer().clone(), ears: ears.clone(), work: Work::new() };
    let broken = |error: std::io::Error| Error::internal(format!("`{}`: {error}", environment.socket.display()));
    let listener = UnixListener::bind(&environment.socket).map_err(broken)?;
    let (health, healthy) = tonic_health::server::health_reporter();
    health.set_serving::<PluginServiceServer<Plugin>>().await;
    let end = CancellationToken::new();
    let service = PluginServiceServer::new(plugin).max_decoding_message_size(REQUEST);
    let serving = tonic::transport::Server::builder()
        .add_service(healthy)
        .add_service(service)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), end.clone().cancelled_owned());
    let mut serving = tokio::spawn(serving);
    shake_hands(&environment.socket)?;

    let noticing = tokio::spawn(notice_changes(ears));
    let over = tokio::select! {
        () = &mut gone => Ok(()),
        served = &mut serving => match served {
            Ok(Err(error)) => Err(Error::internal(format!("the socket cannot be served: {error}"))),
            _ => Ok(()),
        },
        why = server_gone(running, process.as_ref()) => Err(Error::precondition("MCP_DIED", why)),
    };
    noticing.abort();
    if over.is_ok() {
        end.cancel();
        let _ = tokio::time::timeout(LEAVE, serving).await;
    }
    over
}

/// Resolves when the mesh is gone or asks for the end.
fn mesh_gone() -> Result<impl Future<Output = ()>, Error> {
    let mut term = signal(SignalKind::terminate()).map_err(|error| Error::internal(format!("no signals: {error}")))?;
    let (ended, input) = oneshot::channel();
    // A thread of its own, which nobody waits for: a runtime does not end before its reads of standard input do.
    std::thread::spawn(move || {
        // However it ends, it has ended.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(());
    });
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = input => {}
        }
    })
}

fn hello(config: &Config, server: &Server, tools: &Tools) -> wire::HelloResponse {
    let info = server.running.peer_info();
    let implementation = info.as_ref().and_then(|info| info.server_info.clone());
    let (name, title, version) = match implementation {
        Some(it) => (it.name, it.title, it.version),
        None => (String::new(), None, String::new()),
    };
    let protocol = info.map(|info| info.protocol_version.to_string()).unwrap_or_default();
    let title = title.filter(|title| !title.is_empty()).unwrap_or(name);
    wire::HelloResponse {
        name: config.id.clone(),
        version: config.version.clone().unwrap_or_else(|| semantic(&version)),
        description: config.description.clone().unwrap_or_else(|| format!("MCP server {}", words::cut(&title, 200))),
        operations: tools.operations.clone(),
        config_schema: None,
        sdk: format!("mcp {protocol}"),
    }
}

/// A version as a semantic one: `v1.2` is `1.2.0`, and what has no numbers is `0.0.0`.
fn semantic(version: &str) -> String {
    let text = version.trim().trim_start_matches(['v', 'V']);
    let (core, rest) = text.split_at(text.find(['-', '+']).unwrap_or(text.len()));
    let mut numbers: Vec<u32> = Vec::new();
    for part in core.split('.') {
        match part.parse::<u32>() {
            Ok(number) if number < 1_000_000_000 && numbers.len() < 3 => numbers.push(number),
            _ => return "0.0.0".to_owned(),
        }
    }
    numbers.resize(3, 0);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
    let rest = if rest.len() <= 60 && rest.len() > 1 && rest.chars().all(fits) { rest } else { "" };
    format!("{}.{}.{}{rest}", numbers[0], numbers[1], numbers[2])
}

fn shake_hands(socket: &std::path::Path) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "1|1|unix|{}|grpc", socket.display())
        .and_then(|()| out.flush())
        .map_err(|error| Error::internal(format!("standard output: {error}")))
}

/// Waits until the server is gone; why, with its last line.
async fn server_gone(
    running: rmcp::service::RunningService<rmcp::RoleClient, ears::Ears>,
    process: Option<&stdio::Process>,
) -> String {
    let closed = running.waiting();
    let Some(process) = process else {
        let _ = closed.await;
        return "the connection to the MCP server is closed".to_owned();
    };
    tokio::pin!(closed);
    let how = tokio::select! {
        how = process.ended() => how,
        _ = &mut closed => {
            let how = tokio::time::timeout(Duration::from_secs(1), process.ended()).await;
            how.unwrap_or_else(|_| "it closed its output".to_owned())
        }
    };
    // Its last words may still be on their way.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let last = process.words.last();
    if last.is_empty() {
        format!("the MCP server died: {how}")
    } else {
        format!("the MCP server died: {how}; it said: {last}")
    }
}

/// Tells once when the server's tools change: what Hello said stays.
async fn notice_changes(ears: ears::Ears) {
    let seen = ears.changes();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if ears.changes() != seen {
            eprintln!(
                "the MCP server says that its tools changed; those of the start are served until the plugin is reloaded"
            );
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_become_semantic() {
        for (given, wanted) in [
            ("1.2.3", "1.2.3"),
            ("v1.2", "1.2.0"),
            ("2", "2.0.0"),
            ("2026.8.31", "2026.8.31"),
            ("1.0.0-beta.1", "1.0.0-beta.1"),
            ("1.2.3.4", "0.0.0"),
            ("", "0.0.0"),
            ("latest", "0.0.0"),
            ("1.0.0-ä", "1.0.0"),
        ] {
            assert_eq!(semantic(given), wanted, "{given}");
        }
    }
}
