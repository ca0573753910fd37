//! The life of the process: handshake, service, end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use consort_proto::plugin::HelloResponse;
use consort_proto::plugin::plugin_service_server::PluginServiceServer;
use pyo3::prelude::*;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::desk::{Desk, Event};
use crate::health;
use crate::interpreter;
use crate::native::Host;
use crate::options::{PROTOCOL, options, surroundings};
use crate::service::Service;
use crate::watch;

/// How long a process that was told to end waits for what is in work; the mesh has drained it before.
const GRACE: Duration = Duration::from_secs(5);
/// How long the last answers may take to their readers, and Python to its end.
const FAREWELL: Duration = Duration::from_millis(200);
const PYTHON: Duration = Duration::from_secs(2);
/// When the mesh is gone nobody is left to end a process that does not end by itself.
const ORPHAN: Duration = Duration::from_secs(3);
/// Bytes of a message, and calls at once of a connection, those of health among them.
const MESSAGE: usize = 8 * 1024 * 1024;
const STREAMS: u32 = 4096;

/// What the process was given.
pub(crate) struct Around {
    socket: PathBuf,
    /// Standard input: when it ends, the mesh is gone.
    stdin: OwnedFd,
    /// Standard output, for the handshake.
    stdout: OwnedFd,
    /// The folder to watch.
    watched: Option<PathBuf>,
}

/// Runs the program that the command line names. The status to end with.
pub(crate) fn main() -> i32 {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err((said, 0)) => {
            println!("{said}");
            return 0;
        }
        Err((said, status)) => return say(&said, status),
    };
    let around = match surroundings(&options, |name| std::env::var(name).ok()) {
        Ok(found) => found,
        Err(said) => return say(&said, 2),
    };
    let (stdin, stdout) = match descriptors() {
        Ok(found) => found,
        Err(error) => return say(&format!("standard input and output: {error}"), 1),
    };
    let found = match interpreter::start(&options) {
        Ok(found) => found,
        Err(said) => return say(&said, 1),
    };
    let folder = options
        .script
        .parent()
        .map(|parent| if parent.as_os_str().is_empty() { ".".into() } else { parent.to_owned() });
    let watched = folder.filter(|_| options.watch);
    let around = Around { socket: around.socket, stdin, stdout, watched };
    let packages = found.as_ref().map(|found| found.packages.clone());
    Python::attach(|py| {
        let run = || -> PyResult<i32> {
            let host = Host { around: Arc::new(around), desk: OnceLock::new(), served: AtomicBool::new(false) };
            py.import("sys")?.getattr("modules")?.set_item("_consort_pyhost", Py::new(py, host)?)?;
            if let Some(packages) = &packages {
                // The interpreter has found it by itself where `sys.executable` is enough for it.
                py.import("site")?.call_method1("addsitedir", (packages,))?;
            }
            py.import("consort.plugin._embedded")?.call_method1("main", (&options.script,))?.extract()
        };
        run().unwrap_or_else(|error| {
            error.print(py);
            let place =
                packages.as_ref().map_or_else(|| "this Python".to_owned(), |path| format!("`{}`", path.display()));
            let hint = if error.is_instance_of::<pyo3::exceptions::PyImportError>(py) {
                format!("install consort-sdk {} or newer into {place}", env!("CARGO_PKG_VERSION"))
            } else {
                "the Python SDK could not serve".to_owned()
            };
            say(&hint, 1)
        })
    })
}

fn say(said: &str, status: i32) -> i32 {
    eprintln!("consort-pyhost: {said}");
    status
}

/// Keeps standard input and output for this module. What Python prints goes to standard error, which is no channel, and what it starts
/// cannot take what is said to the process.
fn descriptors() -> io::Result<(OwnedFd, OwnedFd)> {
    let stdin = fcntl_dupfd_cloexec(stdio::stdin(), 3)?;
    let stdout = fcntl_dupfd_cloexec(stdio::stdout(), 3)?;
    stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    stdio::dup2_stdout(stdio::stderr())?;
    Ok((stdin, stdout))
}

/// Begins to serve, in threads of its own.
pub(crate) fn serve(around: &Arc<Around>, desk: Arc<Desk>, hello: HelloResponse) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("consort-pyhost")
        .enable_all()
        .build()
        .map_err(|error| format!("no threads to serve with: {error}"))?;
    let shown = around.socket.display();
    let listener = {
        let _inside = runtime.enter();
        UnixListener::bind(&around.socket).map_err(|error| format!("`{shown}` cannot be listened at: {error}"))?
    };
    let _ = std::fs::set_permissions(&around.socket, std::fs::Permissions::from_mode(0o600));
    let gone = Arc::new((Notify::new(), AtomicBool::new(false)));
    await_end(around.clone(), gone.clone());
    if let Some(folder) = around.watched.clone() {
        let gone = gone.clone();
        std::thread::spawn(move || {
            let path = watch::changed(&folder);
            eprintln!("consort-pyhost: `{}` has changed; ending, so that the mesh starts it anew", path.display());
            gone.0.notify_one();
        });
    }
    let line = format!("1|{PROTOCOL}|unix|{shown}|grpc\n");
    runtime.spawn(live(desk, hello, listener, gone));
    rustix::io::write(&around.stdout, line.as_bytes()).map_err(|error| format!("no handshake: {error}"))?;
    // It lives as long as the process.
    std::mem::forget(runtime);
    Ok(())
}

async fn live(desk: Arc<Desk>, hello: HelloResponse, listener: UnixListener, gone: Arc<(Notify, AtomicBool)>) {
    let signals = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    let Ok((mut term, mut int)) = signals else {
        eprintln!("consort-pyhost: signals cannot be awaited");
        interpreter::exit(1);
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    let looking = tokio::spawn(health::watch(desk.clone(), reporter));
    let service = PluginServiceServer::new(Service { hello, desk: desk.clone() })
        .max_decoding_message_size(MESSAGE)
        .max_encoding_message_size(MESSAGE);
    let over = Arc::new(Notify::new());
    let until = over.clone();
    let server = Server::builder().max_concurrent_streams(STREAMS).add_service(health).add_service(service);
    let mut serving = tokio::spawn(
        server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move { until.notified().await }),
    );
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        () = gone.0.notified() => {}
        ended = &mut serving => {
            eprintln!("consort-pyhost: the server ended: {ended:?}");
            interpreter::exit(1);
        }
    }
    let grace = if gone.1.load(Ordering::Acquire) { Duration::ZERO } else { GRACE };
    tokio::select! {
        _ = desk.drain(grace) => {}
        _ = term.recv() => interpreter::exit(128 + 15),
        _ = int.recv() => interpreter::exit(128 + 2),
    }
    over.notify_one();
    // Whoever watches the health does not leave by itself.
    let _ = tokio::time::timeout(FAREWELL, &mut serving).await;
    serving.abort();
    looking.abort();
    desk.say(Event::End);
    tokio::time::sleep(PYTHON).await;
    interpreter::exit(0);
}

/// Reads standard input to its end: then the mesh is gone, and so is this process soon, whatever it does.
fn await_end(around: Arc<Around>, gone: Arc<(Notify, AtomicBool)>) {
    std::thread::spawn(move || {
        let mut part = [0; 4096];
        loop {
            match rustix::io::read(&around.stdin, &mut part) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        gone.1.store(true, Ordering::Release);
        gone.0.notify_one();
        std::thread::sleep(ORPHAN);
        interpreter::exit(0);
    });
}
