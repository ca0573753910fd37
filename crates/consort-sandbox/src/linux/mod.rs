//! The helper process: from the mesh's rights to the program's.
//!
//! ```text
//! mesh ── outer ── inner ── program
//!           │        └ first process of the namespaces: new root, starts the program, answers its filter, passes signals on, reaps
//!           └ makes the namespaces; ends with the mesh, looks at memory, passes signals on, ends as the program ends
//! ```

mod base;
mod calls;
mod filter;
mod inner;
mod limits;
mod memory;
mod outer;
mod paths;
mod plan;
mod probe;
mod program;
mod root;
mod rules;
mod sys;

use std::fs::OpenOptions;
use std::process::ExitCode;

use rustix::process::Signal;

use crate::SETUP_FAILED;
use crate::launcher::{POLICY, PROBE, Policy};

/// Signals that reach the program by way of the helper.
const FORWARDED: [Signal; 6] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// See [`crate::sandbox_main`].
pub(crate) fn main(args: &[std::ffi::OsString]) -> ExitCode {
    let done = if args.iter().any(|arg| arg == PROBE) {
        probe::print()
    } else {
        std::env::var(POLICY)
            .map_err(|_| std::io::Error::other("this is no command for people: the mesh starts plugins with it"))
            .and_then(|text| serde_json::from_str::<Policy>(&text).map_err(std::io::Error::other))
            .and_then(|policy| outer::run(&policy).map(|never| match never {}))
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandbox: {error}");
            ExitCode::from(SETUP_FAILED)
        }
    }
}

/// Lets go of standard input and output: who reads the program's output must see its end when the program closes it.
fn mute() {
    if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}
