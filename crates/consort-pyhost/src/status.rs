//! How a call fails: a status with a reason for programs.

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.ErrorInfo`, without its metadata.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
}

/// A status with its reason in the details, as the SDKs have it.
pub(crate) fn refusal(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let message = message.into();
    let info = ErrorInfo { reason: reason.to_owned(), domain: "consort.dev".to_owned() };
    let info = Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(), value: info.encode_to_vec() };
    let details = RpcStatus { code: code as i32, message: message.clone(), details: vec![info] };
    Status::with_details(code, message, details.encode_to_vec().into())
}
