//! What a group could not handle, as a dead letter.

use std::time::{SystemTime, UNIX_EPOCH};

use consort_core::Millis;
use consort_core::ports::DeadLetter;
use uuid::Uuid;

use super::mark::Name;
use super::state::Condemned;
use crate::Place;
use crate::letter::Buried;

/// Bytes of a reason that are kept.
const REASON: usize = 8 * 1024;

/// The dead letter of an event. Its id follows from the group and the place, so that burying it again after a crash changes nothing.
pub(super) fn letter(group: &Name, place: Place, condemned: &Condemned) -> DeadLetter {
    let Condemned { event, attempts, reason, .. } = condemned;
    let mut reason = reason.clone();
    if reason.len() > REASON {
        let end = (0..=REASON).rev().find(|&at| reason.is_char_boundary(at)).unwrap_or(0);
        reason.truncate(end);
    }
    DeadLetter {
        id: id(group, place, event.timestamp),
        namespace: group.namespace.clone(),
        event: Buried::from(&**event).to_json(),
        reason,
        at: now(),
        group: Some(group.id.clone()),
        attempts: *attempts,
        place: Some(place),
    }
}

/// A UUIDv7 of the event's own time, so that letters stand in the order of time, whose other bits follow from the group and the place.
fn id(group: &Name, (position, index): Place, at: Millis) -> Uuid {
    let text = format!("{}:{position}:{index}", group.mark());
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes());
    let bits = hash.as_bytes().first_chunk::<10>().expect("16 bytes have a first 10");
    uuid::Builder::from_unix_timestamp_millis(at.max(0) as u64, bits).into_uuid()
}

pub(super) fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_follows_from_group_and_place() {
        let group = |id: &str| Name { namespace: "acme".into(), id: id.into() };
        let first = id(&group("a"), (7, 1), 5_000);
        assert_eq!(first, id(&group("a"), (7, 1), 5_000));
        assert_eq!(first.get_version_num(), 7);
        for other in [id(&group("b"), (7, 1), 5_000), id(&group("a"), (7, 2), 5_000), id(&group("a"), (8, 1), 5_000)] {
            assert_ne!(first, other);
        }
        assert!(id(&group("a"), (9, 0), 6_000) > first);
        assert_eq!(id(&group("a"), (1, 0), -5), id(&group("a"), (1, 0), 0));
    }
}
