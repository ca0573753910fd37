//! The contracts of events: for each type and version the JSON Schema of its payload, embedded from `proto/events`, whose README
//! says what a contract promises.

use std::sync::{LazyLock, OnceLock};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use crate::error::Violation;
use crate::workflow::suggest::brief;

/// Violations that are listed for one payload.
const VIOLATION_LIMIT: usize = 20;
/// Characters of a bad value that are shown.
const SHOWN: usize = 80;

/// JSON Schema (2020-12) of the envelope of every event in its JSON form, as text.
pub const ENVELOPE: &str = include_str!("../../../proto/events/envelope.v1.json");

/// Type, version and schema of every contract: the files of `proto/events`, by name.
macro_rules! embedded {
    ($($event_type:literal $version:literal,)*) => {
        [$(($event_type, $version, include_str!(concat!("../../../proto/events/", $event_type, ".v", $version, ".json")))),*]
    };
}

const EMBEDDED: [(&str, u32, &str); 56] = embedded! {
    "CLARIFICATION.NEEDED" 1,
    "CLIENT.DECISION_NEEDED" 1,
    "CLIENT.REQUIREMENT_SUBMITTED" 1,
    "CLIENT.STATUS_UPDATE" 1,
    "CLIENT.TASK_COMPLETED" 1,
    "DECISION.ANSWERED" 1,
    "DECISION.CLARIFICATION_ANSWERED" 1,
    "DECISION.CLARIFICATION_REQUESTED" 1,
    "DECISION.REQUESTED" 1,
    "DELIVERABLE.PUBLISHED" 1,
    "ORDER.DRAFT_CREATED" 1,
    "ORDER.EXPORT_READY" 1,
    "ORDER.INBOX_RECEIVED" 1,
    "ORDER.VALIDATED" 1,
    "ORDER.VALIDATION_REQUIRED" 1,
    "PROJECT.COMPLETED" 1,
    "PROJECT.INITIAL_REQUEST_RECEIVED" 1,
    "PROJECT.STOPPED" 1,
    "QUESTION.ANSWER_RECORDED" 1,
    "QUESTION.CREATED" 1,
    "RUN.CANCELLED" 1,
    "RUN.COMPENSATING" 1,
    "RUN.FAILED" 1,
    "RUN.PAUSED" 1,
    "RUN.RESUMED" 1,
    "RUN.RETRIED" 1,
    "RUN.SIGNAL_RECEIVED" 1,
    "RUN.STARTED" 1,
    "RUN.SUCCEEDED" 1,
    "SIGNAL.ACTED" 1,
    "SIGNAL.CLASSIFIED" 1,
    "SIGNAL.DETECTED" 1,
    "SIGNAL.ROUTED" 1,
    "STEP.CHILD_STARTED" 1,
    "STEP.EVENT_EMITTED" 1,
    "STEP.EXPANDED" 1,
    "STEP.FAILED" 1,
    "STEP.ITERATED" 1,
    "STEP.LEASED" 1,
    "STEP.LEASE_LOST" 1,
    "STEP.MODEL_CALLED" 1,
    "STEP.OPERATION_BEGAN" 1,
    "STEP.OPERATION_CALLED" 1,
    "STEP.REPORTED" 1,
    "STEP.RETRY_SCHEDULED" 1,
    "STEP.SCHEDULED" 1,
    "STEP.SIGNAL_AWAITED" 1,
    "STEP.SKIPPED" 1,
    "STEP.SUCCEEDED" 1,
    "STEP.WAIT_STARTED" 1,
    "USER.ANSWER_SUBMITTED" 1,
    "WORK.ITEM_COMPLETED" 1,
    "WORK.ITEM_DISPATCHED" 1,
    "WORK.ITEM_FAILED" 1,
    "WORK.ITEM_REVIEWED" 1,
    "WORK.ITEM_STARTED" 1,
};

static CONTRACTS: LazyLock<Vec<Contract>> = LazyLock::new(|| {
    let mut contracts: Vec<Contract> = EMBEDDED.iter().map(|row| Contract::read(*row)).collect();
    contracts.sort_by_key(|contract| (contract.event_type, contract.event_version));
    contracts
});

/// What the payload of a type's version must be.
#[derive(Debug)]
pub struct Contract {
    /// The type, for example `ORDER.VALIDATED`.
    pub event_type: &'static str,
    /// The version, from 1.
    pub event_version: u32,
    /// What such an event says, in a sentence.
    pub description: String,
    /// JSON Schema (2020-12) of the payload, as text.
    pub schema: &'static str,
    parsed: Value,
    /// Made when the first payload is checked: most processes see few types.
    validator: OnceLock<Validator>,
}

impl Contract {
    fn read((event_type, event_version, schema): (&'static str, u32, &'static str)) -> Contract {
        let parsed: Value = serde_json::from_str(schema).expect("embedded schemas are JSON, as a test holds");
        let description = parsed["description"].as_str().unwrap_or_default().to_owned();
        Contract { event_type, event_version, description, schema, parsed, validator: OnceLock::new() }
    }

    fn check(&self, payload: &Value) -> Vec<Violation> {
        let validator = self.validator.get_or_init(|| {
            // A linear-time engine: a text from a stranger must not hang a pattern.
            let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
            options.build(&self.parsed).expect("embedded schemas are valid, as a test holds")
        });
        validator.iter_errors(payload).take(VIOLATION_LIMIT).map(|error| self.violation(&error)).collect()
    }

    fn violation(&self, error: &ValidationError<'_>) -> Violation {
        let mut field = field_of(error.instance_path().as_str());
        // The keyword that refused the value stands last; before it, where the value is declared.
        let keyword = error.schema_path().as_str();
        let place = keyword.rsplit_once('/').map_or("", |(place, _)| place);
        let described = |place: &str| {
            let text = self.parsed.pointer(&format!("{place}/description")).and_then(Value::as_str);
            text.filter(|_| !place.is_empty()).map(|text| format!("; give: {}", text.trim_end_matches('.')))
        };
        if let ValidationErrorKind::Required { property } = error.kind() {
            let name = property.as_str().unwrap_or_default();
            field = format!("{field}.{name}");
            let wanted = described(&format!("{place}/properties/{name}")).unwrap_or_default();
            return Violation {
                field,
                description: format!("it is missing, but {} needs it{wanted}", self.event_type),
            };
        }
        let shown = format!("`{}`", brief(&error.instance().to_string(), SHOWN));
        let wanted = described(place).unwrap_or_else(|| format!("; see the contract of {}", self.event_type));
        Violation { field, description: format!("{}{wanted}", error.masked_with(shown)) }
    }
}

/// All contracts, by type and version.
pub fn all() -> &'static [Contract] {
    &CONTRACTS
}

/// Checks the payload of an event against the contract of its type and version; a type without any contract passes. A payload, or a
/// value in it, that is kept as a blob is not loaded: give the payload itself. The error lists at most 20 fields, such as
/// `payload.project`, with the value, the rule it breaks and what to give; `event_version` if the type has contracts but none of
/// that version.
pub fn check(event_type: &str, event_version: u32, payload: &Value) -> Result<(), Vec<Violation>> {
    let begin = CONTRACTS.partition_point(|contract| contract.event_type < event_type);
    let of_type = CONTRACTS[begin..].iter().take_while(|contract| contract.event_type == event_type);
    if let Some(contract) = of_type.clone().find(|contract| contract.event_version == event_version) {
        let violations = contract.check(payload);
        return if violations.is_empty() { Ok(()) } else { Err(violations) };
    }
    let known: Vec<String> = of_type.map(|contract| contract.event_version.to_string()).collect();
    if known.is_empty() {
        return Ok(());
    }
    let known = known.join(", ");
    Err(vec![Violation {
        field: "event_version".to_owned(),
        description: format!(
            "`{event_version}` is not a version of {event_type} that has a contract; give one of: {known}"
        ),
    }])
}

/// The field that a JSON Pointer into the payload names: `payload.files[0].name`.
fn field_of(pointer: &str) -> String {
    let mut field = "payload".to_owned();
    for segment in pointer.split('/').skip(1) {
        if !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit()) {
            field.push_str(&format!("[{segment}]"));
        } else {
            // Names of labels and figures come from outside.
            field.push_str(&format!(".{}", brief(&segment.replace("~1", "/").replace("~0", "~"), SHOWN)));
        }
    }
    field
}

#[cfg(test)]
mod tests;
