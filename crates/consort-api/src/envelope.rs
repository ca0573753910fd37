//! What a published event must be: the contract of the envelope, and that of the payload's type.

use std::net::SocketAddr;
use std::sync::Arc;

use consort_core::data::NESTING_LIMIT;
use consort_core::event::{Published, RESERVED, is_type};
use consort_core::ports::Store;
use consort_core::{Data, Error, Json, Millis, Violation, contract};
use consort_proto::event as wire;
use uuid::Uuid;

use crate::convert::Values;
use crate::{names, request, status};

/// Bytes of a payload that are read to check it against a contract: as many as one message has.
const CHECKED: u64 = 4 * 1024 * 1024;

/// What absent fields of an event become.
pub(crate) struct Defaults {
    /// The namespace of the request.
    pub(crate) namespace: Arc<str>,
    /// Now.
    pub(crate) now: Millis,
    /// Where the caller calls from.
    pub(crate) peer: Option<SocketAddr>,
}

impl Defaults {
    /// Fills in and checks an event. The error lists everything that is wrong with it, and the rule each breaks; errors of the
    /// store end the call.
    pub(crate) async fn complete(
        &self,
        values: &Values,
        store: &dyn Store,
        field: &str,
        event: wire::Event,
    ) -> Result<Result<Published, Vec<Violation>>, Error> {
        let mut wrong = Vec::new();
        let mut check = |result: Result<(), Error>| wrong.extend(result.err().into_iter().flat_map(|e| e.violations));
        let at = |name: &str| format!("{field}.{name}");

        check(event_type(&at("event_type"), &event.event_type));
        check(version(&at("event_version"), event.event_version));
        check(request::text(&at("source"), &event.source, 200));
        check(request::text(&at("instance"), &event.instance, 200));
        check(request::text(&at("subject"), &event.subject, 500));
        check(self.in_namespace(&at("namespace"), &event.namespace));
        let event_id = uuid(&at("event_id"), &event.event_id).unwrap_or_else(|error| {
            check(Err(error));
            None
        });
        let correlation_id = uuid(&at("correlation_id"), &event.correlation_id).unwrap_or_else(|error| {
            check(Err(error));
            None
        });
        let causation_id = uuid(&at("causation_id"), &event.causation_id).unwrap_or_else(|error| {
            check(Err(error));
            None
        });
        let timestamp = event.timestamp.map_or(Ok(self.now), |time| request::time(&at("timestamp"), time));
        let timestamp = timestamp.unwrap_or_else(|error| {
            check(Err(error));
            0
        });
        let payload = match values.take_object(&at("payload"), event.payload).await {
            Ok(payload) => Some(payload),
            Err(error) if error.violations.is_empty() => return Err(error),
            Err(error) => {
                wrong.extend(error.violations);
                None
            }
        };
        let version = event.event_version.max(1) as u32;
        // A type that is not for clients has no contract with them.
        let reserved = RESERVED.iter().any(|reserved| event.event_type.starts_with(reserved));
        if let Some(payload) = payload.as_ref().filter(|_| !reserved) {
            wrong.extend(breaches(store, field, &event.event_type, version, payload).await?);
        }
        let Some(payload) = payload.filter(|_| wrong.is_empty()) else { return Ok(Err(wrong)) };
        let event_id = event_id.unwrap_or_else(Uuid::now_v7);
        Ok(Ok(Published {
            event_id,
            event_type: event.event_type,
            event_version: version,
            timestamp,
            source: or(event.source, || "client".to_owned()),
            instance: or(event.instance, || self.peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string())),
            // An event of no larger piece of work is a piece of its own.
            correlation_id: correlation_id.unwrap_or(event_id),
            causation_id,
            namespace: self.namespace.clone(),
            subject: event.subject,
            payload,
            depth: 0,
        }))
    }

    fn in_namespace(&self, field: &str, given: &str) -> Result<(), Error> {
        if given.is_empty() {
            return Ok(());
        }
        names::same_namespace(field, &names::parent(field, given)?, &self.namespace)
    }
}

/// How a payload breaks the contract of its type.
async fn breaches(
    store: &dyn Store,
    field: &str,
    event_type: &str,
    version: u32,
    payload: &Data,
) -> Result<Vec<Violation>, Error> {
    if !contract::all().iter().any(|contract| contract.event_type == event_type) {
        return Ok(Vec::new());
    }
    let wrong = |description: String| vec![Violation { field: format!("{field}.payload"), description }];
    let value = match payload {
        Data::Inline(json) => json.value(),
        Data::Blob(blob) if blob.size > CHECKED => {
            return Ok(wrong(format!(
                "the blob has {} bytes, and {event_type} has a contract that is checked up to {CHECKED}; send the payload inline, and \
                 large values in it as references to blobs",
                blob.size
            )));
        }
        Data::Blob(blob) => {
            let bytes = store.read(&blob.sha256, 0, blob.size as usize).await.map_err(status::store)?;
            let text = String::from_utf8(bytes.unwrap_or_default()).map_err(|why| why.to_string());
            match text.and_then(|text| Json::parse(text).map_err(|why| why.to_string())) {
                Ok(json) => json.value(),
                Err(why) => {
                    let form = format!("upload RFC 8259 text, nested at most {NESTING_LIMIT} deep, or send it inline");
                    return Ok(wrong(format!("the blob is not JSON: {why}; {form}")));
                }
            }
        }
    };
    let mut violations = contract::check(event_type, version, &value).err().unwrap_or_default();
    for violation in &mut violations {
        violation.field = format!("{field}.{}", violation.field);
    }
    Ok(violations)
}

fn or(given: String, otherwise: impl FnOnce() -> String) -> String {
    if given.is_empty() { otherwise() } else { given }
}

fn uuid(field: &str, given: &str) -> Result<Option<Uuid>, Error> {
    if given.is_empty() {
        return Ok(None);
    }
    let shown = || format!("`{}` is not a UUID; give one such as `{}`, or nothing", names::shown(given), Uuid::nil());
    names::uuid(given).map(Some).ok_or_else(|| Error::bad_field(field, shown()))
}

fn version(field: &str, given: i32) -> Result<(), Error> {
    if given >= 0 {
        return Ok(());
    }
    Err(Error::bad_field(field, format!("`{given}` is negative; give 1 and up, or 0 for 1")))
}

fn event_type(field: &str, given: &str) -> Result<(), Error> {
    let shown = names::shown(given);
    if !is_type(given) {
        return Err(Error::bad_field(
            field,
            format!(
                "`{shown}` is not an event type; give upper-case words joined by `.` and `_`, such as `ORDER.VALIDATED`, of at most 200 characters"
            ),
        ));
    }
    if let Some(reserved) = RESERVED.iter().find(|reserved| given.starts_with(**reserved)) {
        return Err(Error::bad_field(
            field,
            format!("`{shown}` begins with `{reserved}`, which belongs to the mesh; choose another"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_core::BlobRef;
    use consort_proto::blob::{Payload, payload::Kind};
    use consort_store::MemoryStore;

    #[test]
    fn event_types_are_upper_case_words() {
        for good in ["ORDER.VALIDATED", "A", "ORDER.LINE_2.ADDED", "RUNNER.STARTED", "STEPS"] {
            event_type("events[0].event_type", good).unwrap();
        }
        for bad in ["", "order", "ORDER.", ".ORDER", "ORDER..X", "ORDER VALID", "1ORDER", "ORDER-X", "É"] {
            assert!(event_type("f", bad).is_err(), "{bad}");
        }
        assert!(event_type("f", &"A".repeat(201)).is_err());
        for reserved in ["RUN.STARTED", "STEP.X", "DECISION.ANSWERED", "SIGNAL.ROUTED"] {
            let said = event_type("f", reserved).unwrap_err().message;
            assert!(said.contains("belongs to the mesh"), "{said}");
        }
    }

    async fn complete(event_version: i32, payload: Kind) -> Result<Published, Vec<Violation>> {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        for bytes in [r#"{"order_id": "17"}"#.to_owned(), "{]".to_owned(), large()] {
            store.put(&blob(&bytes), bytes.as_bytes()).await.unwrap();
        }
        let defaults = Defaults { namespace: "acme".into(), now: 0, peer: None };
        let payload = Some(Payload { kind: Some(payload) });
        let event = wire::Event { event_type: "ORDER.VALIDATED".into(), event_version, payload, ..Default::default() };
        defaults.complete(&Values::new(store.clone()), &*store, "events[0]", event).await.unwrap()
    }

    fn large() -> String {
        format!(r#"{{"order_id": "{}"}}"#, "7".repeat(CHECKED as usize))
    }

    fn blob(text: &str) -> BlobRef {
        BlobRef::of(text.as_bytes(), "application/json")
    }

    fn blob_of(text: &str) -> Kind {
        let sha256 = blob(text).sha256.to_string();
        Kind::Blob(consort_proto::blob::BlobRef { sha256, ..Default::default() })
    }

    #[tokio::test]
    async fn a_payload_meets_the_contract_of_its_type() {
        let good = r#"{"order_id": "17"}"#;
        complete(0, Kind::Json(good.into())).await.unwrap();
        complete(1, blob_of(good)).await.unwrap();
        for (field, version, payload) in [
            ("events[0].payload.order_id", 1, Kind::Json("{}".into())),
            ("events[0].event_version", 2, Kind::Json(good.into())),
            ("events[0].payload", 1, blob_of("{]")),
            ("events[0].payload", 1, blob_of(&large())),
        ] {
            let wrong = complete(version, payload).await.unwrap_err();
            assert_eq!(wrong.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(), [field]);
        }
    }

    #[test]
    fn ids_and_versions_are_checked() {
        assert_eq!(uuid("f", "").unwrap(), None);
        assert!(uuid("f", "01939d0e-6f6b-7c3a-8a52-0123456789ab").unwrap().is_some());
        assert!(uuid("f", "01939d0e6f6b7c3a8a520123456789ab").is_err());
        assert!(version("f", 0).is_ok() && version("f", -1).is_err());
    }

    #[test]
    fn an_event_stays_in_its_namespace() {
        let defaults = Defaults { namespace: "acme".into(), now: 0, peer: None };
        assert!(defaults.in_namespace("f", "").is_ok() && defaults.in_namespace("f", "namespaces/acme").is_ok());
        assert!(defaults.in_namespace("f", "namespaces/other").is_err() && defaults.in_namespace("f", "acme").is_err());
    }
}
