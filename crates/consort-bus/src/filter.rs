//! Which events a subscriber wants.

use consort_core::event::Published;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Which events are wanted; every set field must match. The stored names are a contract: groups keep their filters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Types, each exact or a prefix that ends in `*`; in order and each once. None means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    types: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    subject: String,
}

impl Filter {
    /// Events of any of these types (see [`Filter::types`]), of this correlation id and about this subject. What is empty or absent
    /// does not restrict.
    pub fn new(mut types: Vec<String>, correlation_id: Option<Uuid>, subject: String) -> Filter {
        // In one order, so that filters which want the same are equal.
        types.sort_unstable();
        types.dedup();
        Filter { types, correlation_id, subject }
    }

    /// The types, by name: each exact, or a prefix that ends in `*`. None means all.
    pub fn types(&self) -> &[String] {
        &self.types
    }

    /// The correlation id that is wanted.
    pub fn correlation_id(&self) -> Option<Uuid> {
        self.correlation_id
    }

    /// The subject that is wanted; empty for any.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Whether the event is wanted.
    pub fn matches(&self, event: &Published) -> bool {
        let of_type = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => event.event_type.starts_with(prefix),
            None => event.event_type == *pattern,
        };
        (self.types.is_empty() || self.types.iter().any(of_type))
            && self.correlation_id.is_none_or(|id| id == event.correlation_id)
            && (self.subject.is_empty() || self.subject == event.subject)
    }
}
