//! Plugins, both ways.

use consort_core::Json;
use consort_core::plugin::{
    Effect, InvokeNews, Operation, Outcome, Permissions, PluginAction, PluginState, PluginView,
};
use consort_proto::plugin as wire;
use prost_types::value::Kind;
use serde_json::Value;

use super::{duration, payload, timestamp};

/// The name of a plugin.
pub(crate) fn name(id: &str) -> String {
    format!("plugins/{id}")
}

/// A plugin as it is now.
pub(crate) fn plugin(view: PluginView) -> wire::Plugin {
    let state = match view.state {
        PluginState::Starting => wire::PluginState::Starting,
        PluginState::Running => wire::PluginState::Running,
        PluginState::BackingOff => wire::PluginState::BackingOff,
        PluginState::Crashing => wire::PluginState::Crashing,
        PluginState::Refused => wire::PluginState::Refused,
        PluginState::Draining => wire::PluginState::Draining,
        PluginState::Disabled => wire::PluginState::Disabled,
    };
    wire::Plugin {
        name: name(&view.id),
        description: view.description,
        version: view.version.to_string(),
        state: state.into(),
        state_reason: view.reason,
        operations: view.operations.iter().map(|one| operation(one)).collect(),
        wanted: Some(permissions(view.wanted)),
        granted: Some(permissions(view.granted)),
        restarts: view.restarts as i32,
        calls: view.calls as i64,
        failures: view.failures as i64,
        in_flight: view.in_flight as i32,
        latency_p50: view.latency.map(|(median, _)| duration(median)),
        latency_p99: view.latency.map(|(_, most)| duration(most)),
        memory_bytes: view.memory as i64,
        pid: view.pid.unwrap_or_default() as i32,
        start_time: view.started_at.map(timestamp),
        source: view.source,
        language: view.language,
        digest: view.digest,
        sandbox: view.sandbox,
    }
}

fn operation(operation: &Operation) -> wire::Operation {
    wire::Operation {
        name: operation.name.to_string(),
        description: operation.description.clone(),
        input_schema: Some(object(&operation.input_schema)),
        output_schema: operation.output_schema.as_ref().map(object),
        effect: effect(operation.effect).into(),
        timeout: Some(duration(operation.timeout)),
        dry_run: operation.dry_run,
    }
}

/// What a repeated call does.
pub(crate) fn effect(effect: Effect) -> wire::Effect {
    match effect {
        Effect::Read => wire::Effect::Read,
        Effect::IdempotentWrite => wire::Effect::IdempotentWrite,
        Effect::Write => wire::Effect::Write,
    }
}

fn permissions(granted: Permissions) -> wire::Permissions {
    let Permissions { fs_read, fs_write, net, exec, env, secrets, display, capabilities, mesh } = granted;
    wire::Permissions { fs_read, fs_write, net, exec, env, secrets, display, capabilities, mesh }
}

/// A schema as an object of the wire.
fn object(schema: &Json) -> prost_types::Struct {
    match value(schema.value()).kind {
        Some(Kind::StructValue(object)) => object,
        _ => prost_types::Struct::default(),
    }
}

fn value(json: Value) -> prost_types::Value {
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.into_iter().map(value).collect() })
        }
        Value::Object(members) => {
            let fields = members.into_iter().map(|(key, member)| (key, value(member))).collect();
            Kind::StructValue(prost_types::Struct { fields })
        }
    };
    prost_types::Value { kind: Some(kind) }
}

/// What comes from a call in work; the failure of a call that reached its plugin is left to the caller.
pub(crate) fn news(news: InvokeNews) -> Result<wire::InvokeOperationResponse, Box<Outcome>> {
    use wire::invoke_operation_response::Kind as Told;
    let kind = match news {
        InvokeNews::Progress(fraction, message) => Told::Progress(wire::Progress { fraction, message }),
        InvokeNews::Log(level, message) => Told::Log(wire::Log { time: None, level, message }),
        InvokeNews::Done(outcome) => match done(&outcome) {
            Some(done) => Told::Result(done),
            None => return Err(Box::new(outcome)),
        },
    };
    Ok(wire::InvokeOperationResponse { kind: Some(kind) })
}

/// The end of a call; nothing if it failed.
pub(crate) fn done(outcome: &Outcome) -> Option<wire::InvokeOperationOnceResponse> {
    let output = outcome.result.as_ref().ok()?;
    Some(wire::InvokeOperationOnceResponse {
        output: Some(payload(output)),
        would: outcome.would.clone(),
        actions: outcome.actions.clone(),
        took: Some(duration(outcome.took)),
    })
}

/// An entry of the audit log.
pub(crate) fn action(action: PluginAction) -> wire::PluginAction {
    let namespace = format!("namespaces/{}", action.namespace);
    let step = action.step.map(|(run, step)| format!("{namespace}/runs/{run}/steps/{step}"));
    let code = tonic::Code::from_i32(action.code);
    wire::PluginAction {
        time: Some(timestamp(action.time)),
        operation: action.operation,
        call_id: action.call_id,
        origin: Some(wire::Origin {
            namespace,
            step: step.unwrap_or_default(),
            agent: action.agent.unwrap_or_default(),
        }),
        code: if action.code == 0 { "OK".to_owned() } else { screaming(&format!("{code:?}")) },
        took: Some(duration(std::time::Duration::from_millis(action.took_ms))),
        actions: action.actions,
        dry_run: action.dry_run,
    }
}

/// `NotFound` as `NOT_FOUND`.
fn screaming(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}
