//! Reading `decide`.

use super::StepReader;
use crate::data::Json;
use crate::workflow::expression::Names;
use crate::workflow::parse::{get, join};
use crate::workflow::suggest::{brief, list};
use crate::workflow::yaml::{Entry, Node, Value};
use crate::workflow::{Decide, Template, inputs};

const OPTION_LIMIT: usize = 100;

impl StepReader<'_> {
    pub(super) fn decide(&mut self, node: &Node, path: &str, names: &Names<'_>) -> Option<Decide> {
        const KEYS: [&str; 6] = ["title", "description", "options", "form", "deadline", "default"];
        let entries = self.reader.map(node, path, "write `decide: {title: …, options: [yes, no]}`")?;
        self.reader.check_keys(entries, path, &KEYS, &["quorum"]);
        let title = self.question(entries, "title", path, names);
        if get(entries, "title").is_none() {
            self.reader.mistake(node.place, path, "`title` is missing", "add the question that a person reads");
        }
        let description = self.question(entries, "description", path, names);
        let options = if let Some(entry) = get(entries, "options") {
            self.options(&entry.node, &join(path, "options"))
        } else {
            let hint = "add what can be chosen, for example `options: [yes, no]`";
            self.reader.mistake(node.place, path, "`options` is missing", hint);
            Vec::new()
        };
        let form = get(entries, "form").map(|entry| {
            inputs::check_schema(self.reader, &entry.node, &join(path, "form"));
            Json::of(&entry.node.json())
        });
        let deadline =
            get(entries, "deadline").and_then(|e| self.reader.duration(&e.node, &join(path, "deadline"), false));
        let default = get(entries, "default").and_then(|entry| {
            let path = join(path, "default");
            let text = self.reader.text(&entry.node, &path)?;
            if !options.is_empty() && !options.iter().any(|option| option == text) {
                let message = format!("`{}` is not one of the options", brief(text, 60));
                self.reader.mistake(
                    entry.node.place,
                    &path,
                    message,
                    format!("the options are {}", list(options.iter().map(String::as_str))),
                );
            }
            if get(entries, "deadline").is_none() {
                let message = "`default` is what the deadline chooses, but there is no `deadline`";
                self.reader.mistake(entry.place, &path, message, "add `deadline:`, or remove `default`");
            }
            Some(text.to_owned())
        });
        Some(Decide { title: title?, description, options, form, deadline, default })
    }

    fn question(&mut self, entries: &[Entry], key: &str, path: &str, names: &Names<'_>) -> Option<Template> {
        let entry = get(entries, key)?;
        let path = join(path, key);
        self.reader.text(&entry.node, &path)?;
        Some(self.template(&entry.node, &path, names))
    }

    fn options(&mut self, node: &Node, path: &str) -> Vec<String> {
        let Value::List(items) = &node.value else {
            let message = format!("`options` must be a list, but it is {}", node.kind());
            self.reader.mistake(node.place, path, message, "write for example `options: [yes, no]`");
            return Vec::new();
        };
        if items.is_empty() || items.len() > OPTION_LIMIT {
            let message = format!("there are {} options; a decision has 1 to {OPTION_LIMIT}", items.len());
            self.reader.mistake(node.place, path, message, "list what can be chosen");
        }
        let mut options: Vec<String> = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let path = format!("{path}[{number}]");
            let Some(text) = self.reader.text(item, &path) else { continue };
            if text.trim().is_empty() {
                self.reader.mistake(item.place, &path, "an option is empty", "name it");
            } else if options.iter().any(|known| known == text) {
                self.reader.mistake(
                    item.place,
                    &path,
                    format!("the option `{}` is there twice", brief(text, 60)),
                    "keep one of them",
                );
            } else {
                options.push(text.to_owned());
            }
        }
        options
    }
}
