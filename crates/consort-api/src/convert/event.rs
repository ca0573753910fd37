//! Envelopes and dead letters.

use consort_core::event::Published;
use consort_core::ports::DeadLetter;
use consort_proto::{blob, event as wire};
use serde::{Deserialize, Serialize};

use super::{payload, timestamp};
use crate::names;

/// An event in its envelope.
pub(crate) fn event(event: &Published) -> wire::Event {
    wire::Event {
        event_id: event.event_id.to_string(),
        event_type: event.event_type.clone(),
        event_version: event.event_version as i32,
        timestamp: Some(timestamp(event.timestamp)),
        source: event.source.clone(),
        instance: event.instance.clone(),
        correlation_id: event.correlation_id.to_string(),
        causation_id: event.causation_id.map(|id| id.to_string()).unwrap_or_default(),
        payload: Some(payload(&event.payload)),
        namespace: names::of_namespace(&event.namespace),
        subject: event.subject.clone(),
    }
}

/// A dead letter with its event as it came.
pub(crate) fn dead_letter(letter: &DeadLetter) -> wire::DeadLetter {
    let event = match serde_json::from_str::<Buried>(&letter.event) {
        Ok(buried) => buried.exhume(),
        // Not buried here: at least its text is shown.
        Err(_) => wire::Event { payload: Some(json_payload(letter.event.clone())), ..Default::default() },
    };
    wire::DeadLetter {
        id: letter.id.to_string(),
        event: Some(event),
        reason: letter.reason.clone(),
        create_time: Some(timestamp(letter.at)),
    }
}

/// An event as it came, right or wrong, as JSON.
pub(crate) fn json_of(event: &wire::Event) -> String {
    serde_json::to_string(&Buried::of(event)).expect("texts and numbers are JSON")
}

/// The stored form of a refused event. Its names are a contract.
#[derive(Serialize, Deserialize)]
struct Buried {
    event_id: String,
    event_type: String,
    event_version: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<(i64, i32)>,
    source: String,
    instance: String,
    correlation_id: String,
    causation_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<BuriedPayload>,
    namespace: String,
    subject: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BuriedPayload {
    Text(String),
    Blob { sha256: String, size_bytes: i64, media_type: String },
}

impl Buried {
    fn of(event: &wire::Event) -> Buried {
        let payload = event.payload.as_ref().and_then(|payload| payload.kind.as_ref()).map(|kind| match kind {
            blob::payload::Kind::Json(text) => BuriedPayload::Text(text.clone()),
            blob::payload::Kind::Value(value) => BuriedPayload::Text(super::payload::text_of(value.clone())),
            blob::payload::Kind::Blob(blob) => BuriedPayload::Blob {
                sha256: blob.sha256.clone(),
                size_bytes: blob.size_bytes,
                media_type: blob.media_type.clone(),
            },
        });
        Buried {
            event_id: event.event_id.clone(),
            event_type: event.event_type.clone(),
            event_version: event.event_version,
            timestamp: event.timestamp.as_ref().map(|time| (time.seconds, time.nanos)),
            source: event.source.clone(),
            instance: event.instance.clone(),
            correlation_id: event.correlation_id.clone(),
            causation_id: event.causation_id.clone(),
            payload,
            namespace: event.namespace.clone(),
            subject: event.subject.clone(),
        }
    }

    fn exhume(self) -> wire::Event {
        let payload = self.payload.map(|payload| match payload {
            BuriedPayload::Text(text) => json_payload(text),
            BuriedPayload::Blob { sha256, size_bytes, media_type } => {
                let blob = blob::BlobRef { sha256, size_bytes, media_type };
                blob::Payload { kind: Some(blob::payload::Kind::Blob(blob)) }
            }
        });
        wire::Event {
            event_id: self.event_id,
            event_type: self.event_type,
            event_version: self.event_version,
            timestamp: self.timestamp.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }),
            source: self.source,
            instance: self.instance,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            payload,
            namespace: self.namespace,
            subject: self.subject,
        }
    }
}

fn json_payload(text: String) -> blob::Payload {
    blob::Payload { kind: Some(blob::payload::Kind::Json(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn letter(event: String) -> DeadLetter {
        DeadLetter { id: Uuid::from_u128(1), namespace: "acme".into(), event, reason: "bad".into(), at: 5 }
    }

    #[test]
    fn a_refused_event_comes_back_as_it_came() {
        let wrong = wire::Event {
            event_id: "not a uuid".into(),
            event_type: "lower.case".into(),
            event_version: -1,
            timestamp: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: -1 }),
            payload: Some(json_payload("{not json".into())),
            subject: "s".into(),
            ..Default::default()
        };
        assert_eq!(dead_letter(&letter(json_of(&wrong))).event.unwrap(), wrong);
        assert_eq!(dead_letter(&letter(json_of(&wire::Event::default()))).event.unwrap(), wire::Event::default());
    }

    #[test]
    fn a_letter_of_another_hand_still_shows_its_text() {
        let shown = dead_letter(&letter("[1]".into())).event.unwrap();
        assert_eq!(shown.payload, Some(json_payload("[1]".into())));
    }
}
