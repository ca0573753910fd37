//! JSON values: three forms on the wire, two inside.

use std::sync::Arc;

use consort_core::data::NESTING_LIMIT;
use consort_core::ports::Store;
use consort_core::{BlobRef, Data, Error, Json};
use consort_proto::blob as wire;
use prost_types::value::Kind as Value;
use wire::payload::Kind;

use crate::{names, status};

/// Integers up to here are exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A value as the wire has it: the text of a small one, the name of a large one.
pub(crate) fn payload(data: &Data) -> wire::Payload {
    let kind = match data {
        Data::Inline(json) => Kind::Json(json.as_str().to_owned()),
        Data::Blob(blob) => Kind::Blob(blob_ref(blob)),
    };
    wire::Payload { kind: Some(kind) }
}

/// A blob's name as the wire has it.
fn blob_ref(blob: &BlobRef) -> wire::BlobRef {
    wire::BlobRef {
        sha256: blob.sha256.to_string(),
        size_bytes: blob.size as i64,
        media_type: blob.media_type.to_string(),
    }
}

/// Reads values that callers send: checks text, finds blobs, and moves what is too large to stay inline into the blob store.
#[derive(Clone)]
pub(crate) struct Values(Arc<dyn Store>);

impl Values {
    /// Values whose blobs are in this store.
    pub(crate) fn new(store: Arc<dyn Store>) -> Values {
        Values(store)
    }

    /// Reads a value. An absent one is JSON `null`.
    pub(crate) async fn take(&self, field: &str, given: Option<wire::Payload>) -> Result<Data, Error> {
        self.spill(self.take_inline(field, given).await?).await
    }

    /// Reads a value and leaves a large one inline, for where the engine itself moves it out.
    pub(crate) async fn take_inline(&self, field: &str, given: Option<wire::Payload>) -> Result<Data, Error> {
        match given.and_then(|payload| payload.kind) {
            Some(Kind::Blob(blob)) => self.find(field, &blob).await.map(Data::Blob),
            kind => inline(field, kind),
        }
    }

    /// Reads a value that must be a JSON object. An absent one is `{}`.
    pub(crate) async fn take_object(&self, field: &str, given: Option<wire::Payload>) -> Result<Data, Error> {
        if given.as_ref().is_none_or(|payload| payload.kind.is_none()) {
            return Ok(Data::of(&serde_json::json!({})));
        }
        let data = self.take_inline(field, given).await?;
        let begins_object = |text: &[u8]| text.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
        let object = match &data {
            Data::Inline(json) => begins_object(json.as_str().as_bytes()),
            // The whole text is read where it is used; its beginning tells an object from everything else.
            Data::Blob(blob) => {
                let head = self.0.read(&blob.sha256, 0, 1024).await.map_err(status::store)?;
                head.is_some_and(|head| begins_object(&head))
            }
        };
        if !object {
            return Err(Error::bad_field(field, "is not a JSON object; give one such as `{}`"));
        }
        self.spill(data).await
    }

    /// Puts a value that is too large to stay inline into the blob store, durably.
    async fn spill(&self, data: Data) -> Result<Data, Error> {
        let Some((spilled, blob, text)) = data.spill() else { return Ok(data) };
        self.0.put(&blob, text.as_str().as_bytes()).await.map_err(status::store)?;
        Ok(spilled)
    }

    /// The stored reference of a blob; the caller's size and media type are not taken on trust.
    async fn find(&self, field: &str, blob: &wire::BlobRef) -> Result<BlobRef, Error> {
        let field = format!("{field}.blob.sha256");
        if !names::is_sha256(&blob.sha256) {
            let shown = names::shown(&blob.sha256);
            return Err(Error::bad_field(
                field,
                format!("`{shown}` is not a SHA-256; give 64 lower-case hexadecimal digits"),
            ));
        }
        let found = self.0.stat(&blob.sha256).await.map_err(status::store)?;
        found.ok_or_else(|| {
            Error::bad_field(
                field,
                format!("there is no blob `{}`; upload it with BlobService.Upload first", blob.sha256),
            )
        })
    }
}

fn inline(field: &str, kind: Option<Kind>) -> Result<Data, Error> {
    match kind {
        None => Ok(Data::null()),
        Some(Kind::Json(text)) => Json::parse(text).map(Data::Inline).map_err(|why| {
            Error::bad_field(
                format!("{field}.json"),
                format!("is not JSON: {why}; give RFC 8259 text, nested at most {NESTING_LIMIT} deep"),
            )
        }),
        Some(Kind::Value(value)) => {
            json(value).map(|value| Data::of(&value)).map_err(|why| Error::bad_field(format!("{field}.value"), why))
        }
        Some(Kind::Blob(_)) => unreachable!("blobs are looked up by the callers"),
    }
}

/// The JSON text of a `google.protobuf.Value`, or what is wrong with it.
pub(super) fn text_of(value: prost_types::Value) -> String {
    json(value).map_or_else(|why| why, |value| value.to_string())
}

/// The JSON of a `google.protobuf.Value`. Doubles that are whole become integers, as in protobuf's own JSON. The decoder has
/// limited the nesting.
fn json(value: prost_types::Value) -> Result<serde_json::Value, String> {
    Ok(match value.kind {
        None | Some(Value::NullValue(_)) => serde_json::Value::Null,
        Some(Value::BoolValue(value)) => value.into(),
        Some(Value::StringValue(value)) => value.into(),
        Some(Value::NumberValue(number)) if number.fract() == 0.0 && number.abs() <= EXACT => (number as i64).into(),
        Some(Value::NumberValue(number)) => serde_json::Number::from_f64(number)
            .ok_or_else(|| format!("`{number}` is not a JSON number; give a finite one"))?
            .into(),
        Some(Value::ListValue(list)) => list.values.into_iter().map(json).collect::<Result<Vec<_>, _>>()?.into(),
        Some(Value::StructValue(fields)) => {
            let fields = fields.fields.into_iter().map(|(key, value)| Ok((key, json(value)?)));
            serde_json::Value::Object(fields.collect::<Result<_, String>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: f64) -> prost_types::Value {
        prost_types::Value { kind: Some(Value::NumberValue(number)) }
    }

    #[test]
    fn text_survives_both_ways() {
        let data = inline("inputs", Some(Kind::Json(r#"{"a": [1, 2.5, "é"]}"#.into()))).unwrap();
        assert_eq!(payload(&data).kind, Some(Kind::Json(r#"{"a": [1, 2.5, "é"]}"#.into())));
        assert_eq!(inline("inputs", None).unwrap(), Data::null());
    }

    #[test]
    fn a_protobuf_value_is_json() {
        let list = prost_types::ListValue { values: vec![number(2.0), number(-0.5), number(1e300)] };
        let fields = [("list".to_owned(), prost_types::Value { kind: Some(Value::ListValue(list)) })].into();
        let value = prost_types::Value { kind: Some(Value::StructValue(prost_types::Struct { fields })) };
        let data = inline("inputs", Some(Kind::Value(value))).unwrap();
        let Data::Inline(json) = &data else { panic!("{data:?}") };
        assert_eq!(json.as_str(), r#"{"list":[2,-0.5,1e+300]}"#);
    }

    #[test]
    fn what_is_not_json_names_its_field() {
        let text = |text: &str| inline("payload", Some(Kind::Json(text.into()))).unwrap_err().violations.remove(0);
        assert_eq!(text("{").field, "payload.json");
        assert!(text("{").description.contains("is not JSON"));
        assert!(text(&("[".repeat(101) + &"]".repeat(101))).description.contains("nested"));
        let error = inline("payload", Some(Kind::Value(number(f64::NAN)))).unwrap_err();
        assert_eq!(error.violations[0].field, "payload.value");
    }
}
