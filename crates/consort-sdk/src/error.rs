//! What can go wrong in the SDK.

use tonic::{Code, Status};

/// An error of a client or a worker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not `host:port` or `http://host:port`.
    #[error("address `{address}`: {why}; write it as `127.0.0.1:7420` or `http://host:port`")]
    Address {
        /// The address as given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// A setting of the worker breaks a rule.
    #[error("{field} `{value}`: {rule}")]
    Setting {
        /// The setting, for example `worker id`.
        field: &'static str,
        /// Its value.
        value: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The mesh answered with an error, or could not be reached in time.
    #[error("{}: {}", code_name(.0.code()), .0.message())]
    Status(Box<Status>),
    /// A value is not JSON, or not of the wanted shape.
    #[error("{what}: {source}")]
    Json {
        /// Which value.
        what: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A blob is larger than the caller takes.
    #[error("blob {name} has more than the {limit} bytes that are taken; read it in parts with BlobService.Download")]
    TooLarge {
        /// `blobs/{sha256}`.
        name: String,
        /// Bytes that are taken.
        limit: u64,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The mesh broke its protocol.
    #[error("the mesh broke the protocol: {0}")]
    Protocol(&'static str),
}

impl Error {
    /// The canonical code: the mesh's own, or the one that fits.
    pub fn code(&self) -> Code {
        match self {
            Error::Status(status) => status.code(),
            Error::Address { .. } | Error::Setting { .. } | Error::Json { .. } => Code::InvalidArgument,
            Error::TooLarge { .. } => Code::ResourceExhausted,
            Error::Io { .. } => Code::Unavailable,
            Error::Protocol(_) => Code::Internal,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        Error::Status(Box::new(status))
    }
}

/// Whether a call failed for a reason that passes: the mesh says UNAVAILABLE, or the connection broke under the call, which
/// tonic reports under several codes but always with the transport's error as its source.
pub(crate) fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        Code::Unknown | Code::Internal | Code::Cancelled => std::error::Error::source(status).is_some(),
        _ => false,
    }
}

/// The code's name as the protocol spells it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
