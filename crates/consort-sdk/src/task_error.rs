//! What a handler says when a task fails.

use std::time::Duration;

use consort_proto::google::rpc;
use prost::Message as _;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt as _, pb};

use crate::error::{Error, code_name, is_transient};
use crate::worker::Question;

/// The type of details that carry a reason.
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// Why an attempt failed, and whether another one can help.
///
/// Errors of everyday libraries convert with `?`: what cannot pass with time (a value of the wrong shape) is not retryable, what can
/// (input and output, a call that was UNAVAILABLE) is. An error of no known kind is UNKNOWN and retryable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}: {message}", code_name(*.code))]
pub struct TaskError {
    /// What happened; the step's `retry.on` is matched with it.
    pub code: Code,
    /// What happened and what to do about it, for a person.
    pub message: String,
    /// False if trying again cannot help, whatever the step's policy says.
    pub retryable: bool,
    /// Wait at least this long before the next attempt; absent leaves it to the policy.
    pub retry_after: Option<Duration>,
    /// Typed details such as `google.rpc.BadRequest`.
    pub details: Vec<prost_types::Any>,
    /// Set if this is no failure but a question: it travels as an error so that `?` carries it out of the handler.
    pub(crate) question: Option<Box<Question>>,
}

impl TaskError {
    /// An error of a code, retryable if its kind can pass with time.
    pub fn new(code: Code, message: impl Into<String>) -> TaskError {
        let retryable = matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::ResourceExhausted
                | Code::Aborted
                | Code::Internal
                | Code::Unavailable
        );
        TaskError { code, message: message.into(), retryable, retry_after: None, details: Vec::new(), question: None }
    }

    /// The input is wrong: INVALID_ARGUMENT, not retryable, with the field in the message and in a `google.rpc.BadRequest`.
    /// `why` gives the value found, the rule it breaks, and the fix.
    pub fn bad_input(field: impl Into<String>, why: impl Into<String>) -> TaskError {
        let (field, why) = (field.into(), why.into());
        let message =
            if field.is_empty() || field == "." { format!("input: {why}") } else { format!("{field}: {why}") };
        TaskError::new(Code::InvalidArgument, message)
            .with_details(&ErrorDetails::with_bad_request_violation(field, why))
    }

    /// The end of a handler that asks.
    pub(crate) fn asking(question: Question) -> TaskError {
        let message = format!("a person is asked: {}", question.title());
        TaskError { question: Some(Box::new(question)), ..TaskError::new(Code::Aborted, message) }
    }

    /// Whether this is a question of [`Task::ask`](crate::Task::ask) and no failure; for handlers that look at their errors.
    pub fn is_question(&self) -> bool {
        self.question.is_some()
    }

    /// Sets whether another attempt can help.
    pub fn retryable(mut self, retryable: bool) -> TaskError {
        self.retryable = retryable;
        self
    }

    /// Asks to wait at least this long before the next attempt.
    pub fn retry_after(mut self, wait: Duration) -> TaskError {
        self.retry_after = Some(wait);
        self
    }

    /// Adds typed details.
    pub fn with_details(mut self, details: &ErrorDetails) -> TaskError {
        self.details.extend(details_of(&tonic::Status::with_error_details(self.code, "", details.clone())));
        self
    }

    /// Adds the machine's word for it.
    pub(crate) fn with_reason(mut self, reason: &str) -> TaskError {
        let info = pb::ErrorInfo { reason: reason.to_owned(), domain: "consort.dev".to_owned(), ..Default::default() };
        self.details.push(prost_types::Any { type_url: ERROR_INFO.to_owned(), value: info.encode_to_vec() });
        self
    }

    /// The machine's word for it, such as `AGENT_OFFLINE`, if the error came from the mesh and has one.
    pub fn reason(&self) -> Option<String> {
        let info = self.details.iter().find(|any| any.type_url == ERROR_INFO)?;
        pb::ErrorInfo::decode(info.value.as_slice()).ok().map(|info| info.reason)
    }

    /// What a reply to a request says.
    pub(crate) fn from_reply(error: rpc::Status, retryable: bool) -> TaskError {
        let rpc::Status { code, message, details } = error;
        TaskError { retryable, details, ..TaskError::new(Code::from_i32(code), message) }
    }

    pub(crate) fn into_status(self) -> rpc::Status {
        rpc::Status { code: self.code as i32, message: self.message, details: self.details }
    }
}

/// The details in a status's trailer; damaged ones are left out, since they only embellish.
fn details_of(status: &tonic::Status) -> Vec<prost_types::Any> {
    rpc::Status::decode(status.details()).map(|status| status.details).unwrap_or_default()
}

impl From<serde_json::Error> for TaskError {
    fn from(error: serde_json::Error) -> TaskError {
        if error.is_io() {
            return TaskError::new(Code::Unavailable, error.to_string());
        }
        TaskError::new(Code::InvalidArgument, format!("a value is not JSON of the wanted shape: {error}"))
    }
}

impl From<std::io::Error> for TaskError {
    fn from(error: std::io::Error) -> TaskError {
        use std::io::ErrorKind;
        let code = match error.kind() {
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::PermissionDenied => Code::PermissionDenied,
            ErrorKind::InvalidInput | ErrorKind::InvalidData => Code::InvalidArgument,
            ErrorKind::TimedOut => Code::DeadlineExceeded,
            _ => Code::Unavailable,
        };
        TaskError::new(code, error.to_string())
    }
}

impl From<tonic::Status> for TaskError {
    fn from(status: tonic::Status) -> TaskError {
        let retryable = is_transient(&status);
        let error = TaskError::new(status.code(), status.message());
        TaskError { retryable: error.retryable || retryable, details: details_of(&status), ..error }
    }
}

impl From<Error> for TaskError {
    fn from(error: Error) -> TaskError {
        match error {
            Error::Status(status) => TaskError::from(*status),
            other => TaskError::new(other.code(), other.to_string()),
        }
    }
}

impl From<anyhow::Error> for TaskError {
    /// Keeps what is known of the cause; the message has the whole chain.
    fn from(error: anyhow::Error) -> TaskError {
        let message = format!("{error:#}");
        let known = match error.downcast::<TaskError>() {
            Ok(known) => Ok(known),
            Err(error) => match error.downcast::<serde_json::Error>() {
                Ok(json) => Ok(json.into()),
                Err(error) => error.downcast::<std::io::Error>().map(TaskError::from),
            },
        };
        match known {
            Ok(known) => TaskError { message, ..known },
            Err(_) => TaskError::new(Code::Unknown, message),
        }
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for TaskError {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> TaskError {
        TaskError::new(Code::Unknown, error.to_string())
    }
}

impl From<String> for TaskError {
    fn from(message: String) -> TaskError {
        TaskError::new(Code::Unknown, message)
    }
}

impl From<&str> for TaskError {
    fn from(message: &str) -> TaskError {
        TaskError::new(Code::Unknown, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_decide_whether_a_retry_can_help() {
        let json = serde_json::from_str::<u8>("\"x\"").unwrap_err();
        assert!(!TaskError::from(json).retryable);
        assert!(TaskError::from("the model said no").retryable);
        assert!(TaskError::from(tonic::Status::unavailable("busy")).retryable);
        assert!(!TaskError::from(tonic::Status::not_found("gone")).retryable);
        assert!(!TaskError::from(std::io::Error::from(std::io::ErrorKind::NotFound)).retryable);
    }

    #[test]
    fn an_anyhow_error_keeps_its_cause_and_its_story() {
        use anyhow::Context as _;
        let cause = Err::<(), _>(std::io::Error::from(std::io::ErrorKind::NotFound));
        let error = TaskError::from(cause.context("reading `a.csv`").unwrap_err());
        assert_eq!(error.code, Code::NotFound);
        assert!(error.message.starts_with("reading `a.csv`: "), "{}", error.message);
    }

    #[test]
    fn a_bad_input_names_its_field_in_the_details() {
        let error = TaskError::bad_input("rate", "`-1` is negative; give a number of at least 0");
        assert_eq!((error.code, error.retryable), (Code::InvalidArgument, false));
        assert_eq!(error.message, "rate: `-1` is negative; give a number of at least 0");
        assert_eq!(error.details.len(), 1);
        assert!(error.details[0].type_url.ends_with("google.rpc.BadRequest"), "{}", error.details[0].type_url);
    }
}
