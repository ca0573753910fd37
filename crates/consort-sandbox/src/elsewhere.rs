//! The helper where no mechanism is known: it starts the program, held by nothing but its environment.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::launcher::{POLICY, PROBE, Policy};
use crate::{Mechanisms, SETUP_FAILED};

/// See [`crate::sandbox_main`].
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let error = if args.iter().any(|arg| arg == PROBE) {
        let none = Mechanisms { reason: "this is not Linux".to_owned(), ..Mechanisms::default() };
        match serde_json::to_string(&none) {
            Ok(text) => {
                println!("{text}");
                return ExitCode::SUCCESS;
            }
            Err(error) => error.to_string(),
        }
    } else {
        match std::env::var(POLICY).map(|text| serde_json::from_str::<Policy>(&text)) {
            Ok(Ok(policy)) => {
                let Policy { sandbox, program, args, .. } = policy;
                let mut command = Command::new(program);
                command.args(args).env_clear().envs(sandbox.env).current_dir(sandbox.folder).exec().to_string()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "this is no command for people: the mesh starts plugins with it".to_owned(),
        }
    };
    eprintln!("sandbox: {error}");
    ExitCode::from(SETUP_FAILED)
}
