//! What a row of the log is to a subscriber: the events in it that match, and whether they may be delivered.

use consort_core::contract;
use consort_core::event::Published;
use consort_core::ports::{LogRow, StoreError};
use consort_core::{Data, Violation};

use crate::Filter;
use crate::envelope::envelopes;

/// Where an event stands: position of its row in the log, and its number in the row, from 0.
pub type Place = (u64, u32);

/// An event that a subscriber wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Where it stands.
    pub place: Place,
    /// The cursor behind it. That of the last one leads behind the row; those before it lead before the row, because a cursor cannot
    /// point into it, so a subscriber that begins again there gets some twice and misses none.
    pub cursor: u64,
    /// The event.
    pub event: Published,
    /// How its payload breaks the contract of its type. Such an event must not be delivered.
    pub breach: Option<String>,
}

/// The events of a row that match, in order. `instance` is the name of this server in the envelopes of run events.
pub fn wanted(position: u64, row: LogRow, filter: &Filter, instance: &str) -> Result<Vec<Wanted>, StoreError> {
    // What runs say is made here, and a test holds it against its contracts; what others say is held against theirs.
    let others = matches!(row, LogRow::Published(_));
    let matching = events(position, row, instance)?.into_iter().filter(|(_, event)| filter.matches(event));
    let wanted = matching.map(|(place, event)| {
        let breach = if others { breach(&event) } else { None };
        Wanted { place, cursor: position - 1, breach, event }
    });
    let mut wanted: Vec<Wanted> = wanted.collect();
    if let Some(last) = wanted.iter_mut().rfind(|wanted| wanted.breach.is_none()) {
        last.cursor = position;
    }
    Ok(wanted)
}

/// All events of a row with their places.
pub(crate) fn events(position: u64, row: LogRow, instance: &str) -> Result<Vec<(Place, Published)>, StoreError> {
    let events = match row {
        LogRow::Published(event) => vec![event],
        LogRow::Run(record) => envelopes(&record, instance)
            .map_err(|why| StoreError::Corrupt(format!("row {position} of the log cannot be read: {why}")))?,
    };
    Ok((0..).map(|index| (position, index)).zip(events).collect())
}

/// How the payload of an event breaks the contract of its type, if it does. A payload that is kept as a blob was checked when it was
/// published, and is not loaded here.
pub(crate) fn breach(event: &Published) -> Option<String> {
    let Data::Inline(payload) = &event.payload else { return None };
    contract::all().binary_search_by_key(&event.event_type.as_str(), |contract| contract.event_type).ok()?;
    let violations = contract::check(&event.event_type, event.event_version, &payload.value()).err()?;
    let reasons: Vec<String> =
        violations.iter().map(|Violation { field, description }| format!("{field}: {description}")).collect();
    Some(reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_core::event::{Entry, Fact, LeaseLoss, Record};
    use consort_core::{RunId, StepKey};
    use uuid::Uuid;

    fn record() -> LogRow {
        let step = || Some(StepKey::step("cost"));
        let lost = Fact::StepLeaseLost { token: 9, reason: LeaseLoss::Expired };
        let skipped = Fact::StepSkipped { reason: "no".into() };
        let entries = [
            Entry { step: step(), fact: lost },
            Entry { step: step(), fact: skipped },
            Entry { step: None, fact: Fact::RunResumed },
        ];
        LogRow::Run(Record {
            run: RunId(Uuid::from_u128(7)),
            namespace: "acme".into(),
            root: RunId(Uuid::from_u128(8)),
            sequence: 5,
            count: 3,
            at: 0,
            body: serde_json::to_vec(&entries).unwrap(),
            hash: [0; 32],
        })
    }

    fn filter(types: &[&str]) -> Filter {
        Filter::new(types.iter().map(ToString::to_string).collect(), None, String::new())
    }

    fn found(filter: &Filter) -> Vec<(String, u64)> {
        let wanted = wanted(41, record(), filter, "test").unwrap();
        wanted.into_iter().map(|found| (found.event.event_type, found.cursor)).collect()
    }

    #[test]
    fn only_the_last_wanted_event_of_a_row_leads_behind_it() {
        assert_eq!(
            found(&filter(&[])),
            [("STEP.LEASE_LOST".into(), 40), ("STEP.SKIPPED".into(), 40), ("RUN.RESUMED".into(), 41)]
        );
        assert_eq!(found(&filter(&["STEP.*"])), [("STEP.LEASE_LOST".into(), 40), ("STEP.SKIPPED".into(), 41)]);
        assert_eq!(found(&filter(&["STEP.LEASE_LOST"])), [("STEP.LEASE_LOST".into(), 41)]);
        assert!(found(&filter(&["STEP", "ORDER.*"])).is_empty());
    }

    #[test]
    fn every_set_field_must_match() {
        let of =
            |correlation, subject: &str| Filter::new(Vec::new(), Some(Uuid::from_u128(correlation)), subject.into());
        let subject = "namespaces/acme/runs/00000000-0000-0000-0000-000000000007";
        assert_eq!(found(&of(8, subject)).len(), 3);
        assert!(found(&of(7, subject)).is_empty());
        assert!(found(&of(8, "else")).is_empty());
    }

    #[test]
    fn filters_that_want_the_same_are_equal() {
        assert_eq!(filter(&["B.*", "A", "B.*"]), filter(&["A", "B.*"]));
        assert_ne!(filter(&["A"]), filter(&["A*"]));
    }

    #[test]
    fn a_payload_that_breaks_its_contract_is_told() {
        let event = |payload: serde_json::Value| Published {
            event_id: Uuid::from_u128(1),
            event_type: "ORDER.VALIDATED".into(),
            event_version: 1,
            timestamp: 0,
            source: "client".into(),
            instance: "here".into(),
            correlation_id: Uuid::from_u128(1),
            causation_id: None,
            namespace: "acme".into(),
            subject: String::new(),
            payload: Data::of(&payload),
            depth: 0,
        };
        assert_eq!(breach(&event(serde_json::json!({"order_id": "17"}))), None);
        assert!(breach(&event(serde_json::json!({}))).unwrap().contains("payload.order_id"));
        let bad = wanted(3, LogRow::Published(event(serde_json::json!({}))), &Filter::default(), "x").unwrap();
        assert!(bad[0].breach.is_some());
    }
}
