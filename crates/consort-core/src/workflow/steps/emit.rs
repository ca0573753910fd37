//! Reading `wait` and `emit`.

use std::sync::Arc;

use super::StepReader;
use crate::signal::{self, Impact, Urgency};
use crate::workflow::expression::Names;
use crate::workflow::parse::{get, join};
use crate::workflow::suggest::brief;
use crate::workflow::yaml::{Entry, Node, Value};
use crate::workflow::{Action, Emit, Template, duration, triggers};

/// All keys of `wait`, when it is a mapping.
pub(in crate::workflow) const WAIT: [&str; 1] = ["signal"];
/// All keys of an `emit` that publishes an event.
pub(in crate::workflow) const EVENT: [&str; 4] = ["type", "version", "subject", "payload"];
/// All keys of an `emit` that raises a signal.
pub(in crate::workflow) const SIGNAL: [&str; 7] =
    ["signal", "urgency", "impact", "title", "description", "payload", "agent"];

impl StepReader<'_> {
    pub(super) fn wait(&mut self, node: &Node, path: &str, names: &Names<'_>) -> Option<Action> {
        match &node.value {
            Value::Text(text) if !text.contains("${{") => {
                if let Err(why) = duration::parse_duration(text) {
                    self.reader.mistake(node.place, path, why, "write for example `90s`, `2m` or `1h30m`");
                }
            }
            Value::Text(_) => {}
            Value::Map(entries) => {
                self.reader.check_keys(entries, path, &WAIT, &[]);
                let Some(entry) = get(entries, "signal") else {
                    self.reader.mistake(
                        node.place,
                        path,
                        "`signal` is missing",
                        "write for example `wait: {signal: approved}`",
                    );
                    return None;
                };
                let signal = self.reader.id(&entry.node, &join(path, "signal"), "a signal")?.to_owned();
                return Some(Action::Await { signal });
            }
            _ => {
                let message = format!("`wait` must be a duration or a signal, but it is {}", node.kind());
                let hint = "write for example `wait: 90s` or `wait: {signal: approved}`";
                self.reader.mistake(node.place, path, message, hint);
                return None;
            }
        }
        Some(Action::Wait { duration: self.template(node, path, names) })
    }

    pub(super) fn emit(&mut self, node: &Node, path: &str, names: &Names<'_>) -> Option<Emit> {
        let hint = "write `emit: {type: ORDER.VALIDATED, payload: {…}}` or `emit: {signal: QUALITY_ISSUE, title: …}`";
        let entries = self.reader.map(node, path, hint)?;
        match (get(entries, "type"), get(entries, "signal")) {
            (Some(kind), None) => {
                self.reader.check_keys(entries, path, &EVENT, &[]);
                let event_type = self.reader.text(&kind.node, &join(path, "type"))?;
                if let Err(why) = triggers::check_event_type(event_type) {
                    let hint = "write upper-case words joined by `.` and `_`, for example `ORDER.VALIDATED`";
                    self.reader.mistake(kind.node.place, &join(path, "type"), why, hint);
                }
                let version = get(entries, "version")
                    .and_then(|e| self.whole(&e.node, &join(path, "version"), 1, 1_000))
                    .map_or(1, |n| n as u32);
                let subject = self.line(entries, "subject", path, names);
                let payload = self.object(entries, path, names);
                Some(Emit::Event { event_type: event_type.to_owned(), version, subject, payload })
            }
            (None, Some(kind)) => {
                self.reader.check_keys(entries, path, &SIGNAL, &[]);
                self.signal(entries, &kind.node, path, names)
            }
            _ => {
                let message = "`emit` must name either the `type` of an event or a `signal`";
                self.reader.mistake(node.place, path, message, hint);
                None
            }
        }
    }

    fn signal(&mut self, entries: &[Entry], kind: &Node, path: &str, names: &Names<'_>) -> Option<Emit> {
        let text = self.reader.text(kind, &join(path, "signal"))?;
        if !signal::is_type(text) {
            let message = format!("`{}` cannot be the type of a signal", brief(text, 60));
            let hint = "write upper-case words joined by `_`, for example `QUALITY_ISSUE`";
            self.reader.mistake(kind.place, &join(path, "signal"), message, hint);
        }
        let urgency = self.one_of(entries, "urgency", path, &Urgency::ALL.map(Urgency::name));
        let impact = self.one_of(entries, "impact", path, &Impact::ALL.map(Impact::name));
        if get(entries, "title").is_none() {
            self.reader.mistake(kind.place, path, "`title` is missing", "add what was noticed, in a line");
        }
        let agent = get(entries, "agent")
            .and_then(|e| self.reader.id(&e.node, &join(path, "agent"), "an agent"))
            .map(Arc::from);
        Some(Emit::Signal {
            kind: text.to_owned(),
            urgency: urgency.map_or(Urgency::of(text), |n| Urgency::ALL[n]),
            impact: impact.map_or(Impact::of(text), |n| Impact::ALL[n]),
            title: self.line(entries, "title", path, names)?,
            description: self.line(entries, "description", path, names),
            payload: self.object(entries, path, names),
            agent,
        })
    }

    /// A text with expressions.
    pub(super) fn line(&mut self, entries: &[Entry], key: &str, path: &str, names: &Names<'_>) -> Option<Template> {
        let entry = get(entries, key)?;
        let path = join(path, key);
        self.reader.text(&entry.node, &path)?;
        Some(self.template(&entry.node, &path, names))
    }

    /// `payload`, which must become an object.
    fn object(&mut self, entries: &[Entry], path: &str, names: &Names<'_>) -> Template {
        let Some(entry) = get(entries, "payload") else { return Template::constant(&serde_json::json!({})) };
        let path = join(path, "payload");
        let template = self.template(&entry.node, &path, names);
        self.must_be_mapping(&entry.node, &path, &template, "payload");
        template
    }

    /// The number of a word in a list of words.
    pub(super) fn one_of(&mut self, entries: &[Entry], key: &str, path: &str, words: &[&str]) -> Option<usize> {
        let entry = get(entries, key)?;
        triggers::word(self.reader, &entry.node, key, &join(path, key), words)
    }
}
