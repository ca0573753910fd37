//! What a worker's process says to those who run it.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Writes what the SDK and the handlers log to stderr, from level INFO or as `RUST_LOG` says. For `main`; a process that has its own
/// subscriber keeps it.
pub fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    // Fails only if there is a subscriber, which is then the one that was wanted.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).try_init();
}
