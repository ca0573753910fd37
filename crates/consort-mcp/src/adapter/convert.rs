//! Between JSON and the wire's objects.

use prost_types::value::Kind;
use serde_json::{Map, Value};

/// JSON as an object of the wire; what is none becomes an empty one.
pub(crate) fn object(value: &Value) -> prost_types::Struct {
    let members = value.as_object().into_iter().flatten();
    prost_types::Struct { fields: members.map(|(key, value)| (key.clone(), to_wire(value))).collect() }
}

fn to_wire(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(prost_types::ListValue { values: items.iter().map(to_wire).collect() }),
        Value::Object(_) => Kind::StructValue(object(value)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A value of the wire as JSON; whole numbers without a point.
pub(crate) fn json(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => flag.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < 9e15 => (number as i64).into(),
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::StructValue(object)) => {
            Value::Object(object.fields.into_iter().map(|(key, value)| (key, json(value))).collect::<Map<_, _>>())
        }
    }
}
