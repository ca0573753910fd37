//! `consort-pyhost main.py`: serves Python code as a plugin.
//!
//! The server, health, chunks, deadlines and limits are Rust's; Python, which runs in the same process, does the operations. It takes the
//! programs that `python main.py` takes: `Plugin.serve` of the Python SDK finds itself within this process and hands over.
//!
//! Rust's threads never wait for Python's lock. Calls go to the event loop through a queue and an eventfd, and to threads of a pool, which
//! alone are Python's; what Python says comes back through functions that do not block.

// A stub has none of the modules.
#[cfg(python)]
mod answer;
#[cfg(python)]
mod desk;
#[cfg(python)]
mod environment;
#[cfg(python)]
mod health;
#[cfg(python)]
mod interpreter;
#[cfg(python)]
mod life;
#[cfg(python)]
mod native;
#[cfg(python)]
mod options;
#[cfg(python)]
mod pool;
#[cfg(python)]
mod service;
#[cfg(python)]
mod status;
#[cfg(python)]
mod watch;
#[cfg(python)]
mod work;

#[cfg(python)]
fn main() {
    interpreter::exit(life::main());
}

/// Built without Python, the program says what it lacks. Status 3.
#[cfg(not(python))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "consort-pyhost was built without Python: {}. Then build it again with `touch crates/consort-pyhost/build.rs && cargo build \
         --workspace`. Until then write `command = [\"python\", \"main.py\"]` into the manifest.",
        env!("PYHOST_LACKS")
    );
    std::process::ExitCode::from(3)
}
