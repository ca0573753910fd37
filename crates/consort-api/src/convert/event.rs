//! Envelopes, groups and dead letters.

use consort_bus::groups::GroupView;
use consort_bus::letter::{Buried, BuriedPayload};
use consort_core::event::Published;
use consort_core::ports::DeadLetter;
use consort_proto::{blob, event as wire};

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
    // Not buried here: at least its text is shown.
    let shown = || wire::Event { payload: Some(json_payload(letter.event.clone())), ..Default::default() };
    let event = buried_event(letter).unwrap_or_else(shown);
    wire::DeadLetter {
        id: letter.id.to_string(),
        event: Some(event),
        reason: letter.reason.clone(),
        create_time: Some(timestamp(letter.at)),
        group: letter.group.as_ref().map(|id| names::of(&letter.namespace, "groups", id)).unwrap_or_default(),
        attempts: letter.attempts as i32,
    }
}

/// The event of a dead letter as it came; `None` if it was not buried here.
pub(crate) fn buried_event(letter: &DeadLetter) -> Option<wire::Event> {
    serde_json::from_str(&letter.event).ok().map(exhume)
}

/// A group and where it stands.
pub(crate) fn group(namespace: &str, group: &GroupView) -> wire::Group {
    let filter = wire::EventFilter {
        event_types: group.filter.types().to_vec(),
        correlation_id: group.filter.correlation_id().map(|id| id.to_string()).unwrap_or_default(),
        subject: group.filter.subject().to_owned(),
    };
    wire::Group {
        name: names::of(namespace, "groups", &group.id),
        filter: Some(filter),
        cursor: group.cursor as i64,
        settled_beyond: group.settled_beyond as i32,
        in_flight: group.in_flight as i32,
        members: group.members as i32,
        lag: group.lag as i64,
    }
}

/// An event as it came, right or wrong, as JSON.
pub(crate) fn json_of(event: &wire::Event) -> String {
    bury(event).to_json()
}

fn bury(event: &wire::Event) -> Buried {
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

fn exhume(buried: Buried) -> wire::Event {
    let payload = buried.payload.map(|payload| match payload {
        BuriedPayload::Text(text) => json_payload(text),
        BuriedPayload::Blob { sha256, size_bytes, media_type } => {
            let blob = blob::BlobRef { sha256, size_bytes, media_type };
            blob::Payload { kind: Some(blob::payload::Kind::Blob(blob)) }
        }
    });
    wire::Event {
        event_id: buried.event_id,
        event_type: buried.event_type,
        event_version: buried.event_version,
        timestamp: buried.timestamp.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }),
        source: buried.source,
        instance: buried.instance,
        correlation_id: buried.correlation_id,
        causation_id: buried.causation_id,
        payload,
        namespace: buried.namespace,
        subject: buried.subject,
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
        DeadLetter {
            id: Uuid::from_u128(1),
            namespace: "acme".into(),
            event,
            reason: "bad".into(),
            at: 5,
            group: Some("billing".into()),
            attempts: 5,
            place: Some((7, 0)),
        }
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
    fn what_a_group_buries_is_read_here() {
        let published = Published {
            event_id: Uuid::from_u128(2),
            event_type: "ORDER.VALIDATED".into(),
            event_version: 1,
            timestamp: -1,
            source: "client".into(),
            instance: "here".into(),
            correlation_id: Uuid::from_u128(3),
            causation_id: None,
            namespace: "acme".into(),
            subject: "order 7".into(),
            payload: consort_core::Data::of(&serde_json::json!({"order_id": "7"})),
            depth: 0,
        };
        let shown = dead_letter(&letter(Buried::from(&published).to_json()));
        assert_eq!(shown.event.unwrap(), event(&published));
        assert_eq!((shown.group.as_str(), shown.attempts), ("namespaces/acme/groups/billing", 5));
    }

    #[test]
    fn a_letter_of_another_hand_still_shows_its_text() {
        let shown = dead_letter(&letter("[1]".into())).event.unwrap();
        assert_eq!(shown.payload, Some(json_payload("[1]".into())));
    }
}
