//! JSON Schemas of types, and JSON as the wire's objects.

use prost_types::Struct;
use prost_types::value::Kind;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The input or output of an operation that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The schema (2020-12) that what is read as a `T` must match.
pub(super) fn of_input<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<T>().into()
}

/// The schema (2020-12) that what is written of a `T` matches.
pub(super) fn of_output<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().into()
}

/// A schema on the wire; absent if it allows anything.
pub(super) fn on_wire(schema: &Value) -> Option<Struct> {
    let says_something = schema.as_object()?.keys().any(|key| key != "$schema" && key != "title");
    says_something.then(|| object(schema))
}

fn object(value: &Value) -> Struct {
    let members = value.as_object().into_iter().flatten();
    Struct { fields: members.map(|(key, value)| (key.clone(), wire_value(value))).collect() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::from_protobuf;
    use serde_json::json;

    #[derive(Deserialize, Serialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Input {
        /// Where.
        path: String,
        #[serde(default)]
        limit: u32,
    }

    #[test]
    fn types_become_schemas() {
        let schema = of_input::<Input>();
        assert_eq!(schema["type"], "object");
        assert_eq!(schema["required"], json!(["path"]));
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["path"]["description"], "Where.");
        // What is written always has it.
        assert_eq!(of_output::<Input>()["required"], json!(["path", "limit"]));
    }

    #[test]
    fn schemas_survive_the_wire() {
        let schema = of_input::<Input>();
        let wire = prost_types::Value { kind: Some(Kind::StructValue(on_wire(&schema).unwrap())) };
        // Members lose their order there.
        assert_eq!(from_protobuf(wire).to_string().len(), schema.to_string().len());
        assert!(on_wire(&of_output::<Value>()).is_none());
    }
}
