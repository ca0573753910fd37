//! A call of a plugin's operation as a call of a tool.

use std::time::{Duration, Instant};

use consort_core::data::{BlobRef, Data};
use consort_core::event::{Code, Failure};
use consort_core::plugin::{Invoke, InvokeNews, OperationName, Origin};
use consort_core::ports::BlobStore;
use consort_core::{Error, Kind};
use rmcp::model::{
    CallToolResult, ContentBlock, ErrorCode, ErrorData, JsonObject, ProgressNotificationParam, ProgressToken,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::server::mesh::Mesh;

/// Bytes of an output that a client gets; larger ones are named.
const OUTPUT: u64 = 4 * 1024 * 1024;
/// Between two progress notifications.
const PAUSE: Duration = Duration::from_millis(50);

/// Calls an operation. Dropping the future, or a cancellation, cancels the call.
pub(crate) async fn call(
    mesh: &Mesh,
    name: &OperationName,
    is_mcp: bool,
    arguments: Option<JsonObject>,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, ErrorData> {
    let call_id = Uuid::new_v4();
    let invoke = Invoke {
        operation: name.clone(),
        input: Data::of(&Value::Object(arguments.unwrap_or_default())),
        dry_run: false,
        idempotency_key: call_id.to_string(),
        call_id,
        origin: Origin { namespace: mesh.options.namespace.clone(), ..Origin::default() },
        timeout: None,
    };
    let mut progress = Progress::new(context);
    let whole = async {
        let mut call = match mesh.plugins.invoke(invoke).await {
            Ok(call) => call,
            Err(error) => return unmade(error),
        };
        loop {
            match call.next().await {
                Some(Ok(InvokeNews::Progress(fraction, message))) => progress.tell(fraction, message).await,
                Some(Ok(InvokeNews::Log(level, message))) => {
                    if level != "debug" {
                        progress.tell(-1.0, message).await;
                    }
                }
                Some(Ok(InvokeNews::Done(outcome))) => {
                    return Ok(match outcome.result {
                        Ok(data) => output(mesh.blobs.as_deref(), data, is_mcp).await,
                        Err(failure) => failed(&failure),
                    });
                }
                Some(Err(error)) => return unmade(error),
                None => return Ok(unsuccessful("INTERNAL: the call ended without a result")),
            }
        }
    };
    tokio::select! {
        done = whole => done,
        () = context.ct.cancelled() => Err(ErrorData::new(ErrorCode(-32800), "the call was cancelled", None)),
    }
}

/// Progress notifications, if the client wants them: they must grow, and are not too many.
struct Progress<'a> {
    context: &'a RequestContext<RoleServer>,
    token: Option<ProgressToken>,
    last: f64,
    told: Option<Instant>,
}

impl Progress<'_> {
    fn new(context: &RequestContext<RoleServer>) -> Progress<'_> {
        Progress { context, token: context.meta.get_progress_token(), last: 0.0, told: None }
    }

    async fn tell(&mut self, fraction: f64, message: String) {
        let Some(token) = &self.token else { return };
        let now = Instant::now();
        if fraction < 1.0 && self.told.is_some_and(|told| now - told < PAUSE) {
            return;
        }
        self.told = Some(now);
        self.last = if fraction > self.last { fraction } else { self.last + 1e-9 };
        let mut said = ProgressNotificationParam::new(token.clone(), self.last);
        said.total = Some(1.0);
        said.message = Some(message).filter(|message| !message.is_empty());
        // A client that does not listen any more will say so itself.
        let _ = self.context.peer.notify_progress(said).await;
    }
}

/// A call that did not reach its plugin, or whose outcome is unknown. What the caller can mend is an error of JSON-RPC, with the fields; the
/// rest is told to the model.
pub(crate) fn unmade(error: Error) -> Result<CallToolResult, ErrorData> {
    if error.kind == Kind::InvalidArgument {
        return Err(bad(&error));
    }
    if error.kind == Kind::NotFound {
        return Err(ErrorData::invalid_params(error.message, Some(json!({"reason": error.reason}))));
    }
    Ok(unsuccessful(&format!("{}: {}", error.reason, error.message)))
}

/// Bad arguments.
pub(crate) fn bad(error: &Error) -> ErrorData {
    let named = |field: &str| match field.strip_prefix("input") {
        Some(rest) if rest.is_empty() || rest.starts_with(['.', '[']) => format!("arguments{rest}"),
        _ => field.to_owned(),
    };
    let fields: Vec<Value> = error
        .violations
        .iter()
        .map(|wrong| json!({"field": named(&wrong.field), "description": wrong.description}))
        .collect();
    let said: Vec<String> =
        error.violations.iter().map(|wrong| format!("{}: {}", named(&wrong.field), wrong.description)).collect();
    let message = if said.is_empty() { error.message.clone() } else { said.join("; ") };
    ErrorData::invalid_params(message, Some(json!({"reason": error.reason, "violations": fields})))
}

fn failed(failure: &Failure) -> CallToolResult {
    let name = Code::NAMES.iter().find(|(code, _)| *code as i32 == failure.code).map_or("UNKNOWN", |(_, name)| name);
    unsuccessful(&format!("{name}: {}", failure.message))
}

pub(crate) fn unsuccessful(said: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(said)])
}

/// An output: an object is structured content, and its text for clients that look at that only. What an MCP server said goes out as it came.
async fn output(blobs: Option<&dyn BlobStore>, data: Data, is_mcp: bool) -> CallToolResult {
    let value = match data {
        Data::Inline(json) => json.value(),
        Data::Blob(blob) => match read(blobs, &blob).await {
            Ok(value) => value,
            Err(why) => {
                let said = format!(
                    "the output is the blob {}, {} bytes of {}: {why}",
                    blob.sha256, blob.size, blob.media_type
                );
                return unsuccessful(&said);
            }
        },
    };
    if is_mcp
        && value.as_object().is_some_and(|members| members.len() == 1)
        && let Some(content) = value.get("content")
        && let Ok(content) = serde_json::from_value::<Vec<ContentBlock>>(content.clone())
    {
        return CallToolResult::success(content);
    }
    of_value(value)
}

/// A value as a tool's result.
pub(crate) fn of_value(value: Value) -> CallToolResult {
    let text = match &value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(value).filter(Value::is_object);
    result
}

async fn read(blobs: Option<&dyn BlobStore>, blob: &BlobRef) -> Result<Value, String> {
    if blob.size > OUTPUT {
        return Err(format!("a client gets at most {OUTPUT} bytes; fetch it with the command line"));
    }
    let blobs = blobs.ok_or("fetch it with the command line")?;
    let bytes = blobs.read(&blob.sha256, 0, blob.size as usize).await.map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or("it is gone")?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// A text that is shown in a message.
pub(crate) fn short(text: &str) -> &str {
    let end = text.char_indices().nth(100).map_or(text.len(), |(at, _)| at);
    &text[..end]
}
