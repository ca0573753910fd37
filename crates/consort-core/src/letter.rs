//! Dead letters: the form in which an event is kept that could not be accepted or delivered, right or wrong.

use crate::data::Data;
use crate::event::Published;
use serde::{Deserialize, Serialize};

/// The stored form of an event in a dead letter: as it came, even where it makes no sense. Its names are a contract.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the fields are those of the message Event in event_service.proto
pub struct Buried {
    pub event_id: String,
    pub event_type: String,
    pub event_version: i32,
    /// Seconds since 1970-01-01T00:00:00Z, and nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<(i64, i32)>,
    pub source: String,
    pub instance: String,
    pub correlation_id: String,
    pub causation_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<BuriedPayload>,
    pub namespace: String,
    pub subject: String,
}

/// The payload of a [`Buried`] event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the fields are those of the message BlobRef
pub enum BuriedPayload {
    /// Text that should be JSON.
    Text(String),
    /// The name of a blob.
    Blob { sha256: String, size_bytes: i64, media_type: String },
}

impl From<&Published> for Buried {
    fn from(event: &Published) -> Buried {
        let payload = match &event.payload {
            Data::Inline(json) => BuriedPayload::Text(json.as_str().to_owned()),
            Data::Blob(blob) => BuriedPayload::Blob {
                sha256: blob.sha256.to_string(),
                size_bytes: blob.size as i64,
                media_type: blob.media_type.to_string(),
            },
        };
        let seconds = event.timestamp.div_euclid(1_000);
        let nanos = (event.timestamp.rem_euclid(1_000) * 1_000_000) as i32;
        Buried {
            event_id: event.event_id.to_string(),
            event_type: event.event_type.clone(),
            event_version: event.event_version as i32,
            timestamp: Some((seconds, nanos)),
            source: event.source.clone(),
            instance: event.instance.clone(),
            correlation_id: event.correlation_id.to_string(),
            causation_id: event.causation_id.map(|id| id.to_string()).unwrap_or_default(),
            payload: Some(payload),
            namespace: format!("namespaces/{}", event.namespace),
            subject: event.subject.clone(),
        }
    }
}

impl Buried {
    /// As it is kept: JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }
}
