//! The process of a plugin: its handshake, its socket and its end.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use consort_proto::plugin::plugin_service_server::PluginServiceServer;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::MESSAGE;
use super::builder::Plugin;
use super::host::Host;
use super::service::{Served, Service};
use crate::error::Error;

/// What the environment says if the mesh started this process.
const COOKIE: &str = "consort-plugin-host";
/// Status of a process that was started by hand.
const BY_HAND: i32 = 2;
/// How long calls may take to end when the process ends.
const LAST: Duration = Duration::from_secs(2);
/// Streams of a connection, so that calls beyond [`Plugin::at_once`] are refused and do not wait.
const STREAMS: u32 = 4_096;
/// Bytes in flight of one call, and of all.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

impl Plugin {
    /// Serves the mesh that started this process, until it asks for the end, sends SIGTERM, or is gone. For `main`; nothing may be printed
    /// on standard output before, for the first line is the handshake.
    ///
    /// A process that was not started by the mesh says so and ends with status 2. Fails if the plugin is built wrongly or cannot listen.
    pub async fn serve(self) -> Result<(), Error> {
        self.check()?;
        if std::env::var("CONSORT_PLUGIN_COOKIE").as_deref() != Ok(COOKIE) {
            eprintln!(
                "`{}` is a plugin of Consort and is started by the mesh, not by hand. Put its folder, with consort-plugin.toml, among the \
                 plugins of the mesh, or try it with `consort plugin test FOLDER`.",
                self.name
            );
            std::process::exit(BY_HAND);
        }
        hide();
        let protocols = std::env::var("CONSORT_PLUGIN_PROTOCOLS").unwrap_or_default();
        if !speaks(&protocols, 1) {
            let rule = "CONSORT_PLUGIN_PROTOCOLS must include 1, the version that this plugin speaks";
            return Err(Error::Setting { field: "protocols", value: protocols, rule });
        }
        let host = match (std::env::var("CONSORT_HOST_SOCKET"), std::env::var("CONSORT_PLUGIN_TOKEN")) {
            (Ok(socket), Ok(token)) => Host::at(&socket, &token)?,
            _ => Host::absent(),
        };
        let path = std::env::var("CONSORT_PLUGIN_SOCKET").unwrap_or_default();
        let listener = UnixListener::bind(&path)
            .map_err(|source| Error::Io { what: "listening at CONSORT_PLUGIN_SOCKET", source })?;
        let stop = CancellationToken::new();
        let mut terminate =
            signal(SignalKind::terminate()).map_err(|source| Error::Io { what: "waiting for SIGTERM", source })?;
        let service = Arc::new(Service::new(self, host));
        let (health, health_service) = tonic_health::server::health_reporter();
        let served = Served { service: service.clone(), health };
        let server = Server::builder()
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .add_service(health_service)
            .add_service(PluginServiceServer::new(served).max_decoding_message_size(MESSAGE))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned());
        shake_hands(&path).map_err(|source| Error::Io { what: "the handshake on standard output", source })?;
        let gone = mesh_is_gone();
        tokio::pin!(server);
        let ended = tokio::select! {
            ended = &mut server => ended,
            _ = terminate.recv() => end(&service, &stop, server).await,
            () = gone.cancelled() => end(&service, &stop, server).await,
        };
        ended.map_err(|source| Error::Io { what: "serving the mesh", source: std::io::Error::other(source) })
    }
}

/// Keeps environment and memory, the mesh's token with them, from the programs that this one starts. It also means no core dumps.
fn hide() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "programs that this plugin starts can read its environment");
    }
}

/// Ends the calls and the server.
async fn end<E>(
    service: &Service,
    stop: &CancellationToken,
    server: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    // Threads of computing code cannot be stopped, and the runtime would wait for them.
    std::thread::spawn(|| {
        std::thread::sleep(LAST + Duration::from_secs(1));
        eprintln!("calls went on for 3 s after the end, and were given up");
        std::process::exit(1);
    });
    service.end();
    stop.cancel();
    tokio::time::timeout(LAST, server).await.unwrap_or(Ok(()))
}

fn shake_hands(path: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "1|1|unix|{path}|grpc")?;
    out.flush()
}

/// Whether a range such as `1-3` has a version in it.
fn speaks(range: &str, version: u32) -> bool {
    let Some((low, high)) = range.split_once('-') else { return false };
    matches!((low.parse::<u32>(), high.parse::<u32>()), (Ok(low), Ok(high)) if (low..=high).contains(&version))
}

/// Cancelled when standard input ends.
fn mesh_is_gone() -> CancellationToken {
    let gone = CancellationToken::new();
    let tell = gone.clone();
    // A thread of its own: a read cannot be stopped, and the runtime would wait for one of its own at the end.
    std::thread::spawn(move || {
        let (mut input, mut ignored) = (std::io::stdin().lock(), [0; 1024]);
        loop {
            match input.read(&mut ignored) {
                Ok(1..) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        tell.cancel();
    });
    gone
}

#[cfg(test)]
mod tests {
    use super::speaks;

    #[test]
    fn versions_are_looked_up() {
        assert!(speaks("1-1", 1) && speaks("1-3", 1));
        assert!(!speaks("2-3", 1) && !speaks("", 1) && !speaks("1", 1));
    }
}
