//! What a tool's answer is for the mesh: an output, or a status.

use std::collections::HashMap;

use bytes::Bytes;
use consort_proto::blob::{Payload, payload};
use consort_proto::plugin as wire;
use rmcp::model::{CallToolResult, ContentBlock, ErrorCode, ErrorData};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use wire::invoke_response::Kind;

use crate::adapter::ears::response;
use crate::adapter::words::cut;

/// Bytes of an output that goes in one message, and of a chunk.
const INLINE: usize = 1024 * 1024;
/// Bytes of a status' message: it is a header.
const MESSAGE: usize = 2 * 1024;
/// Who names the reasons.
const DOMAIN: &str = "mcp";

/// The messages that end a call.
pub(crate) fn of(result: CallToolResult) -> Result<Vec<wire::InvokeResponse>, Status> {
    if result.is_error == Some(true) {
        let texts: Vec<&str> = result.content.iter().filter_map(text_of).collect();
        let mut said = texts.join("\n");
        if said.trim().is_empty() {
            said = result
                .structured_content
                .map_or_else(|| "the tool failed without a word".to_owned(), |value| value.to_string());
        }
        return Err(status(Code::FailedPrecondition, "TOOL_ERROR", &said));
    }
    let output = match result.structured_content {
        Some(value) => value,
        None => json!({"content": result.content}),
    };
    Ok(messages(&output))
}

fn text_of(block: &ContentBlock) -> Option<&str> {
    match block {
        ContentBlock::Text(text) => Some(&text.text),
        _ => None,
    }
}

fn messages(output: &Value) -> Vec<wire::InvokeResponse> {
    let text = output.to_string();
    if text.len() <= INLINE {
        let output = Some(Payload { kind: Some(payload::Kind::Json(text)) });
        return vec![response(Kind::Result(wire::Result { output, ..wire::Result::default() }))];
    }
    let whole = Bytes::from(text);
    let chunks = (0..whole.len()).step_by(INLINE).map(|at| {
        let piece = whole.slice(at..whole.len().min(at + INLINE));
        response(Kind::Chunk(piece))
    });
    let media_type = "application/json".to_owned();
    let end = response(Kind::Result(wire::Result { media_type, ..wire::Result::default() }));
    chunks.chain([end]).collect()
}

/// What an error of JSON-RPC means.
pub(crate) fn of_error(error: &ErrorData) -> Status {
    let (code, reason) = match error.code {
        ErrorCode::INVALID_PARAMS => (Code::InvalidArgument, "INVALID_PARAMS"),
        ErrorCode::METHOD_NOT_FOUND => (Code::Unimplemented, "METHOD_NOT_FOUND"),
        ErrorCode::RESOURCE_NOT_FOUND => (Code::NotFound, "RESOURCE_NOT_FOUND"),
        ErrorCode::INTERNAL_ERROR => (Code::Internal, "INTERNAL_ERROR"),
        ErrorCode::MISSING_REQUIRED_CLIENT_CAPABILITY => (Code::FailedPrecondition, "CLIENT_CAPABILITY"),
        _ => (Code::Unknown, "MCP_ERROR"),
    };
    status(code, reason, &error.message)
}

/// A status with its reason.
pub(crate) fn status(code: Code, reason: &str, said: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, cut(said, MESSAGE), details)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(value: Value) -> Result<Vec<wire::InvokeResponse>, Status> {
        of(serde_json::from_value(value).unwrap())
    }

    fn inline(messages: &[wire::InvokeResponse]) -> Value {
        let [wire::InvokeResponse { kind: Some(Kind::Result(result)) }] = messages else { panic!("{messages:?}") };
        let Some(payload::Kind::Json(text)) = result.output.clone().unwrap().kind else { panic!("json") };
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn answers_become_outputs() {
        let text = json!({"content": [{"type": "text", "text": "hi"}]});
        assert_eq!(inline(&result(text.clone()).unwrap()), text);
        let structured = json!({"content": [{"type": "text", "text": "hi"}], "structuredContent": {"a": [1]}});
        assert_eq!(inline(&result(structured).unwrap()), json!({"a": [1]}));
        let image = json!({"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]});
        assert_eq!(inline(&result(image.clone()).unwrap()), image);
    }

    #[test]
    fn large_ones_are_chunks_of_json() {
        let large = json!({"content": [{"type": "text", "text": "x".repeat(3 * INLINE)}]});
        let messages = result(large.clone()).unwrap();
        let mut whole = Vec::new();
        for message in &messages[..messages.len() - 1] {
            let Some(Kind::Chunk(piece)) = &message.kind else { panic!("a chunk") };
            assert!(piece.len() <= INLINE);
            whole.extend_from_slice(piece);
        }
        assert_eq!(serde_json::from_slice::<Value>(&whole).unwrap(), large);
        let Some(Kind::Result(end)) = &messages.last().unwrap().kind else { panic!("a result") };
        assert_eq!((end.media_type.as_str(), end.output.is_none()), ("application/json", true));
    }

    #[test]
    fn a_tool_that_failed_is_a_status() {
        let error = result(
            json!({"isError": true, "content": [{"type": "text", "text": "no such"}, {"type": "text", "text": "file"}]}),
        );
        let error = error.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::FailedPrecondition, "no such\nfile"));
        assert_eq!(error.get_details_error_info().unwrap().reason, "TOOL_ERROR");
        let long =
            result(json!({"isError": true, "content": [{"type": "text", "text": "é".repeat(10_000)}]})).unwrap_err();
        assert!(long.message().len() <= MESSAGE);
        assert_eq!(of_error(&ErrorData::invalid_params("n: is no number", None)).code(), Code::InvalidArgument);
    }
}
