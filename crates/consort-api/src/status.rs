//! The one place where errors become gRPC statuses, with `google.rpc` details.

use std::collections::HashMap;
use std::time::Duration;

use consort_core::ports::StoreError;
use consort_core::{Error, Kind, Violation};
use tonic::{Code, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

/// The domain of every `ErrorInfo`.
pub(crate) const DOMAIN: &str = "consort.dev";

/// Statuses travel in trailers, which common clients refuse beyond 8 KiB: message and details must stay below that
/// together, the details a third longer for their base64.
const MESSAGE_LIMIT: usize = 600;
const VIOLATIONS_LIMIT: usize = 4_000;

/// The status of an error.
pub(crate) fn of(error: Error) -> Status {
    let code = code(error.kind);
    let message = if error.kind == Kind::Internal {
        // What broke inside is for the log; the caller gets the number to find it there.
        let incident = Uuid::new_v4();
        tracing::error!(%incident, reason = error.reason, "{}", error.message);
        format!("an internal error; the server's log has it as incident {incident}")
    } else {
        cut(error.message, MESSAGE_LIMIT)
    };
    let mut details = ErrorDetails::with_error_info(error.reason, DOMAIN, HashMap::new());
    for violation in fitting(error.violations) {
        details.add_bad_request_violation(violation.field, violation.description);
    }
    if let Some(delay) = error.retry_after {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(code, message, details)
}

/// The error of a store that did not do it.
pub(crate) fn store(error: StoreError) -> Error {
    match error {
        StoreError::Conflict(_) => {
            Error::unavailable("somebody else wrote first; try again", Duration::from_millis(50))
        }
        StoreError::Unavailable(why) => {
            tracing::warn!("the store is unavailable: {why}");
            Error::unavailable("the store is unavailable; try again", Duration::from_secs(1))
        }
        StoreError::Corrupt(why) => Error::internal(format!("the store is damaged or from a newer version: {why}")),
    }
}

/// What a handler returns.
pub(crate) fn answer<T>(result: Result<T, Error>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(of)
}

/// A limit was reached; trying again after `retry_after` can help.
pub(crate) fn exhausted(reason: &'static str, message: impl Into<String>, retry_after: Option<Duration>) -> Error {
    Error { retry_after, ..Error::new(Kind::ResourceExhausted, reason, message) }
}

/// The server is stopping; another one, or this one after its restart, will answer.
pub(crate) fn stopping() -> Error {
    Error::unavailable("the server is stopping; connect again", Duration::from_secs(1))
}

/// Mends what tonic says by itself, which carries no details: a message over the size limit is OUT_OF_RANGE there and
/// RESOURCE_EXHAUSTED in gRPC's own words, a message that cannot be decoded is the caller's fault and not INTERNAL, and a method
/// that does not exist has no reason. `None` if the status says something else.
pub(crate) fn mended(status: &Status) -> Option<Status> {
    let said = status.message();
    match status.code() {
        Code::OutOfRange if said.contains("message length too large") => Some(of(exhausted(
            "MESSAGE_TOO_LARGE",
            format!("{said}; upload larger values with BlobService.Upload and send their reference"),
            None,
        ))),
        Code::Internal if said.starts_with("failed to decode Protobuf message") => {
            let text = format!("{said}; send a message as proto/ has it, with texts in UTF-8");
            Some(of(Error::new(Kind::InvalidArgument, "BAD_MESSAGE", text)))
        }
        Code::Unimplemented if status.details().is_empty() => {
            let text = if said.is_empty() { "there is no such method; ask reflection for what there is" } else { said };
            let details = ErrorDetails::with_error_info("UNIMPLEMENTED", DOMAIN, HashMap::new());
            Some(Status::with_error_details(Code::Unimplemented, text, details))
        }
        _ => None,
    }
}

/// The status with which reading a client's stream ended.
pub(crate) fn of_stream(status: Status) -> Status {
    mended(&status).unwrap_or(status)
}

fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::Aborted => Code::Aborted,
        Kind::OutOfRange => Code::OutOfRange,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}

/// The number of an error's code, for messages that carry a `google.rpc.Status`.
pub(crate) fn code_number(kind: Kind) -> i32 {
    code(kind) as i32
}

/// As many violations as fit, and then one that counts the rest.
fn fitting(mut violations: Vec<Violation>) -> Vec<Violation> {
    let mut room = VIOLATIONS_LIMIT;
    for index in 0..violations.len() {
        let violation = &mut violations[index];
        violation.description = cut(std::mem::take(&mut violation.description), 1_000);
        violation.field = cut(std::mem::take(&mut violation.field), 200);
        let size = violation.field.len() + violation.description.len() + 8;
        if size > room {
            let rest = violations.len() - index;
            violations.truncate(index);
            violations.push(Violation {
                field: String::new(),
                description: format!("and {rest} more; mend these and try again"),
            });
            break;
        }
        room -= size;
    }
    violations
}

/// The text, at most about `limit` bytes long.
pub(crate) fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_core::ports::Conflict;

    #[test]
    fn an_error_carries_reason_fields_and_retry() {
        let mut error = Error::bad_field("inputs.rate", "`-1` is below 0; give 0 or more");
        error.retry_after = Some(Duration::from_secs(2));
        let status = of(error);
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("BAD_REQUEST", "consort.dev"));
        let fields = &details.bad_request().unwrap().field_violations;
        assert_eq!(fields[0].field, "inputs.rate");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_thousand_mistakes_fit_into_trailers() {
        let violations = (0..1_000)
            .map(|n| Violation {
                field: format!("steps[{n}].needs[0]"),
                description: "there is no such step".repeat(5),
            })
            .collect();
        let status = of(Error::bad_fields(violations));
        assert!(status.message().len() + status.details().len() * 4 / 3 < 7_500);
        let details = status.get_error_details();
        let fields = &details.bad_request().unwrap().field_violations;
        assert!(fields.len() > 20);
        assert!(fields.last().unwrap().description.contains("more; mend these"));
    }

    #[test]
    fn what_broke_inside_stays_inside() {
        let status = of(Error::internal("column `password` is missing"));
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("password"), "{}", status.message());
    }

    #[test]
    fn every_store_error_has_a_kind() {
        assert_eq!(store(StoreError::Unavailable("busy".into())).kind, Kind::Unavailable);
        assert_eq!(store(StoreError::Corrupt("row".into())).kind, Kind::Internal);
        assert!(store(StoreError::Conflict(Conflict::default())).retry_after.is_some());
    }

    #[test]
    fn what_has_no_details_is_mended() {
        let oversized =
            Status::out_of_range("Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes");
        let mended = mended(&oversized).unwrap();
        assert_eq!(mended.code(), Code::ResourceExhausted);
        assert_eq!(mended.get_error_details().error_info().unwrap().reason, "MESSAGE_TOO_LARGE");
        assert!(super::mended(&Status::out_of_range("beyond the end")).is_none());
        let undecoded = Status::internal("failed to decode Protobuf message: ApplyWorkflowRequest.source: not UTF-8");
        let mended = super::mended(&undecoded).unwrap();
        assert_eq!(mended.code(), Code::InvalidArgument);
        assert_eq!(mended.get_error_details().error_info().unwrap().reason, "BAD_MESSAGE");
        assert!(super::mended(&Status::internal("a bug")).is_none());
        let unknown = super::mended(&Status::unimplemented("")).unwrap();
        assert_eq!(unknown.get_error_details().error_info().unwrap().reason, "UNIMPLEMENTED");
        assert!(super::mended(&unknown).is_none());
    }
}
