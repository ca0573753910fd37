//! `consort-pyhost main.py`: serves Python code as a plugin.
//!
//! The server, health, chunks, deadlines and limits are Rust's; Python, which runs in the same process, does the operations. It takes the
//! programs that `python main.py` takes: `Plugin.serve` of the Python SDK finds itself within this process and hands over.
//!
//! Rust's threads never wait for Python's lock. Calls go to the event loop through a queue and an eventfd, and to threads of a pool, which
//! alone are Python's; what Python says comes back through functions that do not block.

// A stub has none of the modules.
#[cfg(feature = "python")]
mod answer;
#[cfg(feature = "python")]
mod desk;
#[cfg(feature = "python")]
mod environment;
#[cfg(feature = "python")]
mod health;
#[cfg(feature = "python")]
mod interpreter;
#[cfg(feature = "python")]
mod life;
#[cfg(feature = "python")]
mod native;
#[cfg(feature = "python")]
mod options;
#[cfg(feature = "python")]
mod pool;
#[cfg(feature = "python")]
mod service;
#[cfg(feature = "python")]
mod status;
#[cfg(feature = "python")]
mod watch;
#[cfg(feature = "python")]
mod work;

#[cfg(feature = "python")]
fn main() {
    interpreter::exit(life::main());
}

/// Built without Python, the program says what it lacks. Status 3.
#[cfg(not(feature = "python"))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "consort-pyhost was built without Python. With Python 3.11 or newer, its headers and its shared library there (Debian: libpython3-dev), \
         build it: `cargo build --workspace --features consort-pyhost/python`. Until then write `command = [\"python\", \"main.py\"]` into the manifest."
    );
    std::process::ExitCode::from(3)
}
