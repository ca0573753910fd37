//! Signals to the mesh: something that was noticed, how it is classified, and where it goes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::data::Data;

/// Something that was noticed, classified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// What kind of thing it is, for example `QUALITY_ISSUE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How soon somebody must act.
    pub urgency: Urgency,
    /// How much depends on it.
    pub impact: Impact,
    /// What it is, in a line.
    pub title: String,
    /// More about it, in Markdown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What goes with it: a JSON object.
    pub payload: Data,
    /// Who noticed it.
    pub source: String,
    /// The agent it is meant for, if no workflow matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Arc<str>>,
}

/// How soon somebody must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// Whenever there is time.
    Low,
    /// In its turn.
    Normal,
    /// Next.
    High,
    /// Now.
    Critical,
}

/// How much depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Impact {
    /// Little.
    Low,
    /// A piece of work.
    Medium,
    /// A project.
    High,
}

/// Where a signal went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// To workflows whose trigger matches.
    Workflow,
    /// To an agent, as a task.
    Agent,
    /// To a person, as a decision.
    Person,
}

/// Longest name of a type.
const TYPE_LIMIT: usize = 63;

impl Urgency {
    /// All, from the least.
    pub const ALL: [Urgency; 4] = [Urgency::Low, Urgency::Normal, Urgency::High, Urgency::Critical];

    /// Its name in definitions and events.
    pub fn name(self) -> &'static str {
        match self {
            Urgency::Low => "low",
            Urgency::Normal => "normal",
            Urgency::High => "high",
            Urgency::Critical => "critical",
        }
    }

    /// What a signal of this type has if nobody says otherwise.
    pub fn of(kind: &str) -> Urgency {
        if matches!(kind, "DECISION_NEEDED" | "QUALITY_ISSUE") { Urgency::High } else { Urgency::Normal }
    }
}

impl Impact {
    /// All, from the least.
    pub const ALL: [Impact; 3] = [Impact::Low, Impact::Medium, Impact::High];

    /// Its name in definitions and events.
    pub fn name(self) -> &'static str {
        match self {
            Impact::Low => "low",
            Impact::Medium => "medium",
            Impact::High => "high",
        }
    }

    /// What a signal of this type has if nobody says otherwise.
    pub fn of(kind: &str) -> Impact {
        if matches!(kind, "INNOVATION_DETECTED" | "INTEGRATION_READY") { Impact::High } else { Impact::Medium }
    }
}

impl Route {
    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Route::Workflow => "workflow",
            Route::Agent => "agent",
            Route::Person => "person",
        }
    }
}

/// Whether a text can be the type of a signal: upper-case words joined by `_`, at most 63 characters.
pub fn is_type(text: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    text.len() <= TYPE_LIMIT && text.starts_with(|c: char| c.is_ascii_uppercase()) && text.split('_').all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_upper_case_words() {
        for good in ["REQUIREMENT", "QUALITY_ISSUE", "A1_2"] {
            assert!(is_type(good), "{good}");
        }
        for bad in ["", "quality", "_A", "A_", "A__B", "1A", "A.B", &"A".repeat(64)] {
            assert!(!is_type(bad), "{bad}");
        }
    }
}
