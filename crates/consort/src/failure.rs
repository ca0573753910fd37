//! How a command fails: what a person reads, and the exit code a script reads.

use std::fmt::Write as _;
use std::io;

use tonic_types::StatusExt;

/// Why a command stopped, as a script sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Nothing is wrong: the reader of our output left.
    Quiet = 0,
    /// The work itself failed: a run failed or was cancelled, a check found something.
    Failed = 1,
    /// The command line or a file is wrong.
    Usage = 2,
    /// The server cannot be reached.
    Unreachable = 3,
    /// There is no such thing, or it is in a state that does not allow this.
    Refused = 4,
}

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened, in one sentence.
    pub message: String,
    /// Details, one a line.
    pub details: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

/// What every command returns.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure with its exit code.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), details: Vec::new(), hint: None }
    }

    /// The work failed.
    pub(crate) fn failed(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Failed, message)
    }

    /// The command line or a file is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// Says what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Adds lines of detail.
    pub(crate) fn details(mut self, details: impl IntoIterator<Item = String>) -> Failure {
        self.details.extend(details);
        self
    }

    /// The text for standard error, without colours; empty for a quiet one.
    pub(crate) fn render(&self) -> String {
        if self.exit == Exit::Quiet {
            return String::new();
        }
        let mut text = format!("error: {}\n", self.message);
        for detail in &self.details {
            for line in detail.lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {hint}");
        }
        text
    }

    /// The server's answer to a call, in a person's words. `addr` is where the call went.
    pub(crate) fn of_status(status: &tonic::Status, addr: &str) -> Failure {
        use tonic::Code;
        let found = status.get_error_details();
        let violations: Vec<String> = found
            .bad_request()
            .map(|bad| bad.field_violations.iter().map(|v| join_field(&v.field, &v.description)).collect())
            .unwrap_or_default();
        let reason = found.error_info().map(|info| info.reason.clone()).unwrap_or_default();
        let exit = match status.code() {
            Code::InvalidArgument | Code::Unimplemented => Exit::Usage,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => Exit::Unreachable,
            Code::NotFound | Code::FailedPrecondition | Code::AlreadyExists | Code::OutOfRange | Code::Aborted => {
                Exit::Refused
            }
            _ => Exit::Failed,
        };
        // The message of a BadRequest repeats its violations; they read better as a list.
        let message = match (exit, violations.is_empty()) {
            (Exit::Unreachable, _) if status.code() == Code::Unavailable && reason.is_empty() => {
                format!("cannot reach a server at {addr}")
            }
            (_, false) => "the request was refused".to_owned(),
            (_, true) if status.message().is_empty() => format!("the server answered {}", code_name(status.code())),
            (_, true) => status.message().to_owned(),
        };
        let mut failure = Failure::new(exit, message).details(violations);
        if failure.exit == Exit::Unreachable && failure.message.starts_with("cannot reach") {
            return failure
                .hint("start one with `consort serve`, or name another with --addr HOST:PORT or CONSORT_ADDR");
        }
        if !reason.is_empty() && failure.details.is_empty() {
            failure.details.push(format!("{} ({reason})", code_name(status.code())));
        }
        if let Some(delay) = found.retry_info().and_then(|retry| retry.retry_delay) {
            failure.hint = Some(format!("try again in {:.1} s", delay.as_secs_f64()));
        } else if (status.code() == Code::Internal || status.code() == Code::Unknown) && reason != "AGENT_FAILED" {
            failure.hint = Some("this is a fault of the server: its log says more".to_owned());
        }
        failure
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::new(Exit::Quiet, String::new());
        }
        Failure::failed(error.to_string())
    }
}

/// `INVALID_ARGUMENT` for [`tonic::Code::InvalidArgument`], and so on.
pub(crate) fn code_name(code: tonic::Code) -> &'static str {
    consort_core::event::Code::name_of(code as i32)
}

fn join_field(field: &str, description: &str) -> String {
    if field.is_empty() { description.to_owned() } else { format!("{field}: {description}") }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    #[test]
    fn violations_become_a_list() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("inputs.rate", "-1 is below the minimum of 0");
        let status = Status::with_error_details(Code::InvalidArgument, "inputs.rate: -1 ...", details);
        let failure = Failure::of_status(&status, "127.0.0.1:1");
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(failure.render(), "error: the request was refused\n  inputs.rate: -1 is below the minimum of 0\n");
    }

    #[test]
    fn an_absent_server_is_named_with_the_way_out() {
        let failure = Failure::of_status(&Status::unavailable("tcp connect error"), "127.0.0.1:7420");
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.render().contains("cannot reach a server at 127.0.0.1:7420"));
        assert!(failure.render().contains("consort serve"));
    }

    #[test]
    fn codes_map_to_exit_codes() {
        for (code, exit) in [
            (Code::NotFound, Exit::Refused),
            (Code::FailedPrecondition, Exit::Refused),
            (Code::DeadlineExceeded, Exit::Unreachable),
            (Code::Internal, Exit::Failed),
        ] {
            assert_eq!(Failure::of_status(&Status::new(code, "x"), "a").exit, exit, "{code:?}");
        }
    }

    #[test]
    fn a_broken_pipe_is_quiet() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit as u8, failure.render().as_str()), (0, ""));
    }
}
