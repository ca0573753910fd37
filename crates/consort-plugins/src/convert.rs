//! Between the wire's messages and the core's words.

use consort_core::event::{Code, Failure};
use consort_core::plugin::{Effect, Permissions};
use consort_proto::plugin as wire;
use prost_types::value::Kind;
use serde_json::{Map, Value};
use tonic::Status;

/// Longest message, and most bytes of details, of a failure that is kept.
const MESSAGE: usize = 8 * 1024;
const DETAILS: usize = 16 * 1024;

/// An object of the wire as JSON; whole numbers without a point.
pub(crate) fn json(object: prost_types::Struct) -> Value {
    Value::Object(object.fields.into_iter().map(|(key, value)| (key, value_of(value))).collect::<Map<_, _>>())
}

fn value_of(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => flag.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < 9e15 => (number as i64).into(),
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(value_of).collect(),
        Some(Kind::StructValue(object)) => json(object),
    }
}

/// JSON as an object of the wire; what is none becomes an empty one.
pub(crate) fn object(value: &Value) -> prost_types::Struct {
    let members = value.as_object().into_iter().flatten();
    prost_types::Struct { fields: members.map(|(key, value)| (key.clone(), wire_value(value))).collect() }
}

fn wire_value(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.iter().map(wire_value).collect() })
        }
        Value::Object(_) => Kind::StructValue(object(value)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// What an operation does when it is repeated; unknown ones are writes.
pub(crate) fn effect(number: i32) -> Effect {
    match wire::Effect::try_from(number) {
        Ok(wire::Effect::Read) => Effect::Read,
        Ok(wire::Effect::IdempotentWrite) => Effect::IdempotentWrite,
        _ => Effect::Write,
    }
}

/// Permissions for the plugin.
pub(crate) fn permissions(granted: &Permissions) -> wire::Permissions {
    let Permissions { fs_read, fs_write, net, exec, env, secrets, display, capabilities, mesh } = granted.clone();
    wire::Permissions { fs_read, fs_write, net, exec, env, secrets, display, capabilities, mesh }
}

/// A plugin's status as it is kept: message and details cut, and codes that are none taken as UNKNOWN.
pub(crate) fn failure(status: &Status) -> Failure {
    use consort_proto::google::rpc;
    let code = match status.code() as i32 {
        code @ 1..=16 => code,
        _ => Code::Unknown as i32,
    };
    let mut message = status.message().to_owned();
    if message.len() > MESSAGE {
        let end = (0..=MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
    }
    let whole = <rpc::Status as prost::Message>::decode(status.details()).unwrap_or_default();
    let mut room = DETAILS;
    let mut details = Vec::new();
    for any in whole.details {
        let size = any.type_url.len() + any.value.len();
        if size <= room {
            room -= size;
            details.push((any.type_url, hex::encode(any.value)));
        }
    }
    Failure { code, message, details }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as j;

    #[test]
    fn schemas_survive_the_wire() {
        let schema = j!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 2.5}}, "x": [null, true]});
        assert_eq!(json(object(&schema)), schema);
    }

    #[test]
    fn a_huge_failure_is_cut() {
        let failure = failure(&Status::internal("é".repeat(10_000)));
        assert!(failure.message.len() <= MESSAGE && failure.code == Code::Internal as i32);
    }
}
