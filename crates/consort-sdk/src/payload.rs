//! Values on the wire. A payload is JSON text, a protobuf value, or a reference to a blob of JSON text.

use consort_proto::blob::{BlobRef, Payload, payload::Kind};
use prost_types::value::Kind as ValueKind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Values whose JSON text is longer than this travel as blobs: 64 KiB.
pub const INLINE_LIMIT: usize = 64 * 1024;

/// The value as inline JSON, whatever its size.
pub fn json(value: &impl Serialize) -> Result<Payload, serde_json::Error> {
    serde_json::to_string(value).map(text)
}

/// JSON text as it is.
pub fn text(json: String) -> Payload {
    Payload { kind: Some(Kind::Json(json)) }
}

/// A blob of JSON text.
pub fn blob(blob: BlobRef) -> Payload {
    Payload { kind: Some(Kind::Blob(blob)) }
}

/// A protobuf value as JSON. Numbers without a fraction become integers where they fit without loss; NaN and infinities,
/// which JSON cannot say, become null.
pub fn from_protobuf(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(ValueKind::NullValue(_)) => Value::Null,
        Some(ValueKind::BoolValue(b)) => Value::Bool(b),
        Some(ValueKind::StringValue(s)) => Value::String(s),
        Some(ValueKind::ListValue(list)) => list.values.into_iter().map(from_protobuf).collect(),
        Some(ValueKind::StructValue(object)) => {
            object.fields.into_iter().map(|(key, value)| (key, from_protobuf(value))).collect()
        }
        Some(ValueKind::NumberValue(n)) => number(n),
    }
}

fn number(n: f64) -> Value {
    // Up to 2^53 every integer has its own double.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if n.fract() == 0.0 && n.abs() <= EXACT { Value::from(n as i64) } else { Value::from(n) }
}

/// A mistake in a value: where, and what.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// Path of the field, for example `entries[3].hours`; `.` for the whole.
    pub(crate) field: String,
    /// What is wrong.
    pub(crate) why: String,
}

/// Reads JSON text as a `T`. A mistake names its field; finding the field costs a second pass, only when there is one.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Misfit> {
    let plain = match serde_json::from_slice(json) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let mut reader = serde_json::Deserializer::from_slice(json);
    match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        // The text goes on after the value.
        Ok(_) => Err(Misfit { field: ".".into(), why: plain.to_string() }),
        Err(error) => Err(Misfit { field: error.path().to_string(), why: error.inner().to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Entry {
        hours: f64,
    }

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Log {
        entries: Vec<Entry>,
    }

    #[test]
    fn a_misfit_names_its_field() {
        let misfit = read::<Log>(br#"{"entries": [{"hours": 1}, {"hours": "two"}]}"#).unwrap_err();
        assert_eq!(misfit.field, "entries[1].hours");
        assert!(misfit.why.contains("expected f64"), "{}", misfit.why);

        let misfit = read::<Log>(b"{}").unwrap_err();
        assert!(misfit.why.contains("missing field `entries`"), "{}", misfit.why);

        assert!(read::<Log>(br#"{"entries": []} x"#).unwrap_err().why.contains("trailing"));
    }

    #[test]
    fn protobuf_values_become_json() {
        let of = |kind| prost_types::Value { kind: Some(kind) };
        let list = prost_types::ListValue {
            values: vec![
                of(ValueKind::NumberValue(3.0)),
                of(ValueKind::NumberValue(2.5)),
                of(ValueKind::BoolValue(true)),
                of(ValueKind::NullValue(0)),
                of(ValueKind::NumberValue(f64::NAN)),
            ],
        };
        let object = prost_types::Struct { fields: [("list".to_owned(), of(ValueKind::ListValue(list)))].into() };
        assert_eq!(from_protobuf(of(ValueKind::StructValue(object))), json!({"list": [3, 2.5, true, null, null]}));
    }
}
