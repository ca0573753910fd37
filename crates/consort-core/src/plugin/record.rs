//! Calls of operations as a run's history keeps them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Effect, OperationName};
use crate::event::Failure;
use crate::model::Digest;
use crate::{Data, Json};

/// An operation that must not be done twice is about to be called. The fields are those of the message in `run_event.proto`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct OperationBegan {
    pub attempt: u32,
    pub token: u64,
    pub operation: OperationName,
    pub effect: Effect,
    /// Digest of operation and input: equal calls are told apart by their order.
    pub request: Digest,
    pub call_id: Uuid,
}

/// An operation was called, and its outcome is known. The fields are those of the message in `run_event.proto`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct OperationCalled {
    pub attempt: u32,
    pub token: u64,
    pub operation: OperationName,
    /// Version of the plugin.
    pub version: Arc<str>,
    pub effect: Effect,
    pub request: Digest,
    pub call_id: Uuid,
    pub input: Data,
    /// What it yielded; `None` if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Data>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    pub took_ms: u64,
}

/// By what a call is known again: operation, input, and whether it was a dry run.
pub fn request_digest(operation: &OperationName, input: &Data, dry_run: bool) -> Digest {
    let mut hash = Sha256::new();
    hash.update(operation.to_string().as_bytes());
    hash.update([0, u8::from(dry_run)]);
    match input {
        // Sorted, so that the order of members does not matter.
        Data::Inline(json) => hash.update(Json::of(&json.value()).as_str().as_bytes()),
        Data::Blob(blob) => hash.update(blob.sha256.as_bytes()),
    }
    Digest(hash.finalize().into())
}
