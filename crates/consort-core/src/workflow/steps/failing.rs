//! Reading `timeout` and `on_error`.

use std::time::Duration;

use super::{Goto, StepReader};
use crate::workflow::OnError;
use crate::workflow::parse::{get, join};
use crate::workflow::suggest::{brief, nearest};
use crate::workflow::yaml::Value;

/// All keys of `timeout`, when it is a mapping.
pub(in crate::workflow) const TIMEOUT: [&str; 2] = ["attempt", "step"];
/// All keys of `on_error`, when it is a mapping.
pub(in crate::workflow) const ON_ERROR: [&str; 1] = ["goto"];

impl StepReader<'_> {
    /// The time of an attempt, and of the whole step.
    pub(super) fn timeout(&mut self) -> (Option<Duration>, Option<Duration>) {
        let Some(entry) = get(self.entries, "timeout") else { return (None, None) };
        let path = self.path("timeout");
        let Value::Map(entries) = &entry.node.value else {
            return (self.reader.duration(&entry.node, &path, false), None);
        };
        self.reader.check_keys(entries, &path, &TIMEOUT, &[]);
        if entries.is_empty() {
            self.reader.mistake(entry.place, &path, "`timeout` says nothing", "write `attempt:`, `step:`, or both");
        }
        let mut read = |key: &str| {
            let entry = get(entries, key)?;
            self.reader.duration(&entry.node, &join(&path, key), false)
        };
        let (attempt, step) = (read("attempt"), read("step"));
        if let (Some(attempt), Some(step), Some(entry)) = (attempt, step, get(entries, "step"))
            && step < attempt
        {
            let message = format!("the whole step ({step:?}) has less time than one attempt ({attempt:?})");
            self.reader.mistake(entry.node.place, &join(&path, "step"), message, "give it at least as much");
        }
        (attempt, step)
    }

    /// What follows a failure; the target of a `goto` is looked at when all steps are read.
    pub(super) fn on_error(&mut self) -> (OnError, Option<Goto>) {
        let hint = "write `fail`, `continue`, or `{goto: STEP}`";
        let Some(entry) = get(self.entries, "on_error") else { return (OnError::Fail, None) };
        let path = self.path("on_error");
        match &entry.node.value {
            Value::Text(text) if text == "fail" => (OnError::Fail, None),
            Value::Text(text) if text == "continue" => (OnError::Continue, None),
            Value::Map(entries) => {
                self.reader.check_keys(entries, &path, &ON_ERROR, &[]);
                let Some(goto) = get(entries, "goto") else {
                    self.reader.mistake(entry.place, &path, "`goto` is missing", hint);
                    return (OnError::Fail, None);
                };
                let path = join(&path, "goto");
                let Some(id) = self.reader.text(&goto.node, &path) else { return (OnError::Fail, None) };
                let Some(&target) = self.names.steps.get(id) else {
                    let hint = match nearest(id, self.names.steps.keys().map(|id| &**id)) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => "name the `id` of the step that begins the compensation".to_owned(),
                    };
                    let message = format!("there is no step `{}`", brief(id, 60));
                    self.reader.mistake(goto.node.place, &path, message, hint);
                    return (OnError::Fail, None);
                };
                (OnError::Goto(target), Some(Goto { target, path, place: goto.node.place }))
            }
            _ => {
                let message = format!("`on_error` cannot be {}", entry.node.kind());
                self.reader.mistake(entry.node.place, &path, message, hint);
                (OnError::Fail, None)
            }
        }
    }
}
