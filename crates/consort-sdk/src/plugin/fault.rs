//! How an operation fails.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::error::code_name;

/// Bytes of a message on its way; a status travels in a header, whose peer takes 16 KiB in all.
const MESSAGE: usize = 2 * 1024;
/// Violations that are told, and bytes of each part of them.
const VIOLATIONS: usize = 10;
const PART: usize = 200;

/// Why an operation failed: it reaches the caller as a gRPC status with details.
///
/// Errors of everyday libraries convert with `?`. Whether a call is made again is the mesh's decision: it follows the effect of the operation
/// and the policy of the step.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}: {message}", code_name(*.code))]
pub struct Fault {
    /// What happened.
    pub code: Code,
    /// What happened and what to do about it, for a person; cut to 2 KiB on its way.
    pub message: String,
    /// Which fields of the input are wrong, and how: `google.rpc.BadRequest`.
    pub violations: Vec<(String, String)>,
    /// The machine's word for it, for example `REPOSITORY_LOCKED`: `google.rpc.ErrorInfo`.
    pub reason: Option<String>,
    /// Wait at least this long before trying again: `google.rpc.RetryInfo`.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A failure of a code.
    pub fn new(code: Code, message: impl Into<String>) -> Fault {
        Fault { code, message: message.into(), violations: Vec::new(), reason: None, retry_after: None }
    }

    /// A field of the input is wrong: INVALID_ARGUMENT. `why` gives the value found, the rule it breaks, and the fix.
    pub fn bad_input(field: impl Into<String>, why: impl Into<String>) -> Fault {
        let (field, why) = (field.into(), why.into());
        let message = format!("{field}: {why}");
        Fault { violations: vec![(field, why)], ..Fault::new(Code::InvalidArgument, message) }
    }

    /// What was named is not there.
    pub fn not_found(message: impl Into<String>) -> Fault {
        Fault::new(Code::NotFound, message)
    }

    /// The operator has not granted it.
    pub fn permission_denied(message: impl Into<String>) -> Fault {
        Fault::new(Code::PermissionDenied, message)
    }

    /// The world is not in the state that the operation needs.
    pub fn precondition(message: impl Into<String>) -> Fault {
        Fault::new(Code::FailedPrecondition, message)
    }

    /// Nobody waits for it any more.
    pub fn cancelled() -> Fault {
        Fault::new(Code::Cancelled, "the call was cancelled")
    }

    /// Adds the machine's word for it: letters A-Z, digits and `_`.
    pub fn reason(mut self, reason: impl Into<String>) -> Fault {
        self.reason = Some(reason.into());
        self
    }

    /// Asks to wait at least this long before trying again.
    pub fn retry_after(mut self, wait: Duration) -> Fault {
        self.retry_after = Some(wait);
        self
    }

    /// Adds a field of the input that is wrong.
    pub fn violation(mut self, field: impl Into<String>, why: impl Into<String>) -> Fault {
        self.violations.push((field.into(), why.into()));
        self
    }

    pub(super) fn into_status(self) -> Status {
        // OK would be no failure.
        let code = if self.code == Code::Ok { Code::Unknown } else { self.code };
        let mut details = ErrorDetails::new();
        if !self.violations.is_empty() {
            let told = self.violations.into_iter().take(VIOLATIONS);
            let told = told.map(|(field, why)| FieldViolation::new(cut(field, PART), cut(why, PART)));
            details.set_bad_request(told.collect::<Vec<_>>());
        }
        if let Some(reason) = self.reason {
            details.set_error_info(cut(reason, 63), "consort.dev", []);
        }
        if let Some(wait) = self.retry_after {
            details.set_retry_info(Some(wait));
        }
        let message = cut(self.message, MESSAGE);
        let bare = details.bad_request().is_none() && details.error_info().is_none() && details.retry_info().is_none();
        if bare { Status::new(code, message) } else { Status::with_error_details(code, message, details) }
    }
}

/// At most so many bytes of a text, with `…` if it was cut.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most - 3).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

impl From<Status> for Fault {
    fn from(status: Status) -> Fault {
        let details = status.get_error_details();
        let wrong = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        Fault {
            violations: wrong.iter().map(|wrong| (wrong.field.clone(), wrong.description.clone())).collect(),
            reason: details.error_info().map(|info| info.reason.clone()),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            ..Fault::new(status.code(), status.message())
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        use std::io::ErrorKind;
        let code = match error.kind() {
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::PermissionDenied => Code::PermissionDenied,
            ErrorKind::AlreadyExists => Code::AlreadyExists,
            ErrorKind::InvalidInput | ErrorKind::InvalidData => Code::InvalidArgument,
            ErrorKind::TimedOut => Code::DeadlineExceeded,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Code::ResourceExhausted,
            _ => Code::Unavailable,
        };
        Fault::new(code, error.to_string())
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Fault {
        if error.is_io() {
            return Fault::new(Code::Unavailable, error.to_string());
        }
        Fault::new(Code::InvalidArgument, format!("a value is not JSON of the wanted shape: {error}"))
    }
}

impl From<std::num::ParseIntError> for Fault {
    fn from(error: std::num::ParseIntError) -> Fault {
        Fault::new(Code::InvalidArgument, error.to_string())
    }
}

impl From<std::str::Utf8Error> for Fault {
    fn from(error: std::str::Utf8Error) -> Fault {
        Fault::new(Code::InvalidArgument, error.to_string())
    }
}

impl From<std::string::FromUtf8Error> for Fault {
    fn from(error: std::string::FromUtf8Error) -> Fault {
        Fault::new(Code::InvalidArgument, error.to_string())
    }
}

impl From<tokio::time::error::Elapsed> for Fault {
    fn from(error: tokio::time::error::Elapsed) -> Fault {
        Fault::new(Code::DeadlineExceeded, error.to_string())
    }
}

impl From<anyhow::Error> for Fault {
    /// Keeps what is known of the cause; the message has the whole chain.
    fn from(error: anyhow::Error) -> Fault {
        let message = format!("{error:#}");
        let known = match error.downcast::<Fault>() {
            Ok(known) => Ok(known),
            Err(error) => match error.downcast::<serde_json::Error>() {
                Ok(json) => Ok(json.into()),
                Err(error) => error.downcast::<std::io::Error>().map(Fault::from),
            },
        };
        match known {
            Ok(known) => Fault { message, ..known },
            Err(_) => Fault::new(Code::Unknown, message),
        }
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for Fault {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Fault {
        Fault::new(Code::Unknown, error.to_string())
    }
}

impl From<String> for Fault {
    fn from(message: String) -> Fault {
        Fault::new(Code::Unknown, message)
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Fault {
        Fault::new(Code::Unknown, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_survives_the_wire() {
        let fault = Fault::bad_input("path", "`x` is not there; give a path that is")
            .reason("NO_PATH")
            .retry_after(Duration::from_secs(3));
        assert_eq!(Fault::from(fault.clone().into_status()), fault);
        assert!(Fault::not_found("gone").into_status().details().is_empty());
        assert_eq!(Fault::new(Code::Ok, "").into_status().code(), Code::Unknown);
    }

    #[test]
    fn a_huge_fault_fits_into_a_header() {
        let mut fault = Fault::new(Code::Internal, "é".repeat(100_000)).reason("x".repeat(1_000));
        fault.violations = vec![("f".repeat(1_000), "w".repeat(1_000)); 1_000];
        let status = fault.into_status();
        // Each byte of `é` takes three in the header, and details four for three.
        assert!(status.message().len() * 3 + status.details().len() * 4 / 3 < 15 * 1024, "{}", status.details().len());
    }

    #[test]
    fn kinds_are_kept() {
        use anyhow::Context as _;
        let cause = Err::<(), _>(std::io::Error::from(std::io::ErrorKind::NotFound));
        let fault = Fault::from(cause.context("reading `a.csv`").unwrap_err());
        assert_eq!(fault.code, Code::NotFound);
        assert!(fault.message.starts_with("reading `a.csv`: "), "{}", fault.message);
    }
}
