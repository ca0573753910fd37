//! The helper alone, for the tests of this crate. The mesh's own binary does the same as a hidden command.

use std::process::ExitCode;

fn main() -> ExitCode {
    consort_sandbox::sandbox_main(std::env::args_os().skip(1))
}
