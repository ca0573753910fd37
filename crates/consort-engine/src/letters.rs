//! Events that the engine could not let through, as they are kept.

use consort_core::event::Published;
use consort_core::ids::Millis;
use consort_core::letter::Buried;
use consort_core::ports::DeadLetter;
use uuid::Uuid;

/// A dead letter. `what` names what could not be done with the event; the same letter has the same id.
pub(crate) fn letter(event: &Published, what: Uuid, reason: String, at: Millis) -> DeadLetter {
    DeadLetter {
        id: Uuid::new_v5(&event.event_id, what.as_bytes()),
        namespace: event.namespace.clone(),
        event: Buried::from(event).to_json(),
        reason,
        at,
        group: None,
        attempts: 0,
        place: None,
    }
}
