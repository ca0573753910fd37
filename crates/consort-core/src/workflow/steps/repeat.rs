//! Reading `for_each` and `while`: a step that is done more than once.

use super::StepReader;
use crate::workflow::expression::{Local, Names};
use crate::workflow::parse::get;
use crate::workflow::yaml::Value;
use crate::workflow::{ForEach, While};

/// Items of a `for_each`.
const ITEM_LIMIT: usize = 10_000;
/// Iterations of a `while`.
const ITERATION_LIMIT: u64 = 1_000;

/// What the condition of a `while`, and the step it repeats, can read.
pub(super) const ROUND: [Local; 2] = [Local::Last, Local::Index];
/// What the step of a `for_each` can read.
pub(super) const ITEM: [Local; 2] = [Local::Item, Local::Index];

impl StepReader<'_> {
    pub(super) fn for_each(&mut self) -> Option<ForEach> {
        let max_parallel = get(self.entries, "max_parallel").and_then(|entry| {
            let path = self.path("max_parallel");
            if get(self.entries, "for_each").is_none() {
                self.reader.mistake(
                    entry.place,
                    &path,
                    "`max_parallel` needs `for_each`",
                    "add `for_each`, or remove `max_parallel`",
                );
            }
            self.whole(&entry.node, &path, 1, ITEM_LIMIT as u64)
        });
        let entry = get(self.entries, "for_each")?;
        let path = self.path("for_each");
        let hint = "write a list, or one `${{ }}` that gives a list";
        let list = match &entry.node.value {
            Value::List(items) => {
                if items.len() > ITEM_LIMIT {
                    let message = format!("there are {} items; at most {ITEM_LIMIT} are allowed", items.len());
                    self.reader.mistake(entry.node.place, &path, message, "split the list");
                }
                self.template(&entry.node, &path, self.names)
            }
            Value::Text(text) if text.contains("${{") => {
                let names = self.names;
                self.one_expression(text.trim(), &entry.node, &path, names)?
            }
            _ => {
                self.reader.mistake(
                    entry.node.place,
                    &path,
                    format!("`for_each` must be a list, but it is {}", entry.node.kind()),
                    hint,
                );
                return None;
            }
        };
        Some(ForEach { list, max_parallel: max_parallel.and_then(|n| u32::try_from(n).ok()) })
    }

    pub(super) fn repeat(&mut self) -> Option<While> {
        let max = get(self.entries, "max").and_then(|entry| {
            let path = self.path("max");
            if get(self.entries, "while").is_none() {
                self.reader.mistake(entry.place, &path, "`max` needs `while`", "add `while`, or remove `max`");
            }
            self.whole(&entry.node, &path, 1, ITERATION_LIMIT)
        });
        let entry = get(self.entries, "while")?;
        let path = self.path("while");
        if get(self.entries, "for_each").is_some() {
            let hint = "move the inner one into a workflow of its own, and call it with `workflow:`";
            self.reader.mistake(entry.place, &path, "a step has `for_each` or `while`, not both", hint);
        }
        if get(self.entries, "max").is_none() {
            let hint = "add how many iterations there may be, for example `max: 5`";
            self.reader.mistake(entry.place, &path, "`while` needs `max`", hint);
        }
        let names = Names { locals: &ROUND, ..*self.names };
        let condition = self.boolean(&entry.node, &path, &names)?;
        Some(While { condition, max: max.and_then(|n| u32::try_from(n).ok()).unwrap_or(1) })
    }
}
