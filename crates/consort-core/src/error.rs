//! The error that crosses room walls: what happened (kind), whether a retry can help, and which field to mend.

use std::time::Duration;

/// What happened, in the terms of gRPC's canonical codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request itself is wrong.
    InvalidArgument,
    /// There is no such thing.
    NotFound,
    /// It exists already with other content.
    AlreadyExists,
    /// Whoever asks may not do it.
    PermissionDenied,
    /// The thing is in a state that does not allow it.
    FailedPrecondition,
    /// It was broken off, and what it did is not known.
    Aborted,
    /// A position beyond the end.
    OutOfRange,
    /// A limit was reached.
    ResourceExhausted,
    /// It took too long.
    DeadlineExceeded,
    /// Something this service needs is not there now.
    Unavailable,
    /// A bug or damaged data.
    Internal,
}

/// A field that must be mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, for example `inputs.hourly_rate` or `steps[2].needs[0]`.
    pub field: String,
    /// The value found, the rule it breaks, and the fix.
    pub description: String,
}

/// An error for a caller.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What happened.
    pub kind: Kind,
    /// Machine-readable reason in UPPER_SNAKE_CASE, for example `LEASE_LOST`.
    pub reason: &'static str,
    /// What happened and what to do, for a person.
    pub message: String,
    /// Fields to mend.
    pub violations: Vec<Violation>,
    /// How long to wait before trying again, if that can help.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// An error of a kind, with its reason and message.
    pub fn new(kind: Kind, reason: &'static str, message: impl Into<String>) -> Error {
        Error { kind, reason, message: message.into(), violations: Vec::new(), retry_after: None }
    }

    /// One bad field.
    pub fn bad_field(field: impl Into<String>, description: impl Into<String>) -> Error {
        Error::bad_fields(vec![Violation { field: field.into(), description: description.into() }])
    }

    /// Several bad fields. The message names them all.
    pub fn bad_fields(violations: Vec<Violation>) -> Error {
        let list: Vec<String> = violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
        Error { violations, ..Error::new(Kind::InvalidArgument, "BAD_REQUEST", list.join("; ")) }
    }

    /// There is no such thing.
    pub fn not_found(what: &str, name: impl std::fmt::Display) -> Error {
        Error::new(Kind::NotFound, "NOT_FOUND", format!("there is no {what} `{name}`"))
    }

    /// The thing is in a state that does not allow it.
    pub fn precondition(reason: &'static str, message: impl Into<String>) -> Error {
        Error::new(Kind::FailedPrecondition, reason, message)
    }

    /// Something is not there now; trying again after `retry_after` can help.
    pub fn unavailable(message: impl Into<String>, retry_after: Duration) -> Error {
        Error { retry_after: Some(retry_after), ..Error::new(Kind::Unavailable, "UNAVAILABLE", message) }
    }

    /// A bug or damaged data.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(Kind::Internal, "INTERNAL", message)
    }

    /// Whether the same call can succeed later.
    pub fn retryable(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::ResourceExhausted | Kind::DeadlineExceeded)
    }
}
