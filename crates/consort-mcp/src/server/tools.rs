//! The mesh's own tools: workflows and decisions, their schemas and arguments.

use std::sync::Arc;

use consort_core::{Error, Violation};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use crate::server::exposed::object;

/// A tool of the mesh itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    Start,
    Status,
    Decisions,
    Answer,
}

impl Own {
    pub(crate) const ALL: [Own; 4] = [Own::Start, Own::Status, Own::Decisions, Own::Answer];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Own::Start => "workflow_start",
            Own::Status => "workflow_status",
            Own::Decisions => "decisions_list",
            Own::Answer => "decision_answer",
        }
    }

    pub(crate) fn tool(self) -> Tool {
        let text = |said: &str| json!({"type": "string", "description": said});
        let run = json!({"type": "object", "properties": {
            "run": {"type": "string"}, "workflow": {"type": "string"}, "state": {"type": "string"}, "is_over": {"type": "boolean"},
            "output": {}, "error": {"type": "string"}, "decisions": {"type": "array"}
        }, "required": ["run", "workflow", "state", "is_over"]});
        let decisions =
            json!({"type": "object", "properties": {"decisions": {"type": "array"}}, "required": ["decisions"]});
        let answered =
            json!({"type": "object", "properties": {"answered": {"type": "string"}}, "required": ["answered"]});
        let (said, properties, required, output, reads) = match self {
            Own::Start => (
                "Starts a run of a workflow. With `wait_s` it waits for the run's end, and asks you the questions that the run asks.",
                json!({
                    "workflow": text("Name of the workflow"),
                    "inputs": {"type": "object", "description": "Inputs, as the workflow names them"},
                    "wait_s": {"type": "number", "minimum": 0, "description": "Seconds to wait for the end; 0 or absent: not at all"},
                }),
                json!(["workflow"]),
                run,
                false,
            ),
            Own::Status => (
                "Tells where a run stands, and what it yielded.",
                json!({"run": text("Id of the run")}),
                json!(["run"]),
                run,
                true,
            ),
            Own::Decisions => (
                "Lists the open questions to people, oldest first.",
                json!({"run": text("Only those of this run")}),
                json!([]),
                decisions,
                true,
            ),
            Own::Answer => (
                "Answers an open question on a person's behalf.",
                json!({
                    "decision": text("Id of the decision"),
                    "option": text("The chosen option"),
                    "form": {"type": "object", "description": "The form that goes with it, if there is one"},
                    "by": text("Who answers; it goes on record, with the name of this client"),
                }),
                json!(["decision", "option", "by"]),
                answered,
                false,
            ),
        };
        let input =
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
        let mut tool = Tool::new(self.name(), said, object(&input));
        tool.output_schema = Some(Arc::new(object(&output)));
        tool.annotations = Some(ToolAnnotations::new().read_only(reads));
        tool
    }
}

/// Arguments of a tool, taken one by one; all mistakes are told at the end.
pub(crate) struct Arguments {
    left: JsonObject,
    wrong: Vec<Violation>,
}

impl Arguments {
    pub(crate) fn new(arguments: Option<JsonObject>) -> Arguments {
        Arguments { left: arguments.unwrap_or_default(), wrong: Vec::new() }
    }

    fn say(&mut self, field: &str, description: impl Into<String>) {
        self.wrong.push(Violation { field: format!("arguments.{field}"), description: description.into() });
    }

    /// A text that must be there.
    pub(crate) fn text(&mut self, field: &str) -> String {
        let found = self.optional(field);
        if found.is_none() && !self.wrong.iter().any(|wrong| wrong.field.ends_with(&format!(".{field}"))) {
            self.say(field, "is missing; it is a string");
        }
        found.unwrap_or_default()
    }

    /// A text that may be there.
    pub(crate) fn optional(&mut self, field: &str) -> Option<String> {
        match self.left.shift_remove(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if !text.is_empty() && text.len() <= 1_000 => Some(text),
            Some(Value::String(_)) => {
                self.say(field, "must have 1 to 1,000 bytes");
                None
            }
            Some(other) => {
                self.say(field, format!("`{}` is no string", crate::server::operation::short(&other.to_string())));
                None
            }
        }
    }

    /// An object that may be there.
    pub(crate) fn object(&mut self, field: &str) -> Option<Value> {
        match self.left.shift_remove(field) {
            None | Some(Value::Null) => None,
            Some(Value::Object(members)) => Some(Value::Object(members)),
            Some(other) => {
                self.say(field, format!("`{}` is no object", crate::server::operation::short(&other.to_string())));
                None
            }
        }
    }

    /// Seconds, 0 if absent.
    pub(crate) fn seconds(&mut self, field: &str, most: f64) -> f64 {
        match self.left.shift_remove(field) {
            None | Some(Value::Null) => 0.0,
            Some(value) => match value.as_f64() {
                Some(seconds) if (0.0..=most).contains(&seconds) => seconds,
                _ => {
                    let shown = crate::server::operation::short(&value.to_string()).to_owned();
                    self.say(field, format!("`{shown}` is no number of seconds from 0 to {most}"));
                    0.0
                }
            },
        }
    }

    /// Nothing else may be there.
    pub(crate) fn end(mut self) -> Result<(), Error> {
        let unknown: Vec<String> = self.left.keys().take(10).cloned().collect();
        for field in unknown {
            self.say(crate::server::operation::short(&field), "is unknown; remove it");
        }
        if self.wrong.is_empty() { Ok(()) } else { Err(Error::bad_fields(self.wrong)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_told_with_their_fields() {
        let mut arguments = Arguments::new(json!({"run": 1, "form": [], "wait_s": -1, "x": 1}).as_object().cloned());
        arguments.text("run");
        arguments.text("by");
        arguments.object("form");
        arguments.seconds("wait_s", 60.0);
        let fields: Vec<String> =
            arguments.end().unwrap_err().violations.into_iter().map(|wrong| wrong.field).collect();
        assert_eq!(fields, ["arguments.run", "arguments.by", "arguments.form", "arguments.wait_s", "arguments.x"]);
    }
}
