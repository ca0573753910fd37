//! Names of things, and time.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Millis = i64;

/// A time as RFC 3339 has it: UTC, with milliseconds, such as `2026-11-21T10:00:00.000Z`. A time outside the years -9999 to 9999
/// becomes the nearest one inside.
pub fn rfc3339(at: Millis) -> String {
    let limit = if at < 0 { Timestamp::MIN } else { Timestamp::MAX };
    format!("{:.3}", Timestamp::from_millisecond(at).unwrap_or(limit))
}

/// The name of a run. UUIDv7 for root runs, so that names sort by start time; children derive theirs from the parent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl RunId {
    /// The id of a child run: the same for every evaluation of the same attempt of the same step.
    pub fn child(self, step: &StepKey, attempt: u32) -> RunId {
        RunId(self.derive(&format!("child:{step}:{attempt}")))
    }

    /// The id of the decision that a step's attempt asks for.
    pub fn decision(self, step: &StepKey, attempt: u32) -> Uuid {
        self.derive(&format!("decision:{step}:{attempt}"))
    }

    /// The id of the n-th question about what a step shall do.
    pub fn clarification(self, step: &StepKey, number: u32) -> Uuid {
        self.derive(&format!("clarification:{step}:{number}"))
    }

    /// The id of the event that is published with the event of this number.
    pub fn emitted(self, sequence: u64) -> Uuid {
        self.derive(&format!("emitted:{sequence}"))
    }

    /// The id of the signal that is raised with the event of this number.
    pub fn signal(self, sequence: u64) -> Uuid {
        self.derive(&format!("signal:{sequence}"))
    }

    /// The id of the event with this number.
    pub fn event(self, sequence: u64) -> Uuid {
        self.derive(&format!("event:{sequence}"))
    }

    fn derive(self, what: &str) -> Uuid {
        Uuid::new_v5(&self.0, what.as_bytes())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a step of a run, or one item of a `for_each` step: `cost` or `cost[3]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepKey {
    /// Id of the step in the definition.
    pub id: Arc<str>,
    /// Number of the item, from 0, if this is an item of a `for_each`.
    pub item: Option<u32>,
}

impl StepKey {
    /// The step as a whole.
    pub fn step(id: impl Into<Arc<str>>) -> Self {
        StepKey { id: id.into(), item: None }
    }

    /// One item of a `for_each` step.
    pub fn item(id: impl Into<Arc<str>>, item: u32) -> Self {
        StepKey { id: id.into(), item: Some(item) }
    }
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.item {
            None => f.write_str(&self.id),
            Some(item) => write!(f, "{}[{item}]", self.id),
        }
    }
}

impl fmt::Debug for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `id` or `id[number]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a step: write `id` or `id[number]`")]
pub struct BadStepKey(String);

impl FromStr for StepKey {
    type Err = BadStepKey;

    fn from_str(text: &str) -> Result<Self, BadStepKey> {
        let bad = || BadStepKey(text.to_owned());
        let Some((id, rest)) = text.split_once('[') else {
            return if is_id(text) { Ok(StepKey::step(text)) } else { Err(bad()) };
        };
        let number = rest.strip_suffix(']').ok_or_else(bad)?;
        let item = number.parse().map_err(|_| bad())?;
        if is_id(id) { Ok(StepKey::item(id, item)) } else { Err(bad()) }
    }
}

impl Serialize for StepKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.item {
            None => serializer.serialize_str(&self.id),
            Some(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for StepKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether the text may name a namespace, workflow, step, agent, worker or signal: 1 to 63 characters of a-z, A-Z, 0-9, `-`, `_`
/// and `.`, beginning with a letter or digit.
pub fn is_id(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty()
        && text.len() <= 63
        && text.chars().all(legal)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        for (at, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_255_200_000, "2026-11-21T10:00:00.000Z"),
            (1_795_255_200_007, "2026-11-21T10:00:00.007Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (Millis::MAX, "9999-12-30T22:00:00.999Z"),
            (Millis::MIN, "-009999-01-02T01:59:59.000Z"),
        ] {
            assert_eq!(rfc3339(at), expected, "{at}");
        }
    }

    #[test]
    fn step_keys_survive_text() {
        for text in ["cost", "cost[0]", "a.b-c_d[41]"] {
            assert_eq!(text.parse::<StepKey>().unwrap().to_string(), text);
        }
        for text in ["", "cost[", "cost[]", "cost[-1]", "cost[1]x", "-cost", "co st", "[1]"] {
            assert!(text.parse::<StepKey>().is_err(), "{text}");
        }
    }
}
