//! Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, with the status that makes its clients raise the
//! right exception and try again where that can help.

use std::time::Duration;

use consort_core::{Error, Kind};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;
use uuid::Uuid;

use crate::answer::full;
use crate::service::HttpBody;

/// Milliseconds to wait, which OpenAI's clients read before `retry-after`.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Whether trying again can help, which OpenAI's clients believe.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Characters of an error's message.
const MESSAGE_LIMIT: usize = 4_000;

#[derive(Serialize)]
struct Shape<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

/// An error as the answer to a call.
pub(crate) fn response(error: Error) -> Response<HttpBody> {
    let status = status(&error);
    let retry_after = error.retry_after;
    let hopeless = is_spent(&error);
    let mut answer = Response::new(full(json(error)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait) = retry_after {
        headers.insert(RETRY_AFTER, whole_seconds(wait).into());
        headers.insert(RETRY_AFTER_MS, u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).into());
    }
    if hopeless {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    answer
}

/// An error as JSON.
pub(crate) fn json(error: Error) -> Vec<u8> {
    let kind = type_of(&error);
    let message = if error.kind == Kind::Internal {
        // What broke inside is for the log; the caller gets the number to find it there.
        let incident = Uuid::new_v4();
        tracing::error!(%incident, reason = error.reason, "{}", error.message);
        format!("an internal error; the server's log has it as incident {incident}")
    } else {
        match error.message.char_indices().nth(MESSAGE_LIMIT) {
            Some((end, _)) => format!("{}…", &error.message[..end]),
            None => error.message,
        }
    };
    let param = error.violations.first().map(|violation| violation.field.as_str());
    let code = error.reason.to_ascii_lowercase();
    let shape = Shape { error: Inner { message: &message, r#type: kind, param, code: &code } };
    serde_json::to_vec(&shape).expect("texts are JSON")
}

/// The one table of statuses.
fn status(error: &Error) -> StatusCode {
    match error.reason {
        "REQUEST_TOO_LARGE" => return StatusCode::PAYLOAD_TOO_LARGE,
        "UNSUPPORTED_MEDIA_TYPE" => return StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "METHOD_NOT_ALLOWED" => return StatusCode::METHOD_NOT_ALLOWED,
        "BODY_TIMEOUT" => return StatusCode::REQUEST_TIMEOUT,
        _ => {}
    }
    match error.kind {
        // As gRPC's gateways have it. 409 would be true of some states, but OpenAI's clients try again on it.
        Kind::InvalidArgument | Kind::FailedPrecondition | Kind::OutOfRange | Kind::AlreadyExists => {
            StatusCode::BAD_REQUEST
        }
        Kind::PermissionDenied => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Kind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Aborted => StatusCode::CONFLICT,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A limit that time does not lift; OpenAI's clients would ask again and again.
fn is_spent(error: &Error) -> bool {
    error.kind == Kind::ResourceExhausted
        && error.retry_after.is_none()
        && (error.reason.contains("BUDGET") || error.reason.contains("QUOTA"))
}

fn type_of(error: &Error) -> &'static str {
    match error.kind {
        Kind::ResourceExhausted if is_spent(error) => "insufficient_quota",
        Kind::ResourceExhausted => "rate_limit_error",
        Kind::DeadlineExceeded => "timeout_error",
        Kind::Unavailable => "service_unavailable_error",
        Kind::Internal => "server_error",
        _ => "invalid_request_error",
    }
}

/// Rounded up: a client that comes early comes in vain.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    async fn read(error: Error) -> (u16, http::HeaderMap, serde_json::Value) {
        let answer = response(error);
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, headers, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn kinds_have_their_statuses() {
        for (kind, status) in [
            (Kind::InvalidArgument, 400),
            (Kind::FailedPrecondition, 400),
            (Kind::NotFound, 404),
            (Kind::ResourceExhausted, 429),
            (Kind::Internal, 500),
            (Kind::Unavailable, 503),
            (Kind::DeadlineExceeded, 504),
        ] {
            assert_eq!(read(Error::new(kind, "X", "x")).await.0, status, "{kind:?}");
        }
    }

    #[tokio::test]
    async fn a_bad_field_is_the_parameter() {
        let (status, _, body) = read(Error::bad_field("temperature", "is hot")).await;
        let expected = serde_json::json!({"error": {
            "message": "temperature: is hot", "type": "invalid_request_error", "param": "temperature", "code": "bad_request",
        }});
        assert_eq!((status, body), (400, expected));
    }

    #[tokio::test]
    async fn a_limit_says_when_to_come_again_or_that_it_is_no_use() {
        let limited = Error::new(Kind::ResourceExhausted, "RATE_LIMITED", "slow down");
        let later = Error { retry_after: Some(Duration::from_millis(1_200)), ..limited.clone() };
        let (_, headers, body) = read(later).await;
        assert_eq!(
            (&headers["retry-after"], &headers["retry-after-ms"]),
            (&"2".parse().unwrap(), &"1200".parse().unwrap())
        );
        assert_eq!((&body["error"]["type"], headers.get("x-should-retry")), (&"rate_limit_error".into(), None));
        let (_, headers, body) = read(Error { reason: "BUDGET_EXHAUSTED", ..limited }).await;
        assert_eq!(
            (&body["error"]["type"], &headers["x-should-retry"]),
            (&"insufficient_quota".into(), &"false".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn what_broke_inside_is_not_told() {
        let (_, _, body) = read(Error::internal("the secret is tea")).await;
        assert!(!body.to_string().contains("tea") && body.to_string().contains("incident"));
    }
}
